//! Resources, plans and settings: rows ⇄ domain. The limits of a plan are stored in the plan's row, as JSON.

use std::sync::Arc;

use sea_orm::DbErr;
use serde::{Deserialize, Serialize};

use super::{
    carry_row::CarryRow,
    entity::{plan, policy, resource},
    error::StoreError,
    row::Row,
    settings::settings_from_row,
    transaction::{Statements, Transaction},
};
use crate::domain::{
    id::{PlanKey, ResourceKey},
    lineage::{Lineage, Since},
    plan::{Enforcement, Limit, Plan, Policy, Resource, Source, Uncovered},
    shape::{LabelRule, Shape},
    time::Time,
    timing::{PastRecurrence, Recurrence, TenantCalendar, Timing},
    window::{Cycle, Period},
};

/// The key of the one row of `policy`.
pub(super) const POLICY_ROW: i32 = 1;

/// Maximum number of attempts to load a policy that others change at the same time.
const LOADS_MAX: u32 = 10;

impl<W: Statements> Transaction<W> {
    /// Reads the policy's revision: how often resources and plans were changed. See [`Transaction::load_policy`].
    pub async fn read_revision(&self) -> Result<i64, StoreError> {
        let rows = self.rows("SELECT revision FROM policy WHERE id = $1", vec![POLICY_ROW.into()]).await?;
        rows.first().ok_or_else(missing)?.get(0)
    }

    /// Loads all resources and plans of one revision. It is the present revision, or a later revision if the policy
    /// changes meanwhile and the transaction sees the change.
    pub async fn load_policy(&self) -> Result<Policy, StoreError> {
        for _ in 0..LOADS_MAX {
            let revision = self.read_revision().await?;
            let resources = "SELECT key, id, display_name, unit, deleted, created_at, updated_at FROM resources ORDER BY key";
            let resources = self.rows(resources, Vec::new()).await?;
            let plans = "SELECT key, id, display_name, limits, created_at, updated_at, uncovered FROM plans ORDER BY key";
            let plans = self.rows(plans, Vec::new()).await?;
            let settings = "SELECT id, revision, default_plan_key, default_zone, settings_at, keys_revision FROM policy WHERE id = $1";
            let settings = self.rows(settings, vec![POLICY_ROW.into()]).await?;
            // Under READ COMMITTED each statement sees all that was committed before it.
            if self.read_revision().await? == revision {
                let resources = resources.iter().map(resource_from_row).collect::<Result<_, _>>()?;
                let plans = plans.iter().map(plan_from_row).collect::<Result<_, _>>()?;
                let row = settings.first().ok_or_else(missing)?;
                let mut policy =
                    Policy::new(revision, resources, plans).with_settings(settings_from_row(row)?);
                policy.keys_revision = row.get(5)?;
                return Ok(policy);
            }
        }
        let text = format!("the policy changed during each of {LOADS_MAX} attempts to load it");
        Err(StoreError::Serialization(DbErr::Custom(text)))
    }
}

pub(super) fn revision_of(row: Option<policy::Model>) -> Result<i64, StoreError> {
    row.map(|row| row.revision).ok_or_else(missing)
}

fn missing() -> StoreError {
    StoreError::Corrupt("the table policy has no row".to_owned())
}

fn resource_from_row(row: &Row) -> Result<Resource, StoreError> {
    Ok(resource_from_model(resource::Model {
        key: row.get(0)?,
        id: row.get(1)?,
        display_name: row.get(2)?,
        unit: row.get(3)?,
        deleted: row.get(4)?,
        created_at: row.get(5)?,
        updated_at: row.get(6)?,
    }))
}

fn plan_from_row(row: &Row) -> Result<Plan, StoreError> {
    plan_from_model(plan::Model {
        key: row.get(0)?,
        id: row.get(1)?,
        display_name: row.get(2)?,
        limits: row.get(3)?,
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
        uncovered: row.get(6)?,
    })
}

