//! Amend after the counters have changed by themselves: windows that are over, resets, limits that return, and rows
//! that were pruned (R4.44).

use tonic::Code;

use crate::harness::{
    clients::done,
    v1::{EventKind::*, *},
    world::World,
    *,
};

/// Records tokens, and returns the name of the Record.
async fn record(world: &World, tenant: &str, tokens: i64) -> String {
    world.record(tenant).tokens(tokens).await.expect("it is recorded").name().to_owned()
}

async fn amend(world: &World, name: &str, tokens: i64) -> AmendResponse {
    world.amend(name).tokens(tokens).await.expect("it was charged")
}

both! {
    async fn a_window_that_was_closed_is_corrected_with_an_event(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), month("tokens", 1_000), every(Period::Minute, 50)]).await;
        let name = record(world, "acme", 30).await;
        record(world, "acme", 5).await;
        amend(world, &name, 29).await;
        world.clock.advance(HOUR);
        amend(world, &name, 28).await;
        assert_eq!(world.kinds("acme").await, [], "the day is running, and a minute closes without an event");
        world.clock.advance(DAY);
        assert_eq!(world.close_windows().await.waiting, 0);
        assert_eq!(world.kinds("acme").await, [(WindowClosed, 0)]);
        for _ in 0..2 {
            let reply = amend(world, &name, 10).await;
            assert_eq!((reply.figures("day"), reply.figures("month")), ((15, 0), (15, 0)));
        }
        assert_eq!(world.figures("acme", "day").await, (0, 0), "today is untouched");
        assert_eq!(world.close_windows().await.counters, 0);
        let events = world.events_of("acme").await;
        assert_eq!(kinds_of(&events), [(WindowClosed, 0), (CommittedLate, 0)], "a repeat emits nothing");
        let late = &events[1];
        assert_eq!((late.reason.as_str(), late.operator.as_str()), ("ticket 7", "ops@example.com"));
        assert_eq!((late.balances.figures("day"), late.balances.figures("month")), ((15, 0), (15, 0)));
        let reservation = late.reservation.as_ref().expect("the event is about a reservation");
        assert_eq!((reservation.name.as_str(), amount(reservation, "tokens"), reservation.late), (name.as_str(), (0, 10), false));
    }

    /// A window is over, but not closed yet. The later WINDOW_CLOSED has the corrected figure.
    async fn a_window_that_is_not_closed_yet_is_closed_with_the_corrected_figure(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let name = record(world, "acme", 30).await;
        world.clock.advance(DAY);
        amend(world, &name, 10).await;
        assert_eq!(world.close_windows().await.counters, 1);
        let events = world.events_of("acme").await;
        assert_eq!(kinds_of(&events), [(CommittedLate, 0), (WindowClosed, 0)]);
        assert!(events.iter().all(|event| event.balances.figures("day") == (10, 0)), "{events:#?}");
    }

    /// A late Commit of a reservation that was amended is no amendment.
    async fn the_event_of_a_late_commit_has_no_reason(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(30).ttl(MINUTE).charged_on_expiry().await.expect("it fits");
        world.clock.advance(DAY);
        amend(world, hold.name(), 10).await;
        world.commit(hold.name()).tokens(12).await.expect("it is kept");
        let events = world.events_of("acme").await;
        let late: Vec<_> = events.iter().filter(|event| event.kind() == CommittedLate).collect();
        let reasons: Vec<_> = late.iter().map(|event| (event.reason.as_str(), event.balances.figures("day").0)).collect();
        assert_eq!(reasons, [("ticket 7", 10), ("", 12)]);
    }

    /// What a reset has subtracted is not subtracted again, and the order of the corrections does not matter.
    async fn usage_before_a_reset_is_not_subtracted_again(world: World) {
        // Each case: figures of the Amends after the reset, and what the counter has at the end, without other usage.
        let cases: [(&[i64], i64); 7] =
            [(&[0], 0), (&[30], 0), (&[100], 0), (&[130], 30), (&[0, 130], 30), (&[130, 0], 0), (&[130, 120, 40, 101], 1)];
        for (number, (figures, counts)) in cases.into_iter().enumerate() {
            for (kind, pause) in [("record", 0), ("commit", 0), ("deadline", 0), ("commit", SECOND), ("late", SECOND)] {
                let tenant = format!("{kind}{number}-{pause}");
                world.tenant_with(&tenant, &[day("tokens", 1_000)]).await;
                let reserve = || world.reserve(&tenant).tokens(100).ttl(MINUTE).charged_on_expiry();
                let name = match kind {
                    "record" => record(world, &tenant, 100).await,
                    _ => reserve().await.expect("it fits").name().to_owned(),
                };
                if kind == "commit" {
                    world.commit(&name).tokens(100).await.expect("it is held");
                } else if kind != "record" {
                    world.clock.advance(MINUTE);
                }
                world.clock.advance(pause);
                assert_eq!(world.reset(&tenant, &[]).await.expect("the tenant exists").adjusted, [-100], "{tenant}");
                record(world, &tenant, 500).await;
                if kind == "late" {
                    world.commit(&name).tokens(50).await.expect("it is kept");
                }
                for &figure in figures {
                    amend(world, &name, figure).await;
                }
                assert_eq!(world.figures(&tenant, "day").await, (500 + counts, 0), "{tenant}: {figures:?}");
            }
            world.verify().await;
        }
    }

    /// At the same instant, a Record after a reset counts in full, and a second reset subtracts it.
    async fn usage_after_a_reset_is_subtracted(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let before = record(world, "acme", 100).await;
        world.reset("acme", &[]).await.expect("the tenant exists");
        let after = record(world, "acme", 60).await;
        amend(world, &after, 20).await;
        assert_eq!(world.figures("acme", "day").await, (20, 0));
        amend(world, &before, 150).await;
        assert_eq!(world.figures("acme", "day").await, (70, 0), "50 more than the reset has subtracted");
        world.clock.advance(SECOND);
        world.reset("acme", &[]).await.expect("the tenant exists");
        record(world, "acme", 7).await;
        for (name, figure, counts) in [(&after, 0, 7), (&after, 25, 12), (&before, 0, 12), (&before, 160, 22), (&after, 20, 17)] {
            amend(world, name, figure).await;
            assert_eq!(world.figures("acme", "day").await, (counts, 0));
        }
    }

    /// The limit was taken away and put back, so it counts from zero.
    async fn usage_before_the_return_of_a_limit_is_not_subtracted_again(world: World) {
        let limits = [day("tokens", 1_000)];
        world.tenant_with("acme", &limits).await;
        for pause in [0, HOUR] {
            let name = record(world, "acme", 100).await;
            world.change_plan("acme", &[]).await.expect("the plan exists");
            world.clock.advance(pause);
            world.change_plan("acme", &limits).await.expect("the plan exists");
            // The first change of the counter since the return is the Amend, or a Record before it.
            if pause > 0 {
                record(world, "acme", 40).await;
            }
            let spent = if pause > 0 { 40 } else { 0 };
            for (figure, counts) in [(10, 0), (120, 20), (0, 0)] {
                amend(world, &name, figure).await;
                assert_eq!(world.figures("acme", "day").await, (spent + counts, 0));
            }
            world.verify().await;
        }
    }

    /// A resource that the Amend adds is charged to the limits of today, in the windows of the reservation.
    async fn a_limit_that_is_gone_keeps_its_figures(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), month("tokens", 1_000)]).await;
        let name = record(world, "acme", 30).await;
        world.change_plan("acme", &[month("tokens", 1_000)]).await.expect("the plan exists");
        let reply = amend(world, &name, 10).await;
        assert_eq!((reply.figures("month"), reply.figures("")), ((10, 0), (10, 0)), "the day has no limit now");
        world.change_plan("acme", &[]).await.expect("the plan exists");
        let request = DeleteResourceRequest { id: "tokens".into(), ..Default::default() };
        done(world.admin.clone().delete_resource(request).await).expect("no limit counts it");
        let reply = world.amend(&name).tokens(4).await.expect("the name is the reservation's own");
        assert_eq!(amount(reply.held(), "tokens"), (0, 4));
    }

    /// The charge and its corrections are pruned together, and the books stay correct.
    async fn what_is_no_longer_kept_cannot_be_amended(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let (kept, reset) = (record(world, "acme", 30).await, record(world, "acme", 40).await);
        amend(world, &kept, 10).await;
        world.reset_only("acme", &[], &["lifetime"]).await.expect("the tenant exists");
        amend(world, &reset, 55).await;
        assert_eq!(world.figures("acme", "lifetime").await, (15, 0));
        world.clock.advance(30 * DAY);
        assert_eq!(world.job("prune").await["reservations"], 2);
        for name in [&kept, &reset] {
            let no = world.amend(name).tokens(0).await.expect_err("it was pruned");
            no.is(Code::NotFound, "RESERVATION_NOT_FOUND");
        }
        assert_eq!(world.figures("acme", "lifetime").await, (15, 0));
    }

    /// A counter that an Extend added is charged for the units of the Extend, and for more only beyond all reserved
    /// units.
    async fn a_counter_that_an_extend_added_is_charged_as_by_a_commit(world: World) {
        world.tenant_with("acme", &[month("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).await.expect("it fits").name().to_owned();
        world.change_plan("acme", &[month("tokens", 1_000), day("tokens", 1_000)]).await.expect("the plan exists");
        world.extend(&hold).tokens(20).await.expect("it fits");
        world.commit(&hold).tokens(120).await.expect("it is held");
        for (figure, of_day) in [(120, 20), (130, 30), (110, 10), (90, 0), (105, 5)] {
            let reply = amend(world, &hold, figure).await;
            assert_eq!((reply.figures("month"), reply.figures("day")), ((figure, 0), (of_day, 0)));
        }
    }
}
