//! Amend replaces what was charged with absolute figures, on the record, whatever happened to the counters (R4.44).

use std::future::IntoFuture;

use futures::future::join_all;
use tonic::Code;

use crate::harness::{
    v1::{EventKind::*, *},
    world::World,
    *,
};

/// How the usage was charged that an Amend corrects.
#[derive(Clone, Copy, Debug)]
enum Charge {
    /// By a Record of this quantity.
    Record(i64),
    /// By a Commit of the second quantity, after a Reserve of the first quantity.
    Commit(i64, i64),
    /// By such a Commit after the deadline.
    Late(i64, i64),
    /// At the deadline, after a Reserve of this quantity.
    Deadline(i64),
}

/// Charges a tenant's tokens, and returns the name of the reservation.
async fn charge(world: &World, tenant: &str, charge: Charge) -> String {
    let reserve = async |quantity| {
        let call = world.reserve(tenant).tokens(quantity).ttl(MINUTE).charged_on_expiry();
        call.await.expect("it fits").name().to_owned()
    };
    let commit = async |name: String, quantity| {
        world.commit(&name).tokens(quantity).await.expect("it is kept");
        name
    };
    match charge {
        Charge::Record(quantity) => {
            world.record(tenant).tokens(quantity).await.expect("it is recorded").name().to_owned()
        }
        Charge::Commit(reserved, used) => commit(reserve(reserved).await, used).await,
        Charge::Late(reserved, used) => {
            let name = reserve(reserved).await;
            world.clock.advance(MINUTE);
            commit(name, used).await
        }
        Charge::Deadline(reserved) => {
            let name = reserve(reserved).await;
            world.clock.advance(MINUTE);
            name
        }
    }
}

/// Returns what the tenant has committed of its limits, which must be the same for the day and for ever.
async fn committed(world: &World, tenant: &str) -> i64 {
    let usage = world.usage(tenant).await;
    assert_eq!(usage.figures("day"), usage.figures("lifetime"), "{usage:#?}");
    usage.figures("day").0
}

/// Returns before and after of each amendment of a reservation.
async fn amendments(world: &World, name: &str) -> Vec<(i64, i64)> {
    let found = world.get(name).await.expect("it is kept");
    found.amendments.iter().flat_map(|amendment| &amendment.amounts).map(|a| (a.before, a.after)).collect()
}

fn both_limits() -> [Limit; 2] {
    [day("tokens", 10_000), lifetime("tokens", 10_000)]
}

