//! Commit and Release settle a hold. A hold is settled once.

use std::future::IntoFuture;

use tonic::Code;

use crate::harness::{clients::serving, v1::*, *};

/// Creates a tenant with 1,000 tokens a day, and makes a hold of 100 tokens. Returns the name of the hold.
async fn hold_of_100(world: &World) -> String {
    world.tenant_with("acme", &[day("tokens", 1_000)]).await;
    let reply = world.reserve("acme").tokens(100).await.expect("there is quota");
    reply.name().to_owned()
}

both! {
    async fn a_commit_charges_what_was_used_and_frees_the_rest(world: World) {
        let hold = hold_of_100(world).await;
        world.clock.advance(SECOND);
        let reply = world.commit(&hold).tokens(80).await.expect("it is held");
        let settled = reply.held();
        assert_eq!(state(settled), ReservationState::Committed);
        assert_eq!(amount(settled, "tokens"), (100, 80));
        assert_eq!(settled.amounts[0].overrun, 0);
        assert_eq!(millis(settled.settle_time.as_ref()), Some(NOON + SECOND));
        assert!(!settled.late);
        assert_eq!(reply.figures("day"), (80, 0));
        assert_eq!(reply.balance("day").remaining, Some(920));
        assert_eq!(world.figures("acme", "day").await, (80, 0));
    }

    async fn a_resource_that_a_commit_leaves_out_is_charged_as_reserved(world: World) {
        let limits = [day("tokens", 1_000), day("requests", 10).named("calls")];
        world.tenant_with("acme", &limits).await;
        let hold = world.reserve("acme").tokens(100).amount("requests", 2).await.expect("there is quota");
        let reply = world.commit(hold.name()).tokens(30).await.expect("it is held");
        assert_eq!(amount(reply.held(), "requests"), (2, 2));
        assert_eq!(reply.figures("calls"), (2, 0));
        assert_eq!(reply.figures("day"), (30, 0));
    }

    async fn a_commit_of_zero_frees_its_resource(world: World) {
        let hold = hold_of_100(world).await;
        let reply = world.commit(&hold).tokens(0).await.expect("it is held");
        assert_eq!(state(reply.held()), ReservationState::Committed);
        assert_eq!(reply.figures("day"), (0, 0));
    }

    /// R4.8: real usage is never refused.
    async fn an_overrun_is_charged_in_full_and_stops_the_next_reserve(world: World) {
        let hold = hold_of_100(world).await;
        let reply = world.commit(&hold).tokens(1_500).await.expect("real usage is never refused");
        assert_eq!(amount(reply.held(), "tokens"), (100, 1_500));
        assert_eq!(reply.held().amounts[0].overrun, 1_400);
        assert_eq!(reply.figures("day"), (1_500, 0));
        assert!(reply.balance("day").exceeded);
        assert_eq!(reply.balance("day").remaining, Some(0));
        world.reserve("acme").tokens(1).await.expect_err("it is used up").is_quota(&["day"]);
    }

    async fn a_resource_that_was_not_reserved_may_be_committed(world: World) {
        let limits = [day("tokens", 1_000), day("requests", 1).named("calls")];
        world.tenant_with("acme", &limits).await;
        let hold = world.reserve("acme").tokens(100).await.expect("there is quota");
        let reply = world.commit(hold.name()).tokens(10).amount("requests", 3).await.expect("never refused");
        assert_eq!(amount(reply.held(), "requests"), (0, 3));
        assert_eq!(reply.figures("calls"), (3, 0));
        assert_eq!(world.figures("acme", "calls").await, (3, 0));
    }

    async fn a_release_frees_the_whole_hold(world: World) {
        let hold = hold_of_100(world).await;
        let reply = world.release(&hold).await.expect("it is held");
        assert_eq!(state(reply.held()), ReservationState::Released);
        assert_eq!(amount(reply.held(), "tokens"), (100, 0));
        assert_eq!(reply.figures("day"), (0, 0));
        assert_eq!(world.figures("acme", "day").await, (0, 0));
    }

    /// R4.1: settling is idempotent by state.
    async fn a_repeated_commit_or_release_gets_the_same_reply(world: World) {
        let hold = hold_of_100(world).await;
        let first = world.commit(&hold).tokens(80).await.expect("it is held");
        world.clock.advance(MINUTE);
        let again = world.commit(&hold).tokens(80).await.expect("the same amounts");
        assert_eq!(again.reservation, first.reservation);
        assert_eq!(again.figures("day"), (80, 0));

        let other = world.reserve("acme").tokens(50).await.expect("there is quota");
        let first = world.release(other.name()).await.expect("it is held");
        world.clock.advance(MINUTE);
        let again = world.release(other.name()).await.expect("again");
        assert_eq!(again.reservation, first.reservation);
        assert_eq!(world.figures("acme", "day").await, (80, 0));
    }

    async fn a_settled_hold_cannot_be_settled_in_another_way(world: World) {
        let committed = hold_of_100(world).await;
        world.commit(&committed).tokens(80).await.expect("it is held");
        let released = world.reserve("acme").tokens(10).await.expect("there is quota").name().to_owned();
        world.release(&released).await.expect("it is held");
        let before = world.books("acme").await;

        let cases = [
            ("COMMITTED", world.commit(&committed).tokens(81).await.map(drop)),
            ("COMMITTED", world.release(&committed).await.map(drop)),
            ("COMMITTED", world.extend(&committed).ttl(MINUTE).await.map(drop)),
            ("RELEASED", world.commit(&released).tokens(10).await.map(drop)),
            ("RELEASED", world.extend(&released).ttl(MINUTE).await.map(drop)),
        ];
        for (index, (state, result)) in cases.into_iter().enumerate() {
            let no = result.expect_err(&format!("case {index}"));
            no.is(Code::FailedPrecondition, "RESERVATION_SETTLED");
            assert!(no.metadata.values().any(|value| value == state), "case {index}: {no:?}");
        }
        assert_eq!(world.books("acme").await, before);
    }

    async fn a_hold_is_found_by_the_request_id_of_its_reserve(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let by_request = |id: &str| (String::from("acme"), id.to_owned());
        for id in ["a", "b", "c"] {
            world.reserve("acme").tokens(100).id(id).await.expect("there is quota");
        }
        let extended = world.extend("").tokens(50).with(|request| {
            (request.tenant, request.reserve_request_id) = by_request("a");
        });
        assert_eq!(amount(extended.await.expect("it is held").held(), "tokens"), (150, 0));
        let committed = world.commit("").tokens(7).with(|request| {
            (request.tenant, request.reserve_request_id) = by_request("b");
        });
        assert_eq!(committed.await.expect("it is held").held().request_id, "b");
        let released = world.release("").with(|request| {
            (request.tenant, request.reserve_request_id) = by_request("c");
        });
        assert_eq!(state(released.await.expect("it is held").held()), ReservationState::Released);
        let read = world.get("").with(|request| {
            (request.tenant, request.reserve_request_id) = by_request("c");
        });
        assert_eq!(state(&read.await.expect("it is kept")), ReservationState::Released);
        assert_eq!(world.figures("acme", "day").await, (7, 150));

        let unknown = world.commit("").tokens(7).with(|request| {
            (request.tenant, request.reserve_request_id) = by_request("d");
        });
        unknown.await.expect_err("there is none").is(Code::NotFound, "RESERVATION_NOT_FOUND");
    }

    async fn an_unknown_reservation_is_not_found(world: World) {
        let hold = hold_of_100(world).await;
        let before = world.books("acme").await;
        // Clients must not change names: a changed name names no reservation.
        let tampered: String = hold.chars().rev().collect();
        for name in ["nonsense", &format!("{hold}x"), &tampered, &hold[1..], &hold.to_uppercase()] {
            if name == hold {
                continue;
            }
            let cases = [
                world.commit(name).await.map(drop),
                world.release(name).await.map(drop),
                world.extend(name).ttl(MINUTE).await.map(drop),
                world.get(name).await.map(drop),
            ];
            for result in cases {
                let no = result.expect_err(name);
                no.is(Code::NotFound, "RESERVATION_NOT_FOUND");
                assert_eq!(no.resource.as_ref().expect("it says which").1, name);
            }
        }
        assert_eq!(world.books("acme").await, before);
    }

    /// R4.10: calls that charge or settle take effect even if the client has disconnected.
    async fn commit_release_and_record_take_effect_after_the_client_has_gone(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let committed = world.reserve("acme").tokens(100).await.expect("there is quota").name().to_owned();
        let released = world.reserve("acme").tokens(100).await.expect("there is quota").name().to_owned();

        let stall = world.database.stall().await;
        let calls = (
            sent(world.commit(&committed).tokens(80)).await,
            sent(world.release(&released)).await,
            sent(world.record("acme").tokens(3)).await,
        );
        accepted(world).await;
        drop(calls);
        accepted(world).await;
        stall.end().await;
        eventually("all three are carried out", async || {
            (world.figures("acme", "day").await == (83, 0)).then_some(())
        })
        .await;
    }

    /// R4.10: calls that would make or extend holds are dropped, because nobody would settle the holds.
    async fn reserve_and_extend_are_dropped_after_the_client_has_gone(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).await.expect("there is quota").name().to_owned();

        let stall = world.database.stall().await;
        // The first call is in the batch that waits for the lock. The next calls wait in the queue.
        let first = sent(world.record("acme").tokens(1)).await;
        accepted(world).await;
        let calls =
            (sent(world.reserve("acme").tokens(50)).await, sent(world.extend(&hold).tokens(50)).await);
        accepted(world).await;
        drop(calls);
        accepted(world).await;
        stall.end().await;
        first.await.expect("it is recorded");
        // This call comes after the dropped calls in the queue.
        world.record("acme").tokens(1).await.expect("it is recorded");
        assert_eq!(world.figures("acme", "day").await, (2, 100));
    }
}

/// Sends a call, but does not wait for the answer.
async fn sent<C: IntoFuture>(call: C) -> C::IntoFuture
where
    C::IntoFuture: Unpin,
{
    let mut sending = call.into_future();
    assert!(futures::poll!(&mut sending).is_pending(), "it has to wait");
    sending
}

/// Waits until the server has accepted all calls that were sent before on this connection. The server accepts streams
/// in order, and health needs no lock. Several health checks give the server's tasks time to run.
async fn accepted(world: &World) {
    for _ in 0..10 {
        serving(&world.channel).await;
    }
}
