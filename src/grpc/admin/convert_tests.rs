//! Claims about the control plane's messages: which fields are wrong, and what valid fields mean.

use super::*;
use crate::domain::{
    id::ResourceKey,
    plan::{Enforcement, Policy, Resource},
    refusal::Refusal,
    tenant::TenantState,
    time::Time,
    window::Period,
};

fn policy() -> Policy {
    let resource = |key, id: &str, deleted| Resource {
        key: ResourceKey(key),
        id: id.to_owned(),
        display_name: String::new(),
        unit: String::new(),
        deleted,
        created_at: Time::EPOCH,
        updated_at: Time::EPOCH,
    };
    Policy::new(2, vec![resource(1, "tokens", false), resource(2, "gone", true)], Vec::new())
}

/// Returns the wrong fields of a refusal, in order.
fn fields<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> Vec<String> {
    match outcome {
        Ok(_) => Vec::new(),
        Err(Refusal::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
        Err(other) => panic!("{other:?}"),
    }
}

fn descriptions<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> String {
    match outcome {
        Err(Refusal::Invalid(faults)) => {
            faults.into_iter().map(|fault| fault.description).collect::<Vec<_>>().join("; ")
        }
        other => panic!("{other:?}"),
    }
}

fn limit() -> v1::Limit {
    v1::Limit {
        id: "day".to_owned(),
        resource: "tokens".to_owned(),
        quantity: 100,
        period: v1::Period::Day.into(),
        ..v1::Limit::default()
    }
}

fn carry(percent: i32, quantity: i64) -> Option<v1::Carry> {
    Some(v1::Carry { percent, quantity })
}

fn rolling() -> v1::Limit {
    let duration = Some(prost_types::Duration { seconds: 18_000, nanos: 0 });
    v1::Limit { period: v1::Period::Rolling.into(), duration, ..limit() }
}

fn plan_of(limits: Vec<v1::Limit>) -> Option<v1::Plan> {
    Some(v1::Plan { id: "free".to_owned(), limits, ..v1::Plan::default() })
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

#[test]
fn a_refused_limit_names_every_wrong_field() {
    let (month, lifetime) = (v1::Period::Month.into(), v1::Period::Lifetime.into());
    let of_tenant = v1::Anchor::Tenant.into();
    let agent = v1::Dimension::Agent.into();
    let cases: Vec<(v1::Limit, &[&str])> = vec![
        (limit(), &[]),
        (v1::Limit { quantity: 0, thresholds: vec![1, 1_000, 80], ..limit() }, &[]),
        (v1::Limit { id: String::new(), ..limit() }, &["id"]),
        (v1::Limit { id: "a\nb".to_owned(), quantity: -1, ..limit() }, &["id", "quantity"]),
        (v1::Limit { resource: String::new(), ..limit() }, &["resource"]),
        (v1::Limit { resource: "x".to_owned(), ..limit() }, &["resource"]),
        (v1::Limit { resource: "gone".to_owned(), ..limit() }, &["resource"]),
        (v1::Limit { period: 0, anchor_day: 99, ..limit() }, &["period"]),
        (v1::Limit { period: 9, interval: -1, anchor: 9, ..limit() }, &["period"]),
        (v1::Limit { anchor: 9, anchor_day: 1, ..limit() }, &["anchor"]),
        (v1::Limit { interval: 1_001, anchor_weekday: 1, ..limit() }, &["interval", "anchor_weekday"]),
        (v1::Limit { interval: 2, origin_date: "2026-02-29".to_owned(), ..limit() }, &["origin_date"]),
        (v1::Limit { origin_date: "2026-02-28".to_owned(), ..limit() }, &["origin_date"]),
        (v1::Limit { anchor: of_tenant, interval: 1_000, ..limit() }, &[]),
        (v1::Limit { anchor: of_tenant, period: lifetime, ..limit() }, &["anchor"]),
        (
            v1::Limit {
                anchor: of_tenant,
                period: month,
                interval: 121,
                anchor_day: 1,
                anchor_weekday: -1,
                anchor_month: 2,
                anchor_minute: 3,
                origin_date: "x".to_owned(),
                ..limit()
            },
            &["anchor_day", "anchor_weekday", "anchor_month", "anchor_minute", "origin_date", "interval"],
        ),
        (v1::Limit { anchor_day: 1, ..limit() }, &["anchor_day"]),
        (v1::Limit { period: month, anchor_day: 31, ..limit() }, &[]),
        (v1::Limit { period: month, anchor_day: 32, ..limit() }, &["anchor_day"]),
        (v1::Limit { period: month, anchor_day: -1, ..limit() }, &["anchor_day"]),
        (v1::Limit { agent: "x".repeat(129), model: "a\0".to_owned(), ..limit() }, &["agent", "model"]),
        (v1::Limit { per: vec![0, agent, agent], ..limit() }, &["per[0]", "per[2]"]),
        (v1::Limit { per: vec![9], enforcement: 9, ..limit() }, &["per[0]", "enforcement"]),
        (v1::Limit { per: vec![agent], agent: "planner".to_owned(), ..limit() }, &["per[0]"]),
        (
            v1::Limit { thresholds: vec![0, 80, 80, 1_001], ..limit() },
            &["thresholds[0]", "thresholds[2]", "thresholds[3]"],
        ),
        (v1::Limit { thresholds: (1..=11).collect(), ..limit() }, &["thresholds"]),
        (v1::Limit { carry: carry(1, 0), ..limit() }, &[]),
        (v1::Limit { carry: carry(100, 1), period: month, ..limit() }, &[]),
        (v1::Limit { carry: carry(0, i64::MAX), ..limit() }, &[]),
        (v1::Limit { carry: carry(0, 0), ..limit() }, &["carry"]),
        (v1::Limit { carry: carry(-1, -1), ..limit() }, &["carry.percent", "carry.quantity"]),
        (v1::Limit { carry: carry(101, 1), ..limit() }, &["carry.percent"]),
        (v1::Limit { carry: carry(50, 0), period: lifetime, ..limit() }, &["carry"]),
        (v1::Limit { carry: carry(0, 0), period: lifetime, ..limit() }, &["carry"]),
        (v1::Limit { carry: carry(50, 0), ..rolling() }, &["carry"]),
        (v1::Limit { carry: carry(0, -7), period: 0, ..limit() }, &["period", "carry.quantity"]),
    ];
    for (limit, at_fault) in cases {
        let shown = format!("{limit:?}");
        let want: Vec<String> = at_fault.iter().map(|field| format!("plan.limits[0].{field}")).collect();
        assert_eq!(fields(new_plan(plan_of(vec![limit]), &policy())), want, "{shown}");
    }
}

#[test]
fn a_refused_plan_names_every_wrong_field() {
    let message = v1::Plan {
        id: String::new(),
        display_name: "x".repeat(257),
        limits: vec![limit(), limit(), v1::Limit { period: 0, id: "b".to_owned(), ..limit() }],
        ..v1::Plan::default()
    };
    let want = ["plan.id", "plan.display_name", "plan.limits[1].id", "plan.limits[2].period"];
    assert_eq!(fields(new_plan(Some(message), &policy())), want);
    let many = (0..65).map(|number| v1::Limit { id: number.to_string(), ..limit() }).collect();
    assert_eq!(fields(new_plan(plan_of(many), &policy())), ["plan.limits"]);
    assert_eq!(fields(new_plan(None, &policy())), ["plan"]);
}

#[test]
fn a_limit_is_returned_as_it_was_given() {
    let given = v1::Limit {
        period: v1::Period::Month.into(),
        user: "ada".to_owned(),
        per: vec![v1::Dimension::Agent.into(), v1::Dimension::Model.into()],
        enforcement: v1::Enforcement::Observe.into(),
        thresholds: vec![80, 100],
        anchor_day: 31,
        interval: 3,
        anchor_minute: 120,
        origin_date: "2026-02-01".to_owned(),
        anchor: v1::Anchor::Limit.into(),
        carry: carry(50, 0),
        ..limit()
    };
    let lifetime = v1::Limit { id: "all".to_owned(), period: v1::Period::Lifetime.into(), ..limit() };
    let new = new_plan(plan_of(vec![given.clone(), lifetime]), &policy()).expect("valid");
    assert_eq!(new.limits[0].shape.per, [true, false, true].into());
    assert_eq!(
        (new.limits[1].enforcement, new.limits[1].shape.timing.period()),
        (Enforcement::Hard, Period::Lifetime)
    );
    let stored = crate::domain::plan::Plan {
        key: crate::domain::id::PlanKey(3),
        id: new.id,
        display_name: new.display_name,
        limits: new.limits.into_iter().map(std::sync::Arc::new).collect(),
        uncovered: new.uncovered,
        created_at: Time(1_500),
        updated_at: Time(2_000),
    };
    let message = plan(&stored, &policy());
    assert_eq!(message.limits[0], given);
    assert_eq!(message.limits[1].enforcement(), v1::Enforcement::Hard);
    assert_eq!(message.uncovered(), v1::Uncovered::Meter, "it was unset");
    assert_eq!(message.create_time, Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }));
}

