//! Prunes settled reservations and request ids by age. Counters keep the sum of the removed charges (I2).
//!
//! A walk reads both tables from the first key to the last, page by page and without a lock. It deletes the old rows of
//! a page in transactions of bounded size. It pauses after each transaction, so that decisions can be made meanwhile.
//! After an interruption, the next walk starts at the first key again. Several processes may prune at the same time:
//! exactly one process deletes and counts each row.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sea_orm::{Value, sea_query::ArrayType};
use tokio::time::sleep;
use uuid::Uuid;

use super::{columns::uuid, rows::reservation_from_row};
use crate::{
    domain::{
        counter::CounterKey,
        id::{ReservationId, TenantKey},
        time::{Span, Time},
    },
    store::{
        Dialect, Job, Reading, Store, StoreError, Transaction, Writes,
        bulk::{Bulk, empty_columns, push},
        transaction::{ATTEMPTS_MAX, PAUSE_MILLIS},
    },
};

use ArrayType::{BigInt, Bytes, String as Text, Uuid as Id};

/// Maximum number of rows that one transaction deletes, and so of tenants that it locks.
const DELETED_ROWS_MAX: usize = 500;

/// Maximum number of rows that one page reads.
const PAGE_ROWS: usize = 2_000;

/// Pause after a transaction that deleted rows: about ten times as long as the transaction takes.
pub(super) const DELETED_PAUSE: Duration = Duration::from_millis(50);

/// Pause after each page.
pub(super) const PAGE_PAUSE: Duration = Duration::from_millis(10);

/// Locks the tenants of rows to be pruned, deleted tenants included. SQLite has one writer and needs no lock.
static LOCK_OWNERS: Bulk = Bulk {
    columns: &[BigInt],
    postgres: "SELECT key FROM tenants WHERE key = ANY($1) ORDER BY key FOR UPDATE",
    sqlite: "SELECT key FROM tenants WHERE key = ?",
};
/// Compares the age again: since the page was read, a late Commit may have changed the row, or another process may
/// have pruned it.
static DELETE_SETTLED: Bulk = Bulk {
    columns: &[Id, BigInt, BigInt],
    postgres: "DELETE FROM reservations r USING UNNEST($1, $2, $3) AS w (id, tenant_key, until)
      WHERE r.id = w.id AND r.tenant_key = w.tenant_key AND r.settled_at <= w.until
      RETURNING r.tenant_key, r.id, r.body",
    sqlite: "DELETE FROM reservations WHERE id = ?1 AND tenant_key = ?2 AND settled_at <= ?3
      RETURNING tenant_key, id, body",
};
/// Compares the age again: since the page was read, another process may have pruned the row, and a client may have
/// used the id again.
static DELETE_REQUESTS: Bulk = Bulk {
    columns: &[Text, BigInt, BigInt],
    postgres: "DELETE FROM requests r USING UNNEST($1, $2, $3) AS w (request_id, tenant_key, until)
      WHERE r.request_id = w.request_id AND r.tenant_key = w.tenant_key AND r.created_at <= w.until
      RETURNING r.tenant_key",
    sqlite: "DELETE FROM requests WHERE request_id = ?1 AND tenant_key = ?2 AND created_at <= ?3
      RETURNING tenant_key",
};
/// The tenant's version stays, since lanes do not remember the column `pruned`. The sum wraps around beyond an int64,
/// as `wrapping_add` does. The sum contains charges that a ResetUsage subtracted, but not the adjustments by which the
/// ResetUsage subtracted them.
static ADD_PRUNED: Bulk = Bulk {
    columns: &[BigInt, Bytes, BigInt],
    postgres: "UPDATE counters c SET pruned = CASE
            WHEN w.pruned > 0 AND c.pruned > 9223372036854775807 - w.pruned
            THEN (c.pruned - 9223372036854775807 - 1) + (w.pruned - 9223372036854775807 - 1)
            WHEN w.pruned < 0 AND c.pruned < -9223372036854775807 - 1 - w.pruned
            THEN (c.pruned + 9223372036854775807 + 1) + (w.pruned + 9223372036854775807 + 1)
            ELSE c.pruned + w.pruned END
       FROM UNNEST($1, $2, $3) AS w (tenant_key, key, pruned)
      WHERE c.tenant_key = w.tenant_key AND c.key = w.key",
    sqlite: "UPDATE OR FAIL counters SET pruned = CASE
            WHEN ?3 > 0 AND pruned > 9223372036854775807 - ?3
            THEN (pruned - 9223372036854775807 - 1) + (?3 - 9223372036854775807 - 1)
            WHEN ?3 < 0 AND pruned < -9223372036854775807 - 1 - ?3
            THEN (pruned + 9223372036854775807 + 1) + (?3 + 9223372036854775807 + 1)
            ELSE pruned + ?3 END
      WHERE tenant_key = ?1 AND key = ?2",
};

