//! Converts tenants between rows and domain.

use sea_orm::{
    Value,
    sea_query::ArrayType::{BigInt, Int, String as Text},
};

use crate::{
    domain::{
        books::{Changes, Replanned},
        id::{PlanKey, TenantKey},
        lineage::Since,
        tenant::{NextPlan, Tenant, TenantState},
        timing::TenantCalendar,
    },
    store::{
        Dialect, StoreError,
        bulk::{Bulk, Write, empty_columns, push},
        entity::tenant,
        policy::{Carried, calendars_from_text, carried_from_text, carried_to_text},
        row::Row,
    },
};

/// The columns of a tenant, in the order of [`tenant_from_row`].
macro_rules! tenant_columns {
    () => {
        "key, id, display_name, plan_key, zone, state, decided_at, next_due, plan_since, created_at, updated_at, version, event_number, carried, calendars, terms_version, next_plan_key, next_plan_at, counters, forgotten_at"
    };
}
pub(super) use tenant_columns;

/// `seen` is the version of the row that was locked or, for a batch decided ahead, remembered. A row with
/// another version is not updated.
static UPDATE_TENANTS: Bulk = Bulk {
    columns: &[BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt],
    postgres: "UPDATE tenants t SET decided_at = w.decided_at, next_due = w.next_due, version = w.version,
            event_number = w.event_number, counters = w.counters
       FROM (SELECT UNNEST($1) AS key, UNNEST($2) AS decided_at, UNNEST($3) AS next_due, UNNEST($4) AS version,
                    UNNEST($5) AS event_number, UNNEST($6) AS seen, UNNEST($7) AS counters) AS w
      WHERE t.key = w.key AND t.version = w.seen AND t.id IS NOT NULL",
    sqlite: "UPDATE OR FAIL tenants SET decided_at = ?2, next_due = ?3, version = ?4, event_number = ?5, counters = ?7
      WHERE key = ?1 AND version = ?6",
};
/// Only for SQLite, for tenants whose `next_due` stays. SQLite writes the index of each column that an update names,
/// even if the value stays.
static UPDATE_TENANTS_EXCEPT_DUE: Bulk = Bulk {
    columns: &[BigInt, BigInt, BigInt, BigInt, BigInt, BigInt],
    postgres: "",
    sqlite: "UPDATE OR FAIL tenants SET decided_at = ?2, version = ?3, event_number = ?4, counters = ?6
      WHERE key = ?1 AND version = ?5",
};

/// For tenants whose scheduled change of plan was due.
static UPDATE_REPLANNED: Bulk = Bulk {
    columns: &[BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, Int, BigInt, Text, BigInt, BigInt],
    postgres: "UPDATE tenants t SET decided_at = w.decided_at, next_due = w.next_due, version = w.version,
            event_number = w.event_number, plan_key = w.plan_key, plan_since = w.plan_since, carried = w.carried,
            updated_at = w.updated_at, counters = w.counters, next_plan_key = NULL, next_plan_at = NULL
       FROM (SELECT UNNEST($1) AS key, UNNEST($2) AS decided_at, UNNEST($3) AS next_due, UNNEST($4) AS version,
                    UNNEST($5) AS event_number, UNNEST($6) AS seen, UNNEST($7) AS plan_key, UNNEST($8) AS plan_since,
                    UNNEST($9) AS carried, UNNEST($10) AS updated_at, UNNEST($11) AS counters) AS w
      WHERE t.key = w.key AND t.version = w.seen AND t.id IS NOT NULL",
    sqlite: "UPDATE OR FAIL tenants SET decided_at = ?2, next_due = ?3, version = ?4, event_number = ?5, plan_key = ?7,
            plan_since = ?8, carried = ?9, updated_at = ?10, counters = ?11, next_plan_key = NULL, next_plan_at = NULL
      WHERE key = ?1 AND version = ?6",
};