#[test]
fn the_anchors_of_a_limit_are_returned_with_their_defaults() {
    let cases = [
        (v1::Period::Minute, [1, 0, 0, 0]),
        (v1::Period::Hour, [1, 0, 0, 0]),
        (v1::Period::Day, [1, 0, 0, 0]),
        (v1::Period::Week, [1, 0, 1, 0]),
        (v1::Period::Month, [1, 1, 0, 0]),
        (v1::Period::Year, [1, 1, 0, 1]),
        (v1::Period::Lifetime, [0, 0, 0, 0]),
    ];
    for (period, want) in cases {
        let given = v1::Limit { period: period.into(), ..limit() };
        let new = new_plan(plan_of(vec![given]), &policy()).expect("valid");
        let shown = super::limits::message(&new.limits[0], &policy());
        let v1::Limit { interval, anchor_day, anchor_weekday, anchor_month, .. } = shown;
        assert_eq!([interval, anchor_day, anchor_weekday, anchor_month], want, "{period:?}");
        let again = new_plan(plan_of(vec![shown]), &policy()).expect("what is returned can be given");
        assert_eq!(again.limits, new.limits);
    }
}

#[test]
fn a_refused_resource_names_every_wrong_field() {
    let message = v1::Resource {
        id: "a\u{7f}".to_owned(),
        display_name: "a\n".to_owned(),
        unit: "x".repeat(65),
        ..v1::Resource::default()
    };
    assert_eq!(
        fields(new_resource(Some(message))),
        ["resource.id", "resource.display_name", "resource.unit"]
    );
    assert_eq!(fields(new_resource(None)), ["resource"]);
}

