//! R4.2 and R4.3: deadlines of holds, and calls after the deadline.

use tonic::Code;

use crate::harness::{v1::*, *};

both! {
    async fn an_expired_hold_stops_counting_at_its_deadline(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(MINUTE).await.expect("there is quota");
        world.clock.advance(MINUTE - 1);
        assert_eq!(world.figures("acme", "day").await, (0, 100));
        world.reserve("acme").tokens(1).await.expect_err("it still counts").is_quota(&["day"]);
        world.clock.advance(1);
        // The read comes first, so nothing has been decided for the tenant since the deadline.
        assert_eq!(world.figures("acme", "day").await, (0, 0));
        let read = world.get(hold.name()).await.expect("it is kept");
        assert_eq!(state(&read), ReservationState::Expired);
        assert_eq!(millis(read.settle_time.as_ref()), Some(NOON + MINUTE));
        assert_eq!(world.list("acme").await.expect("the tenant is there").reservations, []);
        let check = world.check("acme").tokens(100).await.expect("an answer");
        assert!(check.allowed);
        let reply = world.reserve("acme").tokens(100).await.expect("it is free again");
        assert_eq!(reply.figures("day"), (0, 100));
    }

    /// A batch sweeps a bounded number of holds. A due hold does not count, even if it is not swept yet.
    async fn many_holds_that_expire_at_once_all_stop_counting(world: World) {
        const HOLDS: i64 = 3_000;
        world.tenant_with("acme", &[day("tokens", HOLDS)]).await;
        for _ in 0..HOLDS / 1_000 {
            let operation = world.reserve("acme").tokens(1).ttl(MINUTE).operation();
            world.batch(vec![operation; 1_000]).await.expect("each stands for itself");
        }
        assert_eq!(world.figures("acme", "day").await, (0, HOLDS));
        world.clock.advance(MINUTE);
        assert_eq!(world.figures("acme", "day").await, (0, 0));
        let reply = world.reserve("acme").tokens(HOLDS).await.expect("all of it is free");
        assert_eq!(reply.figures("day"), (0, HOLDS));
        for number in 0..10 {
            world.reserve("acme").tokens(1).await.expect_err(&number.to_string()).is_quota(&["day"]);
            assert_eq!(world.figures("acme", "day").await, (0, HOLDS));
        }
        let expired = clients::reservations(&world.quota, "acme", &[ReservationState::Expired]);
        assert_eq!(i64::try_from(expired.await.len()), Ok(HOLDS));
    }

    async fn on_expiry_charge_moves_the_hold_to_committed(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(MINUTE).charged_on_expiry();
        let hold = hold.await.expect("there is quota");
        assert_eq!(hold.held().on_expiry(), OnExpiry::Charge);
        world.clock.advance(MINUTE);
        assert_eq!(world.figures("acme", "day").await, (100, 0));
        let read = world.get(hold.name()).await.expect("it is kept");
        assert_eq!(state(&read), ReservationState::Expired);
        assert_eq!(amount(&read, "tokens"), (100, 100));
        assert!(!read.late);
        // Sweeping the hold does not change the figures.
        let reply = world.reserve("acme").tokens(1).await.expect("there is quota");
        assert_eq!(reply.figures("day"), (100, 1));
    }

    async fn a_late_commit_is_charged_and_marked_as_late(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(MINUTE).await.expect("there is quota");
        world.clock.advance(HOUR);
        let other = world.reserve("acme").tokens(100).await.expect("the first is over");
        let reply = world.commit(hold.name()).tokens(80).await.expect("what was spent is spent");
        assert!(reply.held().late);
        assert_eq!(state(reply.held()), ReservationState::Committed);
        assert_eq!(amount(reply.held(), "tokens"), (100, 80));
        assert_eq!(reply.figures("day"), (80, 100), "past the limit");
        assert!(reply.balance("day").exceeded);
        let again = world.commit(hold.name()).tokens(80).await.expect("the same amounts");
        assert_eq!(again.reservation, reply.reservation);
        let no = world.commit(hold.name()).tokens(81).await.expect_err("other amounts");
        no.is(Code::FailedPrecondition, "RESERVATION_SETTLED");
        world.release(other.name()).await.expect("it is held");
        assert_eq!(world.figures("acme", "day").await, (80, 0));
    }

    async fn a_late_commit_replaces_the_charge_at_the_deadline_once(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        for (case, (used, committed)) in [(30, 30), (100, 130), (250, 380), (0, 380)].into_iter().enumerate() {
            let hold = world.reserve("acme").tokens(100).ttl(MINUTE).charged_on_expiry();
            let hold = hold.await.expect("there is quota");
            world.clock.advance(MINUTE);
            // In half of the cases the hold is swept before the Commit.
            if case % 2 == 0 {
                world.record("acme").tokens(1).await.expect("it is recorded");
                world.record("acme").tokens(-1).await.expect("it is recorded");
            }
            let reply = world.commit(hold.name()).tokens(used).await.expect("it is kept");
            assert!(reply.held().late);
            assert_eq!(amount(reply.held(), "tokens"), (100, used));
            assert_eq!(reply.figures("day"), (committed, 0), "case {case}");
            world.commit(hold.name()).tokens(used).await.expect("the same amounts");
            assert_eq!(world.figures("acme", "day").await, (committed, 0), "case {case}");
        }
    }

    async fn a_late_release_reverses_the_charge_at_the_deadline(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(MINUTE).charged_on_expiry();
        let hold = hold.await.expect("there is quota");
        world.clock.advance(MINUTE);
        assert_eq!(world.figures("acme", "day").await, (100, 0));
        let reply = world.release(hold.name()).await.expect("it is kept");
        assert_eq!(state(reply.held()), ReservationState::Released);
        assert_eq!(reply.figures("day"), (0, 0));
        let again = world.release(hold.name()).await.expect("again");
        assert_eq!(again.reservation, reply.reservation);
        assert_eq!(world.figures("acme", "day").await, (0, 0));
    }

    async fn an_expired_hold_can_be_released_but_not_committed_after_that(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(MINUTE).await.expect("there is quota");
        world.clock.advance(MINUTE);
        let reply = world.release(hold.name()).await.expect("nothing was used");
        assert_eq!(state(reply.held()), ReservationState::Released);
        let no = world.commit(hold.name()).tokens(1).await.expect_err("after a Release");
        no.is(Code::FailedPrecondition, "RESERVATION_SETTLED");
        assert_eq!(world.figures("acme", "day").await, (0, 0));
    }

    /// An expired hold is kept for 30 days.
    async fn an_expired_hold_is_kept_for_its_late_commit(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(MINUTE).await.expect("there is quota");
        world.clock.advance(29 * DAY);
        let reply = world.commit(hold.name()).tokens(70).await.expect("it is kept");
        assert!(reply.held().late);
        assert_eq!(world.figures("acme", "lifetime").await, (70, 0));
    }

    async fn a_hold_can_be_made_at_the_instant_at_which_another_one_ends(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        // Each hold ends at the instant at which the next hold is made.
        for _ in 0..5 {
            world.reserve("acme").tokens(100).ttl(MINUTE).await.expect("the one before is over");
            world.clock.advance(MINUTE);
        }
        assert_eq!(world.figures("acme", "day").await, (0, 0));
    }
}
