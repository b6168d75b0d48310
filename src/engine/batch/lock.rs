//! Locks the tenants of a batch. Reads rows that the batch needs, or probably needs, in the same round trip, because
//! other transactions wait for the locks during each further round trip.

use std::{sync::Arc, time::Duration};

use foldhash::{HashMap, HashMapExt, HashSet};
use tokio::time::{Instant, timeout};

use super::{
    super::ask::TenantRef,
    BATCH_TIME_MAX, Batcher,
    caution::Seen,
    item::Item,
    session::{Session, find_key},
};
use crate::{
    domain::{
        books::{Books, Origin, Remembered},
        id::TenantKey,
        operation::Target,
        plan::Policy,
        tenant::Tenant,
        terms::Terms,
        time::Time,
    },
    seldom::Seldom,
    store::{Along, Batch, Dialect, Expected, HeadTime, Locked, StoreError, Transaction},
};

/// Maximum number of remembered counters of a tenant that are re-read with the lock. If there are more, none of them
/// is re-read.
const COUNTERS_ALONG_MAX: usize = 8;

/// Every batch notices a clock that is behind, so such a clock is logged at most once a minute.
static BEHIND: Seldom<()> = Seldom::new();

/// A transaction that has locked the tenants of a batch, while operations can still join the batch.
pub(super) struct EarlyLock {
    transaction: Transaction<Batch>,
    tenants: Vec<Tenant>,
}

