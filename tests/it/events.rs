//! The log: events of reservations, windows, corrections and policy, and ListEvents.

use tonic::Code;

use crate::harness::{
    v1::{EventKind::*, *},
    *,
};

/// Returns the only event of this kind.
fn event_of(events: &[Event], kind: EventKind) -> &Event {
    let mut found = events.iter().filter(|event| event.kind() == kind);
    let event = found.next().unwrap_or_else(|| panic!("no {kind:?} in {events:#?}"));
    assert_eq!(found.next(), None, "more than one {kind:?}");
    event
}

fn reservation(event: &Event) -> &Reservation {
    event.reservation.as_ref().expect("it is about one")
}

both! {
    async fn an_expired_hold_and_its_late_commit_emit_events(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let reserve = || world.reserve("acme").tokens(100).agent("planner").ttl(MINUTE).label("run", "7");
        let first = reserve().await.expect("there is quota");
        let charged = reserve().charged_on_expiry().await.expect("there is quota");
        world.clock.advance(MINUTE);
        world.record("acme").tokens(1).await.expect("it is recorded, and the holds are swept");
        let events = world.events_of("acme").await;
        assert_eq!(kinds_of(&events), [(ReservationExpired, 0), (ReservationExpired, 0)]);
        let expired = events.iter().find(|e| reservation(e).name == charged.name()).expect("the event exists");
        assert_eq!(amount(reservation(expired), "tokens"), (100, 100));
        assert_eq!(state(reservation(expired)), ReservationState::Expired);
        assert_eq!((reservation(expired).agent.as_str(), reservation(expired).labels["run"].as_str()), ("planner", "7"));
        world.commit(first.name()).tokens(80).await.expect("late, and charged");
        world.commit(first.name()).tokens(80).await.expect("the same again");
        world.release(charged.name()).await.expect("late, and reversed");
        let events = world.events_of("acme").await;
        assert_eq!(kinds_of(&events[2..]), [(CommittedLate, 0), (CommittedLate, 0)]);
        assert!(reservation(&events[2]).late);
        assert_eq!(events[2].balances.figures("day"), (181, 0));
        assert_eq!(state(reservation(&events[3])), ReservationState::Released);
        assert_eq!(events[3].balances.figures("day"), (81, 0));
        // This hold was not charged at its deadline. So its late Release corrects nothing, and emits no event.
        let third = reserve().await.expect("there is quota");
        world.clock.advance(MINUTE);
        world.release(third.name()).await.expect("late");
        assert_eq!(kinds_of(&world.events_of("acme").await[4..]), [(ReservationExpired, 0)]);
    }

    async fn a_window_is_closed_once_and_only_after_its_last_hold(world: World) {
        let limits = [day("tokens", 1_000), day("tokens", 10).named("agent").per(&[Dimension::Agent]), lifetime("tokens", 9_999)];
        world.tenant_with("acme", &limits).await;
        world.tenant_with("idle", &[day("requests", 1)]).await;
        world.record("acme").tokens(5).agent("planner").await.expect("it is recorded");
        world.reserve("acme").tokens(11).agent("coder").await.expect_err("too much").is_quota(&["agent"]);
        let hold = world.reserve("acme").tokens(7).agent("coder").ttl(DAY).await.expect("there is quota");
        let closed = world.close_windows().await;
        assert_eq!((closed.counters, closed.waiting), (0, 0), "the day is not over");
        world.clock.advance(DAY - HOUR);
        world.record("acme").tokens(3).await.expect("it is recorded, on the next day");
        assert_eq!((world.close_windows().await.waiting, world.kinds("acme").await.len()), (3, 1));
        world.commit(hold.name()).tokens(6).await.expect("it is held");
        assert_eq!(world.close_windows().await.counters, 3);
        assert_eq!(world.close_windows().await.counters, 0);
        let events = world.events_of("acme").await;
        assert_eq!(kinds_of(&events[1..]), [(WindowClosed, 0); 3]);
        let figures = |agent: Option<&str>| {
            let event = events[1..].iter().find(|e| e.balances[0].agent.as_deref() == agent).expect("the event exists");
            assert_eq!(event.balances.len(), 1);
            (figures(&event.balances[0]), event.balances[0].refused)
        };
        assert_eq!(figures(None), ((11, 0), 0));
        assert_eq!(figures(Some("planner")), ((5, 0), 0));
        assert_eq!(figures(Some("coder")), ((6, 0), 1));
        assert_eq!(world.kinds("idle").await, []);
        world.clock.advance(DAY);
        assert_eq!(world.close_windows().await.counters, 2, "the day after: the tenant's and that of no agent");
    }

    /// One transaction closes windows of so many tenants that several statements read the tenants. An open hold of one
    /// tenant delays only this tenant.
    async fn the_windows_of_many_tenants_are_closed_together(world: World) {
        const TENANTS: usize = 150;
        world.tenant_with("t0", &[day("tokens", 100)]).await;
        for number in 1..TENANTS {
            world.tenant(&format!("t{number}"), "t0", "").await.expect("the tenant is new");
        }
        let record = |number: usize| world.record(&format!("t{number}")).tokens(5).operation();
        world.batch((0..TENANTS).map(record).collect()).await.expect("each is recorded");
        let hold = world.reserve("t70").tokens(7).ttl(DAY).await.expect("there is quota");
        world.clock.advance(DAY - HOUR);
        let closed = world.close_windows().await;
        assert_eq!((closed.counters, closed.waiting), (TENANTS - 1, 1));
        world.release(hold.name()).await.expect("it is held");
        assert_eq!(world.close_windows().await.counters, 1);
        for number in 0..TENANTS {
            let events = world.events_of(&format!("t{number}")).await;
            assert_eq!(event_of(&events, WindowClosed).balances.figures("day"), (5, 0), "t{number}");
        }
    }

    async fn the_event_of_a_late_commit_has_the_corrected_total_of_a_closed_window(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.record("acme").tokens(5).await.expect("it is recorded");
        let hold = world.reserve("acme").tokens(7).await.expect("there is quota");
        world.clock.advance(DAY);
        // The hold is due, but not swept, so the window is not closed yet.
        assert_eq!((world.close_windows().await.waiting, world.kinds("acme").await.len()), (1, 0));
        world.record("acme").tokens(3).await.expect("it is recorded, and the hold is swept");
        assert_eq!(world.close_windows().await.counters, 1);
        world.commit(hold.name()).tokens(6).await.expect("late");
        assert_eq!(world.close_windows().await.counters, 0);
        let events = world.events_of("acme").await;
        assert_eq!(event_of(&events, WindowClosed).balances.figures("day"), (5, 0));
        assert_eq!(event_of(&events, CommittedLate).balances.figures("day"), (11, 0));
    }

    /// Nobody can settle the holds of a deleted tenant, and its windows emit no events.
    async fn windows_of_a_deleted_tenant_do_not_wait_for_its_holds(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.record("acme").tokens(5).await.expect("it is recorded");
        world.reserve("acme").tokens(7).await.expect("there is quota");
        let acme = DeleteTenantRequest { id: "acme".into(), force: true, ..DeleteTenantRequest::default() };
        world.admin.clone().delete_tenant(acme).await.expect("by force");
        world.clock.advance(DAY);
        let closed = world.close_windows().await;
        assert_eq!((closed.counters, closed.waiting), (1, 0));
        assert_eq!(world.close_windows().await.counters, 0);
        let events = world.all_events(ListEventsRequest::default()).await;
        assert!(events.iter().all(|event| event.kind() == PolicyChanged), "{events:#?}");
    }

    async fn each_change_of_policy_emits_an_event(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.change_plan("acme", &[day("tokens", 2_000)]).await.expect("the plan exists");
        world.set_state("acme", TenantState::Suspended).await;
        world.declare("other").await;
        let other = || DeleteResourceRequest { id: "other".into(), ..DeleteResourceRequest::default() };
        world.admin.clone().delete_resource(other()).await.expect("nothing limits it");
        let acme = DeleteTenantRequest { id: "acme".into(), ..DeleteTenantRequest::default() };
        world.admin.clone().delete_tenant(acme).await.expect("it has no holds");
        world.admin.clone().delete_plan(DeletePlanRequest { id: "acme".into(), ..DeletePlanRequest::default() }).await.expect("nobody has it");
        let events = eventually("all events are listed", async || {
            let events = world.all_events(ListEventsRequest::default()).await;
            (events.len() == 9).then_some(events)
        })
        .await;
        let mut changes: Vec<_> = events
            .iter()
            .map(|event| {
                let change = event.change.as_ref().expect("it is a change");
                (event.tenant.as_str(), event.tenant_sequence, change.subject(), change.id.as_str(), change.action())
            })
            .collect();
        assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
        use policy_change::{Action::*, Subject};
        let tenants: Vec<_> = changes.extract_if(.., |change| change.2 == Subject::Tenant).collect();
        let tenant = |number, action| ("acme", number, Subject::Tenant, "acme", action);
        assert_eq!(tenants, [tenant(1, Created), tenant(2, Updated), tenant(3, Deleted)]);
        let change = |subject, id, action| ("", 0, subject, id, action);
        let expected = [
            change(Subject::Resource, "tokens", Created),
            change(Subject::Plan, "acme", Created),
            change(Subject::Plan, "acme", Updated),
            change(Subject::Resource, "other", Created),
            change(Subject::Resource, "other", Deleted),
            change(Subject::Plan, "acme", Deleted),
        ];
        assert_eq!(changes, expected);
        // A refused change emits no event.
        world.resource("tokens").await.expect_err("it is there").is(Code::AlreadyExists, "NAME_TAKEN");
        assert_eq!(world.list_events(ListEventsRequest::default()).await.expect("a page").last_sequence, 9);
    }

    async fn events_are_listed_by_tenant_kind_time_and_place(world: World) {
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &[day("tokens", 10).thresholds(&[50])]).await;
        }
        for hour in 0..3 {
            world.clock.set(NOON + hour * DAY);
            for tenant in ["acme", "globex"] {
                world.record(tenant).tokens(10).await.expect("it is recorded");
            }
        }
        for tenant in ["acme", "globex"] {
            assert_eq!(world.events_of(tenant).await.len(), 6);
        }
        let all = world.all_events(ListEventsRequest { page_size: 3, ..ListEventsRequest::default() }).await;
        assert_eq!(all.iter().map(|e| e.sequence).collect::<Vec<_>>(), (1..=17).collect::<Vec<_>>());
        let at = |millis: i64| Some(prost_types::Timestamp { seconds: millis / 1_000, nanos: 0 });
        type Row = (ListEventsRequest, fn(&Event) -> bool);
        let rows: [Row; 6] = [
            (ListEventsRequest { tenant: "globex".into(), ..Default::default() }, |e| e.tenant == "globex"),
            (ListEventsRequest { kinds: vec![LimitReached.into()], ..Default::default() }, |e| e.percent == 100),
            (ListEventsRequest { start_time: at(NOON + DAY), ..Default::default() }, |e| {
                millis(e.occur_time.as_ref()) >= Some(NOON + DAY)
            }),
            (ListEventsRequest { end_time: at(NOON + DAY), ..Default::default() }, |e| {
                millis(e.occur_time.as_ref()) < Some(NOON + DAY)
            }),
            (ListEventsRequest { after_sequence: 10, ..Default::default() }, |e| e.sequence > 10),
            (
                ListEventsRequest {
                    tenant: "acme".into(),
                    kinds: vec![LimitReached.into(), ThresholdReached.into()],
                    after_sequence: 6,
                    ..Default::default()
                },
                |e| e.tenant == "acme" && e.kind() != PolicyChanged && e.sequence > 6,
            ),
        ];
        for (request, wants) in rows {
            let request = ListEventsRequest { page_size: 2, ..request };
            let expected: Vec<Event> = all.iter().filter(|event| wants(event)).cloned().collect();
            assert!(!expected.is_empty() && expected.len() < all.len());
            assert_eq!(world.all_events(request).await, expected);
        }
    }

    /// The log has more events than one page searches.
    async fn a_list_with_a_start_time_does_not_search_from_the_oldest_event(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        world.events_of("acme").await;
        let old = "INSERT INTO events (sequence, tenant_key, number, kind, occurred_at, body)
            WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 25000)
            SELECT last_sequence + n, e.tenant_key, n, 9, 5, e.body
              FROM counted, event_log, (SELECT tenant_key, body FROM events WHERE tenant_key <> 0) AS e";
        world.database.execute(old).await;
        world.database.execute("UPDATE event_log SET last_sequence = last_sequence + 25000").await;
        world.clock.advance(DAY);
        world.record("acme").tokens(10).await.expect("it is recorded");
        let start_time = Some(prost_types::Timestamp { seconds: (NOON + DAY) / 1_000, nanos: 0 });
        for tenant in ["", "acme"] {
            let request = ListEventsRequest { tenant: tenant.into(), start_time, ..Default::default() };
            let page = eventually("it has its place", async || {
                let page = world.list_events(request.clone()).await.expect("a page");
                (page.last_sequence == 25_004).then_some(page)
            })
            .await;
            assert_eq!((kinds_of(&page.events), page.next_page_token.as_str()), (vec![(LimitReached, 100)], ""));
        }
    }

    async fn the_refusal_of_list_events_names_the_wrong_field(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let cases: &[Case<ListEventsRequest>] = &[
            ("tenant", |request| request.tenant = "a\nb".into()),
            ("kinds[1]", |request| request.kinds = vec![1, 99]),
            ("kinds[0]", |request| request.kinds = vec![0]),
            ("after_sequence", |request| request.after_sequence = -1),
            ("page_size", |request| request.page_size = 1_001),
            ("page_token", |request| request.page_token = "nonsense".into()),
        ];
        for (field, spoil) in cases {
            let mut request = ListEventsRequest::default();
            spoil(&mut request);
            world.list_events(request).await.expect_err(field).names(&[field]);
        }
        let turned = ListEventsRequest { start_time: at(2), end_time: at(1), ..Default::default() };
        world.list_events(turned).await.expect_err("backwards").names(&["end_time"]);
        let nobody = ListEventsRequest { tenant: "nobody".into(), ..Default::default() };
        world.list_events(nobody).await.expect_err("unknown").is(Code::NotFound, "TENANT_NOT_FOUND");
        let page = world.list_events(ListEventsRequest { page_size: 1, ..Default::default() });
        let token = page.await.expect("a page").next_page_token;
        let other = ListEventsRequest { page_token: token, kinds: vec![1], ..Default::default() };
        world.list_events(other).await.expect_err("of another list").names(&["page_token"]);
    }

    async fn prune_events_removes_the_oldest_events(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        for _ in 0..300 {
            for state in [TenantState::Suspended, TenantState::Active] {
                world.set_state("acme", state).await;
            }
        }
        world.clock.advance(DAY);
        world.record("acme").tokens(10).await.expect("it is recorded");
        let last = ListEventsRequest { page_size: 1_000, ..ListEventsRequest::default() };
        let all = eventually("all have their places", async || {
            let events = world.all_events(last.clone()).await;
            (events.len() == 604).then_some(events)
        })
        .await;
        world.clock.advance(29 * DAY - 1);
        assert_eq!(world.prune_events().await, 0);
        world.clock.advance(1);
        assert_eq!(world.prune_events().await, 603);
        assert_eq!(world.all_events(last.clone()).await, all[603..]);
        assert_eq!(world.prune_events().await, 0);
    }
}
