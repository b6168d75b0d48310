//! A batch: lock, load, decide, save, commit. If the database refuses the batch, it is repeated, or divided into
//! halves.
//!
//! Read [`Batcher`] first, then `lock.rs`, `session.rs` and `load.rs`: they decide a batch under the lock. `ahead.rs`
//! decides a batch without the database, and `caution.rs` chooses which batches are decided ahead.

mod ahead;
mod caution;
mod hints;
mod item;
mod load;
mod lock;
mod memory;
mod pace;
mod search;
mod session;

pub(super) use self::{
    ahead::{Ahead, Planned},
    item::{Item, Newcomer},
    load::charged_keys,
};
use self::{
    caution::{Caution, Next, Tries},
    load::Loader,
    lock::EarlyLock,
    memory::Memory,
    pace::{Pace, Phase},
    search::Search,
    session::Session,
};

use std::{ops::Range, sync::Arc, time::Duration};

use foldhash::HashSet;
use tokio::time::timeout;

use super::ask::{Answer, Failure, Frame, Outcome};
use crate::{
    clock::Clock,
    domain::{
        books::{Changes, Remembered},
        calendar::Calendar,
        decide::{Context, Stop, Touched, decide},
        id::TenantKey,
        refusal::Fault,
        tenant::Tenant,
    },
    policy::PolicyCache,
    seldom::Seldom,
    store::{Batch, Store, StoreError, Transaction},
};

/// Maximum duration of an attempt. PostgreSQL cancels statements earlier, so a database that takes longer does not
/// answer at all.
const BATCH_TIME_MAX: Duration = Duration::from_secs(60);

/// A failing database fails every batch, so each kind of error is logged at most once a minute.
static REPEATED: Seldom<&str> = Seldom::new();
static FAILED: Seldom<&str> = Seldom::new();

/// Runs the batches of one lane, one at a time.
pub(super) struct Batcher {
    store: Store,
    policies: Arc<PolicyCache>,
    clock: Clock,
    /// Number of counters of one tenant beyond which Reserve and Extend make no counters of new subjects.
    counters_max: i64,
    calendar: Calendar,
    memory: Memory,
    /// The reasons why the next batch may not be decided ahead.
    caution: Caution,
    /// A transaction that has already locked the tenants of the next batch.
    early_lock: Option<EarlyLock>,
    /// Tenants of this batch whose rows another transaction has locked.
    locked: HashSet<TenantKey>,
}

/// A decided batch that is not written yet.
struct Decided {
    outcomes: Vec<Outcome>,
    changes: Vec<Changes>,
    remembered: Vec<Remembered>,
}

impl Batcher {
    pub(super) fn new(store: Store, policies: Arc<PolicyCache>, clock: Clock, counters_max: i64) -> Self {
        let (calendar, memory) = (Calendar::default(), Memory::default());
        let (caution, early_lock, locked) = (Caution::default(), None, HashSet::default());
        Self { store, policies, clock, counters_max, calendar, memory, caution, early_lock, locked }
    }

    /// Makes the newcomers of the lane, of the parts of the server on which the lane works.
    pub(super) fn newcomers<T>(&self, make: impl FnOnce(Store, Arc<PolicyCache>, Clock) -> T) -> T {
        make(self.store.clone(), Arc::clone(&self.policies), self.clock.clone())
    }

    /// Forgets everything that the lane remembers of the database.
    pub(super) fn forget(&mut self) {
        self.memory = Memory::default();
        self.caution.forget();
        self.early_lock = None;
        self.locked.clear();
    }

    /// Gives every item an outcome. If another transaction has locked the row of an item's tenant, notes the tenant in
    /// the item instead.
    pub(super) async fn run(&mut self, items: &mut [Item]) {
        self.caution.begin(items.iter().any(|item| item.in_doubt));
        self.run_all(items).await;
    }

    async fn run_all(&mut self, items: &mut [Item]) {
        self.run_parts(items).await;
        self.locked.clear();
    }

