//! I9: for a tenant, time never goes back.

use crate::harness::{v1::*, *};

both! {
    async fn a_clock_that_jumps_back_does_not_revive_a_hold(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(MINUTE).await.expect("there is quota");
        world.clock.advance(2 * MINUTE);
        world.reserve("acme").tokens(100).ttl(HOUR).await.expect("the first is over");
        world.clock.set(NOON);
        assert_eq!(world.figures("acme", "day").await, (0, 100));
        assert_eq!(state(&world.get(hold.name()).await.expect("it is kept")), ReservationState::Expired);
        let reply = world.commit(hold.name()).tokens(1).await.expect("it is kept");
        assert!(reply.held().late);
    }

    async fn a_clock_that_jumps_back_does_not_reopen_a_window(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(100).await.expect("it is recorded");
        world.clock.advance(DAY);
        world.record("acme").tokens(30).await.expect("it is recorded");
        world.clock.set(NOON);
        // The running window is the later day, because the tenant has already seen a decision in it.
        assert_eq!(world.figures("acme", "day").await, (30, 0));
        let reply = world.reserve("acme").tokens(70).await.expect("of the later day");
        assert_eq!(reply.figures("day"), (30, 70));
        assert_eq!(millis(reply.held().create_time.as_ref()), Some(NOON + DAY));
        assert_eq!(millis(reply.held().expire_time.as_ref()), Some(NOON + DAY + 5 * MINUTE));
        world.reserve("acme").tokens(1).await.expect_err("used up").is_quota(&["day"]);
    }

    async fn the_time_of_a_tenant_stands_still_until_the_clock_catches_up(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.clock.set(NOON + 10 * DAY);
        world.record("acme").tokens(1).await.expect("it is recorded");
        for back in [0, DAY, 9 * DAY] {
            world.clock.set(NOON + back);
            let reply = world.record("acme").tokens(1).await.expect("it is recorded");
            assert_eq!(millis(reply.held().create_time.as_ref()), Some(NOON + 10 * DAY));
        }
        world.clock.set(NOON + 10 * DAY + 1);
        let reply = world.record("acme").tokens(1).await.expect("it is recorded");
        assert_eq!(millis(reply.held().create_time.as_ref()), Some(NOON + 10 * DAY + 1));
        assert_eq!(reply.figures("day"), (5, 0));
    }

    async fn each_tenant_has_its_own_time(world: World) {
        world.tenant_with("ahead", &[day("tokens", 1_000)]).await;
        world.tenant_with("behind", &[day("tokens", 1_000)]).await;
        world.clock.set(NOON + 10 * DAY);
        world.record("ahead").tokens(1).await.expect("it is recorded");
        world.clock.set(NOON);
        let reply = world.record("behind").tokens(1).await.expect("it is recorded");
        assert_eq!(millis(reply.held().create_time.as_ref()), Some(NOON));
    }

    async fn a_restart_with_a_clock_that_is_behind_changes_nothing(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.clock.advance(DAY);
        world.record("acme").tokens(100).await.expect("it is recorded");
        world.clock.set(NOON - 30 * DAY);
        world.restart().await;
        world.reserve("acme").tokens(1).await.expect_err("used up").is_quota(&["day"]);
        assert_eq!(world.figures("acme", "day").await, (100, 0));
    }
}
