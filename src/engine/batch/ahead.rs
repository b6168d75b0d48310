//! Deciding ahead: the lane decides a batch from the books that it remembers, without a lock, and even while the
//! previous batch commits. The batch is written only if the remembered books are still valid. On SQLite, no other
//! connection may have changed the file. On PostgreSQL, the tenants must have the remembered versions, and the policy
//! must have the remembered revision. If a commit fails, the next batch was decided from books that were never
//! written, so it fails as well.
//!
//! Only a batch whose operations all pass is decided ahead. A batch with a refusal is decided under the lock, because
//! its `request_id` may have taken effect before. A batch whose commit finds stale books is decided again under the
//! lock.

use std::{collections::hash_map::Entry, sync::Arc};

use foldhash::{HashMap, HashMapExt};
use tokio::time::{Instant, timeout};

use super::{
    super::ask::{Answer, Failure, Frame, Outcome, TenantRef},
    BATCH_TIME_MAX, Batcher,
    caution::TIME_AGE_MAX,
    item::Item,
    search::Search,
};
use crate::{
    clock::mint_version,
    domain::{
        books::{Books, Changes, Remembered},
        decide::{Context, decide, touch_operation},
        id::{ReservationId, TenantKey},
        operation::{Operation, Target},
        plan::Policy,
        time::Time,
    },
    seldom::Seldom,
    store::{Dialect, Expected, Store, StoreError},
};

/// A failing database fails every batch, so each kind of error is logged at most once a minute.
static COMMIT_FAILED: Seldom<&str> = Seldom::new();

/// A batch that is being decided ahead.
pub(in super::super) struct Ahead {
    expected: Expected,
    policy: Arc<Policy>,
    now: Time,
    books: HashMap<TenantKey, Books>,
    /// The outcomes of the items decided so far. `None`: the item already had its outcome.
    outcomes: Vec<Option<Outcome>>,
}

/// A batch that was decided ahead and is not written yet.
pub(in super::super) struct Planned {
    expected: Expected,
    changes: Vec<Changes>,
}

impl Planned {
    /// Writes and commits the batch. Returns the database's time if the database is the clock.
    pub(in super::super) async fn commit(self, store: Store) -> Result<Option<Time>, StoreError> {
        let begun = Instant::now();
        let commit = store.commit_ahead(&self.changes, self.expected);
        let committed =
            timeout(BATCH_TIME_MAX, commit).await.unwrap_or_else(|_| Err(StoreError::silent()))?;
        let commit_micros = begun.elapsed().as_micros();
        let tenants = self.changes.len();
        tracing::debug!(
            batch.tenants = tenants,
            batch.commit_micros = commit_micros,
            "a batch that was decided ahead was committed"
        );
        Ok(committed)
    }
}

impl Batcher {
    /// Decides a batch ahead, or the items that joined the batch since the last call. Returns `None` if the batch must
    /// be decided under the lock.
    pub(in super::super) fn decide_ahead(&mut self, ahead: Option<Ahead>, items: &[Item]) -> Option<Ahead> {
        let decided = match ahead {
            Some(ahead) => self.decide_more(ahead, items),
            None if !self.caution.may_decide_ahead() => return None,
            None => self.begin_ahead().and_then(|ahead| self.decide_more(ahead, items)),
        };
        if decided.is_none() {
            self.caution.fell_behind();
        }
        decided
    }

    /// Returns the changes to write, and the outcomes to report once the changes are written. From now on the lane
    /// remembers the changed books as if they were written. `None`: nothing can be written, and the batch must be
    /// decided under the lock.
    pub(in super::super) fn plan(&mut self, ahead: Ahead) -> Option<(Planned, Vec<Option<Outcome>>)> {
        let Ahead { expected, policy, now, books, outcomes } = ahead;
        // Every caller is gone, so nothing was decided.
        if books.is_empty() {
            return None;
        }
        let version = mint_version();
        let mut changes = Vec::with_capacity(books.len());
        for mut books in books.into_values() {
            books.tenant.decided_at = books.tenant.decided_at.max(now);
            let (change, remembered) = books.into_changes(&policy, version);
            changes.push(change);
            self.memory.put(remembered, expected.data_version);
        }
        // If the books of a tenant did not change, its operations only read, and reads need the lock. The changes of
        // the other tenants are then not written, so the remembered books of those tenants are wrong.
        if changes.iter().any(Changes::is_empty) {
            self.forget();
            return None;
        }
        // Every transaction locks tenants in this order.
        changes.sort_unstable_by_key(|change| change.tenant);
        Some((Planned { expected, changes }, outcomes))
    }

    /// Notes the database's time after a batch was committed.
    pub(in super::super) fn note_time(&mut self, database_now: Option<Time>) {
        if let Some(now) = database_now {
            self.caution.see_time(now);
        }
    }

    /// Decides a batch under the lock, after it was decided ahead and its commit failed. Gives every item an outcome.
    pub(in super::super) async fn run_after(&mut self, items: &mut [Item], error: &StoreError) {
        self.caution.has_failed_to_commit(error);
        // On SQLite the lane does not check the books that it remembers, so it must forget them. On PostgreSQL the
        // version of each tenant's row is checked.
        if self.store.dialect() == Dialect::Sqlite {
            self.forget();
        }
        if matches!(error, StoreError::Locked(_)) {
            self.find_locked(items).await;
        } else if !matches!(error, StoreError::Outdated)
            && let Some(left_out) = COMMIT_FAILED.due(error.kind())
        {
            tracing::warn!(
                transaction.name = "batch",
                transaction.operations = items.len(),
                error = error as &dyn std::error::Error,
                log.left_out = left_out,
                "the commit of a batch that was decided ahead failed; the batch is decided again"
            );
        }
        self.run_all(items).await;
    }