/// How long the database keeps rows that are no longer needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long a reservation is kept after it was committed, released or expired. An expired reservation is kept
    /// because it can still be committed late.
    pub reservations: Span,
    /// How long a request id is kept after it took effect. Never longer than reservations, since request ids name
    /// reservations.
    pub requests: Span,
    /// How long an event is kept after it happened.
    pub events: Span,
    /// How long a change is kept in the audit.
    pub changes: Span,
    /// How long a counter is kept after its window has ended, or after it was last used if its window has no end.
    pub counters: Span,
}

impl Retention {
    /// Makes a retention from days and hours, which are the units of the settings. `audit_days`: 0 for as long as events.
    pub fn of(
        reservations_days: u32,
        requests_hours: u32,
        events_days: u32,
        audit_days: u32,
        counters_days: u32,
    ) -> Self {
        let changes_days = if audit_days == 0 { events_days } else { audit_days };
        Self {
            reservations: Span::days(reservations_days.into()),
            requests: Span::hours(requests_hours.into()),
            events: Span::days(events_days.into()),
            changes: Span::days(changes_days.into()),
            counters: Span::days(counters_days.into()),
        }
    }
}

/// A function that decides whether a walk goes on. It gets the counts of the rows that were removed so far.
pub type GoOn<'a> = dyn Fn(Pruned) -> bool + Sync + 'a;

/// Whether a walk has read all rows or was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The walk has read all rows.
    Reached,
    /// `go_on` stopped the walk before the end.
    Stopped,
}

/// Counts of the rows that were removed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Settled reservations that were removed.
    pub reservations: u64,
    /// Request ids that were removed.
    pub requests: u64,
    /// Events that were removed.
    pub events: u64,
    /// Counters that were removed.
    pub counters: u64,
    /// Adjustments that were removed, because their counter was.
    pub adjustments: u64,
    /// Tenants whose counters were counted again, because their rows had another number.
    pub recounted: u64,
    /// Transactions that the walk has begun, except for those that delete events.
    pub transactions: u64,
    /// Reservations that the database refuses to remove. They stay, and the log says why.
    pub refused: u64,
}

/// The state of one walk through the tables of request ids, reservations and counters.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) pruned: Pruned,
    /// Tenants that another transaction had locked. Their request ids stay for the next walk. Their reservations stay,
    /// too, because request ids still name them.
    pub(super) left_out: Vec<TenantKey>,
}

impl Store {
    /// Removes request ids, reservations and counters that are older than their retention, until none are left or
    /// `go_on` stops the walk. `go_on` is called after each transaction and each page. `mint` makes the versions of
    /// tenants that lose counters, each of them new.
    ///
    /// # Errors
    ///
    /// When the database fails. Rows that were removed before stay removed.
    pub async fn prune(
        &self,
        shown: Option<Time>,
        retention: Retention,
        mint: fn() -> i64,
        go_on: &GoOn<'_>,
    ) -> Result<(), StoreError> {
        let now = self.read_now(shown).await?;
        let requests = retention.requests.min(retention.reservations);
        let mut walk = Walk::default();
        // A `request_id` takes effect before its reservation is settled, and its retention is not longer. So after all
        // old request ids are removed, no request id names an old reservation, not even the request id of an Extend.
        // Only then the walk removes reservations. So no `request_id` ever names a missing reservation.
        let mut end = self.prune_requests(now.saturating_sub(requests), &mut walk, go_on).await?;
        if end == End::Reached {
            let until = now.saturating_sub(retention.reservations);
            end = self.prune_reservations(until, &mut walk, go_on).await?;
        }
        // A counter goes only after the reservations that name it.
        if end == End::Reached {
            end = self.prune_counters(now, retention, mint, &mut walk, go_on).await?;
        }
        if end == End::Reached {
            self.recount_counters(mint, &mut walk, go_on).await?;
        }
        Ok(())
    }

