use std::sync::Arc;

use chrono_tz::Tz;

use super::*;
use crate::domain::{
    id::{PlanKey, ResourceKey, TenantKey},
    plan::{Enforcement, Policy, Source, Uncovered},
    shape::{PerDimension, Subject},
    tenant::TenantState,
    terms::Terms,
    time::Time,
    timing::TenantCalendar,
    window::{Anchors, Cycle, Period, Window, WindowOfCycle},
};

/// Returns a shape for each user, for all users together, or for one user.
fn shape(user: Option<&str>, per_user: bool) -> Shape {
    Shape {
        resource: ResourceKey(1),
        timing: Cycle::plain(Period::Lifetime).into(),
        selectors: PerDimension { user: user.map(str::to_owned), ..PerDimension::default() },
        per: PerDimension { user: per_user, ..PerDimension::default() },
        labels: Vec::new(),
    }
}

fn limits(shapes: &[Shape]) -> Vec<Limit> {
    let limit = |shape: &Shape| Limit {
        id: String::new(),
        shape: shape.clone(),
        quantity: 1,
        enforcement: Enforcement::Hard,
        thresholds: Vec::new(),
        carry: None,
        origin_date: String::new(),
        since: Since::default(),
        kept: Vec::new(),
        source: Source::default(),
    };
    shapes.iter().map(limit).collect()
}

fn at(at: i64) -> Since {
    Since { at: Time(at), order: 1 }
}

/// Returns a plan that got these shapes at these instants, one set after the other.
fn plan(history: &[(i64, &[Shape])]) -> Plan {
    let mut replaced: Vec<Arc<Limit>> = Vec::new();
    for (now, shapes) in history {
        replaced =
            replace_limits(&replaced, &limits(shapes), at(*now)).expect("no limit changes its anchors");
    }
    Plan {
        key: PlanKey(1),
        id: String::new(),
        display_name: String::new(),
        limits: replaced,
        uncovered: Uncovered::Meter,
        created_at: Time::EPOCH,
        updated_at: Time::EPOCH,
    }
}

const CALENDAR: TenantCalendar =
    TenantCalendar { since: Time::EPOCH, zone: Tz::UTC, anchor_time: Time::EPOCH };

fn tenant(plan_since: Since, carried: Vec<Lineage>) -> Tenant {
    Tenant {
        key: TenantKey(1),
        id: "acme".into(),
        display_name: String::new(),
        plan: PlanKey(1),
        calendars: vec![CALENDAR],
        state: TenantState::Active,
        decided_at: Time::EPOCH,
        next_due: Time::NEVER,
        version: 0,
        plan_since,
        carried,
        terms_version: 0,
        next_plan: None,
        unsaved: None,
        created_at: Time::EPOCH,
        updated_at: Time::EPOCH,
        event_number: 0,
        counters: 0,
        forgotten_at: Time::EPOCH,
    }
}

/// Returns since when the counters of user a, of user b and of all users together count.
fn since(tenant: &Tenant, plan: &Plan) -> [Option<i64>; 3] {
    let key = |user: &str, per_user: bool| {
        let subject = Subject { user: user.to_owned(), ..Subject::default() };
        let window = WindowOfCycle { window: Window::ENDLESS, cycle: Cycle::plain(Period::Lifetime) };
        CounterKey::of_shape(&shape(None, per_user), window, &subject)
    };
    let counters = [key("a", true), key("b", true), key("", false)];
    counters.map(|key| {
        let reading: Vec<_> =
            plan.limits.iter().filter(|limit| limit.shape.counts(&key, &tenant.calendars)).collect();
        let found: Vec<Since> = reading.iter().map(|limit| tenant.counts_since(limit, &key)).collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{found:?} of {plan:#?}");
        let terms = Terms::of_plan(&Policy::default(), Arc::new(plan.clone()));
        assert_eq!(terms.counted_since(tenant, &key), found.first().copied());
        found.first().map(|since| since.at.0)
    })
}

#[test]
fn a_counter_counts_since_the_plan_counts_it_without_a_gap() {
    let (all, each, a, b) =
        (shape(None, false), shape(None, true), shape(Some("a"), false), shape(Some("b"), true));
    let (all, each, a, b) = (&[all][..], &[each][..], &[a][..], &[b][..]);
    let both = |one: &[Shape], other: &[Shape]| [one, other].concat();
    type Row<'a> = (Vec<(i64, Vec<Shape>)>, [Option<i64>; 3]);
    let rows: Vec<Row<'_>> = vec![
        (vec![(1, all.to_vec())], [None, None, Some(1)]),
        (vec![(1, all.to_vec()), (2, vec![]), (3, all.to_vec())], [None, None, Some(3)]),
        (vec![(1, all.to_vec()), (2, both(all, each)), (3, all.to_vec())], [None, None, Some(1)]),
        // The counter of one user continues, even if the counters of other users do not.
        (vec![(1, each.to_vec()), (2, a.to_vec())], [Some(1), None, None]),
        (vec![(1, each.to_vec()), (2, a.to_vec()), (3, each.to_vec())], [Some(1), Some(3), None]),
        (vec![(1, a.to_vec()), (2, both(a, each)), (3, each.to_vec())], [Some(1), Some(2), None]),
        (
            vec![(1, a.to_vec()), (2, both(each, b)), (3, both(b, all)), (4, each.to_vec())],
            [Some(4), Some(2), None],
        ),
        (
            vec![(1, each.to_vec()), (2, both(each, a)), (3, a.to_vec()), (4, vec![]), (5, a.to_vec())],
            [Some(5), None, None],
        ),
        (vec![(1, a.to_vec()), (2, b.to_vec()), (3, both(a, each))], [Some(3), Some(2), None]),
    ];
    for (history, expected) in rows {
        let steps: Vec<(i64, &[Shape])> = history.iter().map(|(now, shapes)| (*now, &shapes[..])).collect();
        assert_eq!(since(&tenant(at(0), vec![]), &plan(&steps)), expected, "{history:#?}");
    }
}

