//! Operations of tenants whose rows somebody else has locked for long: they are set aside, so that the tenants whose rows are
//! free do not wait for them.
//!
//! While a tenant is set aside, whatever comes for it is set aside behind that, so that its operations keep their order. A
//! task looks again and again which of the rows are free; their tenants' operations then lead the next batch. A tenant that is
//! locked for half a minute is given up: its operations are UNAVAILABLE.

use std::{collections::VecDeque, future::pending, time::Duration};

use foldhash::{HashMap, HashSet};
use futures::FutureExt;
use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, sleep, timeout},
};

use super::{
    super::{Failure, QUEUE_OPERATIONS_MAX, TenantRef},
    callers::{Batch, Waiting},
};
use crate::{domain::id::TenantKey, seldom::Seldom, store::Store};

/// Most operations that are set aside in one lane. One more is UNAVAILABLE.
const ASIDE_OPERATIONS_MAX: usize = QUEUE_OPERATIONS_MAX;

/// Longest time for which a tenant is set aside.
const ASIDE_TIME_MAX: Duration = Duration::from_secs(30);

/// Pause before each look.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Tenants that are looked at together: each that is locked takes a millisecond.
const LOOK_TENANTS_MAX: usize = 100;

/// How long a look waits for the first of its tenants, which are looked at in turns: among others that want the same row it
/// stands in their queue, and gets it.
const LOOK_PATIENCE: Duration = Duration::from_millis(100);

/// A database that does not answer a look within this time is asked by the batch that follows.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// A row that is contended is locked for too long again and again: a line a minute.
static SET_ASIDE: Seldom<()> = Seldom::new();
static GIVEN_UP: Seldom<()> = Seldom::new();

/// What is set aside in one lane.
pub(super) struct Aside {
    store: Store,
    tenants: HashMap<TenantKey, Tenant>,
    /// Tenants that are set aside, in the order in which they are looked at.
    order: VecDeque<TenantKey>,
    /// Keys of these tenants by the ids that their operations name.
    names: HashMap<String, TenantKey>,
    /// Operations of tenants whose rows are free again.
    ready: VecDeque<Waiting>,
    /// Operations in all.
    operations: usize,
    /// A look, which says whose rows are free.
    look: Option<JoinHandle<Vec<TenantKey>>>,
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
            look: None,
        }
    }

    /// Whether nothing is set aside.
    pub(super) fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Whether an operation can be decided that was set aside.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next operation that can be decided.
    pub(super) fn next_ready(&mut self) -> Option<Waiting> {
        let next = self.ready.pop_front()?;
        self.operations -= 1;
        Some(next)
    }

    /// Sets aside the operations of a batch whose tenants are locked, as the batch has found.
    pub(super) fn take_locked(&mut self, batch: &mut Batch) {
        let locked = batch.take_out(|item| item.locked.is_some());
        if locked.is_empty() {
            return;
        }
        if let Some(left_out) = SET_ASIDE.due(()) {
            tracing::warn!(
                batch.operations = locked.len(),
                log.left_out = left_out,
                "rows of tenants are locked by somebody else; their operations are set aside"
            );
        }
        for mut waiting in locked {
            if let Some(key) = waiting.item.locked.take() {
                self.push(key, waiting);
            }
        }
        self.look_again();
    }

    /// Sets aside the operations of a batch, which is about to be decided, whose tenants are set aside already. `find` says
    /// which key an id has.
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
            waiting.answer(Failure::Overloaded);
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

    /// Ends a look that is done, without waiting for it.
    pub(super) fn collect(&mut self) {
        if let Some(found) = self.look.as_mut().and_then(FutureExt::now_or_never) {
            self.end_look(found);
        }
    }

    /// Waits for the end of a look; for ever if there is none.
    pub(super) async fn changed(&mut self) {
        match &mut self.look {
            Some(look) => {
                let found = look.await;
                self.end_look(found);
            }
            None => pending().await,
        }
    }

    fn end_look(&mut self, found: Result<Vec<TenantKey>, JoinError>) {
        self.look = None;
        // A look that ended in a panic found nothing; whether rows are free shows when they are locked.
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
                    "a tenant's row was locked for too long; its operations are given up"
                );
            }
            self.operations -= tenant.waiting.len();
            tenant.waiting.into_iter().for_each(|waiting| waiting.answer(Failure::DatabaseUnavailable));
        }
        self.look_again();
    }

    fn remove(&mut self, key: TenantKey) -> Option<Tenant> {
        self.order.retain(|other| *other != key);
        self.names.retain(|_, other| *other != key);
        self.tenants.remove(&key)
    }

    /// Begins a look, if there is something to look at, and none is under way.
    fn look_again(&mut self) {
        if self.tenants.is_empty() || self.look.is_some() {
            return;
        }
        let count = self.order.len().min(LOOK_TENANTS_MAX);
        let keys: Vec<TenantKey> = self.order.iter().take(count).copied().collect();
        self.order.rotate_left(if count < self.order.len() { count } else { 1 });
        self.look = Some(tokio::spawn(look(self.store.clone(), keys)));
    }
}

/// Whose rows are free, of these tenants; all when the database does not say.
async fn look(store: Store, keys: Vec<TenantKey>) -> Vec<TenantKey> {
    sleep(LOOK_PAUSE).await;
    let found = timeout(LOOK_TIMEOUT, store.find_locked_tenants(&keys, LOOK_PATIENCE)).await;
    let locked: HashSet<TenantKey> =
        found.ok().and_then(Result::ok).unwrap_or_default().into_iter().collect();
    keys.into_iter().filter(|key| !locked.contains(key)).collect()
}
