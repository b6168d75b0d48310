//! Telling that windows are over: once per counter, with its final figures.
//!
//! A window is over at its end, whatever runs or does not; this only tells. It waits until no hold is open that was made
//! before the end, since what such a hold charges, also of resources that it did not reserve, is charged to the windows in
//! which it was made.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    clock::mint_version,
    domain::{
        books::{Books, Changes},
        counter::CounterKey,
        event::{Fact, Figures},
        id::{ReservationId, TenantKey},
        window::Millis,
    },
    policy::PolicyCache,
    store::{ClosePlace, Owned, Store, StoreError, StoredCounter, Transaction, is_made_before},
};

/// Counters that one transaction closes at most, and so the most tenants that it locks.
const STEP_COUNTERS: usize = 100;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Counters that were closed, and told of unless they were never used.
    pub counters: usize,
    /// Counters that wait for an open hold, or whose tenants somebody else has locked.
    pub waiting: usize,
    /// There may be more to close.
    pub more: bool,
}

/// Closes at most about so many counters whose windows have ended, by the instant that a clock shows, or the database's.
///
/// # Errors
///
/// When the database does not do it; what was closed before stays closed.
pub async fn close_windows(
    store: &Store,
    policies: &PolicyCache,
    shown: Option<Millis>,
    bound: usize,
) -> Result<Closed, StoreError> {
    let mut done = Closed::default();
    let mut after: ClosePlace = (Millis::MIN, TenantKey(i64::MIN), Vec::new());
    while done.counters < bound {
        let transaction = store.begin_read("read ended windows").await?;
        let now = transaction.now(shown).await?;
        let page = transaction.list_ended_windows(now, &after, STEP_COUNTERS).await?;
        transaction.rollback().await?;
        let Some(last) = page.last() else {
            return Ok(done);
        };
        after = last.clone();
        let step = close_free(store, policies, now, &page).await?;
        done.counters += step.counters;
        done.waiting += step.waiting;
        if page.len() < STEP_COUNTERS {
            return Ok(done);
        }
    }
    Ok(Closed { more: true, ..done })
}

/// Closes those counters of a page whose tenants can be locked at once: calls wait for all tenants that are locked.
async fn close_free(
    store: &Store,
    policies: &PolicyCache,
    now: Millis,
    page: &[ClosePlace],
) -> Result<Closed, StoreError> {
    let transaction = store.begin_write("close windows").await?;
    match close(transaction, policies, now, page).await {
        Err(StoreError::Locked(_)) => {}
        other => return other,
    }
    let locked = store.find_locked_tenants(&tenants_of(page), Duration::ZERO).await?;
    let free: Vec<ClosePlace> =
        page.iter().filter(|(_, tenant, _)| !locked.contains(tenant)).cloned().collect();
    let transaction = store.begin_write("close windows").await?;
    let closed = close(transaction, policies, now, &free).await?;
    Ok(Closed { waiting: closed.waiting + page.len() - free.len(), ..closed })
}

/// The tenants of a page, in the order in which they are locked.
fn tenants_of(page: &[ClosePlace]) -> Vec<TenantKey> {
    let mut keys: Vec<TenantKey> = page.iter().map(|(_, tenant, _)| *tenant).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Closes those counters of a page that can be.
async fn close(
    transaction: Transaction,
    policies: &PolicyCache,
    now: Millis,
    page: &[ClosePlace],
) -> Result<Closed, StoreError> {
    let keys = tenants_of(page);
    transaction.wait_briefly().await?;
    let tenants = transaction.lock_tenants(&keys).await?;
    let revision = transaction.read_revision().await?;
    let policy = policies.get(&transaction, revision).await?;
    let living: HashSet<TenantKey> = tenants.iter().map(|tenant| tenant.key).collect();
    let oldest: HashMap<TenantKey, ReservationId> =
        transaction.find_oldest_holds(&keys).await?.into_iter().collect();
    let mut of_tenants: HashMap<TenantKey, Vec<(CounterKey, StoredCounter)>> = HashMap::new();
    let mut closed: Vec<Owned<CounterKey>> = Vec::new();
    let mut waiting = 0;
    for (tenant, (key, stored)) in transaction.find_open_counters(page).await? {
        let end = stored.0.window.end;
        // Of a tenant that was deleted nothing is told, and its holds are settled by nobody.
        if !living.contains(&tenant) {
            closed.push((tenant, key));
            continue;
        }
        if stored.0.reserved != 0 || oldest.get(&tenant).is_some_and(|hold| is_made_before(*hold, end)) {
            waiting += 1;
            continue;
        }
        closed.push((tenant, key.clone()));
        of_tenants.entry(tenant).or_default().push((key, stored));
    }
    let mut changes: Vec<Changes> = Vec::new();
    let version = mint_version();
    for mut tenant in tenants {
        let Some(counters) = of_tenants.remove(&tenant.key) else { continue };
        tenant.decided_at = tenant.decided_at.max(now);
        let plan = policy.plans.get(&tenant.plan).cloned();
        let plan = plan.ok_or_else(|| StoreError::Corrupt("a tenant's plan is missing".to_owned()))?;
        let mut books = Books::open(tenant, plan, None);
        counters.into_iter().for_each(|(key, stored)| tell(&mut books, key, stored));
        changes.push(books.into_changes(&policy, version).0);
    }
    transaction.save_closed(&closed, &changes).await?;
    transaction.commit().await?;
    Ok(Closed { counters: closed.len(), waiting, more: false })
}

/// Tells of a counter, if it was used.
fn tell(books: &mut Books, key: CounterKey, stored: StoredCounter) {
    books.load_counter(key.clone(), Some(stored));
    let Some(counter) = books.find_counter(&key) else { return };
    let balances = books.balances_of(&key, counter);
    if counter.committed != 0 || balances.iter().any(|balance| balance.refused > 0) {
        books.note(Fact::Closed(balances.into_iter().map(Figures::from).collect()));
    }
}
