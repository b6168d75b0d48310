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

/// Pages that one snapshot takes at most: each looks through about 10,000 rows, of which few may match.
const SNAPSHOT_PAGES_MAX: usize = 20;

/// What is known of the names of a watch, and of the log of events at the same instant.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// The tenant's key; `None` when no tenant is named, or there is none of the name.
    pub tenant_key: Option<TenantKey>,
    /// How far the log goes.
    pub head: LogHead,
    /// Events were committed that have no place in the log yet.
    pub pending: bool,
}

/// What is left, in parts, and where the log of events stood then.
#[derive(Debug)]
pub struct Snapshot {
    /// At least one; none is empty but a last one.
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
        for _ in 0..SNAPSHOT_PAGES_MAX {
            let page = view.usage(&query).await?;
            count += page.entries.len();
            if count > SNAPSHOT_BALANCES_MAX {
                break;
            }
            if !page.entries.is_empty() || (page.next.is_none() && parts.is_empty()) {
                parts.push(page.entries);
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(Snapshot { parts, frame: page.frame, head }),
            }
        }
        Err(refused(Refusal::TooManyCounters(SNAPSHOT_BALANCES_MAX), &view.frame()))
    }

    /// Whether a tenant and resources are there. When they need not be there, since a watcher may be notified of their end,
    /// the key may be none.
    pub async fn check_names(
        &self,
        tenant: Option<&str>,
        resources: &[String],
        required: bool,
    ) -> Result<Names, Failure> {
        if !self.store.is_available() {
            return Err(Failure::DatabaseUnavailable);
        }
        let transaction = self.store.begin_read("check names").await.map_err(failed)?;
        let (head, pending) = transaction.look_at_log().await.map_err(failed)?;
        let found = match tenant {
            Some(id) => transaction.find_tenant(Some(id), None).await.map_err(failed)?.map(|found| found.key),
            None => None,
        };
        let names = Names { tenant_key: found, head, pending };
        if !required {
            return Ok(names);
        }
        let name = tenant.unwrap_or_default();
        let revision = transaction.read_revision().await.map_err(failed)?;
        let policy = self.policies.get(&transaction, revision).await.map_err(failed)?;
        let frame = Frame {
            tenant_key: found.unwrap_or(TenantKey(0)),
            tenant: Arc::from(name),
            policy: Arc::clone(&policy),
            now: 0,
        };
        let unknown = tenant.filter(|_| found.is_none()).map(|id| Refusal::TenantNotFound(id.to_owned()));
        match unknown.map_or_else(|| chosen(&policy, resources).map(|_| ()), Err) {
            Ok(()) => Ok(names),
            Err(refusal) => Err(refused(refusal, &frame)),
        }
    }
}
