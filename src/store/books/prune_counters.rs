//! Prunes counters that are no longer needed, with their adjustments (R4.48): those whose windows were over long ago,
//! and LIFETIME counters of one subject that were idle for long.
//!
//! A walk reads the table from the first key to the last, page by page and without a lock. A step locks the tenants of
//! some old rows, looks again, and deletes the rows that no kept reservation can name. Lanes remember counters, so a
//! tenant that loses counters gets a new version. For the same reason the steps on SQLite do not run on the lane's
//! connection.
//!
//! A batch does not write when a LIFETIME counter was last used. So the walk notes the figures of such a counter, and a
//! batch that uses the counter removes the note. When the note is as old as the retention, the walk looks again: it
//! deletes the counter if the note is still there, and makes another note otherwise. Heads that only refusals made are
//! pruned in the same way.

use std::{collections::HashMap, time::Duration};

use sea_orm::{Value, sea_query::ArrayType};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    close::FIND_OLDEST_HOLDS,
    columns::uuid,
    find::counter_columns,
    old_counters::{Age, OldCounter},
    prune::{DELETED_PAUSE, End, GoOn, PAGE_PAUSE, Retention, Walk, first_id, page_rows},
};
use crate::{
    domain::{
        counter::{CounterKey, HEAD_START},
        id::{ReservationId, TenantKey},
        time::Time,
        window::Period,
    },
    store::{
        Reading, Store, StoreError, Transaction, Writing,
        bulk::{Bulk, Write, empty_columns, push},
        row::Row,
        transaction::{ATTEMPTS_MAX, PAUSE_MILLIS},
    },
};

use ArrayType::{BigInt, Bytes, Uuid as Id};

/// Maximum number of counters of one step, and so of tenants that it locks.
const STEP_COUNTERS: usize = 200;

/// Maximum number of old reservations that a step reads while it has locked its tenants. Old reservations are rare,
/// since they are pruned before.
const KEPT_ROWS: usize = 10_000;

pub(super) static FIND_OLD_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes],
    postgres: "SELECT c.* FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS key) AS w CROSS JOIN LATERAL (
            SELECT tenant_key, key, committed, reserved, window_start, window_end, closed, alerts, idle_since,
                   idle_figures, counted_since, forgiven_until
              FROM counters WHERE tenant_key = w.tenant_key AND key = w.key OFFSET 0) AS c",
    sqlite:
        "SELECT tenant_key, key, committed, reserved, window_start, window_end, closed, alerts, idle_since,
                   idle_figures, counted_since, forgiven_until
      FROM counters WHERE tenant_key = ? AND key = ?",
};
pub(super) static FIND_ADJUSTMENTS: Bulk = Bulk {
    columns: &[BigInt, Bytes],
    postgres: "SELECT a.* FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS key) AS w CROSS JOIN LATERAL (
            SELECT tenant_key, id FROM adjustments WHERE tenant_key = w.tenant_key AND counter_key = w.key OFFSET 0) AS a",
    sqlite: "SELECT tenant_key, id FROM adjustments WHERE tenant_key = ? AND counter_key = ?",
};
static DELETE_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes],
    postgres: "DELETE FROM counters c USING (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS key) AS w
      WHERE c.tenant_key = w.tenant_key AND c.key = w.key",
    sqlite: "DELETE FROM counters WHERE tenant_key = ?1 AND key = ?2",
};
static DELETE_ADJUSTMENTS: Bulk = Bulk {
    columns: &[BigInt, Id],
    postgres: "DELETE FROM adjustments a USING (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS id) AS w
      WHERE a.tenant_key = w.tenant_key AND a.id = w.id",
    sqlite: "DELETE FROM adjustments WHERE tenant_key = ?1 AND id = ?2",
};
/// Lanes do not remember these columns, so the tenant's version stays.
static NOTE_IDLE: Bulk = Bulk {
    columns: &[BigInt, Bytes, BigInt, Bytes],
    postgres: "UPDATE counters c SET idle_since = w.idle_since, idle_figures = w.idle_figures
       FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS key, UNNEST($3) AS idle_since,
                    UNNEST($4) AS idle_figures) AS w
      WHERE c.tenant_key = w.tenant_key AND c.key = w.key",
    sqlite: "UPDATE OR FAIL counters SET idle_since = ?3, idle_figures = ?4 WHERE tenant_key = ?1 AND key = ?2",
};
/// The time of the decision counts as that of any other: if the clock was ahead, no window of the tenant opens again
/// without its counters (I9).
static UPDATE_OWNERS: Bulk = Bulk {
    columns: &[BigInt, BigInt, BigInt, BigInt, BigInt],
    postgres: "UPDATE tenants t SET version = w.version, counters = GREATEST(t.counters - w.gone, 0),
            decided_at = GREATEST(t.decided_at, w.now), forgotten_at = GREATEST(t.forgotten_at, w.forgotten_at)
       FROM (SELECT UNNEST($1) AS key, UNNEST($2) AS version, UNNEST($3) AS gone, UNNEST($4) AS now,
                    UNNEST($5) AS forgotten_at) AS w
      WHERE t.key = w.key",
    sqlite: "UPDATE OR FAIL tenants SET version = ?2, counters = MAX(counters - ?3, 0),
            decided_at = MAX(decided_at, ?4), forgotten_at = MAX(forgotten_at, ?5)
      WHERE key = ?1",
};

