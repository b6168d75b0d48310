//! The customer whose usage is limited.

use std::sync::Arc;

use super::{
    codes::codes,
    id::{PlanKey, TenantKey},
    lineage::{Lineage, Since},
    time::Time,
    timing::TenantCalendar,
};

/// Whether a tenant may take new holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantState {
    /// The tenant may call every operation.
    Active,
    /// The tenant may settle its holds and Record usage, but not Reserve or Extend (R4.12).
    Suspended,
}

codes!(TenantState as i16: Active = 1, Suspended = 2);

/// A scheduled change of a tenant's plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextPlan {
    /// The plan that the tenant gets.
    pub plan: PlanKey,
    /// When the tenant gets the plan.
    pub at: Time,
}

/// A change of a tenant's plan that is made in memory and not yet in the tenant's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsaved {
    /// The tenant got its next plan.
    Changed,
    /// The next plan is dropped, because it does not exist or is the tenant's plan already. Only a server of the
    /// previous release can have caused this: it does not know next plans.
    Dropped,
}

impl Unsaved {
    /// Returns the names of the fields that have other values, for POLICY_CHANGED.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Unsaved::Changed => &["next_plan", "plan"],
            Unsaved::Dropped => &["next_plan"],
        }
    }
}

/// A tenant, as its database row describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The internal key of the tenant, by which rows refer to it.
    pub key: TenantKey,
    /// The id that an operator chose. All replies share this one allocation of the text.
    pub id: Arc<str>,
    /// A name for people to read.
    pub display_name: String,
    /// The internal key of the tenant's plan.
    pub plan: PlanKey,
    /// The calendars of the tenant, the oldest first. The last one is the present calendar.
    pub calendars: Vec<TenantCalendar>,
    /// Whether the tenant may take new holds.
    pub state: TenantState,
    /// The instant of the tenant's latest decision. A later decision never gets an earlier instant (I9).
    pub decided_at: Time,
    /// No open hold has a deadline before this instant. [`Time::NEVER`]: the tenant has no open hold.
    pub next_due: Time,
    /// Each change of the tenant's row or books sets a new value. Books that a lane remembers are current if they have
    /// the same version.
    pub version: i64,
    /// The policy change that gave the tenant its present plan.
    pub plan_since: Since,
    /// Shapes that both the previous plan and this plan count, with the change since which they are counted.
    pub carried: Vec<Lineage>,
    /// Changes with each change of the tenant's agents and overrides. 0: the tenant never had any.
    pub terms_version: i64,
    /// The scheduled change of the tenant's plan. It counts from its instant on, see [`Tenant::change_plan_if_due`].
    pub next_plan: Option<NextPlan>,
    /// A change of plan that was due, and that the tenant's row does not contain yet.
    pub unsaved: Option<Unsaved>,
    /// When the tenant was created.
    pub created_at: Time,
    /// When the tenant was last changed.
    pub updated_at: Time,
    /// The number of the tenant's latest event. 0: no event was emitted yet.
    pub event_number: i64,
    /// The number of the tenant's counters that count towards the bound, see [`Window::is_bounded`].
    pub counters: i64,
    /// When LIFETIME counters of the tenant were last pruned. [`Time::EPOCH`]: never.
    pub forgotten_at: Time,
}

impl Tenant {
    /// Returns the present calendar of the tenant.
    pub fn calendar(&self) -> &TenantCalendar {
        self.calendars.last().expect("a tenant has one calendar or more")
    }
}