    /// Reads the time that counts: see [`Transaction::now`].
    pub(in crate::store) async fn read_now(&self, shown: Option<Time>) -> Result<Time, StoreError> {
        let transaction = self.begin_read("read the time").await?;
        let now = transaction.now(shown).await?;
        transaction.rollback().await?;
        Ok(now)
    }

    async fn prune_requests(
        &self,
        until: Time,
        walk: &mut Walk,
        go_on: &GoOn<'_>,
    ) -> Result<End, StoreError> {
        let mut after = (String::new(), i64::MIN);
        loop {
            let transaction = self.begin_read("read old request ids").await?;
            let old = transaction.list_old_requests(&after, until).await?;
            let last = transaction.find_end_of_page(&after).await?;
            transaction.rollback().await?;
            for rows in old.chunks(DELETED_ROWS_MAX) {
                let removed = self.remove(&Old::Requests(rows.into()), until, walk).await?;
                walk.pruned.requests += removed;
                if !go_on(walk.pruned) {
                    return Ok(End::Stopped);
                }
            }
            match last {
                Some(last) => after = last,
                None => return Ok(End::Reached),
            }
            if !go_on(walk.pruned) {
                return Ok(End::Stopped);
            }
            sleep(PAGE_PAUSE).await;
        }
    }

