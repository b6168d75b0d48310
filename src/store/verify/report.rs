//! What was looked at, and what does not add up, for people.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::{
    counter::CounterKey,
    id::{ReservationId, TenantKey},
    plan::Dimension,
};

/// Most faults that are told one by one.
const FAULTS_TOLD_MAX: usize = 1_000;

/// The tenants of these keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Scope {
    pub(super) fn is_all(self) -> bool {
        (self.first, self.last) == (i64::MIN, i64::MAX)
    }

    /// The key before the first one, for a place in a table that has the tenant first in its key.
    pub(super) fn place_before(self) -> i64 {
        self.first.saturating_sub(1)
    }
}

/// All of them.
impl Default for Scope {
    fn default() -> Self {
        Self { first: i64::MIN, last: i64::MAX }
    }
}

/// What was looked at, and what does not add up.
#[derive(Debug, Default)]
pub struct Report {
    /// Tenants, deleted ones included.
    pub tenants: u64,
    /// Counters.
    pub counters: u64,
    /// Open holds.
    pub holds: u64,
    /// Settled reservations.
    pub settled: u64,
    /// Request ids.
    pub requests: u64,
    /// Adjustments.
    pub adjustments: u64,
    /// Whose rows are looked at.
    pub(super) scope: Scope,
    /// Names of tenants, for the texts of faults.
    pub(super) names: HashMap<TenantKey, String>,
    /// Faults, all of them.
    pub fault_count: u64,
    /// The first faults: which row, and what is wrong with it.
    pub faults: Vec<String>,
}

impl Report {
    pub(super) fn fault(&mut self, text: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_TOLD_MAX {
            self.faults.push(text);
        }
    }

    pub(super) fn told(&self, tenant: TenantKey, id: ReservationId) -> String {
        format!("{} of {}", Uuid::from_bytes(id.0), self.told_tenant(tenant))
    }

    pub(super) fn told_tenant(&self, tenant: TenantKey) -> String {
        match self.names.get(&tenant) {
            Some(name) => format!("tenant {name:?} ({})", tenant.0),
            None => format!("tenant {}", tenant.0),
        }
    }

    pub(super) fn told_counter(&self, tenant: TenantKey, key: &CounterKey) -> String {
        let mut text = format!("of resource {}, {:?}", key.resource().0, key.period());
        if let Some(start) = chrono::DateTime::from_timestamp_millis(key.window_start()) {
            text.push_str(&format!(" from {}", start.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)));
        }
        for (dimension, value) in Dimension::ALL.into_iter().zip(key.dimensions()) {
            if let Some(value) = value {
                text.push_str(&format!(", {} {value:?}", dimension.name()));
            }
        }
        format!("{text}, of {}", self.told_tenant(tenant))
    }
}