    fn begin_ahead(&self) -> Option<Ahead> {
        let (expected, now) = (self.caution.seen()?.expected, self.now_ahead()?);
        let policy = self.policies.latest();
        (policy.revision == expected.revision).then(|| Ahead {
            expected,
            policy,
            now,
            books: HashMap::new(),
            outcomes: Vec::new(),
        })
    }

    fn now_ahead(&self) -> Option<Time> {
        self.clock.now().or_else(|| self.caution.seen()?.database_now())
    }

    fn decide_more(&mut self, mut ahead: Ahead, items: &[Item]) -> Option<Ahead> {
        let more = &items[ahead.outcomes.len()..];
        let keys = self.keys_ahead(&mut ahead, more)?;
        for (item, key) in more.iter().zip(keys) {
            let outcome = match key {
                None => None,
                Some(_) if item.is_late(Search::Nothing) => Some(Err(Failure::DeadlineExceeded)),
                Some(key) => Some(self.decide_one_ahead(&mut ahead, key, item)?),
            };
            ahead.outcomes.push(outcome);
        }
        Some(ahead)
    }

    /// Finds the tenants of the items that have no outcome. `None`: the lane probably does not remember all rows that
    /// the items need, or something of a tenant is due. Sets the time to the latest of the clock and the tenants'
    /// `decided_at`.
    fn keys_ahead(&self, ahead: &mut Ahead, items: &[Item]) -> Option<Vec<Option<TenantKey>>> {
        let shown = self.now_ahead()?;
        let (mut latest, mut next_due) = (ahead.now.max(shown), Time::NEVER);
        let mut keys = Vec::with_capacity(items.len());
        for item in items {
            if item.outcome.is_some() {
                keys.push(None);
                continue;
            }
            let tenant = &item.request.tenant;
            let key = match tenant {
                TenantRef::Id(id) => self.memory.key_of(id)?,
                TenantRef::Key(key) => *key,
            };
            // If an operation may have been carried out, its effects must be looked up in the database, under the
            // lock. If keys have changed, the caller's key must be compared again.
            if item.in_doubt || !item.request.permit.is_current(ahead.policy.keys_revision) {
                return None;
            }
            let hold = hold_ahead(&item.request.operation)?;
            let row = match ahead.books.get(&key) {
                Some(books) => {
                    hold.map_or(Some(()), |id| books.find_reservation(id).map(drop))?;
                    &books.tenant
                }
                None => {
                    let remembered = self.remembered_ahead(ahead, key)?;
                    hold.map_or(Some(()), |id| remembered.holds(id).then_some(()))?;
                    remembered.tenant()
                }
            };
            if matches!(tenant, TenantRef::Id(id) if *row.id != **id) {
                return None;
            }
            latest = latest.max(row.decided_at);
            next_due = next_due.min(row.next_due).min(row.next_plan.map_or(Time::NEVER, |next| next.at));
            keys.push(Some(key));
        }
        // If the clock is far behind the latest decision, a batch under the lock must run, which logs the fault.
        let far = latest.saturating_since(shown) > TIME_AGE_MAX;
        ahead.now = latest;
        (next_due > latest && !far).then_some(keys)
    }

    fn remembered_ahead(&self, ahead: &Ahead, tenant: TenantKey) -> Option<&Remembered> {
        let entry = self.memory.peek(tenant)?;
        (entry.seen == ahead.expected.data_version).then_some(&entry.remembered)
    }

    fn decide_one_ahead(&mut self, ahead: &mut Ahead, key: TenantKey, item: &Item) -> Option<Outcome> {
        let Ahead { policy, now, books, .. } = ahead;
        let now = *now;
        let books = match books.entry(key) {
            Entry::Occupied(books) => {
                let books = books.into_mut();
                // The operation may have joined the batch later than those before it.
                books.now = now;
                books
            }
            Entry::Vacant(place) => {
                let remembered = &self.memory.peek(key)?.remembered;
                let terms = if remembered.terms().are_current(policy, remembered.tenant()) {
                    Arc::clone(remembered.terms())
                } else {
                    self.policies.known_terms(policy, remembered.tenant())?
                };
                place.insert(Books::reopen(self.memory.take(key)?.remembered, terms, now))
            }
        };
        let operation = &item.request.operation;
        let touched = touch_operation(books, policy, &mut self.calendar, operation, now);
        let counters_max = self.counters_max;
        let (permit, author) = (&item.request.permit, item.request.author.as_deref());
        let mut context = Context { policy, calendar: &mut self.calendar, now, counters_max, permit, author };
        let reply = decide(books, &mut context, operation, item.mint(now), &touched).ok()?;
        books.tenant.decided_at = now;
        let tenant = Arc::clone(&books.tenant.id);
        let frame = Frame { tenant_key: key, tenant, policy: Arc::clone(policy), now };
        Some(Ok(Answer { reply, frame }))
    }
}

/// Returns the id of the hold that an operation names. Outer `None`: the operation cannot be decided ahead. Inner
/// `None`: the operation names no hold.
#[expect(clippy::option_option, reason = "the outer option says whether, the inner option says which")]
fn hold_ahead(operation: &Operation) -> Option<Option<ReservationId>> {
    match operation {
        Operation::Reserve(_) | Operation::Record(_) => Some(None),
        Operation::Commit(_) | Operation::Release(_) | Operation::Extend(_) => match operation.target()? {
            Target::Id(id) => Some(Some(*id)),
            Target::Request(_) => None,
        },
        Operation::Amend(_) | Operation::Check(_) | Operation::Reset(_) => None,
    }
}
