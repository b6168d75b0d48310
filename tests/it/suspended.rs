//! R4.12: a suspended tenant can settle its open holds, but it cannot take new holds.

use tonic::Code;

use crate::harness::{v1::*, *};

both! {
    async fn a_suspended_tenant_settles_old_holds_but_gets_no_new_holds(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let mut holds = Vec::new();
        for _ in 0..3 {
            holds.push(world.reserve("acme").tokens(100).await.expect("there is quota").name().to_owned());
        }
        world.set_state("acme", TenantState::Suspended).await;
        let before = world.books("acme").await;
        let cases = [
            world.reserve("acme").tokens(1).await.map(drop),
            world.extend(&holds[0]).tokens(1).await.map(drop),
            world.extend(&holds[0]).ttl(HOUR).await.map(drop),
        ];
        for result in cases {
            result.expect_err("it is suspended").is(Code::PermissionDenied, "TENANT_SUSPENDED");
        }
        assert_eq!(world.books("acme").await, before);

        world.commit(&holds[0]).tokens(60).await.expect("it may settle");
        world.release(&holds[1]).await.expect("it may settle");
        world.record("acme").tokens(5).await.expect("what was spent is spent");
        world.clock.advance(HOUR);
        let late = world.commit(&holds[2]).tokens(7).await.expect("late, too");
        assert!(late.held().late);
        assert_eq!(world.figures("acme", "day").await, (72, 0));
    }

    async fn a_repeated_request_of_a_suspended_tenant_gets_the_first_reply(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let reserve = || world.reserve("acme").tokens(100).id("r");
        let first = reserve().await.expect("there is quota");
        let extend = || world.extend(first.name()).tokens(50).id("e");
        let extended = extend().await.expect("there is quota");
        world.set_state("acme", TenantState::Suspended).await;
        assert_eq!(reserve().await.expect("a retry").reservation, first.reservation);
        assert_eq!(extend().await.expect("a retry").reservation, extended.reservation);
        assert_eq!(world.figures("acme", "day").await, (0, 150));
    }

    async fn a_suspended_tenant_can_be_made_active_again(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.set_state("acme", TenantState::Suspended).await;
        world.reserve("acme").tokens(1).await.expect_err("it is suspended");
        world.set_state("acme", TenantState::Active).await;
        world.reserve("acme").tokens(1).await.expect("it is active");
    }

    async fn a_suspended_tenant_does_not_affect_other_tenants(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.tenant_with("globex", &[day("tokens", 1_000)]).await;
        world.set_state("acme", TenantState::Suspended).await;
        let operations = vec![
            world.reserve("acme").tokens(1).operation(),
            world.reserve("globex").tokens(1).operation(),
        ];
        let results = world.batch(operations).await.expect("each stands for itself");
        assert!(matches!(results[0].result, Some(operation_result::Result::Error(_))));
        assert!(matches!(results[1].result, Some(operation_result::Result::Reserve(_))));
    }
}
