//! The settings of the policy, and the tenants that calls create by them (R4.38).

use chrono_tz::Tz;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    EntityTrait,
};

use super::{
    super::{
        audit::{By, Deed, Thing},
        connect::Store,
        entity::{plan, policy},
        error::AdminError,
        policy::POLICY_ROW,
        settings::settings_from_model,
        transaction::{Transaction, Writing},
    },
    Done, NewTenant, changed_fields, changes, emit_change, emit_tenant_change, lock_policy, next_revision,
    read_policy_row,
    tenants::{find_row, insert},
};
use crate::domain::{
    audit::ThingKind,
    etag::check_etag,
    event::ChangedKind,
    id::TenantKey,
    plan::{Policy, SETTINGS_ID},
    refusal::Refusal,
    tenant::TenantState,
    time::Time,
};

/// The settings of the policy to change; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default)]
pub struct SettingsChange {
    /// The id of the plan of tenants that calls create. Empty: calls create no tenants.
    pub default_plan: Option<String>,
    /// The time zone of tenants that calls create.
    pub default_zone: Option<Tz>,
    /// The etag that the settings must have. Empty: any.
    pub etag: String,
}

impl Store {
    /// Changes the settings of the policy, and returns the policy with the new settings. Has no effect if all given
    /// values are equal to the present values. Refuses if the plan does not exist.
    pub async fn update_settings(&self, by: By<'_>, change: &SettingsChange) -> Result<Policy, AdminError> {
        self.run("update policy settings", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            let policy = transaction.load_policy().await?;
            let before = &policy.settings;
            check_etag(&change.etag, || before.etag(), "settings", SETTINGS_ID)?;
            let default_plan = match change.default_plan.as_deref() {
                None => before.default_plan,
                Some("") => None,
                Some(id) => {
                    let plan = policy.find_plan(id).ok_or_else(|| Refusal::PlanNotFound(id.to_owned()))?;
                    Some(plan.key)
                }
            };
            let fields = changed_fields([
                ("default_plan", default_plan != before.default_plan),
                ("default_zone", changes(&change.default_zone, &before.default_zone)),
            ]);
            if fields.is_empty() {
                return Ok((transaction, policy));
            }
            next_revision(&transaction, revision).await?;
            let now = transaction.now(by.shown).await?.max(before.updated_at.unwrap_or(Time::MIN));
            let zone = change.default_zone.unwrap_or(before.default_zone);
            let row = policy::ActiveModel {
                id: Unchanged(POLICY_ROW),
                default_plan_key: Set(default_plan.map(|key| key.0)),
                default_zone: Set(Some(zone.name().to_owned())),
                settings_at: Set(Some(now)),
                ..Default::default()
            };
            row.update(transaction.connection()).await?;
            let changed = transaction.load_policy().await?;
            let what = Done::Updated(fields);
            let deed = Deed {
                at: now,
                kind: ThingKind::Settings,
                thing: SETTINGS_ID,
                tenant: "",
                before: Some(Thing::Settings(&policy)),
                after: Some(Thing::Settings(&changed)),
                revision: Some(changed.revision),
            };
            emit_change(&transaction, by, ChangedKind::Settings, deed, what).await?;
            Ok((transaction, changed))
        })
        .await
    }

    /// Creates tenants with the default plan and the default zone, all or none of them. A tenant that exists already
    /// is left as it is: another server may have created it.
    ///
    /// # Errors
    ///
    /// Refuses with [`Refusal::TenantNotFound`] if the policy has no default plan.
    pub async fn create_default_tenants(
        &self,
        shown: Option<Time>,
        new: &[(TenantKey, String)],
    ) -> Result<(), AdminError> {
        self.run("create default tenants", move |transaction| async move {
            lock_policy(&transaction).await?;
            let settings = settings_from_model(&read_policy_row(&transaction).await?)?;
            let plan = match settings.default_plan {
                Some(key) => plan::Entity::find_by_id(key.0).one(transaction.connection()).await?,
                None => None,
            };
            let Some(plan) = plan else {
                let id = new.first().map(|(_, id)| id.clone()).unwrap_or_default();
                return Err(Refusal::TenantNotFound(id).into());
            };
            for (key, id) in new {
                create(&transaction, shown, &plan, settings.default_zone, *key, id).await?;
            }
            Ok((transaction, ()))
        })
        .await
    }
}

async fn create(
    transaction: &Transaction<Writing>,
    shown: Option<Time>,
    plan: &plan::Model,
    zone: Tz,
    key: TenantKey,
    id: &str,
) -> Result<(), AdminError> {
    if find_row(transaction, id, super::tenants::Lock::No).await?.is_some() {
        return Ok(());
    }
    let new = NewTenant {
        key,
        id: id.to_owned(),
        display_name: String::new(),
        plan: plan.id.clone(),
        zone,
        anchor_time: None,
        state: TenantState::Active,
    };
    let tenant = insert(transaction, shown, &new, plan.key).await?;
    Ok(emit_tenant_change(transaction, &tenant, Done::Created).await?)
}