/// Returns the writes of the tenants' own rows. On PostgreSQL one statement updates all of these rows. It locks the
/// rows in their order, and detects by itself whether `next_due` changes.
pub(super) fn update_tenants(dialect: Dialect, changes: &[Changes]) -> Result<[Write; 3], StoreError> {
    let (mut all_columns, mut except_due, mut replanned) =
        (empty_columns(7), empty_columns(6), empty_columns(11));
    for change in changes {
        let [key, version, event_number, seen, counters] =
            [change.tenant.0, change.version, change.event_number, change.seen, change.counter_count]
                .map(Value::from);
        let decided_at = change.decided_at.into();
        if let Some(new) = change.replanned.as_deref() {
            let Replanned { plan, plan_since, carried, updated_at } = new;
            let carried = Carried { plan_since: *plan_since, lineages: carried.clone() };
            let carried = carried_to_text(&carried)?.into();
            let next_due = change.next_due.into();
            let [plan, since, updated_at] = [plan.0.into(), plan_since.at.into(), (*updated_at).into()];
            let row = [
                key,
                decided_at,
                next_due,
                version,
                event_number,
                seen,
                plan,
                since,
                carried,
                updated_at,
                counters,
            ];
            push(&mut replanned, row);
        } else if change.due_moved || dialect == Dialect::Postgres {
            let next_due = change.next_due.into();
            push(&mut all_columns, [key, decided_at, next_due, version, event_number, seen, counters]);
        } else {
            push(&mut except_due, [key, decided_at, version, event_number, seen, counters]);
        }
    }
    Ok([
        (&UPDATE_TENANTS, all_columns),
        (&UPDATE_TENANTS_EXCEPT_DUE, except_due),
        (&UPDATE_REPLANNED, replanned),
    ])
}

/// Reads a tenant from the columns of `tenant_columns`, in that order.
pub(super) fn tenant_from_row(row: &Row) -> Result<Tenant, StoreError> {
    tenant_from_model(tenant::Model {
        key: row.get(0)?,
        id: row.get(1)?,
        deleted_id: None,
        display_name: row.get(2)?,
        plan_key: row.get(3)?,
        zone: row.get(4)?,
        state: row.get(5)?,
        decided_at: row.get(6)?,
        next_due: row.get(7)?,
        plan_since: row.get(8)?,
        created_at: row.get(9)?,
        updated_at: row.get(10)?,
        version: row.get(11)?,
        event_number: row.get(12)?,
        carried: row.get(13)?,
        calendars: row.get(14)?,
        terms_version: row.get(15)?,
        next_plan_key: row.get(16)?,
        next_plan_at: row.get(17)?,
        counters: row.get(18)?,
        forgotten_at: row.get(19)?,
    })
}

/// Reads a tenant from its row. A deleted tenant gets the id that it had before the deletion.
pub(in crate::store) fn tenant_from_model(row: tenant::Model) -> Result<Tenant, StoreError> {
    let corrupt = |what: &str| StoreError::Corrupt(format!("{what} of tenant {}", row.key));
    let carried = row.carried.as_deref().map(carried_from_text).transpose()?;
    // A server of the previous release does not write `carried` when it changes the plan. Then `carried` belongs to an
    // earlier change, and does not count.
    let carried = carried.filter(|carried| carried.plan_since.at == row.plan_since).unwrap_or_default();
    Ok(Tenant {
        key: TenantKey(row.key),
        calendars: match row.calendars.as_deref() {
            Some(text) => calendars_from_text(text).ok_or_else(|| corrupt("calendars"))?,
            None => {
                let zone = row.zone.parse().map_err(|_| corrupt("time zone"))?;
                vec![TenantCalendar { since: row.created_at, zone, anchor_time: row.created_at }]
            }
        },
        state: TenantState::from_code(row.state).ok_or_else(|| corrupt("state"))?,
        id: row.id.or(row.deleted_id).unwrap_or_default().into(),
        display_name: row.display_name,
        plan: PlanKey(row.plan_key),
        decided_at: row.decided_at,
        next_due: row.next_due,
        plan_since: Since { at: row.plan_since, order: carried.plan_since.order },
        carried: carried.lineages,
        next_plan: row
            .next_plan_key
            .zip(row.next_plan_at)
            .map(|(plan, at)| NextPlan { plan: PlanKey(plan), at }),
        unsaved: None,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: row.version,
        event_number: row.event_number,
        counters: row.counters,
        forgotten_at: row.forgotten_at,
        terms_version: row.terms_version,
    })
}
