//! Sets aside the operations of tenants whose rows another transaction has locked, so that tenants with free rows do
//! not wait for them (R6.9).
//!
//! While a tenant is set aside, its later operations are set aside as well, so that its operations keep their order. A
//! task repeatedly queries which rows are free. The operations of tenants with free rows then come first in the next
//! batch. If a tenant's row is still locked after half a minute, the tenant's operations fail with UNAVAILABLE.

use std::{collections::VecDeque, future::pending, time::Duration};

use foldhash::{HashMap, HashSet};
use futures::FutureExt;
use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, sleep, timeout},
};

use super::{
    super::ask::{Failure, TenantRef},
    QUEUE_OPERATIONS_MAX,
    callers::{Batch, Waiting},
};
use crate::{domain::id::TenantKey, seldom::Seldom, store::Store};

/// Maximum number of operations that are set aside in one lane. Operations above this number are refused with
/// UNAVAILABLE.
const ASIDE_OPERATIONS_MAX: usize = QUEUE_OPERATIONS_MAX;

/// Maximum time for which a tenant is set aside.
const ASIDE_TIME_MAX: Duration = Duration::from_secs(30);

/// Pause before each query of locked rows.
const QUERY_PAUSE: Duration = Duration::from_millis(20);

/// Maximum number of tenants in one query. Each locked tenant delays the query by a millisecond.
const QUERY_TENANTS_MAX: usize = 100;

/// How long a query waits for the row of its first tenant. The next query begins with another tenant, so each tenant
/// comes first at some time. If other transactions want the same row, the query waits in the row's queue, and so gets
/// the row in time.
const QUERY_PATIENCE: Duration = Duration::from_millis(100);

/// If the database does not answer a query within this time, the next batch finds out which rows are free.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// A contended row is often locked for too long, so these lines are logged at most once a minute.
static SET_ASIDE: Seldom<()> = Seldom::new();
static GIVEN_UP: Seldom<()> = Seldom::new();

/// The operations that are set aside in one lane.
pub(super) struct Aside {
    store: Store,
    tenants: HashMap<TenantKey, Tenant>,
    /// The tenants that are set aside, in the order of the next queries.
    order: VecDeque<TenantKey>,
    /// The keys of these tenants, by the ids in their operations.
    names: HashMap<String, TenantKey>,
    /// Operations of tenants whose rows are free.
    ready: VecDeque<Waiting>,
    /// Number of operations that are set aside or ready.
    operations: usize,
    /// The running query, which returns the tenants whose rows are free.
    query: Option<JoinHandle<Vec<TenantKey>>>,
}

/// A tenant that is set aside.
struct Tenant {
    since: Instant,
    waiting: Vec<Waiting>,
}

