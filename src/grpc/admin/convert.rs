//! Messages of the control plane ⇄ arguments and results of the store. Parsing collects every wrong field.

use std::{ops::Range, sync::Arc};

use chrono_tz::Tz;

use super::limits;
use crate::{
    clock,
    domain::{
        bounds::{LIMITS_MAX, MASK_PATHS_MAX, TEXT_LENGTH_MAX_BYTES, UNIT_LENGTH_MAX_BYTES},
        faults::Faults,
        id::{TenantKey, name_fault, new_id_fault, optional_name_fault, text_fault},
        operation::{Fingerprinter, Reset},
        plan::{Plan, Policy, Resource, Uncovered},
        refusal::{Fault, Refusal},
        shape::PerDimension,
        tenant::TenantState,
        time::Time,
    },
    grpc::{
        faults::{check_names, check_reason, check_resources, instant, labels_of, request_key},
        v1,
        wire::timestamp,
    },
    store::{
        AnchorTime, NewPlan, NewResource, NewTenant, NextPlanChange, PlanChange, PlannedTenant,
        ResourceChange, SettingsChange, TenantChange,
    },
};

/// The instants at which a subscription can begin: the years 1970 to 2199.
const ANCHOR_TIMES: Range<Time> = Time::EPOCH..Time(7_258_118_400_000);

/// Parses a resource to declare.
pub(super) fn new_resource(message: Option<v1::Resource>) -> Result<NewResource, Refusal> {
    let mut faults = Faults::default();
    let message = required("resource", message)?;
    faults.check("resource.id", new_id_fault(&message.id));
    faults.check("resource.display_name", display_name_fault(&message.display_name));
    faults.check("resource.unit", unit_fault(&message.unit));
    faults.into_result(NewResource { id: message.id, display_name: message.display_name, unit: message.unit })
}

/// Parses an update: the id of the resource, and its changes.
pub(super) fn resource_change(
    request: v1::UpdateResourceRequest,
) -> Result<(String, ResourceChange), Refusal> {
    let mut faults = Faults::default();
    let message = required("resource", request.resource)?;
    faults.check("resource.id", name_fault(&message.id));
    let mask = Mask::read(&mut faults, request.update_mask, &["display_name", "unit"], &ID_IS_FIXED);
    let display_name = mask.take("display_name", message.display_name, String::is_empty);
    let unit = mask.take("unit", message.unit, String::is_empty);
    faults.check("resource.display_name", display_name.as_deref().and_then(display_name_fault));
    faults.check("resource.unit", unit.as_deref().and_then(unit_fault));
    faults.into_result((message.id, ResourceChange { display_name, unit, etag: message.etag }))
}

/// Parses a plan to create.
pub(super) fn new_plan(message: Option<v1::Plan>, policy: &Policy) -> Result<NewPlan, Refusal> {
    let mut faults = Faults::default();
    let message = required("plan", message)?;
    faults.check("plan.id", new_id_fault(&message.id));
    faults.check("plan.display_name", display_name_fault(&message.display_name));
    let limits = limits::parse(&mut faults, message.limits, policy, None);
    let uncovered = uncovered(&mut faults, message.uncovered);
    let (id, display_name) = (message.id, message.display_name);
    faults.into_result(NewPlan { id, display_name, limits, uncovered })
}

/// Parses an update: the id of the plan, and its changes.
pub(super) fn plan_change(
    request: v1::UpdatePlanRequest,
    policy: &Policy,
) -> Result<(String, PlanChange), Refusal> {
    let mut faults = Faults::default();
    let message = required("plan", request.plan)?;
    faults.check("plan.id", name_fault(&message.id));
    let changeable = ["display_name", "limits", "uncovered"];
    let mask = Mask::read(&mut faults, request.update_mask, &changeable, &ID_IS_FIXED);
    let display_name = mask.take("display_name", message.display_name, String::is_empty);
    faults.check("plan.display_name", display_name.as_deref().and_then(display_name_fault));
    let limits = mask.take("limits", message.limits, Vec::is_empty);
    let before = policy.find_plan(&message.id).map(Arc::as_ref);
    let limits = limits.map(|limits| limits::parse(&mut faults, limits, policy, before));
    let given = mask.take("uncovered", message.uncovered, |uncovered| *uncovered == 0);
    let uncovered = given.map(|given| uncovered(&mut faults, given));
    faults.into_result((message.id, PlanChange { display_name, limits, uncovered, etag: message.etag }))
}

