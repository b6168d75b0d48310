//! A Record may say when its usage occurred, and counts in the windows of that instant (R4.43).

use tonic::Code;

use crate::harness::{
    v1::{EventKind::*, *},
    *,
};

both! {
    /// In one round the server remembers the counters. In the other round it loads them after a restart.
    async fn usage_counts_in_the_windows_in_which_it_occurred(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), month("tokens", 1_000), lifetime("tokens", 10_000)]).await;
        for (round, restarts) in [(1, false), (2, true)] {
            if restarts {
                world.restart().await;
            }
            let reply = world.record("acme").tokens(200).occurred(NOON - DAY).await.expect("no limit refuses it");
            assert_eq!(reply.figures("day"), (200 * round, 0));
            assert_eq!(window(reply.balance("day")), (NOON - 36 * HOUR, NOON - 12 * HOUR), "yesterday");
            let today = [world.figures("acme", "day").await, world.figures("acme", "month").await];
            assert_eq!(today, [(0, 0), (200 * round, 0)], "the month is this month");
            let reservation = reply.held();
            assert_eq!(millis(reservation.occurred_time.as_ref()), Some(NOON - DAY));
            assert_eq!(millis(reservation.create_time.as_ref()), Some(NOON));
            assert_eq!(world.get(reply.name()).await.expect("it is kept"), *reservation);
        }
        let plain = world.record("acme").tokens(1).await.expect("it is recorded");
        assert_eq!(plain.held().occurred_time, None);
        world.reserve("acme").tokens(99).await.expect("today is free");
    }

    async fn a_window_that_was_closed_is_corrected_with_an_event(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), every(Period::Minute, 50)]).await;
        world.record("acme").tokens(30).await.expect("it is recorded");
        world.clock.advance(DAY);
        world.close_windows().await;
        for (quantity, total) in [(5, 35), (-10, 25), (0, 25)] {
            world.record("acme").tokens(quantity).occurred(NOON + SECOND).await.expect("it is recorded");
            assert_eq!(world.figures("acme", "day").await, (0, 0));
            let events = world.events_of("acme").await;
            assert_eq!(events.last().expect("there are events").balances.figures("day"), (total, 0));
        }
        world.record("acme").tokens(1).occurred(NOON + DAY - SECOND).await.expect("it is recorded");
        assert_eq!(world.close_windows().await.waiting, 0);
        let events = world.events_of("acme").await;
        assert_eq!(kinds_of(&events), [(WindowClosed, 0), (CommittedLate, 0), (CommittedLate, 0)], "0 and today change nothing");
        let late = &events[1];
        assert_eq!((late.reason.as_str(), late.operator.as_str()), ("", ""));
        let reservation = late.reservation.as_ref().expect("the event is about a reservation");
        assert_eq!((amount(reservation, "tokens"), reservation.late), ((0, 5), false));
        assert_eq!(millis(reservation.occurred_time.as_ref()), Some(NOON + SECOND));
    }

    /// A window in which nothing was spent is closed once, after usage of it was reported.
    async fn a_window_that_was_never_used_is_closed_once(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let record = async |quantity| {
            world.record("acme").tokens(quantity).occurred(NOON - 3 * DAY).await.expect("it is recorded");
        };
        record(7).await;
        assert_eq!(world.close_windows().await.counters, 1);
        record(1).await;
        assert_eq!(world.close_windows().await.counters, 0, "not twice");
        let events = world.events_of("acme").await;
        assert_eq!(kinds_of(&events), [(CommittedLate, 0), (WindowClosed, 0), (CommittedLate, 0)]);
        let figures: Vec<_> = events.iter().map(|event| event.balances.figures("day").0).collect();
        assert_eq!(figures, [7, 7, 8]);
    }

    async fn an_instant_that_cannot_count_is_named(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), month("tokens", 1_000)]).await;
        let at = |seconds: i64, nanos| Some(prost_types::Timestamp { seconds, nanos });
        let noon = NOON / 1_000;
        let days35 = 35 * 86_400;
        // Each case: the instant, and a word of its fault. None: the instant can count.
        let cases = [
            (at(noon, 0), None),
            (at(noon, 999_999), None),
            (at(noon, 1_000_000), Some("future")),
            (at(noon + 1, 0), Some("future")),
            (at(i64::MAX, 0), Some("future")),
            (at(noon - days35, 0), None),
            (at(noon - days35 - 1, 999_000_000), Some("35 days")),
            (at(noon - 36 * 86_400, 0), Some("35 days")),
            (at(0, 0), Some("35 days")),
            (at(i64::MIN, 0), Some("35 days")),
            (at(noon - 1, -1), Some("nanos")),
            (at(noon - 1, 1_000_000_000), Some("nanos")),
        ];
        for (instant, fault) in cases {
            let before = world.books("acme").await;
            let call = world.record("acme").tokens(1).with(|request| request.occurred_time = instant);
            match (call.await, fault) {
                (Ok(reply), None) => assert!(reply.held().occurred_time.is_some()),
                (Err(no), Some(fault)) => {
                    no.names(&["occurred_time"]);
                    assert!(no.faults[0].1.contains(fault), "{no:?}");
                    assert_eq!(world.books("acme").await, before);
                }
                (answer, fault) => panic!("{instant:?}: {fault:?}, {answer:?}"),
            }
        }
        let both = world.record("acme").amount("tokenz", 1).occurred(NOON + 1).await;
        both.expect_err("two faults").names(&["amounts[0].resource", "occurred_time"]);
    }

    /// The instant is part of the payload. A retry is answered even if the instant is too old by then.
    async fn a_retry_has_the_same_instant(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let record = |at: i64| world.record("acme").tokens(5).id("r").occurred(at);
        let first = record(NOON - 35 * DAY).await.expect("it is recorded");
        world.clock.advance(HOUR);
        let again = record(NOON - 35 * DAY).await.expect("a retry");
        assert_eq!((&again.reservation, &again.applied), (&first.reservation, &first.applied));
        for other in [record(NOON - DAY), world.record("acme").tokens(5).id("r")] {
            other.await.expect_err("another payload").is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        }
        record(NOON - 35 * DAY).id("s").await.expect_err("it is too old by now").names(&["occurred_time"]);
    }

    /// A tenant that moves to Tope brings the usage of the weeks before.
    async fn usage_from_before_the_tenant_counts_in_its_windows(world: World) {
        let anchored = day("tokens", 100).named("anchored").of_tenant();
        world.tenant_with("acme", &[day("tokens", 100), month("tokens", 1_000), anchored]).await;
        let reply = world.record("acme").tokens(9).occurred(NOON - 20 * DAY).await.expect("it is recorded");
        assert_eq!(window(reply.balance("month")), (at("2026-02-01T00:00:00Z"), at("2026-03-01T00:00:00Z")));
        assert_eq!(window(reply.balance("anchored")), (NOON - 20 * DAY, NOON - 19 * DAY), "also before the anchor");
        for limit in ["day", "month", "anchored"] {
            let balance = reply.balance(limit);
            assert_eq!((balance.committed, &balance.counted_since), (9, &balance.window_end), "{limit}");
            assert_eq!(world.figures("acme", limit).await, (0, 0));
        }
        let reply = world.record("acme").tokens(3).occurred(NOON - 10 * DAY).await.expect("it is recorded");
        assert_eq!(reply.figures("month"), (3, 0));
        let month = reply.balance("month");
        assert_eq!(millis(month.counted_since.as_ref()), Some(NOON), "since the tenant was created, and 3 more");
        world.reserve("acme").tokens(100).await.expect("today is free");
    }

    /// The limits are those of today, and their days are those of the tenant's zone.
    async fn the_limits_of_today_count(world: World) {
        world.tenant_in("acme", "America/New_York", &[month("tokens", 1_000)]).await;
        world.change_plan("acme", &[day("tokens", 100)]).await.expect("the plan exists");
        let reply = world.record("acme").tokens(9).occurred(at("2026-03-10T03:30:00Z")).await.expect("it is recorded");
        let [balance] = &reply.balances[..] else { panic!("{reply:#?}") };
        assert_eq!(window(balance), (at("2026-03-09T04:00:00Z"), at("2026-03-10T04:00:00Z")));
        // The day on which the clocks were set ahead has 23 hours.
        let reply = world.record("acme").tokens(9).occurred(at("2026-03-08T12:00:00Z")).await.expect("it is recorded");
        assert_eq!(window(reply.balance("day")), (at("2026-03-08T05:00:00Z"), at("2026-03-09T04:00:00Z")));
        // A limit that was away does not start again in a window that was over before its return.
        world.change_plan("acme", &[]).await.expect("the plan exists");
        world.change_plan("acme", &[day("tokens", 100)]).await.expect("the plan exists");
        let reply = world.record("acme").tokens(1).occurred(at("2026-03-08T12:00:00Z")).await.expect("it is recorded");
        assert_eq!(reply.figures("day"), (10, 0));
    }

    async fn an_amend_stays_in_the_windows_of_the_usage(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), day("images", 10).named("images")]).await;
        let recorded = world.record("acme").tokens(50).occurred(NOON - 2 * DAY).await.expect("it is recorded");
        let reply = world.amend(recorded.name()).tokens(20).amount("images", 1).await.expect("it was charged");
        assert_eq!((reply.figures("day"), reply.figures("images")), ((20, 0), (1, 0)));
        for limit in ["day", "images"] {
            assert_eq!(window(reply.balance(limit)).1, NOON - 36 * HOUR);
            assert_eq!(world.figures("acme", limit).await, (0, 0));
        }
        let credit = world.record("acme").tokens(-500).occurred(NOON - 2 * DAY).await.expect("it is recorded");
        assert_eq!((credit.applied.as_slice(), credit.figures("day")), (&[-20][..], (0, 0)), "not below zero");
    }

    async fn a_batch_counts_each_usage_in_its_own_window(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let record = |days: i64| world.record("acme").tokens(1).occurred(NOON - days * DAY).operation();
        let results = world.batch((0..=36).flat_map(|days| [record(days), record(days)]).collect()).await;
        for (place, result) in results.expect("each stands for itself").into_iter().enumerate() {
            match result.result {
                Some(operation_result::Result::Record(reply)) => {
                    assert_eq!(reply.figures("day"), (i64::try_from(place % 2).expect("small") + 1, 0));
                }
                Some(operation_result::Result::Error(status)) => {
                    assert!(place >= 72, "{place}");
                    No::from(status).names(&["occurred_time"]);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(world.figures("acme", "day").await, (2, 0));
    }
}
