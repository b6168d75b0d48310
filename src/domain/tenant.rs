//! The customer whose usage is limited.

use std::sync::Arc;

use chrono_tz::Tz;

use super::{
    id::{PlanKey, TenantKey},
    lineage::{Lineage, Since},
    window::Millis,
};

/// Whether a tenant may take new holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantState {
    /// It may do everything.
    Active,
    /// It may settle what it holds, and nothing more.
    Suspended,
}

/// A tenant as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Key of its rows.
    pub key: TenantKey,
    /// Its plain id. Shared with the answers of its operations.
    pub id: Arc<str>,
    /// For people.
    pub display_name: String,
    /// Its plan.
    pub plan: PlanKey,
    /// Where its days and months begin.
    pub zone: Tz,
    /// Whether it may take new holds.
    pub state: TenantState,
    /// The latest instant at which something was decided for it: time never goes back behind it.
    pub decided_at: Millis,
    /// No open hold is due before this instant; `i64::MAX` when there is none.
    pub next_due: Millis,
    /// Another one, by chance, with each batch that changes its books. Who knows the books of this version knows them as
    /// they are.
    pub version: i64,
    /// When it got its plan.
    pub plan_since: Since,
    /// What its plan of before counted already, and the plan went on to count when the tenant got it.
    pub carried: Vec<Lineage>,
    /// When it was made.
    pub created_at: Millis,
    /// When it was changed last.
    pub updated_at: Millis,
    /// The number of its last event; 0 before the first one.
    pub event_number: i64,
}