/// Parses an update of the policy's settings.
pub(super) fn settings_change(request: v1::UpdatePolicySettingsRequest) -> Result<SettingsChange, Refusal> {
    let mut faults = Faults::default();
    let message = required("settings", request.settings)?;
    let mask = Mask::read(&mut faults, request.update_mask, &["default_plan", "default_zone"], &[]);
    let default_plan = mask.take("default_plan", message.default_plan, String::is_empty);
    faults.check("settings.default_plan", default_plan.as_deref().and_then(optional_name_fault));
    let given = mask.take("default_zone", message.default_zone, String::is_empty);
    let default_zone = given.and_then(|given| zone(&mut faults, "settings.default_zone", &given));
    faults.into_result(SettingsChange { default_plan, default_zone, etag: message.etag })
}

/// Returns the message of the policy's settings.
pub(super) fn settings(policy: &Policy) -> v1::PolicySettings {
    let settings = &policy.settings;
    let default_plan = settings.default_plan.and_then(|key| policy.plans.get(&key));
    v1::PolicySettings {
        default_plan: default_plan.map(|plan| plan.id.clone()).unwrap_or_default(),
        default_zone: settings.default_zone.name().to_owned(),
        update_time: settings.updated_at.map(timestamp),
        etag: settings.etag(),
    }
}

/// Parses a tenant to create.
pub(super) fn new_tenant(message: Option<v1::Tenant>) -> Result<NewTenant, Refusal> {
    let mut faults = Faults::default();
    let message = required("tenant", message)?;
    faults.check("tenant.id", new_id_fault(&message.id));
    faults.check("tenant.display_name", display_name_fault(&message.display_name));
    faults.check("tenant.plan", name_fault(&message.plan));
    let zone = zone(&mut faults, "tenant.zone", &message.zone);
    let anchor_time = anchor_time(&mut faults, message.anchor_time);
    let state = state(&mut faults, message.state);
    if message.next_plan.is_some() {
        faults.add("tenant.next_plan", "must be absent at creation; UpdateTenant schedules a change of plan");
    }
    faults.into_result(NewTenant {
        key: TenantKey::mint(&message.id, clock::random()),
        id: message.id,
        display_name: message.display_name,
        plan: message.plan,
        zone: zone.unwrap_or(Tz::UTC),
        anchor_time,
        state: state.unwrap_or(TenantState::Active),
    })
}

/// Parses an update: the id of the tenant, and its changes.
pub(super) fn tenant_change(request: v1::UpdateTenantRequest) -> Result<(String, TenantChange), Refusal> {
    let mut faults = Faults::default();
    let message = required("tenant", request.tenant)?;
    faults.check("tenant.id", name_fault(&message.id));
    let changeable = ["display_name", "plan", "state", "zone", "anchor_time", "next_plan"];
    let mask = Mask::read(&mut faults, request.update_mask, &changeable, &ID_IS_FIXED);
    let display_name = mask.take("display_name", message.display_name, String::is_empty);
    faults.check("tenant.display_name", display_name.as_deref().and_then(display_name_fault));
    let plan = mask.take("plan", message.plan, String::is_empty);
    faults.check("tenant.plan", plan.as_deref().and_then(name_fault));
    let given = mask.take("state", message.state, |state| *state == 0);
    let state = given.and_then(|given| state(&mut faults, given));
    let given = mask.take("zone", message.zone, String::is_empty);
    let zone = given.and_then(|given| zone(&mut faults, "tenant.zone", &given));
    let given = mask.take("anchor_time", message.anchor_time, Option::is_none);
    let anchor_time =
        given.map(|given| anchor_time(&mut faults, given).map_or(AnchorTime::Creation, AnchorTime::At));
    let given = mask.take("next_plan", message.next_plan, Option::is_none);
    let next_plan = given.map(|given| next_plan_change(&mut faults, given));
    let etag = message.etag;
    let change = TenantChange { display_name, plan, state, zone, anchor_time, next_plan, etag };
    faults.into_result((message.id, change))
}