#[test]
fn counters_that_both_plans_count_are_carried_on() {
    let (each, a) = (shape(None, true), shape(Some("a"), false));
    let old = plan(&[(1, std::slice::from_ref(&each))]);
    let narrow = plan(&[(3, std::slice::from_ref(&a))]);
    let mut acme = tenant(at(2), vec![]);
    assert_eq!(since(&acme, &old), [Some(2), Some(2), None]);
    acme = tenant(at(10), acme.carry_to(&old, &narrow, Time(10)));
    assert_eq!(since(&acme, &narrow), [Some(2), None, None]);
    acme = tenant(at(20), acme.carry_to(&narrow, &old, Time(20)));
    assert_eq!(since(&acme, &old), [Some(2), Some(20), None]);
    // The plan itself drops the limit for an instant.
    let gap = plan(&[(1, std::slice::from_ref(&each)), (30, &[]), (31, std::slice::from_ref(&each))]);
    assert_eq!(since(&acme, &gap), [Some(31), Some(31), None]);
    let empty = plan(&[]);
    acme = tenant(at(40), acme.carry_to(&gap, &empty, Time(40)));
    acme = tenant(at(50), acme.carry_to(&empty, &gap, Time(50)));
    assert_eq!(since(&acme, &gap), [Some(50), Some(50), None]);
}

#[test]
fn changes_at_the_same_instant_have_an_order() {
    let first = Since::of_revision(Time(5), 7);
    let moved = Since::of_tenant(Time(5), 7, first);
    let again = Since::of_tenant(Time(5), 7, moved);
    let changed = Since::of_revision(Time(5), 8);
    let order =
        [first, moved, again, changed, Since::of_tenant(Time(5), 8, again), Since::of_revision(Time(6), 1)];
    for pair in order.windows(2) {
        assert!(pair[0] < pair[1] && pair[0].is_before(pair[1]), "{pair:?}");
    }
    // A row that was stored before orders were stored has the order 0. It counts as if it had counted since its
    // instant.
    assert!(!Since { at: Time(5), order: 0 }.is_before(first));
    let window = Window { start: Time(10), end: Time(20) };
    assert_eq!([5, 10, 15, 30].map(|since| at(since).in_window(window).at.0), [10, 10, 15, 20]);
}

#[test]
fn with_too_many_shapes_all_counters_start_from_zero() {
    let user = |number: usize| shape(Some(&format!("user-{number}")), false);
    let many: Vec<Shape> = (0..CARRIED_MAX + 1).map(user).collect();
    let each = shape(None, true);
    let begun = plan(&[(1, &many), (2, std::slice::from_ref(&each))]);
    assert_eq!(begun.limits[0].kept, []);
    assert_eq!(begun.limits[0].since, at(2));
    let some = plan(&[(1, &many[1..]), (2, std::slice::from_ref(&each))]);
    assert_eq!(some.limits[0].kept.len(), CARRIED_MAX);
}

/// Returns a limit on months that begin on this day.
fn monthly(id: &str, anchor_day: i32) -> Limit {
    let cycle = Cycle::new(Period::Month, &Anchors { anchor_day, ..Anchors::default() }).expect("a day");
    let shape = Shape { timing: cycle.into(), ..shape(None, false) };
    Limit { id: id.to_owned(), ..limits(&[shape]).remove(0) }
}