/// The place of a counter in the table: its tenant and its key.
type Place = (TenantKey, CounterKey);

/// The counters that a tenant loses in one step.
#[derive(Default)]
struct Loss {
    /// The number of counters that count towards the tenant's bound.
    bounded: i64,
    /// Whether LIFETIME counters are among them.
    forgotten: bool,
}

/// The rows to write in one step.
#[derive(Default)]
struct Step {
    gone: Vec<Place>,
    /// The counters whose present figures are noted, each with these figures.
    idle: Vec<(Place, Vec<u8>)>,
    owners: HashMap<TenantKey, Loss>,
}

/// The reservations that are kept and may name old counters.
struct Kept {
    /// The oldest reservation of each tenant, among those that were read.
    oldest: HashMap<TenantKey, ReservationId>,
    /// All settled reservations with ids below this one were read.
    read_until: ReservationId,
}

impl Kept {
    /// Returns whether a reservation of the tenant that is kept may have been made before an instant.
    fn may_name(&self, tenant: TenantKey, until: Time) -> bool {
        let end = first_id(until);
        end > self.read_until || self.oldest.get(&tenant).is_some_and(|oldest| *oldest < end)
    }
}

impl Store {
    /// Removes old counters, after old reservations were removed. `mint` makes the version of the tenants that lose
    /// counters.
    pub(super) async fn prune_counters(
        &self,
        now: Time,
        retention: Retention,
        mint: fn() -> i64,
        walk: &mut Walk,
        go_on: &GoOn<'_>,
    ) -> Result<End, StoreError> {
        let age = Age::of(now, retention);
        let mut after = (i64::MIN, Vec::new());
        loop {
            let transaction = self.begin_read("read old counters").await?;
            let old = transaction.list_old_counters(&after, &age).await?;
            let last = transaction.find_end_of_counters(&after).await?;
            transaction.rollback().await?;
            for places in old.chunks(STEP_COUNTERS) {
                self.remove_counters(places, &age, mint, walk).await?;
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

    /// Removes counters in one transaction, then pauses. Leaves out tenants that another transaction has locked.
    async fn remove_counters(
        &self,
        places: &[Place],
        age: &Age,
        mint: fn() -> i64,
        walk: &mut Walk,
    ) -> Result<(), StoreError> {
        let mut attempt = 1;
        loop {
            let free: Vec<Place> =
                places.iter().filter(|(tenant, _)| !walk.left_out.contains(tenant)).cloned().collect();
            if free.is_empty() {
                return Ok(());
            }
            walk.pruned.transactions += 1;
            let outcome = self.try_remove_counters(&free, age, mint()).await;
            sleep(DELETED_PAUSE).await;
            match outcome {
                Ok((counters, adjustments)) => {
                    walk.pruned.counters += counters;
                    walk.pruned.adjustments += adjustments;
                    return Ok(());
                }
                Err(StoreError::Locked(_)) if attempt < ATTEMPTS_MAX => {
                    let owners = owners_of(&free);
                    walk.left_out.extend(self.find_locked_tenants(&owners, Duration::ZERO).await?);
                }
                Err(StoreError::Serialization(_)) if attempt < ATTEMPTS_MAX => {
                    sleep(Duration::from_millis(PAUSE_MILLIS << attempt)).await;
                }
                Err(error) => return Err(error),
            }
            attempt += 1;
        }
    }

    /// Removes the counters that are still old, and their adjustments. Returns their numbers.
    async fn try_remove_counters(
        &self,
        places: &[Place],
        age: &Age,
        version: i64,
    ) -> Result<(u64, u64), StoreError> {
        let transaction = self.begin_write("prune counters").await?;
        transaction.lock_owners(&owners_of(places)).await?;
        let step = transaction.plan_step(places, age).await?;
        let removed = transaction.write_step(&step, age.now, version).await?;
        transaction.commit().await?;
        Ok(removed)
    }
}

/// Returns the tenants of these counters, in the order in which they are locked.
fn owners_of(places: &[Place]) -> Vec<TenantKey> {
    let mut owners: Vec<TenantKey> = places.iter().map(|(tenant, _)| *tenant).collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}

impl Transaction<Reading> {
    /// Reads the next page of counters after a place, and returns those that may be old. Most counters are young, so
    /// the database filters them. A key that cannot be read is left to `tope verify`.
    async fn list_old_counters(&self, after: &(i64, Vec<u8>), age: &Age) -> Result<Vec<Place>, StoreError> {
        // A head goes with the counter of its newest window, if there is one.
        let text = "SELECT tenant_key, key, window_end FROM (
                SELECT tenant_key, key, period, window_start, window_end, closed, reserved, idle_since,
                       COALESCE(agent, user_name, model, labels) AS subject
                  FROM counters WHERE (tenant_key, key) > ($1, $2) ORDER BY tenant_key, key LIMIT $3
            ) AS page
             WHERE (closed = 1 AND reserved = 0 AND window_end <= $4 AND window_start > $5)
                OR (closed = 1 AND reserved = 0 AND window_end <= $6 AND window_start > window_end - 3600000)
                OR ((period = $7 OR (window_start = $5 AND window_end = 0)) AND subject IS NOT NULL
                    AND idle_since <= $8)
             ORDER BY tenant_key, key";
        let lifetime = i16::from(Period::Lifetime.code());
        let values = vec![
            after.0.into(),
            after.1.clone().into(),
            page_rows(),
            age.over_until.into(),
            HEAD_START.into(),
            age.short_until.into(),
            lifetime.into(),
            age.idle_until.into(),
        ];
        let mut old = Vec::new();
        for row in self.rows(text, values).await? {
            let Some(key) = CounterKey::from_bytes(&row.get::<Vec<u8>>(1)?) else { continue };
            if key.period() == Period::Lifetime || key.is_head() || age.is_over(&key, row.get(2)?) {
                old.push((TenantKey(row.get(0)?), key));
            }
        }
        Ok(old)
    }

    /// Finds the last row of the page that begins after a place. `None`: the page is not full.
    async fn find_end_of_counters(
        &self,
        after: &(i64, Vec<u8>),
    ) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        let text = "SELECT tenant_key, key FROM counters WHERE (tenant_key, key) > ($1, $2)
              ORDER BY tenant_key, key LIMIT 1 OFFSET $3 - 1";
        let rows = self.rows(text, vec![after.0.into(), after.1.clone().into(), page_rows()]).await?;
        rows.first().map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
    }
}

impl Transaction<Writing> {
    /// Decides which of these counters go. Their tenants must be locked.
    async fn plan_step(&self, places: &[Place], age: &Age) -> Result<Step, StoreError> {
        let rows = self.find(&FIND_OLD_COUNTERS, counter_columns(places)).await?;
        let counters = rows.iter().map(OldCounter::from_row).collect::<Result<Vec<_>, _>>()?;
        let ends = counters.iter().filter_map(|counter| counter.named_until(age));
        let kept = match ends.max() {
            Some(until) => Some(self.find_kept(&owners_of(places), until).await?),
            None => None,
        };
        let heads = self.find_heads(&counters).await?;
        let mut step = Step::default();
        for counter in counters {
            if counter.is_noted(age) {
                let figures = counter.figures();
                step.idle.push(((counter.tenant, counter.key), figures));
                continue;
            }
            let Some((until, kept)) = counter.named_until(age).zip(kept.as_ref()) else { continue };
            if kept.may_name(counter.tenant, until) {
                continue;
            }
            let loss = step.owners.entry(counter.tenant).or_default();
            loss.bounded += i64::from(counter.window.is_bounded());
            loss.forgotten |= counter.key.period() == Period::Lifetime;
            let head = (counter.tenant, counter.key.head());
            if counter.key.is_rolling() && heads.get(&head) == Some(&counter.key) {
                loss.bounded += 1;
                step.gone.push(head);
            }
            step.gone.push((counter.tenant, counter.key));
        }
        Ok(step)
    }

