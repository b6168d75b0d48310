//! Record charges usage in one step, without a hold.

use crate::harness::{v1::*, *};

both! {
    async fn a_record_is_a_reservation_that_is_born_committed(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000), month("tokens", 5_000)]).await;
        let record = world.record("acme").tokens(70).agent("planner").model("m-1").label("run", "7").id("r");
        let reply = record.await.expect("it is always recorded");
        let born = reply.held();
        assert_eq!(state(born), ReservationState::Committed);
        assert_eq!(amount(born, "tokens").1, 70);
        assert_eq!((born.agent.as_str(), born.request_id.as_str()), ("planner", "r"));
        assert_eq!(born.labels["run"], "7");
        assert_eq!(born.expire_time, None);
        assert_eq!(millis(born.create_time.as_ref()), Some(NOON));
        assert_eq!(millis(born.settle_time.as_ref()), Some(NOON));
        assert_eq!(reply.applied, [70, 70]);
        assert_eq!((reply.figures("day"), reply.figures("month")), ((70, 0), (70, 0)));
        assert_eq!(world.get(reply.name()).await.expect("it is kept"), *born);
    }

    async fn usage_above_the_limit_is_recorded(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let reply = world.record("acme").tokens(250).await.expect("it is always recorded");
        assert_eq!(reply.figures("day"), (250, 0));
        assert!(reply.balance("day").exceeded);
        world.reserve("acme").tokens(1).await.expect_err("it is used up").is_quota(&["day"]);
    }

    /// The day has less usage than the month, so less is subtracted from the counter of the day.
    async fn a_negative_record_takes_no_counter_below_zero(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000), month("tokens", 5_000)]).await;
        world.record("acme").tokens(80).await.expect("it is recorded");
        world.clock.advance(DAY);
        world.record("acme").tokens(30).await.expect("it is recorded");
        let reply = world.record("acme").tokens(-50).await.expect("it gives back");
        assert_eq!(reply.figures("day"), (0, 0));
        assert_eq!(reply.figures("month"), (60, 0));
        for (balance, applied) in reply.balances.iter().zip(&reply.applied) {
            let wanted = if balance.limit_id == "day" { -30 } else { -50 };
            assert_eq!(*applied, wanted, "{balance:?}");
        }
        let reply = world.record("acme").tokens(-1_000).await.expect("it gives back what there is");
        assert_eq!(reply.figures("month"), (0, 0));
        let reply = world.record("acme").tokens(-1).await.expect("there is nothing left to give back");
        assert_eq!(reply.applied, [0, 0]);
    }

    async fn a_negative_record_does_not_change_reserved_quantities(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.reserve("acme").tokens(100).await.expect("there is quota");
        let reply = world.record("acme").tokens(-100).await.expect("it gives back");
        assert_eq!(reply.applied, [0]);
        assert_eq!(reply.figures("day"), (0, 100));
    }

    async fn a_meter_can_rise_and_fall(world: World) {
        world.declare("storage_bytes").await;
        world.tenant_with("acme", &[day("tokens", 1)]).await;
        for (change, sum) in [(500, 500), (-200, 300), (-400, 0), (10, 10)] {
            let reply = world.record("acme").amount("storage_bytes", change).await.expect("no limit applies");
            assert_eq!(reply.figures(""), (sum, 0));
        }
    }

    async fn several_resources_are_recorded_at_once(world: World) {
        let limits = [day("tokens", 1_000), day("requests", 10).named("calls")];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(5).amount("requests", 2).await.expect("it is recorded");
        let reply = world.record("acme").tokens(5).amount("requests", -1).await.expect("both ways");
        assert_eq!((reply.figures("day"), reply.figures("calls")), ((10, 0), (1, 0)));
    }

    /// R4.1: a request_id takes effect once.
    async fn a_repeated_record_takes_effect_once(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let record = || world.record("acme").tokens(40).id("r");
        let first = record().await.expect("it is recorded");
        world.clock.advance(MINUTE);
        world.record("acme").tokens(2).await.expect("it is recorded");
        let again = record().await.expect("a retry");
        assert_eq!(again.reservation, first.reservation);
        assert_eq!(again.applied, first.applied);
        assert_eq!(again.figures("day"), (42, 0), "balances are those of now");
        assert_eq!(world.reservations("acme").await.len(), 2);
    }
}