impl Aside {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            tenants: HashMap::default(),
            order: VecDeque::new(),
            names: HashMap::default(),
            ready: VecDeque::new(),
            operations: 0,
            query: None,
        }
    }

    /// Returns whether no operation is set aside or ready.
    pub(super) fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Returns whether an operation that was set aside can be decided.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns the next operation that can be decided.
    pub(super) fn next_ready(&mut self) -> Option<Waiting> {
        let next = self.ready.pop_front()?;
        self.operations -= 1;
        Some(next)
    }

    /// Sets aside the operations of a batch whose tenants the batch found locked.
    pub(super) fn take_locked(&mut self, batch: &mut Batch) {
        let locked = batch.take_out(|item| item.locked.is_some());
        if locked.is_empty() {
            return;
        }
        if let Some(left_out) = SET_ASIDE.due(()) {
            tracing::warn!(
                batch.operations = locked.len(),
                log.left_out = left_out,
                "other transactions have locked rows of tenants; the operations of these tenants wait"
            );
        }
        for mut waiting in locked {
            if let Some(key) = waiting.item.locked.take() {
                self.push(key, waiting);
            }
        }
        self.start_query();
    }

    /// Sets aside the operations of a new batch whose tenants are set aside already. `find` gives the key of a
    /// tenant.
    pub(super) fn take_followers(
        &mut self,
        batch: &mut Batch,
        find: impl Fn(&TenantRef) -> Option<TenantKey>,
    ) {
        if self.tenants.is_empty() {
            return;
        }
        let key_of = |tenant: &TenantRef| {
            let named = match tenant {
                TenantRef::Id(id) => self.names.get(id).copied(),
                TenantRef::Key(key) => Some(*key),
            };
            named.or_else(|| find(tenant)).filter(|key| self.tenants.contains_key(key))
        };
        let followers =
            batch.take_out(|item| item.outcome.is_none() && key_of(&item.request.tenant).is_some());
        let keys: Vec<_> = followers.iter().map(|waiting| key_of(&waiting.item.request.tenant)).collect();
        for (key, waiting) in keys.into_iter().zip(followers) {
            if let Some(key) = key {
                self.push(key, waiting);
            }
        }
    }

    fn push(&mut self, key: TenantKey, waiting: Waiting) {
        if self.operations >= ASIDE_OPERATIONS_MAX {
            waiting.answer(Failure::Overloaded, self.store.metrics());
            return;
        }
        self.operations += 1;
        if let TenantRef::Id(id) = &waiting.item.request.tenant
            && !self.names.contains_key(id)
        {
            self.names.insert(id.clone(), key);
        }
        let tenant = self.tenants.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            Tenant { since: Instant::now(), waiting: Vec::new() }
        });
        tenant.waiting.push(waiting);
    }

    /// Takes the result of the query if the query has ended. Does not wait.
    pub(super) fn collect(&mut self) {
        if let Some(found) = self.query.as_mut().and_then(FutureExt::now_or_never) {
            self.end_query(found);
        }
    }

    /// Waits for the end of the query. If no query is running, waits for ever.
    pub(super) async fn changed(&mut self) {
        match &mut self.query {
            Some(query) => {
                let found = query.await;
                self.end_query(found);
            }
            None => pending().await,
        }
    }

    fn end_query(&mut self, found: Result<Vec<TenantKey>, JoinError>) {
        self.query = None;
        // After a panic of the query, all rows count as free. When the next batch locks the rows, it finds out which
        // rows are not free.
        let free = found.unwrap_or_else(|_| self.order.iter().copied().collect());
        for key in free {
            if let Some(tenant) = self.remove(key) {
                self.ready.extend(tenant.waiting);
            }
        }
        let given_up = |tenant: &Tenant| tenant.since.elapsed() > ASIDE_TIME_MAX;
        let late: Vec<TenantKey> =
            self.tenants.iter().filter(|(_, tenant)| given_up(tenant)).map(|(key, _)| *key).collect();
        for tenant in late.into_iter().filter_map(|key| self.remove(key)).collect::<Vec<_>>() {
            if let Some(left_out) = GIVEN_UP.due(()) {
                tracing::error!(
                    batch.operations = tenant.waiting.len(),
                    log.left_out = left_out,
                    "another transaction has locked a tenant's row for {} seconds; the tenant's waiting operations \
                     are answered with UNAVAILABLE",
                    ASIDE_TIME_MAX.as_secs()
                );
            }
            self.operations -= tenant.waiting.len();
            for waiting in tenant.waiting {
                waiting.answer(Failure::DatabaseUnavailable, self.store.metrics());
            }
        }
        self.start_query();
    }

    fn remove(&mut self, key: TenantKey) -> Option<Tenant> {
        self.order.retain(|other| *other != key);
        self.names.retain(|_, other| *other != key);
        self.tenants.remove(&key)
    }

    /// Starts a query if tenants are set aside and no query is running.
    fn start_query(&mut self) {
        if self.tenants.is_empty() || self.query.is_some() {
            return;
        }
        let count = self.order.len().min(QUERY_TENANTS_MAX);
        let keys: Vec<TenantKey> = self.order.iter().take(count).copied().collect();
        self.order.rotate_left(if count < self.order.len() { count } else { 1 });
        self.query = Some(tokio::spawn(find_free(self.store.clone(), keys)));
    }
}

/// Returns the tenants whose rows are free. If the database does not answer, returns all of the tenants.
async fn find_free(store: Store, keys: Vec<TenantKey>) -> Vec<TenantKey> {
    sleep(QUERY_PAUSE).await;
    let found = timeout(QUERY_TIMEOUT, store.find_locked_tenants(&keys, QUERY_PATIENCE)).await;
    let locked: HashSet<TenantKey> =
        found.ok().and_then(Result::ok).unwrap_or_default().into_iter().collect();
    keys.into_iter().filter(|key| !locked.contains(key)).collect()
}