    /// Finds the heads of counters of ROLLING, each with the counter of its newest window. Such a counter goes only
    /// together with its head.
    async fn find_heads(&self, counters: &[OldCounter]) -> Result<HashMap<Place, CounterKey>, StoreError> {
        let rolling = counters.iter().filter(|counter| counter.key.is_rolling());
        let mut heads: Vec<Place> = rolling.map(|counter| (counter.tenant, counter.key.head())).collect();
        heads.sort_unstable();
        heads.dedup();
        let mut found = HashMap::new();
        for row in self.find(&FIND_OLD_COUNTERS, counter_columns(&heads)).await? {
            let head = OldCounter::from_row(&row)?;
            let newest = head.key.newest_of_head(head.window.end);
            found.extend(newest.map(|newest| ((head.tenant, head.key), newest)));
        }
        Ok(found)
    }

    /// Finds the oldest open hold of each tenant, and its oldest settled reservation that was made before an instant.
    /// The tenants must be locked, so that no hold is settled meanwhile.
    async fn find_kept(&self, owners: &[TenantKey], until: Time) -> Result<Kept, StoreError> {
        let mut kept = Kept { oldest: HashMap::new(), read_until: first_id(until) };
        let keys = owners.iter().map(|owner| Value::from(owner.0)).collect();
        let holds = self.find(&FIND_OLDEST_HOLDS, vec![keys]).await?;
        let text = "SELECT tenant_key, id FROM reservations WHERE id < $1 ORDER BY id, tenant_key LIMIT $2";
        let limit = i64::try_from(KEPT_ROWS).unwrap_or(i64::MAX);
        let settled = self.rows(text, vec![uuid(kept.read_until), limit.into()]).await?;
        let owned = |row: &Row| {
            Ok::<_, StoreError>((TenantKey(row.get(0)?), ReservationId(row.get::<Uuid>(1)?.into_bytes())))
        };
        if settled.len() == KEPT_ROWS
            && let Some(last) = settled.last()
        {
            kept.read_until = owned(last)?.1;
        }
        for row in holds.iter().chain(&settled) {
            let (tenant, id) = owned(row)?;
            let oldest = kept.oldest.entry(tenant).or_insert(id);
            *oldest = id.min(*oldest);
        }
        Ok(kept)
    }

