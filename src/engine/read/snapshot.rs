//! The snapshot with which a watch begins: balances, and the place in the log up to which they contain events.

use super::{
    super::ask::{Failure, Frame, TenantRef},
    Reader, failed, refused,
    usage::{UsageQuery, chosen},
};
use crate::{
    domain::{counter::Balance, id::TenantKey, refusal::Refusal},
    store::LogHead,
};

/// Maximum number of balances in one snapshot. The bound is needed because the snapshot is kept in memory.
const SNAPSHOT_BALANCES_MAX: usize = 10_000;

/// Maximum number of pages that one snapshot reads. Each page reads about 10,000 rows, of which few may match.
const SNAPSHOT_PAGES_MAX: usize = 20;

/// Whether the names of a watch exist, and the end of the log at that instant.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// The tenant's key. `None`: the watch names no tenant, or the tenant does not exist.
    pub tenant_key: Option<TenantKey>,
    /// The log's id and end.
    pub head: LogHead,
    /// Whether there are committed events that have no place in the log yet.
    pub pending: bool,
}

/// The balances of one instant, in parts, and the end of the log at that instant.
#[derive(Debug)]
pub struct Snapshot {
    /// At least one part. Only a single part can be empty.
    pub parts: Vec<Vec<Balance>>,
    /// The context that replies need in addition to the balances.
    pub frame: Frame,
    /// The balances contain all events up to this end of the log.
    pub head: LogHead,
}

impl Reader {
    /// Returns the balances that the query chooses, in parts of its page size, and the end of the log at the same
    /// instant.
    pub async fn snapshot(&self, query: &UsageQuery) -> Result<Snapshot, Failure> {
        let view = self.open("snapshot", &TenantRef::Id(query.tenant.clone()), None).await?;
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

    /// Checks whether a tenant and resources exist. If the names are not `required`, a missing tenant is no error, and
    /// only its key is left out: the watcher may not have got the event of the tenant's deletion yet.
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
        let (head, pending) = transaction.read_log_and_pending().await.map_err(failed)?;
        let found = match tenant {
            Some(id) => transaction.find_tenant(Some(id), None).await.map_err(failed)?.map(|found| found.key),
            None => None,
        };
        let names = Names { tenant_key: found, head, pending };
        if !required {
            return Ok(names);
        }
        let revision = transaction.read_revision().await.map_err(failed)?;
        let policy = self.policies.get(&transaction, revision).await.map_err(failed)?;
        let unknown = tenant.filter(|_| found.is_none()).map(|id| Refusal::TenantNotFound(id.to_owned()));
        match unknown.map_or_else(|| chosen(&policy, resources).map(|_| ()), Err) {
            Ok(()) => Ok(names),
            Err(refusal) => Err(Failure::Refused { refusal, frame: None }),
        }
    }
}