    async fn prune_reservations(
        &self,
        until: Time,
        walk: &mut Walk,
        go_on: &GoOn<'_>,
    ) -> Result<End, StoreError> {
        let mut after = (Uuid::nil(), i64::MIN);
        loop {
            let transaction = self.begin_read("read old reservations").await?;
            let page = transaction.list_settled_until(after, until).await?;
            transaction.rollback().await?;
            // Pages are in the order in which reservations were made. A reservation that was settled late stays, and
            // the walk continues after it.
            let old = page.iter().filter(|(_, settled_at)| *settled_at <= until);
            let old: Vec<_> = old.map(|(place, _)| *place).collect();
            for rows in old.chunks(DELETED_ROWS_MAX) {
                self.remove_reservations(rows, until, walk).await?;
                if !go_on(walk.pruned) {
                    return Ok(End::Stopped);
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE_ROWS => after = *last,
                Some(_) | None => return Ok(End::Reached),
            }
            if !go_on(walk.pruned) {
                return Ok(End::Stopped);
            }
            sleep(PAGE_PAUSE).await;
        }
    }

    /// Removes reservations. If the database refuses to remove a reservation, the others are still removed.
    async fn remove_reservations(
        &self,
        rows: &[(Uuid, i64)],
        until: Time,
        walk: &mut Walk,
    ) -> Result<(), StoreError> {
        let mut parts = vec![rows];
        while let Some(part) = parts.pop() {
            match self.remove(&Old::Reservations(part.into()), until, walk).await {
                Ok(removed) => walk.pruned.reservations += removed,
                Err(StoreError::Permanent(_) | StoreError::Corrupt(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error @ (StoreError::Permanent(_) | StoreError::Corrupt(_))) => {
                    walk.pruned.refused += 1;
                    tracing::error!(
                        reservation.place = ?part,
                        error = &error as &dyn std::error::Error,
                        "a reservation cannot be pruned and is kept"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes rows in one transaction, then pauses. Returns how many rows still existed and were still old.
    async fn remove(&self, old: &Old, until: Time, walk: &mut Walk) -> Result<u64, StoreError> {
        let mut attempt = 1;
        loop {
            walk.pruned.transactions += 1;
            let (rows, locked) = (old.clone(), walk.left_out.clone());
            let remove = move |transaction: Transaction<Job>| async move {
                transaction.remove(&rows, &locked, until).await
            };
            let outcome = self.run_job("prune", remove).await;
            sleep(DELETED_PAUSE).await;
            match outcome {
                // The next attempt leaves out the locked tenants. If the transaction waited for them, calls would wait
                // meanwhile for the tenants that the transaction has locked.
                Err(StoreError::Locked(_)) if attempt < ATTEMPTS_MAX => {
                    let owners = old.owners(&walk.left_out);
                    walk.left_out.extend(self.find_locked_tenants(&owners, Duration::ZERO).await?);
                    attempt += 1;
                }
                Err(StoreError::Serialization(_)) if attempt < ATTEMPTS_MAX => {
                    sleep(Duration::from_millis(PAUSE_MILLIS << attempt)).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }
}

/// The keys of rows that were old when they were read.
#[derive(Clone)]
enum Old {
    Requests(Arc<[(String, i64)]>),
    Reservations(Arc<[(Uuid, i64)]>),
}

impl Old {
    /// Returns the tenants of these rows, sorted, without the locked tenants.
    fn owners(&self, locked: &[TenantKey]) -> Vec<TenantKey> {
        let mut owners: Vec<TenantKey> = match self {
            Old::Requests(rows) => rows.iter().map(|(_, owner)| TenantKey(*owner)).collect(),
            Old::Reservations(rows) => rows.iter().map(|(_, owner)| TenantKey(*owner)).collect(),
        };
        owners.sort_unstable();
        owners.dedup();
        owners.retain(|owner| !locked.contains(owner));
        owners
    }
}

impl Transaction<Reading> {
    /// Reads the next page of request ids after a place, and returns its old rows. Most rows are young, so the
    /// database filters them.
    async fn list_old_requests(
        &self,
        after: &(String, i64),
        until: Time,
    ) -> Result<Vec<(String, i64)>, StoreError> {
        let text = "SELECT request_id, tenant_key FROM (
                SELECT request_id, tenant_key, created_at FROM requests WHERE (request_id, tenant_key) > ($1, $2)
                 ORDER BY request_id, tenant_key LIMIT $3
            ) AS page WHERE created_at <= $4 ORDER BY request_id, tenant_key";
        let values = vec![after.0.as_str().into(), after.1.into(), page_rows(), until.into()];
        let rows = self.rows(text, values).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// Finds the last row of the page that begins after a place. `None`: the page is not full.
    async fn find_end_of_page(&self, after: &(String, i64)) -> Result<Option<(String, i64)>, StoreError> {
        let text = "SELECT request_id, tenant_key FROM requests WHERE (request_id, tenant_key) > ($1, $2)
              ORDER BY request_id, tenant_key LIMIT 1 OFFSET $3 - 1";
        let rows = self.rows(text, vec![after.0.as_str().into(), after.1.into(), page_rows()]).await?;
        rows.first().map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
    }

    /// Lists settled reservations after a place that were made up to an instant, each with the time at which it was
    /// settled. A reservation that was made later cannot have been settled before that instant.
    async fn list_settled_until(
        &self,
        after: (Uuid, i64),
        until: Time,
    ) -> Result<Vec<((Uuid, i64), Time)>, StoreError> {
        let text = "SELECT id, tenant_key, settled_at FROM reservations
              WHERE (id, tenant_key) > ($1, $2) AND id < $3 ORDER BY id, tenant_key LIMIT $4";
        let end = uuid(first_id(until.saturating_add(Span::MILLISECOND)));
        let rows = self.rows(text, vec![after.0.into(), after.1.into(), end, page_rows()]).await?;
        rows.iter().map(|row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?))).collect()
    }
}

impl<W: Writes> Transaction<W> {
    /// Locks these tenants, which must be sorted, deleted tenants included.
    pub(super) async fn lock_owners(&self, owners: &[TenantKey]) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Postgres {
            self.wait_briefly().await?;
            self.find(&LOCK_OWNERS, vec![owners.iter().map(|owner| Value::from(owner.0)).collect()]).await?;
        }
        Ok(())
    }
}

impl Transaction<Job> {
    async fn remove(self, old: &Old, locked: &[TenantKey], until: Time) -> Result<u64, StoreError> {
        self.lock_owners(&old.owners(locked)).await?;
        let is_free = |owner: &i64| !locked.contains(&TenantKey(*owner));
        let removed = match old {
            Old::Requests(rows) => {
                self.delete_requests(rows.iter().filter(|(_, owner)| is_free(owner)), until).await?
            }
            Old::Reservations(rows) => {
                self.delete_settled(rows.iter().filter(|(_, owner)| is_free(owner)), until).await?
            }
        };
        self.commit().await?;
        Ok(removed)
    }

    async fn delete_requests(
        &self,
        rows: impl Iterator<Item = &(String, i64)>,
        until: Time,
    ) -> Result<u64, StoreError> {
        let mut columns = empty_columns(3);
        for (id, owner) in rows {
            push(&mut columns, [id.as_str().into(), (*owner).into(), until.into()]);
        }
        Ok(self.find(&DELETE_REQUESTS, columns).await?.len() as u64)
    }

    /// Deletes the settled reservations that are still old, and adds their charges to the column `pruned` of their
    /// counters. Returns how many were deleted.
    async fn delete_settled(
        &self,
        rows: impl Iterator<Item = &(Uuid, i64)>,
        until: Time,
    ) -> Result<u64, StoreError> {
        let mut columns = empty_columns(3);
        for (id, owner) in rows {
            push(&mut columns, [(*id).into(), (*owner).into(), until.into()]);
        }
        let gone = self.find(&DELETE_SETTLED, columns).await?;
        let mut sums: BTreeMap<(TenantKey, CounterKey), i64> = BTreeMap::new();
        for row in &gone {
            let (tenant, reservation) = reservation_from_row(row)?;
            for line in reservation.lines.into_iter().filter(|line| line.charged != 0) {
                let sum = sums.entry((tenant, line.key)).or_default();
                *sum = sum.wrapping_add(line.charged);
            }
        }
        let mut columns = empty_columns(3);
        for ((tenant, key), sum) in sums {
            push(&mut columns, [tenant.0.into(), key.as_bytes().to_vec().into(), sum.into()]);
        }
        self.write(vec![(&ADD_PRUNED, columns)]).await?;
        Ok(gone.len() as u64)
    }
}

/// Returns the number of rows of a page, for a statement.
pub(super) fn page_rows() -> Value {
    Value::from(i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX))
}

/// Returns the smallest id of an instant: all ids of that instant, and of later instants, are greater (RFC 9562,
/// section 5.7).
pub(super) fn first_id(instant: Time) -> ReservationId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&instant.0.clamp(0, (1 << 48) - 1).to_be_bytes()[2..]);
    ReservationId(bytes)
}

#[cfg(test)]
mod tests {
    use uuid::Builder;

    use super::*;

    #[test]
    fn the_ids_of_an_instant_begin_with_its_first() {
        let id = |millis: u64, chance: u8| {
            let id = Builder::from_unix_timestamp_millis(millis, &[chance; 10]).into_uuid();
            ReservationId(id.into_bytes())
        };
        for millis in [0_u32, 1, u32::MAX] {
            let (first, next) = (first_id(Time(millis.into())), first_id(Time(i64::from(millis) + 1)));
            for id in [id(millis.into(), 0), id(millis.into(), u8::MAX)] {
                assert!(first <= id && id < next, "{millis}");
            }
        }
        assert_eq!(first_id(Time(-1)), first_id(Time::EPOCH));
        assert_eq!(first_id(Time::NEVER).0[..6], [0xff; 6]);
    }
}
