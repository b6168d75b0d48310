//! Checks whether the books of all tenants, or of some tenants, are correct. `tope verify` and the job `verify-sample`
//! use this. It reads page by page in one read transaction, and changes nothing.

mod report;
mod rolling;
mod terms;

pub use self::report::Report;

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, Select, Value, sea_query::Expr,
};
use uuid::Uuid;

use self::report::Scope;
use super::{
    Reading, Store, StoreError, Transaction,
    books::{
        body::decode_reservation,
        rows::{label_column, method_code},
    },
    entity::{adjustment, counter, hold, request, reservation, tenant},
};
use crate::domain::{
    books::Method,
    bounds::REQUEST_ID_RETENTION_MIN_HOURS,
    counter::CounterKey,
    event::{Event, Fact},
    id::{ReservationId, TenantKey},
    reservation::{Reservation, ReservationState},
    shape::PerDimension,
    time::{Span, Time},
    window::Window,
};

/// Maximum number of rows of one page.
const PAGE_ROWS: usize = 5_000;

/// The sums of all rows that name a counter.
#[derive(Clone, Copy, Default)]
struct Sum {
    committed: i128,
    reserved: i128,
}

type Sums = HashMap<(TenantKey, CounterKey), Sum>;

impl Store {
    /// Checks I2: each counter is the sum of the rows that name it and of its pruned part. Checks I3: a `request_id`
    /// took effect once, and a reservation was settled once.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or a row cannot be read.
    pub async fn verify(&self) -> Result<Report, StoreError> {
        let transaction = self.begin_read("verify").await?;
        verify_scope(transaction, Scope::default()).await
    }

    /// Verifies the books of `tenants_max` tenants from a key on, as [`Store::verify`] does. If there are fewer tenants
    /// from that key on, verifies the first tenants instead. Does not check that each `request_id` names a reservation.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or a row cannot be read.
    pub async fn verify_sample(&self, from: TenantKey, tenants_max: usize) -> Result<Report, StoreError> {
        let transaction = self.begin_read("verify a sample").await?;
        let mut keys = transaction.list_tenant_keys(from, tenants_max).await?;
        if keys.len() < tenants_max {
            keys = transaction.list_tenant_keys(TenantKey(i64::MIN), tenants_max).await?;
        }
        match (keys.first(), keys.last()) {
            (Some(&first), Some(&last)) => verify_scope(transaction, Scope { first, last }).await,
            _ => Ok(Report::default()),
        }
    }
}

impl Store {
    /// Emits BOOKS_DISAGREE with the number of faults.
    ///
    /// # Errors
    ///
    /// When the database fails. Then nothing is emitted.
    pub async fn emit_books_disagree(&self, shown: Option<Time>, faults: u64) -> Result<(), StoreError> {
        let transaction = self.begin_write("emit that the books disagree").await?;
        let now = transaction.now(shown).await?;
        let fact = Fact::BooksDisagree { faults: i64::try_from(faults).unwrap_or(i64::MAX) };
        transaction.append_event(&Event::of_no_tenant(now, fact)).await?;
        transaction.commit().await
    }
}

impl Transaction<Reading> {
    /// Lists the keys of at most `count` tenants, from one key on, deleted tenants included.
    async fn list_tenant_keys(&self, from: TenantKey, count: usize) -> Result<Vec<i64>, StoreError> {
        let text = "SELECT key FROM tenants WHERE key >= $1 ORDER BY key LIMIT $2";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = self.rows(text, vec![from.0.into(), count.into()]).await?;
        rows.iter().map(|row| row.get(0)).collect()
    }
}

