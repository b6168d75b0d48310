//! Whether the books add up: what `aforo verify` checks. One read transaction, page by page; nothing is changed.

use std::collections::HashMap;

use sea_orm::{QueryResult, Value};

use super::{
    Store, StoreError, Transaction,
    batch::{counter_from_row, reservation_from_row, uuid},
    body::state_code,
};
use crate::domain::{
    counter::CounterKey,
    id::{ReservationId, TenantKey},
    plan::Dimension,
    reservation::{Reservation, ReservationState},
    window::{Millis, Window},
};

/// Rows of one page.
const PAGE_ROWS: usize = 5_000;

/// Most faults that are told one by one.
const FAULTS_TOLD_MAX: usize = 1_000;

/// What was looked at, and what does not add up.
#[derive(Debug, Default)]
pub struct Report {
    /// Tenants, deleted ones included.
    pub tenants: u64,
    /// Counters.
    pub counters: u64,
    /// Open holds.
    pub holds: u64,
    /// Settled reservations.
    pub settled: u64,
    /// Request ids that reservations name.
    pub requests: u64,
    /// Adjustments.
    pub adjustments: u64,
    /// Names of tenants, for the texts of faults.
    names: HashMap<TenantKey, String>,
    /// Faults, all of them.
    pub fault_count: u64,
    /// The first faults: which row, and what is wrong with it.
    pub faults: Vec<String>,
}

impl Report {
    fn fault(&mut self, text: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_TOLD_MAX {
            self.faults.push(text);
        }
    }

    fn told(&self, tenant: TenantKey, id: ReservationId) -> String {
        format!("{} of {}", uuid::Uuid::from_bytes(id.0), self.told_tenant(tenant))
    }

    fn told_tenant(&self, tenant: TenantKey) -> String {
        match self.names.get(&tenant) {
            Some(name) => format!("tenant {name:?} ({})", tenant.0),
            None => format!("tenant {}", tenant.0),
        }
    }

    fn told_counter(&self, tenant: TenantKey, key: &CounterKey) -> String {
        let mut text = format!("of resource {}, {:?}", key.resource().0, key.period());
        if let Some(start) = chrono::DateTime::from_timestamp_millis(key.window_start()) {
            text.push_str(&format!(" from {}", start.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)));
        }
        for (dimension, value) in Dimension::ALL.into_iter().zip(key.dimensions()) {
            if let Some(value) = value {
                text.push_str(&format!(", {} {value:?}", dimension.name()));
            }
        }
        format!("{text}, of {}", self.told_tenant(tenant))
    }
}

/// What the rows that name a counter add up to.
#[derive(Clone, Copy, Default)]
struct Sum {
    committed: i128,
    reserved: i128,
}

type Sums = HashMap<(TenantKey, CounterKey), Sum>;

impl Store {
    /// Checks I2, that each counter is the sum of what names it, and I3, that a request_id took effect once and a reservation
    /// was settled once.
    pub async fn verify(&self) -> Result<Report, StoreError> {
        let transaction = self.begin_read("verify").await?;
        let mut report = Report::default();
        let mut sums = Sums::new();
        load_names(&transaction, &mut report).await?;
        let deadlines = verify_holds(&transaction, &mut report, &mut sums).await?;
        verify_settled(&transaction, &mut report, &mut sums).await?;
        add_adjustments(&transaction, &mut report, &mut sums).await?;
        verify_counters(&transaction, &mut report, sums).await?;
        verify_tenants(&transaction, &mut report, &deadlines).await?;
        transaction.rollback().await?;
        Ok(report)
    }
}

async fn load_names(transaction: &Transaction, report: &mut Report) -> Result<(), StoreError> {
    let text = "SELECT key, COALESCE(id, deleted_id) FROM tenants";
    for row in transaction.rows(text, text, Vec::new()).await? {
        report.names.insert(TenantKey(row.try_get_by_index(0)?), row.try_get_by_index(1)?);
    }
    Ok(())
}