#[test]
fn a_tenant_has_defaults_and_a_refused_tenant_names_every_wrong_field() {
    let tenant = v1::Tenant { id: "acme".to_owned(), plan: "free".to_owned(), ..v1::Tenant::default() };
    let new = new_tenant(Some(tenant.clone())).expect("valid");
    assert_eq!((new.zone, new.state), (chrono_tz::UTC, TenantState::Active));
    let lisbon = v1::Tenant { zone: "Europe/Lisbon".to_owned(), state: 2, ..tenant };
    let new = new_tenant(Some(lisbon)).expect("valid");
    assert_eq!((new.zone, new.state), (chrono_tz::Europe::Lisbon, TenantState::Suspended));
    let wrong = v1::Tenant { zone: "Europe/Atlantis".to_owned(), state: 3, ..v1::Tenant::default() };
    let want = ["tenant.id", "tenant.plan", "tenant.zone", "tenant.state"];
    assert_eq!(fields(new_tenant(Some(wrong))), want);
    assert_eq!(fields(new_tenant(None)), ["tenant"]);
}

#[test]
fn only_the_fields_of_the_mask_change() {
    let resource =
        v1::Resource { id: "tokens".to_owned(), unit: "token".to_owned(), ..v1::Resource::default() };
    let change = |update_mask| {
        resource_change(v1::UpdateResourceRequest { resource: Some(resource.clone()), update_mask })
    };
    let (id, implied) = change(None).expect("valid");
    assert_eq!((id.as_str(), implied.display_name, implied.unit.as_deref()), ("tokens", None, Some("token")));
    let (_, named) = change(mask(&["display_name"])).expect("valid");
    assert_eq!((named.display_name.as_deref(), named.unit), (Some(""), None));
    assert!(descriptions(change(mask(&["unit", "nonsense"]))).contains("\"nonsense\""));
    assert!(descriptions(change(mask(&["id"]))).contains("id: it is fixed"));
    assert!(descriptions(change(mask(&["create_time"]))).contains("set by the server"));
    assert_eq!(fields(change(mask(&["id", "*"]))), ["update_mask", "update_mask"]);
    let limits = v1::UpdatePlanRequest { plan: plan_of(Vec::new()), update_mask: mask(&["limits"]) };
    let (_, cleared) = plan_change(limits, &policy()).expect("valid");
    assert_eq!(cleared.limits.map(|limits| limits.len()), Some(0));
    let at_fault = v1::UpdatePlanRequest {
        plan: plan_of(vec![v1::Limit { quantity: -1, ..limit() }]),
        update_mask: mask(&["display_name"]),
    };
    assert_eq!(fields(plan_change(at_fault, &policy())), Vec::<String>::new(), "it is not in the mask");
}

