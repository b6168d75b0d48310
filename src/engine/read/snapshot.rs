//! What a watcher begins with: balances, and the place in the log of events that they are of.

use std::sync::Arc;

use super::{Reader, UsageQuery, chosen, failed, refused};
use crate::{
    domain::{counter::Balance, id::TenantKey, refusal::Refusal},
    engine::{Failure, Frame, TenantRef},
    store::LogHead,
};

/// Most balances of one snapshot, which is held in memory.
const SNAPSHOT_BALANCES_MAX: usize = 10_000;

/// What is left, in parts, and where the log of events stood then.
#[derive(Debug)]
pub struct Snapshot {
    /// At least one, which may be empty.
    pub parts: Vec<Vec<Balance>>,
    /// What the balances have to be told with.
    pub frame: Frame,
    /// Events up to its end are in the balances.
    pub head: LogHead,
}

impl Reader {
    /// What is left, in pages of the query's size, and how far the log of events goes: both of one instant.
    pub async fn snapshot(&self, query: &UsageQuery) -> Result<Snapshot, Failure> {
        let view = self.open("snapshot", &TenantRef::Id(query.tenant.clone())).await?;
        let head = view.transaction.read_log().await.map_err(failed)?;
        let (mut query, mut parts, mut count) = (query.clone(), Vec::new(), 0);
        loop {
            let page = view.usage(&query).await?;
            count += page.entries.len();
            if count > SNAPSHOT_BALANCES_MAX {
                return Err(refused(Refusal::TooManyCounters(SNAPSHOT_BALANCES_MAX), &page.frame));
            }
            parts.push(page.entries);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(Snapshot { parts, frame: page.frame, head }),
            }
        }
    }

    /// Whether a tenant and resources are there, and how far the log of events goes.
    pub async fn check_names(&self, tenant: Option<&str>, resources: &[String]) -> Result<LogHead, Failure> {
        if !self.store.is_available() {
            return Err(Failure::DatabaseUnavailable);
        }
        let transaction = self.store.begin_read("check names").await.map_err(failed)?;
        let head = transaction.read_log().await.map_err(failed)?;
        let name = tenant.unwrap_or_default();
        let found = match tenant {
            Some(id) => transaction.find_tenant(Some(id), None).await.map_err(failed)?.map(|found| found.key),
            None => Some(TenantKey(0)),
        };
        let revision = transaction.read_revision().await.map_err(failed)?;
        let policy = self.policies.get(&transaction, revision).await.map_err(failed)?;
        let frame = Frame {
            tenant_key: found.unwrap_or(TenantKey(0)),
            tenant: Arc::from(name),
            policy: Arc::clone(&policy),
            now: 0,
        };
        let unknown = found.is_none().then(|| Refusal::TenantNotFound(name.to_owned()));
        match unknown.map_or_else(|| chosen(&policy, resources).map(|_| ()), Err) {
            Ok(()) => Ok(head),
            Err(refusal) => Err(refused(refusal, &frame)),
        }
    }
}
