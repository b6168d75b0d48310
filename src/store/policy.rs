//! Resources and plans: rows ⇄ domain. The limits of a plan are stored in the plan's row, as JSON.

use std::sync::Arc;

use sea_orm::DbErr;
use serde::{Deserialize, Serialize};

use super::{
    entity::{plan, policy, resource},
    error::StoreError,
    row::Row,
    transaction::{Statements, Transaction},
};
use crate::domain::{
    id::{PlanKey, ResourceKey},
    lineage::{Lineage, Since},
    plan::{Enforcement, Limit, Plan, Policy, Resource},
    shape::Shape,
    time::Time,
    window::Period,
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
            let plans =
                "SELECT key, id, display_name, limits, created_at, updated_at FROM plans ORDER BY key";
            let plans = self.rows(plans, Vec::new()).await?;
            // Under READ COMMITTED each statement sees all that was committed before it.
            if self.read_revision().await? == revision {
                let resources = resources.iter().map(resource_from_row).collect::<Result<_, _>>()?;
                let plans = plans.iter().map(plan_from_row).collect::<Result<_, _>>()?;
                return Ok(Policy::new(revision, resources, plans));
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
    period: u8,
    anchor_day: u8,
    selectors: [Option<String>; 3],
    per: [bool; 3],
    enforcement: EnforcementRow,
    thresholds: Vec<i32>,
    since: i64,
    #[serde(default)]
    since_order: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<LineageRow>,
}

/// A shape, and the instant from which it counts, as stored in rows.
#[derive(Serialize, Deserialize)]
struct LineageRow {
    resource: i32,
    period: u8,
    anchor_day: u8,
    selectors: [Option<String>; 3],
    per: [bool; 3],
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

fn row_from_lineage(lineage: &Lineage) -> LineageRow {
    let Lineage { shape, since } = lineage;
    LineageRow {
        resource: shape.resource.0,
        period: shape.period.code(),
        anchor_day: shape.anchor_day,
        selectors: shape.selectors.clone().into(),
        per: shape.per.into(),
        since: since.at.0,
        since_order: since.order,
    }
}

fn lineage_from_row(row: LineageRow) -> Option<Lineage> {
    let shape = Shape {
        resource: ResourceKey(row.resource),
        period: Period::from_code(row.period)?,
        anchor_day: row.anchor_day,
        selectors: row.selectors.into(),
        per: row.per.into(),
    };
    Some(Lineage { shape, since: Since { at: Time(row.since), order: row.since_order } })
}

fn row_from_limit(limit: &Limit) -> LimitRow {
    LimitRow {
        id: limit.id.clone(),
        resource: limit.shape.resource.0,
        quantity: limit.quantity,
        period: limit.shape.period.code(),
        anchor_day: limit.shape.anchor_day,
        selectors: limit.shape.selectors.clone().into(),
        per: limit.shape.per.into(),
        enforcement: match limit.enforcement {
            Enforcement::Hard => EnforcementRow::Hard,
            Enforcement::Soft => EnforcementRow::Soft,
            Enforcement::Observe => EnforcementRow::Observe,
        },
        thresholds: limit.thresholds.clone(),
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
            period: Period::from_code(row.period)?,
            anchor_day: row.anchor_day,
            selectors: row.selectors.into(),
            per: row.per.into(),
        },
        quantity: row.quantity,
        enforcement: match row.enforcement {
            EnforcementRow::Hard => Enforcement::Hard,
            EnforcementRow::Soft => Enforcement::Soft,
            EnforcementRow::Observe => Enforcement::Observe,
        },
        thresholds: row.thresholds,
        since: Since { at: Time(row.since), order: row.since_order },
        kept: row.kept.into_iter().map(lineage_from_row).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_decoded_as_they_were_encoded() {
        let shape = Shape {
            resource: ResourceKey(3),
            period: Period::Day,
            anchor_day: 0,
            selectors: [None, Some("u1".to_owned()), None].into(),
            per: [true, false, false].into(),
        };
        let kept = Lineage { shape, since: Since { at: Time(-1), order: 9 } };
        let carried = Carried { plan_since: Since { at: Time(5), order: 6 }, lineages: vec![kept.clone()] };
        let text = carried_to_text(&carried).expect("JSON");
        assert_eq!(carried_from_text(&text).expect("JSON"), carried);
        let limit = |enforcement, period| Limit {
            id: "a \"limit\"".to_owned(),
            shape: Shape {
                resource: ResourceKey(3),
                period,
                anchor_day: 31,
                selectors: [Some("planner".to_owned()), None, Some(String::new())].into(),
                per: [false, true, false].into(),
            },
            quantity: i64::MAX,
            enforcement,
            thresholds: vec![80, 100, 1_000],
            since: Since { at: Time(1_700_000_000_000), order: 7 },
            kept: vec![kept.clone()],
        };
        let limits = [
            limit(Enforcement::Hard, Period::Day),
            limit(Enforcement::Soft, Period::Month),
            limit(Enforcement::Observe, Period::Lifetime),
        ];
        let limits = limits.map(Arc::new).to_vec();
        let text = limits_to_text(&limits).expect("JSON");
        assert_eq!(limits_from_text(&text), Some(limits));
        assert_eq!(limits_from_text("[{}]"), None);
    }
}