both! {
    async fn an_amend_replaces_the_figure_and_keeps_who_and_why(world: World) {
        world.tenant_with("acme", &both_limits()).await;
        let recorded = world.record("acme").tokens(100).id("r").await.expect("it is recorded");
        world.clock.advance(SECOND);
        let reply = world.amend(recorded.name()).tokens(30).await.expect("it was charged");
        assert_eq!((reply.figures("day"), amount(reply.held(), "tokens")), ((30, 0), (0, 30)));
        assert_eq!(state(reply.held()), ReservationState::Committed);
        let found = world.get(recorded.name()).await.expect("it is kept");
        let [amendment] = &found.amendments[..] else { panic!("{found:#?}") };
        assert_eq!((amendment.reason.as_str(), amendment.operator.as_str()), ("ticket 7", "ops@example.com"));
        assert_eq!(millis(amendment.amend_time.as_ref()), Some(NOON + SECOND));
        assert_eq!(amendment.amounts, [AmendedAmount { resource: "tokens".into(), before: 100, after: 30 }]);
        assert_eq!(found.settle_time, recorded.held().settle_time, "it is kept as long as before");
        // A repeat changes nothing, and a retry of the Record is still the same Record.
        let before = (world.books("acme").await, found);
        for restarts in [false, true] {
            if restarts {
                world.restart().await;
            }
            let again = world.amend("").with(|request| {
                (request.reservation, request.tenant) = (String::new(), "acme".into());
                (request.reserve_request_id, request.reason) = ("r".into(), "another".into());
            });
            assert_eq!(again.tokens(30).await.expect("a repeat"), reply);
            let record = world.record("acme").tokens(100).id("r").await.expect("a retry");
            assert_eq!((&record.reservation, &record.applied), (&recorded.reservation, &recorded.applied));
            assert_eq!(record.figures("day"), (30, 0), "the present balance");
            assert_eq!((world.books("acme").await, world.get(recorded.name()).await.expect("it is kept")), before);
        }
    }

    /// Beside the usage that is corrected, there is other usage, which must stay.
    async fn every_charge_can_be_corrected(world: World) {
        // Each case: the charge, the figures of the Amends, and what they leave of the charge.
        let cases: [(Charge, &[i64], i64); 12] = [
            (Charge::Record(100), &[0], 0),
            (Charge::Record(100), &[250], 250),
            (Charge::Record(100), &[0, 40, 7], 7),
            (Charge::Record(0), &[5], 5),
            (Charge::Record(-100), &[0], 0),
            (Charge::Record(-100), &[60], 60),
            (Charge::Commit(100, 80), &[0], 0),
            (Charge::Commit(100, 500), &[80], 80),
            (Charge::Late(100, 80), &[20], 20),
            (Charge::Deadline(100), &[0], 0),
            (Charge::Deadline(100), &[300], 300),
            (Charge::Deadline(0), &[3], 3),
        ];
        for (number, (charged, figures, left)) in cases.into_iter().enumerate() {
            let tenant = format!("t{number}");
            world.tenant_with(&tenant, &both_limits()).await;
            world.record(&tenant).tokens(1_000).await.expect("it is recorded");
            let name = charge(world, &tenant, charged).await;
            let state_before = state(&world.get(&name).await.expect("it is kept"));
            for &figure in figures {
                let reply = world.amend(&name).tokens(figure).await.expect("it was charged");
                assert_eq!((amount(reply.held(), "tokens").1, state(reply.held())), (figure, state_before));
            }
            assert_eq!(committed(world, &tenant).await, 1_000 + left, "{charged:?}");
            assert_eq!(amendments(world, &name).await.len(), figures.len(), "{charged:?}");
            world.verify().await;
        }
    }

    async fn what_was_not_charged_cannot_be_amended(world: World) {
        world.tenant_with("acme", &both_limits()).await;
        let reserve = async || {
            let reply = world.reserve("acme").tokens(10).ttl(MINUTE).await;
            reply.expect("it fits").name().to_owned()
        };
        let (released, expired) = (reserve().await, reserve().await);
        world.release(&released).await.expect("it is held");
        world.clock.advance(MINUTE);
        let held = reserve().await;
        let before = world.books("acme").await;
        for (name, state, hint) in [(&held, "RESERVED", "Commit"), (&released, "RELEASED", "Record"), (&expired, "EXPIRED", "late Commit")] {
            let no = world.amend(name).tokens(5).await.expect_err(state);
            no.is(Code::FailedPrecondition, "RESERVATION_NOT_CHARGED");
            assert_eq!(no.metadata["state"], state);
            assert!(no.message.contains(state) && no.message.contains(hint), "{no:?}");
        }
        let unknown = world.record("acme").tokens(1).await.expect("it is recorded").name().replace(char::is_numeric, "a");
        for name in [unknown.as_str(), "nonsense"] {
            let no = world.amend(name).tokens(5).await.expect_err("there is none");
            no.is(Code::NotFound, "RESERVATION_NOT_FOUND");
        }
        let no = world.amend("").tokens(5).with(|request| {
            (request.tenant, request.reserve_request_id) = ("acme".into(), "x".into());
        });
        no.await.expect_err("there is none").is(Code::NotFound, "RESERVATION_NOT_FOUND");
        let no = world.amend("").tokens(5).with(|request| {
            (request.tenant, request.reserve_request_id) = ("globex".into(), "x".into());
        });
        no.await.expect_err("there is none").is(Code::NotFound, "TENANT_NOT_FOUND");
        world.record("acme").tokens(-1).await.expect("it is recorded");
        assert_eq!(world.books("acme").await.0, before.0);
    }

    async fn a_wrong_field_is_named(world: World) {
        world.tenant_with("acme", &both_limits()).await;
        let name = charge(world, "acme", Charge::Record(10)).await;
        let units = |quantity| Amount { resource: "tokens".into(), quantity };
        let before = world.books("acme").await;
        let cases: [(&str, &dyn Fn(&mut AmendRequest)); 13] = [
            ("amounts", &|request| request.amounts.clear()),
            ("amounts", &|request| request.amounts = vec![units(1); 17]),
            ("amounts[0].resource", &|request| request.amounts[0].resource = "undeclared".into()),
            ("amounts[0].resource", &|request| request.amounts[0].resource = String::new()),
            ("amounts[1].resource", &|request| request.amounts.push(units(1))),
            ("amounts[0].quantity", &|request| request.amounts[0].quantity = -1),
            ("amounts[0].quantity", &|request| request.amounts[0].quantity = i64::MIN),
            ("amounts[0].quantity", &|request| request.amounts[0].quantity = i64::MAX),
            ("reason", &|request| request.reason.clear()),
            ("reason", &|request| request.reason = "x".repeat(257)),
            ("operator", &|request| request.operator.clear()),
            ("operator", &|request| request.operator = "a\u{7}".into()),
            ("reservation", &|request| request.reservation.clear()),
        ];
        world.record("acme").tokens(10).await.expect("it is recorded");
        world.record("acme").tokens(-10).await.expect("it is recorded");
        let hold = world.reserve("acme").tokens(1).await.expect("it fits");
        for (field, spoil) in cases {
            world.amend(&name).tokens(5).with(spoil).await.expect_err(field).names(&[field]);
        }
        world.release(hold.name()).await.expect("it is held");
        assert_eq!(world.books("acme").await.0, before.0);
        assert_eq!(amendments(world, &name).await, []);
    }

    /// A resource that is left out keeps its figure. A resource that the reservation does not have is charged in the
    /// reservation's windows.
    async fn an_amend_may_name_other_resources(world: World) {
        let limits = [day("tokens", 100), day("requests", 100).named("calls"), day("images", 100).named("images")];
        world.tenant_with("acme", &limits).await;
        world.declare("meter").await;
        let recorded = world.record("acme").tokens(10).amount("requests", 2).id("r").await.expect("it is recorded");
        world.clock.advance(DAY);
        for _ in 0..2 {
            let amend = world.amend(recorded.name()).amount("images", 3).amount("tokens", 4).amount("meter", 5);
            let reply = amend.await.expect("it was charged");
            let figures = ["day", "calls", "images", ""].map(|limit| reply.figures(limit).0);
            assert_eq!(figures, [4, 2, 3, 5]);
            assert!(reply.balances.iter().all(|balance| balance.limit_id.is_empty() || window(balance).1 < world.clock.now()));
            let zero = world.amend(recorded.name()).amount("images", 3).await.expect("the figure that it has");
            assert_eq!(zero.reservation, reply.reservation);
        }
        let found = world.get(recorded.name()).await.expect("it is kept");
        let changed: Vec<_> = found.amendments.iter().flat_map(|a| &a.amounts).map(|a| (a.resource.as_str(), a.before, a.after)).collect();
        assert_eq!(changed, [("images", 0, 3), ("meter", 0, 5), ("tokens", 10, 4)]);
        let again = world.record("acme").tokens(10).amount("requests", 2).id("r").await.expect("a retry");
        assert_eq!((again.reservation, again.applied), (recorded.reservation, recorded.applied));
        for limit in ["day", "calls", "images"] {
            assert_eq!(world.figures("acme", limit).await, (0, 0), "today is untouched");
        }
    }

    /// Two pollers find the same failed call, and both refund it, again and again.
    async fn a_refund_that_is_sent_twice_is_one_refund(world: World) {
        world.tenant_with("acme", &both_limits()).await;
        world.record("acme").tokens(50).await.expect("it is recorded");
        let name = charge(world, "acme", Charge::Commit(100, 100)).await;
        let refunds = (0..8).map(|_| world.amend(&name).tokens(0).into_future());
        for reply in join_all(refunds).await {
            assert_eq!(reply.expect("it was charged").figures("day"), (50, 0));
        }
        assert_eq!(amendments(world, &name).await, [(100, 0)]);
    }

    /// A provider reported 10^12 tokens. The correction clears the thresholds, and they can be reached again.
    async fn a_report_of_a_million_million_tokens_is_corrected(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000).thresholds(&[80]), month("tokens", 5_000)]).await;
        let hold = world.reserve("acme").tokens(100).await.expect("it fits");
        world.commit(hold.name()).tokens(1_000_000_000_000).await.expect("real usage is never refused");
        world.reserve("acme").tokens(1).await.expect_err("it is used up").is_quota(&["day", "month"]);
        let reply = world.amend(hold.name()).tokens(90).await.expect("it was charged");
        assert_eq!((reply.figures("day"), reply.figures("month")), ((90, 0), (90, 0)));
        world.reserve("acme").tokens(900).await.expect("it fits again");
        world.amend(hold.name()).tokens(900).await.expect("it was charged");
        let kinds: Vec<_> = world.kinds("acme").await.into_iter().filter(|(kind, _)| *kind != ReserveRefused).collect();
        let wanted = [
            (ThresholdReached, 80), (LimitReached, 100), (LimitReached, 100),
            (ThresholdCleared, 80), (ThresholdCleared, 100), (ThresholdCleared, 100), (ThresholdReached, 80),
        ];
        let sorted = |mut kinds: Vec<_>| {
            kinds.sort_unstable();
            kinds
        };
        assert_eq!(sorted(kinds), sorted(wanted.to_vec()));
    }

    /// A Record that would take the counter below zero is clamped. Its correction is not.
    async fn a_clamped_record_is_corrected_from_what_it_changed(world: World) {
        world.tenant_with("acme", &both_limits()).await;
        let first = charge(world, "acme", Charge::Record(20)).await;
        let credit = charge(world, "acme", Charge::Record(-50)).await;
        assert_eq!(committed(world, "acme").await, 0, "20 of 50 were subtracted");
        for (name, figure, counts) in [(&credit, 5, 25), (&credit, 0, 20), (&first, 30, 30), (&first, 0, 0)] {
            world.amend(name).tokens(figure).await.expect("it was charged");
            assert_eq!(committed(world, "acme").await, counts);
        }
        assert_eq!(amendments(world, &credit).await, [(-50, 5), (5, 0)]);
        // The other way round: a counter from which a credit took what is refunded now stays at zero.
        let first = charge(world, "acme", Charge::Record(20)).await;
        charge(world, "acme", Charge::Record(-15)).await;
        for (figure, counts) in [(3, 0), (0, 0), (17, 2), (40, 25)] {
            world.amend(&first).tokens(figure).await.expect("it was charged");
            assert_eq!(committed(world, "acme").await, counts, "{figure}");
        }
    }

    /// A retry of the Commit is the same Commit, although its figures were corrected.
    async fn a_repeated_commit_is_the_same_commit_after_an_amend(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000), day("requests", 9).named("calls")]).await;
        let hold = world.reserve("acme").tokens(100).amount("requests", 0).id("r").await.expect("it fits");
        let first = world.commit(hold.name()).tokens(80).await.expect("it is held");
        world.amend(hold.name()).tokens(10).amount("requests", 2).await.expect("it was charged");
        let again = world.commit(hold.name()).tokens(80).await.expect("a repeat");
        assert_eq!((&again.reservation, again.figures("day")), (&first.reservation, (10, 0)));
        for other in [10, 81] {
            let no = world.commit(hold.name()).tokens(other).await.expect_err("other amounts");
            no.is(Code::FailedPrecondition, "RESERVATION_SETTLED");
        }
        let reserve = world.reserve("acme").tokens(100).amount("requests", 0).id("r").await.expect("a retry");
        assert_eq!(reserve.reservation, hold.reservation);
        assert_eq!(amount(&world.get(hold.name()).await.expect("it is kept"), "requests"), (0, 2));
        world.release(hold.name()).await.expect_err("it is committed").is(Code::FailedPrecondition, "RESERVATION_SETTLED");
    }

    /// The charge at a deadline was corrected, and then the backend reports what was really used.
    async fn a_late_settlement_replaces_an_amended_charge(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000), day("requests", 9).named("calls")]).await;
        for (used, counts) in [(Some(70), 70), (Some(0), 0), (None, 0)] {
            let hold = world.reserve("acme").tokens(100).id(&format!("{used:?}")).ttl(MINUTE).charged_on_expiry();
            let hold = hold.await.expect("it fits");
            world.clock.advance(MINUTE);
            let reply = world.amend(hold.name()).tokens(5).amount("requests", 3).await.expect("it was charged");
            assert_eq!((state(reply.held()), reply.figures("day"), reply.figures("calls")), (ReservationState::Expired, (5, 0), (3, 0)));
            let again = world.reserve("acme").tokens(100).id(&format!("{used:?}")).ttl(MINUTE).charged_on_expiry();
            assert_eq!(again.await.expect("a retry").reservation, hold.reservation);
            for _ in 0..2 {
                match used {
                    Some(used) => {
                        let reply = world.commit(hold.name()).tokens(used).await.expect("it is kept, or a repeat");
                        assert_eq!(reply.figures("calls"), (0, 0), "it was not used");
                    }
                    None => drop(world.release(hold.name()).await.expect("it is kept, or a repeat")),
                }
            }
            assert_eq!(world.figures("acme", "day").await, (counts, 0));
            assert_eq!(amendments(world, hold.name()).await, [(0, 3), (100, 5)], "they stay on the record");
            world.record("acme").tokens(-counts).await.expect("it is recorded");
        }
    }

    async fn twenty_amendments_are_kept(world: World) {
        world.tenant_with("acme", &both_limits()).await;
        let name = charge(world, "acme", Charge::Commit(10, 1_000)).await;
        let amend = |figure| world.amend(&name).tokens(figure).operation();
        let results = world.batch((0..25).map(amend).collect()).await.expect("each stands for itself");
        assert!(results.iter().all(|result| matches!(result.result, Some(operation_result::Result::Amend(_)))));
        let wanted: Vec<_> = (4..24).map(|figure| (figure, figure + 1)).collect();
        assert_eq!(amendments(world, &name).await, wanted);
        world.commit(&name).tokens(1_000).await.expect("a repeat");
        let listed = world.reservations("acme").await;
        assert_eq!(listed[0].amendments, [], "only GetReservation lists them");
    }

    async fn a_batch_may_amend_what_it_has_recorded(world: World) {
        world.tenant_with("acme", &both_limits()).await;
        world.set_state("acme", TenantState::Suspended).await;
        let amend = world.amend("").tokens(4).with(|request| {
            (request.tenant, request.reserve_request_id) = ("acme".into(), "r".into());
        });
        let operations = vec![world.record("acme").tokens(10).id("r").operation(), amend.operation()];
        for _ in 0..2 {
            let results = world.batch(operations.clone()).await.expect("each stands for itself");
            let Some(operation_result::Result::Amend(reply)) = &results[1].result else { panic!("{results:#?}") };
            assert_eq!((reply.figures("day"), amount(reply.held(), "tokens")), ((4, 0), (0, 4)));
        }
    }
}