#[test]
fn a_limit_with_another_anchor_day_counts_on() {
    let day = |number: i64| Time(number * 86_400_000);
    let since = |at: Time| Since { at, order: 1 };
    let first = replace_limits(&[] as &[Arc<Limit>], &[monthly("m", 1)], since(day(3))).expect("new");
    let moved = replace_limits(&first, &[monthly("m", 15)], since(day(40))).expect("moved");
    assert_eq!(moved[0].since, since(day(3)));
    assert_eq!(moved[0].shape.timing.past.len(), 1);
    // February runs to its end, the next window to 15 April.
    let acme = tenant(since(day(2)), vec![]);
    let subject = Subject::default();
    for (at, begins, ends) in
        [(day(40), day(31), day(59)), (day(59), day(59), day(104)), (day(104), day(104), day(134))]
    {
        let window = moved[0].shape.timing.window(&acme.calendars, at);
        assert_eq!(window.window, Window { start: begins, end: ends });
        let key = CounterKey::of_shape(&moved[0].shape, window, &subject);
        assert!(moved[0].shape.counts(&key, &acme.calendars), "{at:?}");
        assert_eq!(first[0].shape.counts(&key, &acme.calendars), at == day(40));
        assert_eq!(acme.counts_since(&moved[0], &key), since(day(3)));
    }
    // The same limits again change nothing, with the same id or another one.
    for id in ["m", "renamed"] {
        let again = replace_limits(&moved, &[monthly(id, 15)], since(day(50))).expect("unchanged");
        assert_eq!((&again[0].shape, again[0].since), (&moved[0].shape, moved[0].since), "{id}");
    }
    // A limit with another id and another anchor is another limit.
    let other = replace_limits(&moved, &[monthly("other", 20)], since(day(50))).expect("new");
    assert_eq!((other[0].since, other[0].shape.timing.past.len()), (since(day(50)), 0));
}

#[test]
fn a_tenant_whose_plans_agree_from_now_on_keeps_its_usage() {
    let day = |number: i64| Time(number * 86_400_000);
    let since = |at: Time| Since { at, order: 1 };
    let begun = replace_limits(&[] as &[Arc<Limit>], &[monthly("m", 1)], since(day(3))).expect("new");
    let moved = replace_limits(&begun, &[monthly("m", 15)], since(day(40))).expect("moved");
    let plain = replace_limits(&[] as &[Arc<Limit>], &[monthly("m", 15)], since(day(41))).expect("new");
    let (from, to) = (Plan { limits: moved, ..plan(&[]) }, Plan { limits: plain, ..plan(&[]) });
    let acme = tenant(since(day(2)), vec![]);
    // Until 15 April the windows differ.
    for (now, carried) in [(day(50), 0), (day(103), 0), (day(104), 1)] {
        assert_eq!(acme.carry_to(&from, &to, now).len(), carried, "{now:?}");
    }
}

#[test]
fn usage_is_carried_on_between_plans_whose_limits_moved_within_the_window() {
    let day = |number: i64| Time(number * 86_400_000);
    let since = |at: Time| Since { at, order: 1 };
    let begun = || replace_limits(&[] as &[Arc<Limit>], &[monthly("m", 1)], since(day(3))).expect("new");
    let moved = || replace_limits(&begun(), &[monthly("m", 15)], since(day(69))).expect("moved");
    let of = |limits| Plan { limits, ..plan(&[]) };
    let mut acme = tenant(since(day(2)), vec![]);
    // On day 64 the tenant changes to an equal plan; then the limits of both plans get another anchor day.
    acme = tenant(since(day(64)), acme.carry_to(&of(begun()), &of(begun()), day(64)));
    acme = tenant(since(day(71)), acme.carry_to(&of(moved()), &of(moved()), day(71)));
    let window = acme.carried[0].shape.timing.window(&acme.calendars, day(71));
    let key = CounterKey::of_shape(&begun()[0].shape, window, &Subject::default());
    assert_eq!(acme.counts_since(&moved()[0], &key), since(day(3)), "both plans counted it all the time");
    // One plan moved, and the other did not: in the running window they read the same counter.
    let mut other = tenant(since(day(2)), vec![]);
    other = tenant(since(day(71)), other.carry_to(&of(begun()), &of(moved()), day(71)));
    assert_eq!(other.counts_since(&moved()[0], &key), since(day(3)));
    let after = moved()[0].shape.timing.window(&other.calendars, day(95));
    let key = CounterKey::of_shape(&moved()[0].shape, after, &Subject::default());
    assert!(other.counts_since(&moved()[0], &key).at <= after.window.start);
}

#[test]
fn a_renamed_limit_goes_on_and_does_not_take_the_history_of_another_limit() {
    let day = |number: i64| Time(number * 86_400_000);
    let since = |at: Time| Since { at, order: 1 };
    let both = [monthly("a", 1), monthly("b", 15)];
    let begun = replace_limits(&[] as &[Arc<Limit>], &both, since(day(3))).expect("new");
    let moved = replace_limits(&begun, &[monthly("a", 15), monthly("b", 15)], since(day(69))).expect("moved");
    let renamed =
        replace_limits(&moved, &[monthly("a", 15), monthly("c", 15)], since(day(71))).expect("renamed");
    assert_eq!(renamed[1].shape.timing, begun[1].shape.timing);
    assert_eq!((renamed[0].since, renamed[1].since), (since(day(3)), since(day(3))));
    assert_eq!(renamed[0].shape.timing, moved[0].shape.timing);
}
