//! The customer whose usage is limited.

use std::sync::Arc;

use chrono_tz::Tz;

use super::{
    codes::codes,
    id::{PlanKey, TenantKey},
    lineage::{Lineage, Since},
    window::Millis,
};

/// Whether a tenant may take new holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantState {
    /// It may do everything.
    Active,
    /// It may settle its holds and Record usage, but not Reserve or Extend (R4.12).
    Suspended,
}

codes!(TenantState as i16: Active = 1, Suspended = 2);

/// A tenant as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The key of the tenant's rows.
    pub key: TenantKey,
    /// The id that people chose. Replies share this text.
    pub id: Arc<str>,
    /// A name for people to read.
    pub display_name: String,
    /// The key of its plan.
    pub plan: PlanKey,
    /// The time zone in which its days and months begin.
    pub zone: Tz,
    /// Whether it may take new holds.
    pub state: TenantState,
    /// The instant of the latest decision about the tenant. No later decision gets an earlier instant (I9).
    pub decided_at: Millis,
    /// No open hold is due before this instant. `i64::MAX`: there is no open hold.
    pub next_due: Millis,
    /// Gets a new value with each change of the tenant's row or books. Remembered books are current if they have this
    /// version.
    pub version: i64,
    /// The change by which the tenant got its plan.
    pub plan_since: Since,
    /// Shapes that the previous plan counted and that this plan went on to count, with since when.
    pub carried: Vec<Lineage>,
    /// When the tenant was created.
    pub created_at: Millis,
    /// When the tenant was last changed.
    pub updated_at: Millis,
    /// The number of the tenant's last event; 0 before the first event.
    pub event_number: i64,
}