async fn verify_scope(transaction: Transaction<Reading>, scope: Scope) -> Result<Report, StoreError> {
    let mut report = Report { scope, ..Report::default() };
    let mut sums = Sums::new();
    load_names(&transaction, &mut report).await?;
    let deadlines = verify_holds(&transaction, &mut report, &mut sums).await?;
    verify_settled(&transaction, &mut report, &mut sums).await?;
    // The rows are in the order of ids that clients chose, so a check of a few tenants would have to read all rows.
    if scope.is_all() {
        verify_requests(&transaction, &mut report).await?;
    }
    add_adjustments(&transaction, &mut report, &mut sums).await?;
    let counts = verify_counters(&transaction, &mut report, sums).await?;
    verify_tenants(&transaction, &mut report, &deadlines, &counts).await?;
    terms::verify(&transaction, &mut report).await?;
    transaction.rollback().await?;
    Ok(report)
}

async fn load_names(transaction: &Transaction<Reading>, report: &mut Report) -> Result<(), StoreError> {
    let text = "SELECT key, COALESCE(id, deleted_id) FROM tenants WHERE key BETWEEN $1 AND $2";
    let Scope { first, last } = report.scope;
    for row in transaction.rows(text, vec![first.into(), last.into()]).await? {
        report.names.insert(TenantKey(row.get(0)?), row.get(1)?);
    }
    Ok(())
}

/// Checks open holds, and returns the earliest deadline of each tenant.
async fn verify_holds(
    transaction: &Transaction<Reading>,
    report: &mut Report,
    sums: &mut Sums,
) -> Result<HashMap<TenantKey, Time>, StoreError> {
    use hold::Column::{Deadline, Id, TenantKey as Tenant};
    let mut deadlines: HashMap<TenantKey, Time> = HashMap::new();
    let mut after = (report.scope.place_before(), Time::MIN, Uuid::nil());
    loop {
        let place = [after.0.into(), after.1.into(), after.2.into()];
        // The index that begins with the tenant covers rows with a deadline. All rows have a deadline, but the query
        // must say so.
        let all = hold::Entity::find().filter(Deadline.is_not_null());
        let key = [Tenant, Deadline, Id];
        let rows: Vec<hold::Model> = page_after(transaction, all, report.scope, Tenant, key, place).await?;
        let mut holds = Vec::with_capacity(rows.len());
        for row in &rows {
            after = (row.tenant_key, row.deadline, row.id);
            let tenant = TenantKey(row.tenant_key);
            let hold = decode_reservation(ReservationId(row.id.into_bytes()), &row.body)?;
            report.holds += 1;
            if hold.state != ReservationState::Reserved || hold.deadline != row.deadline {
                let described = report.describe_reservation(tenant, hold.id);
                report.fault(format!(
                    "hold {described}: its body is not RESERVED, or has another deadline than its row"
                ));
            }
            let first = deadlines.entry(tenant).or_insert(hold.deadline);
            *first = Ord::min(hold.deadline, *first);
            for line in &hold.lines {
                let sum = sums.entry((tenant, line.key.clone())).or_default();
                sum.reserved += i128::from(line.held);
                sum.committed += i128::from(line.charged);
            }
            holds.push((tenant, hold));
        }
        verify_request_ids(transaction, report, &holds).await?;
        let ids: Vec<_> = holds.iter().map(|(tenant, hold)| (*tenant, hold.id)).collect();
        for (tenant, settled) in transaction.find_settled(&ids).await? {
            let described = report.describe_reservation(tenant, settled.id);
            report
                .fault(format!("reservation {described}: it is both in `holds` and in `reservations` (I3)"));
        }
        if rows.len() < PAGE_ROWS {
            return Ok(deadlines);
        }
    }
}

