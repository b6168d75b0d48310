//! Whether the books add up: what `aforo verify` checks. One read transaction, page by page; nothing is changed.

use std::collections::HashMap;

use sea_orm::Value;

use super::{
    Store, StoreError, Transaction,
    batch::{counter_from_row, reservation_from_row, uuid},
};
use crate::domain::{
    counter::CounterKey,
    id::{ReservationId, TenantKey},
    reservation::{Reservation, ReservationState},
    window::Millis,
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
        let deadlines = verify_holds(&transaction, &mut report, &mut sums).await?;
        verify_settled(&transaction, &mut report, &mut sums).await?;
        add_adjustments(&transaction, &mut report, &mut sums).await?;
        verify_counters(&transaction, &mut report, sums).await?;
        verify_tenants(&transaction, &mut report, &deadlines).await?;
        transaction.rollback().await?;
        Ok(report)
    }
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
        let text = "SELECT tenant_key, id, body FROM holds WHERE (tenant_key, id) > ($1, $2)
                     ORDER BY tenant_key, id LIMIT $3";
        let values = vec![after.0.0.into(), uuid(after.1), page()];
        let rows = transaction.rows(text, text, values).await?;
        let mut holds = Vec::with_capacity(rows.len());
        for row in &rows {
            let (tenant, hold) = reservation_from_row(row)?;
            after = (tenant, hold.id);
            report.holds += 1;
            if hold.state != ReservationState::Reserved {
                report.fault(format!("hold {}: its state is {}", told(tenant, hold.id), hold.state.name()));
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
            report.fault(format!("reservation {}: it is open and settled (I3)", told(tenant, settled.id)));
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
        let text = "SELECT tenant_key, id, body FROM reservations WHERE (id, tenant_key) > ($1, $2)
                     ORDER BY id, tenant_key LIMIT $3";
        let values = vec![uuid(after.0), after.1.0.into(), page()];
        let rows = transaction.rows(text, text, values).await?;
        let mut settled = Vec::with_capacity(rows.len());
        for row in &rows {
            let (tenant, reservation) = reservation_from_row(row)?;
            after = (reservation.id, tenant);
            report.settled += 1;
            if reservation.state == ReservationState::Reserved {
                let text =
                    format!("reservation {}: it is settled, and RESERVED", told(tenant, reservation.id));
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
            report.fault(format!(
                "reservation {}: its request_id {:?} made {} too (I3)",
                told(*tenant, reservation.id),
                reservation.request_id,
                told(*tenant, *other),
            ));
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
                None => report.fault(format!("adjustment {}: it names no counter", told(tenant, id))),
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
        let text = "SELECT tenant_key, key, committed, reserved, window_start, window_end, counted_since FROM counters
                     WHERE (tenant_key, key) > ($1, $2) ORDER BY tenant_key, key LIMIT $3";
        let values = vec![after.0.into(), std::mem::take(&mut after.1).into(), page()];
        let rows = transaction.rows(text, text, values).await?;
        for row in &rows {
            let (tenant, (key, counter)) = counter_from_row(row)?;
            after = (tenant.0, key.as_bytes().to_vec());
            report.counters += 1;
            let sum = sums.remove(&(tenant, key.clone())).unwrap_or_default();
            let (committed, reserved) = (i128::from(counter.committed), i128::from(counter.reserved));
            if (sum.committed, sum.reserved) != (committed, reserved) {
                report.fault(format!(
                    "counter {}: committed {committed}, reserved {reserved}; its rows add up to {} and {} (I2)",
                    told_counter(tenant, &key),
                    sum.committed,
                    sum.reserved,
                ));
            }
        }
        if rows.len() < PAGE_ROWS {
            break;
        }
    }
    for ((tenant, key), sum) in sums {
        if (sum.committed, sum.reserved) != (0, 0) {
            report.fault(format!(
                "counter {}: it is missing; its rows add up to {} and {} (I2)",
                told_counter(tenant, &key),
                sum.committed,
                sum.reserved,
            ));
        }
    }
    Ok(())
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
                report.fault(format!("tenant {after}: a hold is due before next_due, {next_due}"));
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

fn told(tenant: TenantKey, id: ReservationId) -> String {
    format!("{} of tenant {}", uuid::Uuid::from_bytes(id.0), tenant.0)
}

fn told_counter(tenant: TenantKey, key: &CounterKey) -> String {
    let bytes: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{bytes} of tenant {}", tenant.0)
}