#[test]
fn an_update_of_a_tenant_changes_what_its_mask_names() {
    let tenant = v1::Tenant {
        id: "acme".to_owned(),
        zone: "Asia/Tokyo".to_owned(),
        state: v1::TenantState::Suspended.into(),
        ..v1::Tenant::default()
    };
    let change =
        |update_mask| tenant_change(v1::UpdateTenantRequest { tenant: Some(tenant.clone()), update_mask });
    let (_, all) = change(None).expect("valid");
    assert_eq!((all.zone, all.state), (Some(Tz::Asia__Tokyo), Some(TenantState::Suspended)));
    assert_eq!((all.anchor_time, all.plan), (None, None));
    let (_, cleared) = change(mask(&["anchor_time"])).expect("valid");
    assert_eq!((cleared.anchor_time, cleared.zone), (Some(AnchorTime::Creation), None));
    for (anchor_time, want) in [
        (prost_types::Timestamp { seconds: 1, nanos: 999_999_999 }, Some(1_999)),
        (prost_types::Timestamp { seconds: 7_258_118_399, nanos: 0 }, Some(7_258_118_399_000)),
        (prost_types::Timestamp { seconds: 7_258_118_400, nanos: 0 }, None),
        (prost_types::Timestamp { seconds: -1, nanos: 0 }, None),
        (prost_types::Timestamp { seconds: 1, nanos: -1 }, None),
        (prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }, None),
    ] {
        let given = v1::Tenant { anchor_time: Some(anchor_time), ..tenant.clone() };
        let update_mask = mask(&["anchor_time"]);
        let change = tenant_change(v1::UpdateTenantRequest { tenant: Some(given), update_mask });
        match want {
            Some(want) => assert_eq!(change.expect("valid").1.anchor_time, Some(AnchorTime::At(Time(want)))),
            None => assert_eq!(fields(change), ["tenant.anchor_time"], "{anchor_time:?}"),
        }
    }
    assert_eq!(fields(change(mask(&["plan"]))), ["tenant.plan"]);
    let (_, suspended) = change(mask(&["state"])).expect("valid");
    assert_eq!((suspended.state, suspended.plan), (Some(TenantState::Suspended), None));
}

#[test]
fn a_reset_needs_a_reason_and_an_operator() {
    let wrong = v1::ResetUsageRequest {
        resources: vec![String::new()],
        agent: Some("a\t".to_owned()),
        reason: "x".repeat(257),
        ..v1::ResetUsageRequest::default()
    };
    assert_eq!(fields(reset(wrong)), ["tenant", "resources[0]", "agent", "reason", "operator"]);
    let right = v1::ResetUsageRequest {
        tenant: "acme".to_owned(),
        user: Some(String::new()),
        reason: "a wrong price".to_owned(),
        operator: "ada".to_owned(),
        ..v1::ResetUsageRequest::default()
    };
    let (tenant, reset) = reset(right).expect("valid");
    assert_eq!((tenant.as_str(), reset.filter), ("acme", [None, Some(String::new()), None].into()));
}
