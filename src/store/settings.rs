//! The settings of the policy: columns of the policy's row ⇄ domain.

use chrono_tz::Tz;

use super::{entity::policy, error::StoreError, row::Row};
use crate::domain::{id::PlanKey, plan::PolicySettings};

/// Reads the settings from the columns of the policy's row, in their order.
pub(super) fn settings_from_row(row: &Row) -> Result<PolicySettings, StoreError> {
    settings_from_model(&policy::Model {
        id: row.get(0)?,
        revision: row.get(1)?,
        default_plan_key: row.get(2)?,
        default_zone: row.get(3)?,
        settings_at: row.get(4)?,
        keys_revision: row.get(5)?,
    })
}

pub(super) fn settings_from_model(row: &policy::Model) -> Result<PolicySettings, StoreError> {
    let zone = row.default_zone.as_deref().map(|zone| zone.parse());
    let zone = zone.transpose().map_err(|_| StoreError::Corrupt("the default time zone".to_owned()))?;
    Ok(PolicySettings {
        default_plan: row.default_plan_key.map(PlanKey),
        default_zone: zone.unwrap_or(Tz::UTC),
        updated_at: row.settings_at,
    })
}