/// Returns the earliest deadline of each tenant.
async fn verify_holds(
    transaction: &Transaction,
    report: &mut Report,
    sums: &mut Sums,
) -> Result<HashMap<TenantKey, Millis>, StoreError> {
    let mut deadlines: HashMap<TenantKey, Millis> = HashMap::new();
    let mut after = (TenantKey(i64::MIN), ReservationId([0; 16]));
    loop {
        let text = "SELECT tenant_key, id, body, deadline FROM holds WHERE (tenant_key, id) > ($1, $2)
                     ORDER BY tenant_key, id LIMIT $3";
        let values = vec![after.0.0.into(), uuid(after.1), page()];
        let rows = transaction.rows(text, text, values).await?;
        let mut holds = Vec::with_capacity(rows.len());
        for row in &rows {
            let (tenant, hold) = reservation_from_row(row)?;
            after = (tenant, hold.id);
            report.holds += 1;
            if hold.state != ReservationState::Reserved {
                let text =
                    format!("hold {}: its state is {}", report.told(tenant, hold.id), hold.state.name());
                report.fault(text);
            }
            let deadline: Millis = row.try_get_by_index(3)?;
            if deadline != hold.deadline {
                let text = format!(
                    "hold {}: its deadline is {}, its row's is {deadline}",
                    report.told(tenant, hold.id),
                    hold.deadline
                );
                report.fault(text);
            }
            let first = deadlines.entry(tenant).or_insert(hold.deadline);
            *first = hold.deadline.min(*first);
            for line in &hold.lines {
                let sum = sums.entry((tenant, line.key.clone())).or_default();
                sum.reserved += i128::from(line.held);
                sum.committed += i128::from(line.charged);
            }
            holds.push((tenant, hold));
        }
        verify_requests(transaction, report, &holds).await?;
        let ids: Vec<_> = holds.iter().map(|(tenant, hold)| (*tenant, hold.id)).collect();
        for (tenant, settled) in transaction.find_settled(&ids).await? {
            let text =
                format!("reservation {}: it is open and settled (I3)", report.told(tenant, settled.id));
            report.fault(text);
        }
        if rows.len() < PAGE_ROWS {
            return Ok(deadlines);
        }
    }
}

async fn verify_settled(
    transaction: &Transaction,
    report: &mut Report,
    sums: &mut Sums,
) -> Result<(), StoreError> {
    let mut after = (ReservationId([0; 16]), TenantKey(i64::MIN));
    loop {
        let text = "SELECT tenant_key, id, body, state, settled_at FROM reservations WHERE (id, tenant_key) > ($1, $2)
                     ORDER BY id, tenant_key LIMIT $3";
        let values = vec![uuid(after.0), after.1.0.into(), page()];
        let rows = transaction.rows(text, text, values).await?;
        let mut settled = Vec::with_capacity(rows.len());
        for row in &rows {
            let (tenant, reservation) = reservation_from_row(row)?;
            after = (reservation.id, tenant);
            report.settled += 1;
            if reservation.state == ReservationState::Reserved {
                let text = format!(
                    "reservation {}: it is settled, and RESERVED",
                    report.told(tenant, reservation.id)
                );
                report.fault(text);
            }
            let columns: (i16, Millis) = (row.try_get_by_index(3)?, row.try_get_by_index(4)?);
            if columns != (state_code(reservation.state), reservation.settled_at) {
                let text = format!(
                    "reservation {}: the row's state or settled_at is not its own",
                    report.told(tenant, reservation.id)
                );
                report.fault(text);
            }
            for line in &reservation.lines {
                let sum = sums.entry((tenant, line.key.clone())).or_default();
                sum.committed += i128::from(line.charged);
            }
            settled.push((tenant, reservation));
        }
        verify_requests(transaction, report, &settled).await?;
        if rows.len() < PAGE_ROWS {
            return Ok(());
        }
    }
}

/// Each request_id must lead to the one reservation that it made.
async fn verify_requests(
    transaction: &Transaction,
    report: &mut Report,
    reservations: &[(TenantKey, Reservation)],
) -> Result<(), StoreError> {
    let named = reservations.iter().filter(|(_, reservation)| !reservation.request_id.is_empty());
    let ids: Vec<_> = named.map(|(tenant, reservation)| (*tenant, reservation.request_id.as_str())).collect();
    let found: HashMap<_, _> = transaction
        .find_requests(&ids)
        .await?
        .into_iter()
        .map(|(tenant, (id, request))| ((tenant, id), request.reservation))
        .collect();
    for (tenant, reservation) in reservations {
        if reservation.request_id.is_empty() {
            continue;
        }
        report.requests += 1;
        // A request_id that was pruned leads nowhere, and can no longer take effect twice.
        let other = found.get(&(*tenant, reservation.request_id.clone())).filter(|id| **id != reservation.id);
        if let Some(other) = other {
            let text = format!(
                "reservation {}: its request_id {:?} made {} too (I3)",
                report.told(*tenant, reservation.id),
                reservation.request_id,
                report.told(*tenant, *other),
            );
            report.fault(text);
        }
    }
    Ok(())
}