async fn verify_settled(
    transaction: &Transaction<Reading>,
    report: &mut Report,
    sums: &mut Sums,
) -> Result<(), StoreError> {
    use reservation::Column::{Id, TenantKey as Tenant};
    let mut after = Some(Uuid::nil());
    while let Some(place) = after {
        after = find_end_of_page(transaction, place).await?;
        let Scope { first, last } = report.scope;
        let mut page = reservation::Entity::find().filter(Id.gt(place)).filter(Tenant.between(first, last));
        if let Some(end) = after {
            page = page.filter(Id.lte(end));
        }
        let rows = page.order_by_asc(Id).order_by_asc(Tenant).all(transaction.connection()).await?;
        let mut settled = Vec::with_capacity(rows.len());
        for row in &rows {
            let tenant = TenantKey(row.tenant_key);
            let reservation = decode_reservation(ReservationId(row.id.into_bytes()), &row.body)?;
            report.settled += 1;
            let agrees =
                (row.state, Some(row.settled_at)) == (reservation.state.code(), reservation.settled_at);
            if reservation.state == ReservationState::Reserved || !agrees {
                let described = report.describe_reservation(tenant, reservation.id);
                report.fault(format!(
                    "reservation {described}: its body is not settled, or has another state or time than its row"
                ));
            }
            for line in &reservation.lines {
                let sum = sums.entry((tenant, line.key.clone())).or_default();
                sum.committed += i128::from(line.charged);
            }
            settled.push((tenant, reservation));
        }
        verify_request_ids(transaction, report, &settled).await?;
    }
    Ok(())
}

/// Finds the last id of the page of settled reservations after an id, of all tenants. Returns `None` if the page is not
/// full.
async fn find_end_of_page(
    transaction: &Transaction<Reading>,
    after: Uuid,
) -> Result<Option<Uuid>, StoreError> {
    let text = "SELECT id FROM reservations WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2 - 1";
    let rows = i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX);
    let found = transaction.rows(text, vec![after.into(), rows.into()]).await?;
    found.first().map(|row| row.get(0)).transpose()
}

/// Checks that each `request_id`, except those of ResetUsage, names a reservation that exists.
async fn verify_requests(transaction: &Transaction<Reading>, report: &mut Report) -> Result<(), StoreError> {
    use request::Column::{RequestId, TenantKey as Tenant};
    let mut after = (String::new(), i64::MIN);
    loop {
        let key = [after.0.as_str().into(), after.1.into()];
        let rows: Vec<request::Model> =
            page_after(transaction, request::Entity::find(), report.scope, Tenant, [RequestId, Tenant], key)
                .await?;
        // ResetUsage makes adjustments or nothing, and no reservation.
        let naming = || rows.iter().filter(|row| row.method != method_code(Method::Reset));
        let ids: Vec<_> = naming().map(named_by).collect();
        let mut there: HashSet<_> =
            transaction.find_holds(&ids).await?.into_iter().map(|(tenant, hold)| (tenant, hold.id)).collect();
        there.extend(
            transaction.find_settled(&ids).await?.into_iter().map(|(tenant, found)| (tenant, found.id)),
        );
        for row in naming().filter(|row| !there.contains(&named_by(row))) {
            let described = report.describe_tenant(TenantKey(row.tenant_key));
            report.fault(format!(
                "request_id {:?} of {described}: its reservation is missing (I3)",
                row.request_id
            ));
        }
        report.requests += u64::try_from(rows.len()).unwrap_or(0);
        match rows.last() {
            Some(last) if rows.len() == PAGE_ROWS => after = (last.request_id.clone(), last.tenant_key),
            Some(_) | None => return Ok(()),
        }
    }
}

fn named_by(row: &request::Model) -> (TenantKey, ReservationId) {
    (TenantKey(row.tenant_key), ReservationId(row.reservation_id.into_bytes()))
}

/// Checks that each `request_id` names the one reservation that it made. After a `request_id` was pruned, it may make
/// another reservation.
async fn verify_request_ids(
    transaction: &Transaction<Reading>,
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
        // A pruned `request_id` has no row, so `found` does not contain it.
        let other = found.get(&(*tenant, reservation.request_id.clone())).filter(|id| **id != reservation.id);
        if let Some(other) = other
            && !is_late_repeat(transaction, *tenant, reservation).await?
        {
            let text = format!(
                "reservation {}: its request_id {:?} also made reservation {} (invariant I3)",
                report.describe_reservation(*tenant, reservation.id),
                reservation.request_id,
                report.describe_reservation(*tenant, *other),
            );
            report.fault(text);
        }
    }
    Ok(())
}