    /// Writes a step. Returns how many counters and adjustments it deletes.
    async fn write_step(&self, step: &Step, now: Time, version: i64) -> Result<(u64, u64), StoreError> {
        let adjustments = self.find(&FIND_ADJUSTMENTS, counter_columns(&step.gone)).await?;
        let mut ids = empty_columns(2);
        for row in &adjustments {
            push(&mut ids, [row.get::<i64>(0)?.into(), row.get::<Uuid>(1)?.into()]);
        }
        let mut idle = empty_columns(4);
        for ((tenant, key), figures) in &step.idle {
            let key = key.as_bytes().to_vec();
            push(&mut idle, [tenant.0.into(), key.into(), now.into(), figures.clone().into()]);
        }
        let mut owners = empty_columns(5);
        for (tenant, Loss { bounded, forgotten }) in &step.owners {
            let forgotten_at = if *forgotten { now } else { Time::EPOCH };
            push(
                &mut owners,
                [tenant.0.into(), version.into(), (*bounded).into(), now.into(), forgotten_at.into()],
            );
        }
        let writes: Vec<Write> = vec![
            (&DELETE_COUNTERS, counter_columns(&step.gone)),
            (&DELETE_ADJUSTMENTS, ids),
            (&NOTE_IDLE, idle),
            (&UPDATE_OWNERS, owners),
        ];
        self.write(writes).await?;
        Ok((step.gone.len() as u64, adjustments.len() as u64))
    }
}