fn next_plan_change(faults: &mut Faults, given: Option<v1::NextPlan>) -> NextPlanChange {
    let Some(v1::NextPlan { plan, effective_time }) = given else { return NextPlanChange::Withdraw };
    faults.check("tenant.next_plan.plan", name_fault(&plan));
    let at = instant(faults, "tenant.next_plan.effective_time", effective_time);
    NextPlanChange::Schedule { plan, at }
}

/// Parses a ResetUsage: the id of the tenant, and the counters to reset.
pub(super) fn reset(request: v1::ResetUsageRequest) -> Result<(String, Reset), Refusal> {
    let mut faults = Faults::default();
    faults.check("tenant", name_fault(&request.tenant));
    check_resources(&mut faults, &request.resources);
    check_names(&mut faults, "limit_ids", &request.limit_ids, LIMITS_MAX);
    for (field, value) in [("agent", &request.agent), ("user", &request.user), ("model", &request.model)] {
        faults.check(field, value.as_deref().and_then(optional_name_fault));
    }
    check_reason(&mut faults, &request.reason, &request.operator);
    let filter = PerDimension { agent: request.agent, user: request.user, model: request.model };
    let labels = labels_of(&mut faults, "labels", request.labels);
    let key = request_key(&mut faults, request.request_id, || {
        let print = Fingerprinter::new("ResetUsage").set(&request.resources);
        let print = filter.iter().fold(print, |print, (_, wanted)| print.optional(wanted.as_deref()));
        let print = print.text(&request.reason).text(&request.operator);
        // Without limits and labels, a retry has the fingerprint that the previous release computes.
        let print = if request.limit_ids.is_empty() { print } else { print.set(&request.limit_ids) };
        if labels.is_empty() { print } else { print.labels(&labels) }
    });
    let (reason, operator) = (request.reason, request.operator);
    let (resources, limits) = (request.resources, request.limit_ids);
    faults.into_result((
        request.tenant,
        Reset { request: key, resources, limits, filter, labels, reason, operator },
    ))
}

/// Parses the id of an object to read or delete. It may be an older id, which new objects cannot have.
pub(super) fn id(id: String) -> Result<String, Refusal> {
    let mut faults = Faults::default();
    faults.check("id", name_fault(&id));
    faults.into_result(id)
}

/// Returns the message of a resource.
pub(super) fn resource(resource: Resource) -> v1::Resource {
    v1::Resource {
        etag: resource.etag(),
        id: resource.id,
        display_name: resource.display_name,
        unit: resource.unit,
        create_time: Some(timestamp(resource.created_at)),
        update_time: Some(timestamp(resource.updated_at)),
    }
}

/// Returns the message of a plan.
pub(super) fn plan(plan: &Plan, policy: &Policy) -> v1::Plan {
    v1::Plan {
        id: plan.id.clone(),
        display_name: plan.display_name.clone(),
        limits: plan.limits.iter().map(|limit| limits::message(limit, policy)).collect(),
        create_time: Some(timestamp(plan.created_at)),
        update_time: Some(timestamp(plan.updated_at)),
        uncovered: v1::Uncovered::from(plan.uncovered).into(),
        etag: plan.etag(),
        warnings: Vec::new(),
    }
}

/// Returns the message of a tenant.
pub(super) fn tenant(planned: PlannedTenant) -> v1::Tenant {
    let tenant = planned.tenant;
    let calendar = *tenant.calendar();
    v1::Tenant {
        etag: tenant.etag(),
        id: tenant.id.to_string(),
        display_name: tenant.display_name,
        plan: planned.plan_id,
        next_plan: planned
            .next
            .map(|next| v1::NextPlan { plan: next.plan_id, effective_time: Some(timestamp(next.at)) }),
        zone: calendar.zone.name().to_owned(),
        anchor_time: Some(timestamp(calendar.anchor_time)),
        state: v1::TenantState::from(tenant.state).into(),
        create_time: Some(timestamp(tenant.created_at)),
        update_time: Some(timestamp(tenant.updated_at)),
        warnings: Vec::new(),
    }
}

/// The field that every message has and that no update can change, with the reason.
pub(super) const ID_IS_FIXED: [(&str, &str); 1] = [("id", "is fixed at creation")];