/// Returns whether the `request_id` of a reservation took effect again so late that its first row may have been
/// pruned.
async fn is_late_repeat(
    transaction: &Transaction<Reading>,
    tenant: TenantKey,
    reservation: &Reservation,
) -> Result<bool, StoreError> {
    let text = "SELECT created_at FROM requests WHERE request_id = $1 AND tenant_key = $2";
    let key = vec![reservation.request_id.as_str().into(), tenant.0.into()];
    let rows = transaction.rows(text, key).await?;
    let again: Option<Time> = rows.first().map(|row| row.get(0)).transpose()?;
    let forgotten_at = reservation.created_at + Span::hours(REQUEST_ID_RETENTION_MIN_HOURS.into());
    Ok(again.is_some_and(|again| again >= forgotten_at))
}

async fn add_adjustments(
    transaction: &Transaction<Reading>,
    report: &mut Report,
    sums: &mut Sums,
) -> Result<(), StoreError> {
    use adjustment::Column::{Id, TenantKey as Tenant};
    let mut after = (Uuid::nil(), i64::MIN);
    loop {
        let key = [after.0.into(), after.1.into()];
        let rows: Vec<adjustment::Model> =
            page_after(transaction, adjustment::Entity::find(), report.scope, Tenant, [Id, Tenant], key)
                .await?;
        for row in &rows {
            after = (row.id, row.tenant_key);
            let tenant = TenantKey(row.tenant_key);
            report.adjustments += 1;
            match CounterKey::from_bytes(&row.counter_key) {
                Some(key) => sums.entry((tenant, key)).or_default().committed += i128::from(row.delta),
                None => {
                    let described = report.describe_reservation(tenant, ReservationId(row.id.into_bytes()));
                    let (reason, operator) = (&row.reason, &row.operator);
                    report.fault(format!(
                        "adjustment {described} ({reason:?}, {operator:?}): its counter key cannot be read"
                    ));
                }
            }
        }
        if rows.len() < PAGE_ROWS {
            return Ok(());
        }
    }
}

async fn verify_counters(
    transaction: &Transaction<Reading>,
    report: &mut Report,
    mut sums: Sums,
) -> Result<HashMap<TenantKey, i64>, StoreError> {
    use counter::Column::{Key, TenantKey as Tenant};
    let mut counts = HashMap::new();
    let mut after = (report.scope.place_before(), Vec::new());
    loop {
        let key = [after.0.into(), after.1.into()];
        let rows: Vec<counter::Model> =
            page_after(transaction, counter::Entity::find(), report.scope, Tenant, [Tenant, Key], key)
                .await?;
        for row in &rows {
            let tenant = TenantKey(row.tenant_key);
            report.counters += 1;
            let window = Window { start: row.window_start, end: row.window_end };
            *counts.entry(tenant).or_default() += i64::from(window.is_bounded());
            let Some(key) = CounterKey::from_bytes(&row.key).filter(|key| columns_agree(row, key)) else {
                let described = report.describe_tenant(tenant);
                report.fault(format!(
                    "counter {:02x?} of {described}: its columns do not agree with its key",
                    row.key
                ));
                continue;
            };
            let sum = sums.remove(&(tenant, key.clone())).unwrap_or_default();
            let (committed, reserved) = (i128::from(row.committed), i128::from(row.reserved));
            let sum = Sum { committed: sum.committed + i128::from(row.pruned), ..sum };
            // The sum of the pruned rows wraps around beyond an int64.
            if (sum.committed - committed) % (1 << 64) != 0 || sum.reserved != reserved {
                let text = format!(
                    "counter {}: committed {committed}, reserved {reserved}; but the rows that name it, and \
                     what was pruned, add up to committed {} and reserved {} (I2)",
                    report.describe_counter(tenant, &key),
                    sum.committed,
                    sum.reserved,
                );
                report.fault(text);
            }
        }
        rolling::verify_heads(transaction, report, &rows).await?;
        match rows.last() {
            Some(last) if rows.len() == PAGE_ROWS => after = (last.tenant_key, last.key.clone()),
            Some(_) | None => break,
        }
    }
    for ((tenant, key), sum) in sums {
        if (sum.committed, sum.reserved) != (0, 0) {
            let text = format!(
                "counter {}: it is missing; the rows that name it add up to committed {} and reserved {} \
                 (I2)",
                report.describe_counter(tenant, &key),
                sum.committed,
                sum.reserved,
            );
            report.fault(text);
        }
    }
    Ok(counts)
}