async fn add_adjustments(
    transaction: &Transaction,
    report: &mut Report,
    sums: &mut Sums,
) -> Result<(), StoreError> {
    let mut after = (ReservationId([0; 16]), TenantKey(i64::MIN));
    loop {
        let text =
            "SELECT id, tenant_key, counter_key, delta FROM adjustments WHERE (id, tenant_key) > ($1, $2)
                     ORDER BY id, tenant_key LIMIT $3";
        let values = vec![uuid(after.0), after.1.0.into(), page()];
        let rows = transaction.rows(text, text, values).await?;
        for row in &rows {
            let id = ReservationId(row.try_get_by_index::<uuid::Uuid>(0)?.into_bytes());
            let tenant = TenantKey(row.try_get_by_index(1)?);
            after = (id, tenant);
            report.adjustments += 1;
            match CounterKey::from_bytes(&row.try_get_by_index::<Vec<u8>>(2)?) {
                Some(key) => {
                    let sum = sums.entry((tenant, key)).or_default();
                    sum.committed += i128::from(row.try_get_by_index::<i64>(3)?);
                }
                None => report.fault(format!("adjustment {}: it names no counter", report.told(tenant, id))),
            }
        }
        if rows.len() < PAGE_ROWS {
            return Ok(());
        }
    }
}

async fn verify_counters(
    transaction: &Transaction,
    report: &mut Report,
    mut sums: Sums,
) -> Result<(), StoreError> {
    let mut after: (i64, Vec<u8>) = (i64::MIN, Vec::new());
    loop {
        let text = "SELECT tenant_key, key, committed, reserved, window_start, window_end, counted_since,
                           resource_key, period, agent, user_name, model FROM counters
                     WHERE (tenant_key, key) > ($1, $2) ORDER BY tenant_key, key LIMIT $3";
        let values = vec![after.0.into(), std::mem::take(&mut after.1).into(), page()];
        let rows = transaction.rows(text, text, values).await?;
        for row in &rows {
            let (tenant, (key, counter)) = counter_from_row(row)?;
            after = (tenant.0, key.as_bytes().to_vec());
            report.counters += 1;
            if !columns_agree(row, &key, counter.window)? {
                let text = format!(
                    "counter {}: the row's columns are not those of its key",
                    report.told_counter(tenant, &key)
                );
                report.fault(text);
            }
            let sum = sums.remove(&(tenant, key.clone())).unwrap_or_default();
            let (committed, reserved) = (i128::from(counter.committed), i128::from(counter.reserved));
            if (sum.committed, sum.reserved) != (committed, reserved) {
                let text = format!(
                    "counter {}: committed {committed}, reserved {reserved}; its rows add up to {} and {} (I2)",
                    report.told_counter(tenant, &key),
                    sum.committed,
                    sum.reserved,
                );
                report.fault(text);
            }
        }
        if rows.len() < PAGE_ROWS {
            break;
        }
    }
    for ((tenant, key), sum) in sums {
        if (sum.committed, sum.reserved) != (0, 0) {
            let text = format!(
                "counter {}: it is missing; its rows add up to {} and {} (I2)",
                report.told_counter(tenant, &key),
                sum.committed,
                sum.reserved,
            );
            report.fault(text);
        }
    }
    Ok(())
}

/// Whether the columns that people read, and the window, are those that the key names.
fn columns_agree(row: &QueryResult, key: &CounterKey, window: Window) -> Result<bool, StoreError> {
    let resource: i32 = row.try_get_by_index(7)?;
    let period: i16 = row.try_get_by_index(8)?;
    let values: [Option<String>; 3] =
        [row.try_get_by_index(9)?, row.try_get_by_index(10)?, row.try_get_by_index(11)?];
    Ok(resource == key.resource().0
        && period == i16::from(key.period().code())
        && values.iter().map(Option::as_deref).eq(key.dimensions())
        && window.start == key.window_start()
        && window.end > window.start)
}

/// No hold may be due before the tenant's row says so, or it would count for ever.
async fn verify_tenants(
    transaction: &Transaction,
    report: &mut Report,
    deadlines: &HashMap<TenantKey, Millis>,
) -> Result<(), StoreError> {
    let mut after = i64::MIN;
    loop {
        let text = "SELECT key, next_due FROM tenants WHERE key > $1 ORDER BY key LIMIT $2";
        let rows = transaction.rows(text, text, vec![after.into(), page()]).await?;
        for row in &rows {
            after = row.try_get_by_index(0)?;
            report.tenants += 1;
            let next_due: i64 = row.try_get_by_index(1)?;
            if deadlines.get(&TenantKey(after)).is_some_and(|deadline| *deadline < next_due) {
                let text = format!(
                    "{}: a hold is due before next_due, {next_due}",
                    report.told_tenant(TenantKey(after))
                );
                report.fault(text);
            }
        }
        if rows.len() < PAGE_ROWS {
            return Ok(());
        }
    }
}

fn page() -> Value {
    Value::from(i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX))
}