/// Fields that the server sets. The server refuses them in a mask. In a message it compares the etag, and ignores the
/// others.
const SET_BY_SERVER: [&str; 8] = [
    "create_time",
    "etag",
    "failing_since",
    "last_used_time",
    "old_secret_expire_time",
    "text",
    "update_time",
    "warnings",
];

/// The fields that an update is to change.
pub(super) struct Mask {
    /// The paths of the mask. `None`: all fields that are not at their zero value.
    paths: Option<Vec<String>>,
}

impl Mask {
    pub(super) fn read(
        faults: &mut Faults,
        mask: Option<prost_types::FieldMask>,
        changeable: &[&str],
        fixed: &[(&str, &str)],
    ) -> Self {
        let paths = mask.map(|mask| mask.paths).filter(|paths| !paths.is_empty());
        let count = paths.as_ref().map_or(0, Vec::len);
        if !faults.is_within("update_mask", count, MASK_PATHS_MAX) {
            return Self { paths };
        }
        for path in paths.iter().flatten() {
            if changeable.contains(&path.as_str()) {
                continue;
            }
            let text = if let Some((name, reason)) = fixed.iter().find(|(name, _)| name == path) {
                format!("must not name {name}: it {reason}")
            } else if SET_BY_SERVER.contains(&path.as_str()) {
                format!("must not name {path}: it is set by the server")
            } else {
                let shown: String = path.chars().take(128).collect();
                format!("must name only {}; there is no field {shown:?} to change", changeable.join(", "))
            };
            faults.add("update_mask", text);
        }
        Self { paths }
    }

    /// Returns whether the mask names no field.
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_none()
    }

    /// Returns the value, if its field is to change.
    pub(super) fn take<T>(&self, field: &str, value: T, is_zero: impl FnOnce(&T) -> bool) -> Option<T> {
        let named = match &self.paths {
            Some(paths) => paths.iter().any(|path| path == field),
            None => !is_zero(&value),
        };
        named.then_some(value)
    }
}

/// Returns the message, or a refusal that has only this fault, because there is nothing else to check.
pub(super) fn required<T>(field: &str, message: Option<T>) -> Result<T, Refusal> {
    message.ok_or_else(|| Refusal::Invalid(vec![Fault::new(field, "must be given")]))
}

pub(super) fn display_name_fault(text: &str) -> Option<&'static str> {
    if text.len() > TEXT_LENGTH_MAX_BYTES { Some("must be at most 256 bytes") } else { text_fault(text) }
}

fn unit_fault(text: &str) -> Option<&'static str> {
    if text.len() > UNIT_LENGTH_MAX_BYTES { Some("must be at most 64 bytes") } else { text_fault(text) }
}

/// Parses a time zone. `None` if the name is wrong.
fn zone(faults: &mut Faults, field: &str, name: &str) -> Option<Tz> {
    let zone = if name.is_empty() { Some(Tz::UTC) } else { name.parse().ok() };
    if zone.is_none() {
        let text = "must be the IANA name of a time zone, such as \"Europe/Lisbon\"";
        faults.add(field, text);
    }
    zone
}

/// Parses the start of a tenant's subscription. `None` if it is unset or wrong.
fn anchor_time(faults: &mut Faults, given: Option<prost_types::Timestamp>) -> Option<Time> {
    let instant = instant(faults, "tenant.anchor_time", given)?;
    if !ANCHOR_TIMES.contains(&instant) {
        faults.add("tenant.anchor_time", "must be an instant of the years 1970 to 2199");
    }
    Some(instant)
}

/// Parses a tenant's state. `None` if the state is unset or wrong.
fn state(faults: &mut Faults, state: i32) -> Option<TenantState> {
    match v1::TenantState::try_from(state) {
        Ok(given) => given.into(),
        Err(_) => {
            faults.add("tenant.state", "must be TENANT_STATE_ACTIVE or TENANT_STATE_SUSPENDED");
            None
        }
    }
}

/// Parses what happens to resources that no limit of a plan covers. METER if it is unset or wrong.
fn uncovered(faults: &mut Faults, uncovered: i32) -> Uncovered {
    match v1::Uncovered::try_from(uncovered) {
        Ok(given) => Option::from(given).unwrap_or_default(),
        Err(_) => {
            faults.add("plan.uncovered", "must be UNCOVERED_METER or UNCOVERED_REFUSE");
            Uncovered::Meter
        }
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
