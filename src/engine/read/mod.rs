//! Reads. Each read is one read-only transaction without locks. Due holds do not count, even if no batch has swept them
//! yet (R4.3).
//!
//! Read [`Reader`] and its `open` first: a call opens a view of one tenant at one instant. `usage.rs` reads balances
//! from a view, `reservations.rs` reservations, and `snapshot.rs` the balances with which a watch begins.

mod reservations;
mod snapshot;
mod usage;

use std::sync::Arc;

pub use self::{
    reservations::ReservationQuery,
    snapshot::{Names, Snapshot},
    usage::{UsagePlace, UsageQuery},
};
use super::ask::{Failure, Frame, TenantRef};
use crate::{
    clock::Clock,
    domain::{operation::Target, plan::Policy, refusal::Refusal, tenant::Tenant, terms::Terms, time::Time},
    policy::PolicyCache,
    seldom::Seldom,
    store::{HeadTime, Reading, Store, StoreError, Transaction},
};

/// Maximum number of rows that one call reads to find rows that match its filters.
const SCAN_ROWS_MAX: usize = 10_000;

/// Maximum number of rows that one statement reads.
const CHUNK: usize = 1_000;

/// Reads the rows that lanes and administration have written.
#[derive(Debug)]
pub struct Reader {
    store: Store,
    policies: Arc<PolicyCache>,
    clock: Clock,
}

/// A page of a list, and the place at which the next page begins.
#[derive(Debug)]
pub struct Page<T, P> {
    /// The entries of the page.
    pub entries: Vec<T>,
    /// Where the next page begins. `None`: this is the last page.
    pub next: Option<P>,
    /// The context that a reply needs in addition to the entries.
    pub frame: Frame,
}

/// The state of one tenant's books at one instant.
struct View {
    transaction: Transaction<Reading>,
    tenant: Tenant,
    policy: Arc<Policy>,
    terms: Arc<Terms>,
    now: Time,
}

impl Reader {
    /// Makes a reader of a database.
    pub fn new(store: Store, policies: Arc<PolicyCache>, clock: Clock) -> Self {
        Self { store, policies, clock }
    }

    /// Returns the resources and plans at the current revision.
    pub async fn policy(&self) -> Result<Arc<Policy>, Failure> {
        if !self.store.is_available() {
            return Err(Failure::DatabaseUnavailable);
        }
        self.load_policy().await.map_err(failed)
    }

    async fn load_policy(&self) -> Result<Arc<Policy>, StoreError> {
        let transaction = self.store.begin_read("policy").await?;
        let revision = transaction.read_revision().await?;
        let policy = self.policies.get(&transaction, revision).await?;
        transaction.rollback().await?;
        Ok(policy)
    }

    /// Opens a view of a tenant for a call. If the tenant does not exist, the refusal names the reservation that the
    /// call names. If the call names no reservation, the refusal names the tenant.
    async fn open(
        &self,
        name: &'static str,
        tenant: &TenantRef,
        target: Option<&Target>,
    ) -> Result<View, Failure> {
        if !self.store.is_available() {
            return Err(Failure::DatabaseUnavailable);
        }
        self.begin(name, tenant).await.map_err(failed)?.ok_or_else(|| tenant.unknown(target))
    }

    async fn begin(&self, name: &'static str, tenant: &TenantRef) -> Result<Option<View>, StoreError> {
        let transaction = self.store.begin_read(name).await?;
        let (id, key) = match tenant {
            TenantRef::Id(id) => (Some(id.as_str()), None),
            TenantRef::Key(key) => (None, Some(*key)),
        };
        let found = transaction.find_tenant(id, key).await?;
        let (revision, database_now) =
            transaction.read_head(HeadTime::unless_shown(self.clock.now())).await?;
        let policy = self.policies.get(&transaction, revision).await?;
        let now = self.clock.now().or(database_now).unwrap_or_default();
        let Some(mut tenant) = found else { return Ok(None) };
        let now = now.max(tenant.decided_at);
        tenant.change_plan_if_due(&policy, now);
        let terms = self.policies.terms_of(&transaction, &policy, &tenant).await?;
        Ok(Some(View { transaction, tenant, policy, terms, now }))
    }
}

impl View {
    fn frame(&self) -> Frame {
        Frame {
            tenant_key: self.tenant.key,
            tenant: Arc::clone(&self.tenant.id),
            policy: Arc::clone(&self.policy),
            now: self.now,
        }
    }
}

fn refused(refusal: Refusal, frame: &Frame) -> Failure {
    Failure::Refused { refusal, frame: Some(Box::new(frame.clone())) }
}

fn failed(error: StoreError) -> Failure {
    static FAILED: Seldom<&str> = Seldom::new();
    if let Some(left_out) = FAILED.due(error.kind()) {
        tracing::error!(error = &error as &dyn std::error::Error, log.left_out = left_out, "read failed");
    }
    Failure::from(&error)
}