    async fn run_parts(&mut self, items: &mut [Item]) {
        let all = 0..items.len();
        let mut ranges = vec![all];
        while let Some(range) = ranges.pop() {
            match self.run_part(&mut items[range.clone()]).await {
                Ok(()) => {}
                // The database refuses at least one of these operations. Halving the range finds that operation, so
                // that the other operations do not fail (R4.14).
                Err(
                    StoreError::Permanent(_)
                    | StoreError::Conflict(_)
                    | StoreError::KnownRequest
                    | StoreError::Corrupt(_),
                ) if range.len() > 1 => {
                    let [first, second] = halves(range);
                    ranges.push(second);
                    ranges.push(first);
                }
                Err(error) => {
                    let failure = fail(&mut items[range], &error);
                    if matches!(failure, Failure::DatabaseUnavailable) {
                        self.store.note_failed();
                    }
                }
            }
        }
    }

    /// Decides items in one transaction. Repeats the transaction within bounds if it fails.
    async fn run_part(&mut self, items: &mut [Item]) -> Result<(), StoreError> {
        let mut tries = Tries::default();
        self.mark_locked(items);
        loop {
            let search = self.caution.search();
            let attempt = timeout(BATCH_TIME_MAX, self.attempt(items, search)).await;
            let error = match attempt.unwrap_or_else(|_| Err(StoreError::silent())) {
                Ok(()) => {
                    self.caution.has_committed();
                    return Ok(());
                }
                Err(error) => error,
            };
            match self.caution.after(&error, &mut tries) {
                Next::Repeat => {}
                Next::SetAside => self.find_locked(items).await,
                Next::RepeatAfter(pause) => {
                    if let Some(left_out) = REPEATED.due(error.kind()) {
                        tracing::warn!(
                            transaction.name = "batch",
                            transaction.operations = items.len(),
                            error = &error as &dyn std::error::Error,
                            log.left_out = left_out,
                            "a batch is repeated after an error"
                        );
                    }
                    tokio::time::sleep(pause).await;
                }
                Next::GiveUp => return Err(error),
            }
        }
    }

