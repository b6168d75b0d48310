//! The report of a verification: which rows were checked, and which rows are wrong, in words for people.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::{
    counter::CounterKey,
    id::{ReservationId, TenantKey},
};

/// Maximum number of faults that are reported individually.
const FAULTS_LISTED_MAX: usize = 1_000;

/// The tenants whose keys are from `first` to `last`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Scope {
    pub(super) fn is_all(self) -> bool {
        (self.first, self.last) == (i64::MIN, i64::MAX)
    }

    /// Returns the key before the key of the first tenant. Pages begin after it in tables whose key begins with the
    /// tenant.
    pub(super) fn place_before(self) -> i64 {
        self.first.saturating_sub(1)
    }
}

/// The scope of all tenants.
impl Default for Scope {
    fn default() -> Self {
        Self { first: i64::MIN, last: i64::MAX }
    }
}

/// The report of a verification: which rows were checked, and which rows are wrong.
#[derive(Debug, Default)]
pub struct Report {
    /// Tenants that were checked, also deleted tenants.
    pub tenants: u64,
    /// Counters that were checked.
    pub counters: u64,
    /// Open holds that were checked.
    pub holds: u64,
    /// Settled reservations that were checked.
    pub settled: u64,
    /// Request ids that were checked.
    pub requests: u64,
    /// Adjustments that were checked.
    pub adjustments: u64,
    /// The tenants whose rows are checked.
    pub(super) scope: Scope,
    /// Names of tenants, for the texts of faults.
    pub(super) names: HashMap<TenantKey, String>,
    /// The number of all faults, including those that `faults` leaves out.
    pub fault_count: u64,
    /// The first 1,000 faults. Each text names a row and says what is wrong with the row.
    pub faults: Vec<String>,
}

impl Report {
    pub(super) fn fault(&mut self, text: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_LISTED_MAX {
            self.faults.push(text);
        }
    }

    pub(super) fn describe_reservation(&self, tenant: TenantKey, id: ReservationId) -> String {
        format!("{} of {}", Uuid::from_bytes(id.0), self.describe_tenant(tenant))
    }

    pub(super) fn describe_tenant(&self, tenant: TenantKey) -> String {
        match self.names.get(&tenant) {
            Some(name) => format!("tenant {name:?} ({})", tenant.0),
            None => format!("tenant {}", tenant.0),
        }
    }

    pub(super) fn describe_counter(&self, tenant: TenantKey, key: &CounterKey) -> String {
        let mut text = format!("of resource {}, {:?}", key.resource().0, key.period());
        if let Some(start) = chrono::DateTime::from_timestamp_millis(key.window_start().0) {
            text.push_str(&format!(" from {}", start.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)));
        }
        for (dimension, value) in key.dimensions() {
            if let Some(value) = value {
                text.push_str(&format!(", {} {value:?}", dimension.name()));
            }
        }
        for (key, value) in key.labels() {
            text.push_str(&format!(", label {key:?} {value:?}"));
        }
        format!("{text}, of {}", self.describe_tenant(tenant))
    }
}
