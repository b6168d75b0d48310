//! Scheduled changes of a tenant's plan (R4.39). A change counts from its instant on, not from when somebody notices
//! it: whoever reads a tenant's row at or after the instant first calls [`Tenant::change_plan_if_due`].

use super::{
    lineage::Since,
    plan::{Plan, Policy},
    tenant::{Tenant, Unsaved},
    time::{Span, Time},
    timing::{TenantCalendar, Timing},
    window::{Cycle, Period},
};

/// A change of plan is scheduled at most this long ahead.
pub const SCHEDULED_MAX: Span = Span::days(400);

impl Tenant {
    /// Returns whether a scheduled change of plan is due at `now`.
    pub fn has_due_plan(&self, now: Time) -> bool {
        self.next_plan.is_some_and(|next| next.at <= now)
    }

    /// Gives the tenant its next plan if its instant has come at `now`, exactly as if an operator had changed the plan
    /// at that instant. `policy` has the plans as they were at that instant: a change of a plan is preceded by the due
    /// changes of the tenants that have the plan or get it.
    pub fn change_plan_if_due(&mut self, policy: &Policy, now: Time) {
        let Some(next) = self.next_plan.filter(|next| next.at <= now) else { return };
        self.next_plan = None;
        self.updated_at = self.updated_at.max(next.at);
        let plans = policy.plans.get(&self.plan).zip(policy.plans.get(&next.plan));
        match plans.filter(|_| next.plan != self.plan) {
            Some((from, to)) => {
                self.carried = self.carry_to(from, to, next.at);
                self.plan_since = Since::of_tenant(next.at, policy.revision, self.plan_since);
                self.plan = next.plan;
                self.unsaved = Some(Unsaved::Changed);
            }
            None => self.unsaved = Some(Unsaved::Dropped),
        }
    }
}

/// Returns when a tenant gets its next plan if the operator gives no time: when the running month of its plan ends.
/// That is the month of the first limit that counts single months, or else the calendar month of the tenant's zone.
pub fn end_of_month(plan: &Plan, calendars: &[TenantCalendar], now: Time) -> Time {
    let month = Timing::from(Cycle::plain(Period::Month));
    let timings = plan.limits.iter().map(|limit| &limit.shape.timing);
    let is_month = |timing: &&Timing| {
        timing.period() == Period::Month && timing.present.nominal_length() == month.present.nominal_length()
    };
    let timing = timings.into_iter().find(is_month).unwrap_or(&month);
    timing.window(calendars, now).window.end
}
