//! Etags: texts that change with what operators see of a thing (R4.37). Two operators who change the same thing at the
//! same time notice by its etag that the other was faster.
//!
//! An etag contains the internal key, so a thing that was deleted and created again has another etag. It contains
//! neither usage nor anything else that a decision or a job changes.

use data_encoding::BASE64URL_NOPAD;

use super::{
    access::Key,
    agent::Agent,
    operation::Fingerprinter,
    overrides::Override,
    plan::{Limit, Plan, PolicySettings, Resource},
    refusal::Refusal,
    shape::Shape,
    tenant::Tenant,
    time::Time,
    timing::Recurrence,
    webhook::Webhook,
};

/// Returns the text of an etag, from the fingerprint of the fields that operators see.
pub fn etag(fields: Fingerprinter) -> String {
    BASE64URL_NOPAD.encode(&fields.finish())
}

/// Refuses a change of the thing `id` unless its present etag is `given`. An empty `given` passes without a check.
/// `kind` is the word for the thing, such as "plan".
///
/// # Errors
///
/// [`Refusal::EtagMismatch`], also if `given` is not the text of any etag.
pub fn check_etag(
    given: &str,
    present: impl FnOnce() -> String,
    kind: &'static str,
    id: &str,
) -> Result<(), Refusal> {
    if given.is_empty() || given == present() {
        Ok(())
    } else {
        Err(Refusal::EtagMismatch { kind, id: id.to_owned() })
    }
}

impl Key {
    /// Returns the etag of the key.
    pub fn etag(&self) -> String {
        let Self { id, hash, role, tenants, agents, display_name, state, expires_at, updated_at, .. } = self;
        let print = Fingerprinter::new("key").text(id).bytes(hash).number(role.code().into());
        let print = print.set(&Vec::from_iter(tenants.clone())).set(&Vec::from_iter(agents.clone()));
        let print = print.text(display_name).number(state.code().into());
        etag(print.number(expires_at.map_or(-1, |at| at.0)).number(updated_at.0))
    }
}

impl Resource {
    /// Returns the etag of the resource.
    pub fn etag(&self) -> String {
        let Self { key, id, display_name, unit, deleted: _, created_at: _, updated_at } = self;
        let print = Fingerprinter::new("resource").number(key.0.into()).text(id).text(display_name);
        etag(print.text(unit).number(updated_at.0))
    }
}

impl Plan {
    /// Returns the etag of the plan.
    pub fn etag(&self) -> String {
        let Self { key, id, display_name, limits, uncovered, created_at: _, updated_at } = self;
        let print = Fingerprinter::new("plan").number(key.0.into()).text(id).text(display_name);
        let print = print.number(uncovered.code().into()).number(updated_at.0).count(limits.len());
        etag(limits.iter().fold(print, |print, limit| add_limit(print, limit)))
    }
}

fn add_limit(print: Fingerprinter, limit: &Limit) -> Fingerprinter {
    let Limit { id, shape, quantity, enforcement, thresholds, carry, origin_date, .. } = limit;
    let Shape { resource, timing, selectors, per, labels } = shape;
    let print = print.text(id).number(*quantity).number(enforcement.code().into()).text(origin_date);
    let print = print.count(thresholds.len()).number(resource.0.into());
    let print = thresholds.iter().fold(print, |print, percent| print.number((*percent).into()));
    let print = match timing.present {
        Recurrence::OfLimit(cycle) => {
            let mut bytes = Vec::new();
            cycle.encode(&mut bytes);
            print.bytes(&bytes)
        }
        Recurrence::OfTenant { period, interval } => {
            print.number(period.code().into()).number(interval.into())
        }
    };
    let print = selectors.iter().fold(print, |print, (_, value)| print.optional(value.as_deref()));
    let print =
        per.iter().fold(print, |print, (_, counts)| print.number((*counts).into())).count(labels.len());
    let print =
        labels.iter().fold(print, |print, rule| print.text(&rule.key).optional(rule.selected.as_deref()));
    // The etags of plans without a carry-over stay as they were in earlier releases.
    let Some(carry) = carry else { return print };
    let (percent, quantity) = (carry.percent.unwrap_or(0), carry.quantity.unwrap_or(0));
    print.text("carry").number(percent.into()).number(quantity)
}

impl PolicySettings {
    /// Returns the etag of the settings.
    pub fn etag(&self) -> String {
        let Self { default_plan, default_zone, updated_at } = self;
        let print = Fingerprinter::new("settings").number(default_plan.map_or(-1, |key| key.0.into()));
        let print = print.text(default_zone.name()).number(i64::from(updated_at.is_some()));
        etag(print.number(updated_at.map_or(0, |at| at.0)))
    }
}

impl Tenant {
    /// Returns the etag of the tenant. Usage does not change it.
    pub fn etag(&self) -> String {
        let calendar = self.calendar();
        let print = Fingerprinter::new("tenant").number(self.key.0).text(&self.id).text(&self.display_name);
        let print = print.number(self.plan.0.into()).number(self.state.code().into());
        let print = print.text(calendar.zone.name()).number(calendar.anchor_time.0);
        let next = self.next_plan.map_or((-1, Time::EPOCH), |next| (next.plan.0.into(), next.at));
        let print = print.number(next.0).number(next.1.0);
        etag(print.number(self.updated_at.0))
    }
}

impl Agent {
    /// Returns the etag of the agent of the tenant with this id.
    pub fn etag(&self, tenant: &str) -> String {
        let Self { id, display_name, plan, state, plan_since, carried: _, created_at, updated_at } = self;
        let print = Fingerprinter::new("agent").text(tenant).text(id).text(display_name);
        let print = print.number(plan.map_or(-1, |key| key.0.into())).number(state.code().into());
        let print = print.number(plan_since.at.0).number(plan_since.order);
        etag(print.number(created_at.0).number(updated_at.0))
    }
}

impl Override {
    /// Returns the etag of the override of the tenant with this id. The state is no part of it.
    pub fn etag(&self, tenant: &str) -> String {
        let Self { id, limit_id, selectors, labels, quantity, enforcement, thresholds, .. } = self;
        let print = Fingerprinter::new("override").text(tenant).text(id).text(limit_id).labels(labels);
        let print = selectors.iter().fold(print, |print, (_, value)| print.optional(value.as_deref()));
        let print =
            print.number(quantity.unwrap_or(-1)).number(enforcement.map_or(0, |own| own.code().into()));
        let print = print.number(i64::from(thresholds.is_some()));
        let print = thresholds.iter().flatten().fold(print, |print, percent| print.number((*percent).into()));
        let print =
            print.text(&self.reason).number(self.start.map_or(-1, |start| start.0)).number(self.end.0);
        etag(print.number(self.created_at.0).number(self.updated_at.0))
    }
}

impl Webhook {
    /// Returns the etag of the webhook. Successful and failed deliveries do not change it, but the end of the webhook's
    /// notifications does.
    pub fn etag(&self) -> String {
        let kinds = self.kinds.iter().map(|kind| kind.code().into());
        let print = Fingerprinter::new("webhook").number(self.key.0).text(&self.id).text(&self.url);
        let print = print.text(&self.description).number(self.state.code().into()).number(self.updated_at.0);
        let print = print.count(self.kinds.len()).count(self.tenants.len());
        let print = kinds.fold(print, Fingerprinter::number);
        etag(self.tenants.iter().fold(print, |print, tenant| print.text(tenant)))
    }
}