impl Batcher {
    /// If other transactions write the same tenants, locks the tenants of a batch before the batch runs. Such a batch
    /// mostly waits for locks. Operations for its tenants that arrive in the meantime can join the batch. Returns the
    /// locked tenants. The next run uses these locks. `None`: the batch locks its tenants when it runs.
    pub(in super::super) async fn lock_early(&mut self, items: &mut [Item]) -> Option<HashSet<TenantKey>> {
        if !self.caution.is_contended() || self.store.dialect() == Dialect::Sqlite {
            return None;
        }
        let open = items.iter().filter(|item| item.is_open());
        // Tenants are locked in the order of their keys. A tenant whose key is not known yet would be locked out of
        // order.
        let keys: HashSet<TenantKey> =
            open.map(|item| self.find_key(&item.request.tenant)).collect::<Option<_>>()?;
        if keys.is_empty() {
            return None;
        }
        let mut sorted: Vec<TenantKey> = keys.iter().copied().collect();
        sorted.sort_unstable();
        let lock = async {
            let transaction = self.store.begin_batch().await?;
            match transaction.lock_tenants(&sorted).await {
                Ok(tenants) => Ok(EarlyLock { transaction, tenants }),
                Err(error) => {
                    // Dropping the transaction instead would close its connection.
                    let _ = transaction.rollback().await;
                    Err(error)
                }
            }
        };
        match timeout(BATCH_TIME_MAX, lock).await {
            Ok(Ok(early_lock)) => {
                self.early_lock = Some(early_lock);
                Some(keys)
            }
            Ok(Err(StoreError::Locked(_))) => {
                self.find_locked(items).await;
                None
            }
            // The error occurs again when the batch runs, and is logged there.
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Finds the tenants of a batch that another transaction has locked, after the batch has waited too long for the
    /// locks.
    pub(super) async fn find_locked(&mut self, items: &mut [Item]) {
        let open = items.iter().filter(|item| item.is_open());
        let mut keys: Vec<TenantKey> = open.filter_map(|item| self.find_key(&item.request.tenant)).collect();
        keys.sort_unstable();
        keys.dedup();
        let find = self.store.find_locked_tenants(&keys, Duration::ZERO);
        // An error here occurs again when the batch runs, and is logged there.
        if let Ok(Ok(locked)) = timeout(BATCH_TIME_MAX, find).await {
            self.locked.extend(locked);
        }
        self.mark_locked(items);
    }

    /// Excludes operations of tenants that another transaction has locked from the batch.
    pub(super) fn mark_locked(&self, items: &mut [Item]) {
        if self.locked.is_empty() {
            return;
        }
        for item in items.iter_mut().filter(|item| item.is_open()) {
            let key = self.find_key(&item.request.tenant);
            item.locked = key.filter(|key| self.locked.contains(key));
            item.in_doubt |= item.locked.is_some() && self.caution.is_in_doubt();
        }
    }

    /// Returns the internal key of a tenant, if it is known without the database.
    pub(in super::super) fn find_key(&self, tenant: &TenantRef) -> Option<TenantKey> {
        match tenant {
            TenantRef::Id(id) => self.memory.key_of(id),
            TenantRef::Key(key) => Some(*key),
        }
    }

    /// Begins a transaction for a batch. Returns the transaction, and the tenants that it has already locked.
    pub(super) async fn begin(&mut self) -> Result<(Transaction<Batch>, Vec<Tenant>), StoreError> {
        match self.early_lock.take() {
            Some(EarlyLock { transaction, tenants }) => Ok((transaction, tenants)),
            None => Ok((self.store.begin_batch().await?, Vec::new())),
        }
    }

    /// Locks the tenants, except for the tenants in `early`, which are locked already. Then reads the policy and the
    /// time.
    pub(super) async fn lock<'a>(
        &mut self,
        transaction: &'a Transaction<Batch>,
        early: Vec<Tenant>,
        items: &'a [Item],
        open: &[usize],
    ) -> Result<Session<'a>, StoreError> {
        let named = self.keys_of_ids(transaction, items, open).await?;
        let refs = open.iter().map(|&place| &items[place].request.tenant);
        let mut keys: Vec<TenantKey> = refs.filter_map(|tenant| find_key(&named, tenant)).collect();
        keys.sort_unstable();
        keys.dedup();
        let data_version = transaction.data_version();
        let mut remembered = Vec::with_capacity(keys.len());
        let mut older = HashMap::new();
        keys.retain(|&key| match self.memory.take(key) {
            Some(entry) if data_version.is_unchanged_since(entry.seen) => {
                remembered.push(entry.remembered);
                false
            }
            Some(entry) => {
                older.insert(key, entry.remembered);
                true
            }
            None => true,
        });
        let mut along = match transaction.dialect() {
            Dialect::Postgres => self.along(&older, items, open),
            Dialect::Sqlite => Along::default(),
        };
        keys.retain(|key| early.binary_search_by_key(key, |tenant| tenant.key).is_err());
        let (mut locked, policy, clock_now) = self.lock_and_read(transaction, &keys, &mut along).await?;
        locked.tenants.extend(early);
        let decided_at =
            remembered.iter().map(Remembered::tenant).chain(&locked.tenants).map(|t| t.decided_at);
        let latest = decided_at.max().unwrap_or(clock_now);
        note_behind(clock_now, latest);
        let now = clock_now.max(latest);
        for tenant in remembered.iter_mut().map(Remembered::tenant_mut).chain(&mut locked.tenants) {
            tenant.change_plan_if_due(&policy, now);
        }
        let mut session = Session {
            transaction,
            policy: Arc::clone(&policy),
            now,
            books: HashMap::with_capacity(remembered.len() + locked.tenants.len()),
            keys: named,
        };
        let mut terms =
            self.missing_terms(transaction, &policy, &remembered, &older, &locked.tenants).await?;
        for remembered in remembered {
            let terms = terms.remove(&remembered.tenant().key);
            let terms = terms.unwrap_or_else(|| Arc::clone(remembered.terms()));
            session.books.insert(remembered.tenant().key, Books::reopen(remembered, terms, now));
        }
        let mut outdated = false;
        for tenant in locked.tenants {
            let known = older.remove(&tenant.key);
            let own = || known.as_ref().map(|known| Arc::clone(known.terms()));
            let terms = terms.remove(&tenant.key).or_else(own).ok_or_else(no_terms)?;
            outdated |= known.as_ref().is_some_and(|known| known.tenant().version != tenant.version);
            session.books.insert(tenant.key, Books::open(tenant, terms, now, known));
        }
        self.caution.has_locked(outdated);
        self.check(&session)?;
        session.enter_reservations(locked.holds, Origin::Hold);
        session.enter_counters(along.counters, locked.counters);
        Ok(session)
    }

    /// Returns the terms of the tenants whose remembered terms are not current.
    async fn missing_terms(
        &self,
        transaction: &Transaction<Batch>,
        policy: &Policy,
        remembered: &[Remembered],
        older: &HashMap<TenantKey, Remembered>,
        locked: &[Tenant],
    ) -> Result<HashMap<TenantKey, Arc<Terms>>, StoreError> {
        let known = remembered.iter().map(|known| (known.tenant(), Some(known)));
        let named = locked.iter().map(|tenant| (tenant, older.get(&tenant.key)));
        let is_current = |(tenant, known): &(&Tenant, Option<&Remembered>)| {
            known.is_some_and(|known| known.terms().are_current(policy, tenant))
        };
        let others: Vec<&Tenant> =
            known.chain(named).filter(|entry| !is_current(entry)).map(|(tenant, _)| tenant).collect();
        let terms = self.policies.terms(transaction, policy, &others).await?;
        Ok(others.iter().map(|tenant| tenant.key).zip(terms).collect())
    }