pub(super) fn resource_from_model(row: resource::Model) -> Resource {
    Resource {
        key: ResourceKey(row.key),
        id: row.id,
        display_name: row.display_name,
        unit: row.unit,
        deleted: row.deleted != 0,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

pub(super) fn plan_from_model(row: plan::Model) -> Result<Plan, StoreError> {
    Ok(Plan {
        key: PlanKey(row.key),
        limits: limits_from_text(&row.limits)
            .ok_or_else(|| StoreError::Corrupt(format!("limits of plan {:?}", row.id)))?,
        uncovered: Uncovered::from_code(row.uncovered)
            .ok_or_else(|| StoreError::Corrupt(format!("the column `uncovered` of plan {:?}", row.id)))?,
        id: row.id,
        display_name: row.display_name,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

/// A limit as stored in the row of its plan. Fields may be added, with a default. No field changes its meaning.
#[derive(Serialize, Deserialize)]
struct LimitRow {
    id: String,
    resource: i32,
    quantity: i64,
    #[serde(flatten)]
    timing: TimingRow,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    origin_date: String,
    selectors: [Option<String>; 3],
    per: [bool; 3],
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<LabelRow>,
    enforcement: EnforcementRow,
    thresholds: Vec<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carry: Option<CarryRow>,
    since: i64,
    #[serde(default)]
    since_order: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<LineageRow>,
}

/// The timing of a limit as stored in rows. A row without `cycle` is of an earlier version, or its cycle is the one
/// that `period` and `anchor_day` say.
#[derive(Serialize, Deserialize)]
struct TimingRow {
    period: u8,
    /// Left out if `present` says where windows begin, which is also so if the limit has labels. A server of the
    /// version before then cannot read the plan. That is intended: it would count what the limit does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor_day: Option<u8>,
    #[serde(flatten)]
    present: RecurrenceRow,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<PastRow>,
}

/// Where windows begin, as stored in rows.
#[derive(Default, Serialize, Deserialize)]
struct RecurrenceRow {
    /// The bytes of the cycle, see [`Cycle::encode`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cycle: Option<Vec<u8>>,
    /// Given instead of `cycle` if the anchors follow from the tenant: the number of periods in one window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of_tenant: Option<u16>,
}

/// A recurrence that a limit had before, as stored in rows.
#[derive(Serialize, Deserialize)]
struct PastRow {
    until: i64,
    #[serde(flatten)]
    recurrence: RecurrenceRow,
}

/// A label that a limit counts separately, as stored in rows.
#[derive(Serialize, Deserialize)]
struct LabelRow {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selected: Option<String>,
}

/// A shape, and the instant from which it counts, as stored in rows.
#[derive(Serialize, Deserialize)]
struct LineageRow {
    resource: i32,
    #[serde(flatten)]
    timing: TimingRow,
    selectors: [Option<String>; 3],
    per: [bool; 3],
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<LabelRow>,
    since: i64,
    since_order: i64,
}

/// The column `carried` of a tenant: the shapes whose counters continued over the tenant's last change of plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// When the tenant got its plan.
    pub(super) plan_since: Since,
    /// The shapes that the new plan carries on, each with the instant from which it counts.
    pub(super) lineages: Vec<Lineage>,
}

#[derive(Serialize, Deserialize)]
struct CarriedRow {
    since: i64,
    since_order: i64,
    lineages: Vec<LineageRow>,
}

/// A calendar of a tenant, as stored in the column `calendars`: a list of these, the oldest first.
#[derive(Serialize, Deserialize)]
struct CalendarRow {
    since: i64,
    zone: String,
    anchor_time: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum EnforcementRow {
    Hard,
    Soft,
    Observe,
}

/// Returns the text of the column `limits` of a plan.
pub(super) fn limits_to_text(limits: &[Arc<Limit>]) -> Result<String, StoreError> {
    let rows: Vec<LimitRow> = limits.iter().map(|limit| row_from_limit(limit)).collect();
    serde_json::to_string(&rows).map_err(|error| {
        StoreError::Corrupt(format!("the limits of a plan cannot be written as JSON: {error}"))
    })
}

fn limits_from_text(text: &str) -> Option<Vec<Arc<Limit>>> {
    let rows: Vec<LimitRow> = serde_json::from_str(text).ok()?;
    rows.into_iter().map(|row| limit_from_row(row).map(Arc::new)).collect()
}

/// Returns the text of the column `carried` of a tenant.
pub(super) fn carried_to_text(carried: &Carried) -> Result<String, StoreError> {
    let row = CarriedRow {
        since: carried.plan_since.at.0,
        since_order: carried.plan_since.order,
        lineages: carried.lineages.iter().map(row_from_lineage).collect(),
    };
    serde_json::to_string(&row).map_err(|error| {
        StoreError::Corrupt(format!("the column `carried` of a tenant cannot be written as JSON: {error}"))
    })
}

pub(super) fn carried_from_text(text: &str) -> Result<Carried, StoreError> {
    let corrupt = || StoreError::Corrupt("the column `carried` of a tenant".to_owned());
    let row: CarriedRow = serde_json::from_str(text).map_err(|_| corrupt())?;
    let lineages: Option<_> = row.lineages.into_iter().map(lineage_from_row).collect();
    let plan_since = Since { at: Time(row.since), order: row.since_order };
    Ok(Carried { plan_since, lineages: lineages.ok_or_else(corrupt)? })
}

/// Returns the text of the column `calendars` of a tenant.
pub(super) fn calendars_to_text(calendars: &[TenantCalendar]) -> Result<String, StoreError> {
    let row = |calendar: &TenantCalendar| CalendarRow {
        since: calendar.since.0,
        zone: calendar.zone.name().to_owned(),
        anchor_time: calendar.anchor_time.0,
    };
    let rows: Vec<CalendarRow> = calendars.iter().map(row).collect();
    serde_json::to_string(&rows).map_err(|error| {
        StoreError::Corrupt(format!("the column `calendars` of a tenant cannot be written as JSON: {error}"))
    })
}

/// Reads the column `calendars` of a tenant. `None`: the text is no list of one calendar or more.
pub(super) fn calendars_from_text(text: &str) -> Option<Vec<TenantCalendar>> {
    let rows: Vec<CalendarRow> = serde_json::from_str(text).ok()?;
    let calendar = |row: CalendarRow| {
        let zone = row.zone.parse().ok()?;
        Some(TenantCalendar { since: Time(row.since), zone, anchor_time: Time(row.anchor_time) })
    };
    let calendars: Vec<TenantCalendar> = rows.into_iter().map(calendar).collect::<Option<_>>()?;
    (!calendars.is_empty()).then_some(calendars)
}

fn row_from_timing(shape: &Shape) -> TimingRow {
    let timing = &shape.timing;
    let mut bytes = Vec::new();
    if let Recurrence::OfLimit(cycle) = timing.present {
        cycle.encode(&mut bytes);
    }
    let (anchor_day, present) = match (timing.period(), bytes.as_slice()) {
        (Period::Meter | Period::Day | Period::Month | Period::Lifetime, &[_, anchor_day])
            if shape.labels.is_empty() =>
        {
            (Some(anchor_day), RecurrenceRow::default())
        }
        _ => (None, row_from_recurrence(timing.present)),
    };
    let past = timing
        .past
        .iter()
        .map(|past| PastRow { until: past.until.0, recurrence: row_from_recurrence(past.recurrence) });
    TimingRow { period: timing.period().code(), anchor_day, present, past: past.collect() }
}

fn row_from_recurrence(recurrence: Recurrence) -> RecurrenceRow {
    match recurrence {
        Recurrence::OfLimit(cycle) => {
            let mut bytes = Vec::new();
            cycle.encode(&mut bytes);
            RecurrenceRow { cycle: Some(bytes), of_tenant: None }
        }
        Recurrence::OfTenant { interval, .. } => RecurrenceRow { cycle: None, of_tenant: Some(interval) },
    }
}

fn timing_from_row(row: TimingRow) -> Option<Timing> {
    let period = Period::from_code(row.period)?;
    let recurrence = |found: RecurrenceRow| match found {
        RecurrenceRow { of_tenant: Some(interval), .. } => Some(Recurrence::OfTenant { period, interval }),
        RecurrenceRow { cycle: Some(bytes), .. } => read_cycle(&bytes).map(Recurrence::OfLimit),
        RecurrenceRow { .. } => read_cycle(&[row.period, row.anchor_day?]).map(Recurrence::OfLimit),
    };
    let present = recurrence(row.present)?;
    let past = row.past.into_iter().map(|past| {
        Some(PastRecurrence { until: Time(past.until), recurrence: recurrence(past.recurrence)? })
    });
    Some(Timing { present, past: past.collect::<Option<_>>()? })
}

fn rows_from_labels(labels: &[LabelRule]) -> Vec<LabelRow> {
    labels.iter().map(|rule| LabelRow { key: rule.key.clone(), selected: rule.selected.clone() }).collect()
}

fn labels_from_rows(rows: Vec<LabelRow>) -> Vec<LabelRule> {
    rows.into_iter().map(|row| LabelRule { key: row.key, selected: row.selected }).collect()
}

fn read_cycle(bytes: &[u8]) -> Option<Cycle> {
    Cycle::decode(bytes).filter(|(_, rest)| rest.is_empty()).map(|(cycle, _)| cycle)
}

fn row_from_lineage(lineage: &Lineage) -> LineageRow {
    let Lineage { shape, since } = lineage;
    LineageRow {
        resource: shape.resource.0,
        timing: row_from_timing(shape),
        selectors: shape.selectors.clone().into(),
        per: shape.per.into(),
        labels: rows_from_labels(&shape.labels),
        since: since.at.0,
        since_order: since.order,
    }
}

fn lineage_from_row(row: LineageRow) -> Option<Lineage> {
    let shape = Shape {
        resource: ResourceKey(row.resource),
        timing: timing_from_row(row.timing)?,
        selectors: row.selectors.into(),
        per: row.per.into(),
        labels: labels_from_rows(row.labels),
    };
    Some(Lineage { shape, since: Since { at: Time(row.since), order: row.since_order } })
}

fn row_from_limit(limit: &Limit) -> LimitRow {
    LimitRow {
        id: limit.id.clone(),
        resource: limit.shape.resource.0,
        quantity: limit.quantity,
        timing: row_from_timing(&limit.shape),
        origin_date: limit.origin_date.clone(),
        selectors: limit.shape.selectors.clone().into(),
        per: limit.shape.per.into(),
        labels: rows_from_labels(&limit.shape.labels),
        enforcement: match limit.enforcement {
            Enforcement::Hard => EnforcementRow::Hard,
            Enforcement::Soft => EnforcementRow::Soft,
            Enforcement::Observe => EnforcementRow::Observe,
        },
        thresholds: limit.thresholds.clone(),
        carry: limit.carry.map(Into::into),
        since: limit.since.at.0,
        since_order: limit.since.order,
        kept: limit.kept.iter().map(row_from_lineage).collect(),
    }
}

fn limit_from_row(row: LimitRow) -> Option<Limit> {
    Some(Limit {
        id: row.id,
        shape: Shape {
            resource: ResourceKey(row.resource),
            timing: timing_from_row(row.timing)?,
            selectors: row.selectors.into(),
            per: row.per.into(),
            labels: labels_from_rows(row.labels),
        },
        quantity: row.quantity,
        enforcement: match row.enforcement {
            EnforcementRow::Hard => Enforcement::Hard,
            EnforcementRow::Soft => Enforcement::Soft,
            EnforcementRow::Observe => Enforcement::Observe,
        },
        thresholds: row.thresholds,
        carry: row.carry.map(Into::into),
        origin_date: row.origin_date,
        since: Since { at: Time(row.since), order: row.since_order },
        kept: row.kept.into_iter().map(lineage_from_row).collect::<Option<_>>()?,
        source: Source::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::carry_over::Carry;

    #[test]
    fn limits_are_decoded_as_they_were_encoded() {
        let shape = Shape {
            resource: ResourceKey(3),
            timing: Cycle::plain(Period::Day).into(),
            selectors: [None, Some("u1".to_owned()), None].into(),
            per: [true, false, false].into(),
            labels: vec![LabelRule { key: "run".to_owned(), selected: None }],
        };
        let kept = Lineage { shape, since: Since { at: Time(-1), order: 9 } };
        let carried = Carried { plan_since: Since { at: Time(5), order: 6 }, lineages: vec![kept.clone()] };
        let text = carried_to_text(&carried).expect("JSON");
        assert_eq!(carried_from_text(&text).expect("JSON"), carried);
        let limit = |enforcement, timing| Limit {
            id: "a \"limit\"".to_owned(),
            shape: Shape {
                resource: ResourceKey(3),
                timing,
                selectors: [Some("planner".to_owned()), None, Some(String::new())].into(),
                per: [false, true, false].into(),
                labels: vec![LabelRule { key: "team".to_owned(), selected: Some(String::new()) }],
            },
            quantity: i64::MAX,
            enforcement,
            thresholds: vec![80, 100, 1_000],
            carry: (enforcement == Enforcement::Hard).then_some(Carry { percent: Some(50), quantity: None }),
            origin_date: "2026-01-05".to_owned(),
            since: Since { at: Time(1_700_000_000_000), order: 7 },
            kept: vec![kept.clone()],
            source: Source::default(),
        };
        let recurrence = Recurrence::OfTenant { period: Period::Month, interval: 3 };
        let monthly = Recurrence::OfTenant { period: Period::Month, interval: 1 };
        let past = vec![
            PastRecurrence { until: Time(7), recurrence: Recurrence::OfLimit(Cycle::plain(Period::Month)) },
            PastRecurrence { until: Time(9), recurrence: monthly },
        ];
        let moved = Timing { present: recurrence, past };
        let limits = [
            limit(Enforcement::Hard, Cycle::plain(Period::Day).into()),
            limit(Enforcement::Soft, Cycle::plain(Period::Month).into()),
            limit(Enforcement::Observe, Cycle::plain(Period::Lifetime).into()),
            limit(Enforcement::Hard, Cycle::plain(Period::Week).into()),
            limit(Enforcement::Hard, moved),
        ];
        let limits = limits.map(Arc::new).to_vec();
        let text = limits_to_text(&limits).expect("JSON");
        assert_eq!(limits_from_text(&text), Some(limits));
        assert_eq!(limits_from_text("[{}]"), None);
    }

    #[test]
    fn a_server_of_the_version_before_can_read_the_timings_that_it_knows() {
        for (cycle, want) in [
            (Cycle::plain(Period::Day), r#"{"period":3,"anchor_day":0}"#),
            (Cycle::plain(Period::Month), r#"{"period":5,"anchor_day":1}"#),
            (Cycle::plain(Period::Lifetime), r#"{"period":7,"anchor_day":0}"#),
        ] {
            let shape = Shape {
                resource: ResourceKey(3),
                timing: cycle.into(),
                selectors: [None, None, None].into(),
                per: [false; 3].into(),
                labels: Vec::new(),
            };
            assert_eq!(serde_json::to_string(&row_from_timing(&shape)).expect("JSON"), want);
            let labels = vec![LabelRule { key: "run".to_owned(), selected: None }];
            let row = serde_json::to_value(row_from_timing(&Shape { labels, ..shape })).expect("JSON");
            assert_eq!(row.get("anchor_day"), None, "it needs this field");
        }
    }
}