    async fn attempt(&mut self, items: &mut [Item], search: Search) -> Result<(), StoreError> {
        let open: Vec<usize> = (0..items.len()).filter(|&place| items[place].is_open()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let mut pace = Pace::start();
        let (transaction, early) = self.begin().await?;
        pace.mark(Phase::Begin);
        let decided = self.decide(&transaction, early, items, &open, search, &mut pace).await;
        match decided {
            Ok(Decided { outcomes, changes, remembered }) => {
                let seen = transaction.data_version();
                transaction.save_and_commit(&changes).await?;
                pace.mark(Phase::Commit);
                pace.log(open.len());
                remembered.into_iter().for_each(|remembered| self.memory.put(remembered, seen));
                for (place, outcome) in open.into_iter().zip(outcomes) {
                    items[place].outcome = Some(outcome);
                }
                Ok(())
            }
            Err(error) => {
                // The first error says more than the error of a failed rollback. A connection that cannot roll back is
                // closed.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }

    /// Locks, loads and decides, and returns the changes to write.
    async fn decide(
        &mut self,
        transaction: &Transaction<Batch>,
        early: Vec<Tenant>,
        items: &[Item],
        open: &[usize],
        search: Search,
        pace: &mut Pace,
    ) -> Result<Decided, StoreError> {
        let mut session = self.lock(transaction, early, items, open).await?;
        pace.mark(Phase::Lock);
        let mut work: Vec<(TenantKey, &Item)> = Vec::with_capacity(open.len());
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(open.len());
        for &place in open {
            let item = &items[place];
            match session.find_tenant(&item.request.tenant) {
                _ if item.is_late(search) => outcomes.push(Some(Err(Failure::DeadlineExceeded))),
                _ if !item.request.permit.is_current(session.policy.keys_revision) => {
                    outcomes.push(Some(Err(item.keys_changed())));
                }
                None => outcomes.push(Some(Err(item.request.unknown_tenant()))),
                Some(key) => {
                    outcomes.push(None);
                    work.push((key, item));
                }
            }
        }
        let mut loader = Loader { session: &mut session, calendar: &mut self.calendar };
        let named = loader.load_reservations(&work, search).await?;
        let touched = loader.load_counters(&work, &named).await?;
        loader.sweep().await?;
        pace.mark(Phase::Load);

        let mut decided = Vec::with_capacity(work.len());
        for ((tenant, item), touched) in work.iter().zip(&touched) {
            decided.push(self.decide_one(&mut session, *tenant, item, touched).await?);
        }
        if search == Search::Nothing {
            refuse_known_requests(transaction, &work, &decided).await?;
        }
        let now = session.now;
        let waiting = hints::collect(&mut decided, &session.books, now);
        let (mut changes, remembered) = session.take_changes();
        if !waiting.is_empty() {
            // Hints depend on the open holds after the batch, so the changes are written before the holds are listed.
            transaction.save(&std::mem::take(&mut changes)).await?;
            hints::resolve(transaction, now, waiting).await?;
        }
        pace.mark(Phase::Decide);
        let mut decided = decided.into_iter();
        let outcome =
            |outcome: Option<Outcome>| outcome.or_else(|| decided.next()).unwrap_or(Err(Failure::Internal));
        let outcomes = outcomes.into_iter().map(outcome).collect();
        Ok(Decided { outcomes, changes, remembered })
    }

    /// Decides one operation. If the decision needs counters that are not loaded, loads them and decides again.
    async fn decide_one(
        &mut self,
        session: &mut Session<'_>,
        tenant: TenantKey,
        item: &Item,
        touched: &Result<Vec<Touched>, Vec<Fault>>,
    ) -> Result<Outcome, StoreError> {
        loop {
            let (policy, now) = (Arc::clone(&session.policy), session.now);
            let Some(books) = session.books.get_mut(&tenant) else {
                return Ok(Err(Failure::Internal));
            };
            let frame = Frame {
                tenant_key: tenant,
                tenant: Arc::clone(&books.tenant.id),
                policy: Arc::clone(&policy),
                now,
            };
            let counters_max = self.counters_max;
            let (permit, author) = (&item.request.permit, item.request.author.as_deref());
            let calendar = &mut self.calendar;
            let mut context = Context { policy: &policy, calendar, now, counters_max, permit, author };
            let id = item.mint(now);
            match decide(books, &mut context, &item.request.operation, id, touched) {
                Ok(reply) => {
                    books.tenant.decided_at = now;
                    return Ok(Ok(Answer { reply, frame }));
                }
                Err(Stop::Refused(refusal)) => {
                    return Ok(Err(Failure::Refused { refusal, frame: Some(Box::new(frame)) }));
                }
                Err(Stop::Missing(keys)) => {
                    let keys = keys.into_iter().map(|key| (tenant, key)).collect();
                    Loader { session, calendar: &mut self.calendar }.find_counters(keys).await?;
                }
            }
        }
    }
}

/// Fails if the `request_id` of a refused operation took effect before: a replay comes before any refusal (R4.1). For
/// other operations, inserting the row of the `request_id` shows this. A refused operation inserts no row, so its
/// `request_id` is looked up.
async fn refuse_known_requests(
    transaction: &Transaction<Batch>,
    work: &[(TenantKey, &Item)],
    decided: &[Outcome],
) -> Result<(), StoreError> {
    let refused = work.iter().zip(decided).filter(|(_, outcome)| outcome.is_err());
    let ids: HashSet<(TenantKey, &str)> = refused
        .filter_map(|((tenant, item), _)| Some((*tenant, item.request.operation.request()?.id.as_str())))
        .collect();
    let ids: Vec<_> = ids.into_iter().collect();
    if transaction.find_requests(&ids).await?.is_empty() { Ok(()) } else { Err(StoreError::KnownRequest) }
}

fn halves(range: Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [range.start..middle, middle..range.end]
}

fn fail(items: &mut [Item], error: &StoreError) -> Failure {
    if let Some(left_out) = FAILED.due(error.kind()) {
        tracing::error!(
            transaction.name = "batch",
            transaction.operations = items.len(),
            error = error as &dyn std::error::Error,
            log.left_out = left_out,
            "a batch failed; its callers get an error"
        );
    }
    let failure = Failure::from(error);
    for item in items.iter_mut().filter(|item| item.is_open()) {
        item.outcome = Some(Err(failure.clone()));
    }
    failure
}
