//! Emits WINDOW_CLOSED for windows that are over, once per counter, with the final figures (R5.7).
//!
//! A window is over as soon as its end has come, even if this module does not run. The event waits as long as there is
//! an open hold that was made before the window's end. Such a hold is charged to the windows in which it was made, also
//! for resources that it did not reserve.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    clock::mint_version,
    domain::{
        books::{Books, Changes},
        counter::CounterKey,
        event::{Fact, Figures},
        id::{ReservationId, TenantKey},
        time::Time,
    },
    policy::PolicyCache,
    store::{ClosePlace, Owned, Store, StoreError, StoredCounter, Transaction, Writing, is_made_before},
};

/// Maximum number of counters that one transaction closes. So the transaction locks at most this many tenants.
const STEP_COUNTERS: usize = 100;

/// While calls wait, the pause after a transaction is this many times as long as the transaction. At the end of a month
/// the windows of all tenants end together, and calls must keep most of the database's time.
const PAUSE_TIMES: u32 = 12;

/// The result of a run of `close_windows`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Number of counters that were closed. An event was emitted for each counter that was used.
    pub counters: usize,
    /// Number of counters that wait for an open hold, or for a tenant whose row is locked.
    pub waiting: usize,
    /// Whether there may be more counters to close.
    pub more: bool,
}

/// Closes at most about `bound` counters whose windows have ended. `shown` is the time; `None`: the database's time.
/// Pauses after each transaction if `is_busy` returns that calls wait.
///
/// # Errors
///
/// The database fails. Counters that were closed before stay closed.
pub async fn close_windows(
    store: &Store,
    policies: &PolicyCache,
    shown: Option<Time>,
    bound: usize,
    is_busy: impl Fn() -> bool,
) -> Result<Closed, StoreError> {
    let mut done = Closed::default();
    let mut after: ClosePlace = (Time::MIN, TenantKey(i64::MIN), Vec::new());
    while done.counters < bound {
        let begun = Instant::now();
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
        if is_busy() {
            sleep(begun.elapsed() * PAUSE_TIMES).await;
        }
    }
    Ok(Closed { more: true, ..done })
}

/// Closes the counters of a page whose tenants can be locked at once. Calls wait for every tenant that the transaction
/// locks, so the transaction must not wait for a tenant.
async fn close_free(
    store: &Store,
    policies: &PolicyCache,
    now: Time,
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

/// Returns the tenants of a page, in the order in which they are locked.
fn tenants_of(page: &[ClosePlace]) -> Vec<TenantKey> {
    let mut keys: Vec<TenantKey> = page.iter().map(|(_, tenant, _)| *tenant).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Closes the counters of a page that need not wait for an open hold.
async fn close(
    transaction: Transaction<Writing>,
    policies: &PolicyCache,
    now: Time,
    page: &[ClosePlace],
) -> Result<Closed, StoreError> {
    let keys = tenants_of(page);
    transaction.wait_briefly().await?;
    let mut tenants = transaction.lock_tenants(&keys).await?;
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
        // A deleted tenant gets no more events, and nobody settles its holds.
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
    for tenant in &mut tenants {
        tenant.decided_at = tenant.decided_at.max(now);
        tenant.change_plan_if_due(&policy, tenant.decided_at);
    }
    let terms = policies.terms(&transaction, &policy, &tenants.iter().collect::<Vec<_>>()).await?;
    for (tenant, terms) in tenants.into_iter().zip(terms) {
        let Some(counters) = of_tenants.remove(&tenant.key) else { continue };
        let mut books = Books::open(tenant, terms, now, None);
        counters.into_iter().for_each(|(key, stored)| note_closed(&mut books, key, stored));
        changes.push(books.into_changes(&policy, version).0);
    }
    transaction.save_closed(&closed, &changes).await?;
    transaction.commit().await?;
    Ok(Closed { counters: closed.len(), waiting, more: false })
}

/// Notes the event for a counter, if the counter was used and its windows are not shorter than an hour.
fn note_closed(books: &mut Books, key: CounterKey, stored: StoredCounter) {
    if !key.closes() {
        return;
    }
    books.load_counter(key.clone(), Some(stored));
    let Some(counter) = books.find_counter(&key) else { return };
    let balances = books.balances_of(&key, counter);
    if counter.committed != 0 || balances.iter().any(|balance| balance.refused > 0) {
        books.note(Fact::Closed(balances.into_iter().map(Figures::from).collect()));
    }
}