/// Returns whether the columns that repeat the key, and the window, agree with the key.
fn columns_agree(row: &counter::Model, key: &CounterKey) -> bool {
    row.resource_key == key.resource().0
        && row.period == i16::from(key.period().code())
        && PerDimension::from([&row.agent, &row.user_name, &row.model]).map(|name| name.as_deref())
            == key.dimensions()
        && row.labels == label_column(key)
        && row.window_start == key.window_start()
        && row.window_end > row.window_start
}

/// Checks `next_due`: a hold with an earlier deadline would not be swept in time, and would continue to count. Also
/// checks the number of counters, but not in a sample: while a server of an earlier release runs, the number is too
/// low until the job `prune` corrects it.
async fn verify_tenants(
    transaction: &Transaction<Reading>,
    report: &mut Report,
    deadlines: &HashMap<TenantKey, Time>,
    counts: &HashMap<TenantKey, i64>,
) -> Result<(), StoreError> {
    use tenant::Column::Key;
    let mut after = report.scope.place_before();
    loop {
        let rows: Vec<tenant::Model> =
            page_after(transaction, tenant::Entity::find(), report.scope, Key, [Key], [after.into()]).await?;
        for row in &rows {
            after = row.key;
            report.tenants += 1;
            let tenant = TenantKey(row.key);
            if deadlines.get(&tenant).is_some_and(|deadline| *deadline < row.next_due) {
                let described = report.describe_tenant(tenant);
                report.fault(format!(
                    "{described}: a hold is due before next_due of the tenant's row ({})",
                    row.next_due.0
                ));
            }
            let count = counts.get(&tenant).copied().unwrap_or(0);
            if report.scope.is_all() && count != row.counters {
                let described = report.describe_tenant(tenant);
                report.fault(format!(
                    "{described}: {count} counters count towards its bound, but its row says {}; the job prune \
                     corrects it",
                    row.counters
                ));
            }
        }
        if rows.len() < PAGE_ROWS {
            return Ok(());
        }
    }
}

/// Returns the next page of a table in the order of its key, for the tenants of a scope, after a place. All columns of
/// the key are compared at once: with `a > ? OR a = ? AND b > ?` the databases would not start in the middle of its
/// index.
async fn page_after<E: EntityTrait, const N: usize>(
    transaction: &Transaction<Reading>,
    all: Select<E>,
    scope: Scope,
    tenant: E::Column,
    key: [E::Column; N],
    place: [Value; N],
) -> Result<Vec<E::Model>, StoreError> {
    let columns = Expr::tuple(key.map(Expr::col));
    let mut rows = all.filter(columns.gt(Expr::tuple(place.map(Expr::value))));
    if !scope.is_all() {
        rows = rows.filter(tenant.between(scope.first, scope.last));
    }
    for column in key {
        rows = rows.order_by_asc(column);
    }
    Ok(rows.limit(u64::try_from(PAGE_ROWS).unwrap_or(u64::MAX)).all(transaction.connection()).await?)
}