    /// Chooses the rows to read in the round trip of the lock: named holds that the lane does not remember. If
    /// remembered rows were stale in recent batches, also named holds and counters that the lane remembers.
    fn along(&self, remembered: &HashMap<TenantKey, Remembered>, items: &[Item], open: &[usize]) -> Along {
        let mut along = Along::default();
        for &place in open {
            let request = &items[place].request;
            if let (TenantRef::Key(tenant), Some(Target::Id(id))) =
                (&request.tenant, request.operation.target())
            {
                let known = || remembered.get(tenant).is_some_and(|remembered| remembered.holds(*id));
                if self.caution.is_contended() || !known() {
                    along.holds.push((*tenant, *id));
                }
            }
        }
        along.holds.sort_unstable();
        along.holds.dedup();
        if self.caution.is_contended() {
            for (tenant, remembered) in remembered {
                if remembered.counters().len() <= COUNTERS_ALONG_MAX {
                    along.counters.extend(remembered.counters().map(|key| (*tenant, key.clone())));
                }
            }
        }
        along
    }

    /// Locks the tenants, and then reads the policy and the time. Returns the tenants, the policy and the time.
    async fn lock_and_read(
        &mut self,
        transaction: &Transaction<Batch>,
        keys: &[TenantKey],
        along: &mut Along,
    ) -> Result<(Locked, Arc<Policy>, Time), StoreError> {
        let shown = self.clock.now();
        let data_version = transaction.data_version();
        let known = self.caution.seen().map(|seen| seen.expected);
        let known =
            known.filter(|known| data_version.is_unchanged_since(known.data_version) && shown.is_some());
        along.head = if known.is_some() { None } else { Some(HeadTime::unless_shown(shown)) };
        let locked = transaction.lock_and_read(keys, along).await?;
        let (revision, database_now) = locked.head.unwrap_or((known.map_or(0, |known| known.revision), None));
        let database = database_now.map(|now| (Instant::now(), now));
        self.caution.see(Seen { expected: Expected { data_version, revision }, database });
        let policy = self.policies.get(transaction, revision).await?;
        Ok((locked, policy, shown.or(database_now).unwrap_or_default()))
    }

    /// Finds the internal keys of the tenants that operations name by id. A remembered key may be out of date; see
    /// [`Batcher::check`].
    async fn keys_of_ids<'a>(
        &mut self,
        transaction: &Transaction<Batch>,
        items: &'a [Item],
        open: &[usize],
    ) -> Result<HashMap<&'a str, TenantKey>, StoreError> {
        let mut named = HashMap::new();
        let mut unknown = Vec::new();
        for &place in open {
            if let TenantRef::Id(id) = &items[place].request.tenant {
                match self.memory.key_of(id) {
                    Some(key) => drop(named.insert(id.as_str(), key)),
                    None => unknown.push(id.as_str()),
                }
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        for (key, id) in transaction.find_tenant_keys(&unknown).await? {
            self.memory.learn(&id, key);
            named.extend(unknown.binary_search(&id.as_str()).map(|place| (unknown[place], key)));
        }
        Ok(named)
    }

    /// Fails with [`StoreError::TenantMoved`] unless each tenant has the id by which its key was found. An operator
    /// may have deleted a tenant since the key was remembered.
    fn check(&mut self, session: &Session<'_>) -> Result<(), StoreError> {
        let is_wrong = |id: &str, key| session.books.get(key).is_none_or(|books| *books.tenant.id != *id);
        let wrong: Vec<&str> =
            session.keys.iter().filter(|(id, key)| is_wrong(id, key)).map(|(id, _)| *id).collect();
        wrong.iter().for_each(|id| self.memory.unlearn(id));
        if wrong.is_empty() { Ok(()) } else { Err(StoreError::TenantMoved) }
    }
}

/// Makes the error for a tenant without terms, which is a defect.
fn no_terms() -> StoreError {
    StoreError::Corrupt("a locked tenant has no terms".to_owned())
}

/// Logs a clock that is earlier than the latest decision.
fn note_behind(clock_now: Time, latest: Time) {
    if latest > clock_now
        && let Some(left_out) = BEHIND.due(())
    {
        tracing::error!(
            clock.now = clock_now.0,
            clock.decided_at = latest.0,
            log.left_out = left_out,
            "the clock is earlier than the latest decision; time stands still until the clock catches up"
        );
    }
}
