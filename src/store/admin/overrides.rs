//! Overrides: create, update, delete. They are read with the terms of their tenant.

use std::sync::Arc;

use sea_orm::{ActiveModelTrait, EntityTrait, IntoActiveModel};

use super::{
    super::{
        audit::{By, Thing},
        books::terms::model_of_override,
        connect::Store,
        entity::limit_override,
        error::{AdminError, StoreError},
    },
    Done, changed_fields,
    terms::{Altered, TermsChange},
};
use crate::domain::{
    audit::ThingKind,
    bounds::OVERRIDES_MAX,
    etag::check_etag,
    event::ChangedKind,
    overrides::{Override, OverrideState},
    plan::Enforcement,
    refusal::{Fault, Refusal},
    terms::{OwnTerms, Terms},
    time::Time,
};

/// What an update of an override changes; `None` leaves a field as it is. An inner `None` removes the value.
#[derive(Clone, Debug, Default)]
pub struct OverrideChange {
    /// Replaces the quantity of the limit.
    pub quantity: Option<Option<i64>>,
    /// Replaces the enforcement of the limit.
    pub enforcement: Option<Option<Enforcement>>,
    /// Replaces the thresholds of the limit.
    pub thresholds: Option<Option<Vec<i32>>>,
    /// When the override begins to apply. Inner `None`: when it was created.
    pub start: Option<Option<Time>>,
    /// When the override no longer applies. [`Time::NEVER`]: it has no end.
    pub end: Option<Time>,
    /// Why the override was made.
    pub reason: Option<String>,
    /// The etag that the override must have. Empty: any.
    pub etag: String,
}

/// An override, and what it does at the instant of the call.
pub type MadeOverride = (Override, OverrideState);

impl Store {
    /// Creates an override. The store sets its times. Refuses if the id is taken, if the override selects what the
    /// limit does not count separately, or if the tenant has too many overrides.
    pub async fn create_override(
        &self,
        by: By<'_>,
        tenant: &str,
        new: &Override,
    ) -> Result<MadeOverride, AdminError> {
        self.run("create override", move |transaction| async move {
            let change = TermsChange::begin(&transaction, by.shown, tenant).await?;
            if find(&change, &new.id).is_some() {
                return Err(Refusal::NameTaken { kind: "override", id: new.id.to_string() }.into());
            }
            if change.own.overrides.len() as u64 >= OVERRIDES_MAX {
                return Err(Refusal::TooManyOverrides(OVERRIDES_MAX).into());
            }
            let made = Override { created_at: change.now, updated_at: change.now, ..new.clone() };
            let terms = terms_with(&change, &made)?;
            refuse_misfit(&terms, &made)?;
            refuse_times(&made)?;
            let row = model_of_override(change.tenant.key, &made).into_active_model();
            limit_override::Entity::insert(row).exec_without_returning(transaction.connection()).await?;
            let state = terms.state_of(&made, change.now);
            let made = (made, state);
            let altered = altered(tenant, &new.id, (None, Some(&made)), Done::Created);
            change.finish(&transaction, by, altered).await?;
            Ok((transaction, made))
        })
        .await
    }

    /// Changes an override. Has no effect if all given values are equal to the present values.
    pub async fn update_override(
        &self,
        by: By<'_>,
        tenant: &str,
        id: &str,
        wanted: &OverrideChange,
    ) -> Result<MadeOverride, AdminError> {
        self.run("update override", move |transaction| async move {
            let change = TermsChange::begin(&transaction, by.shown, tenant).await?;
            let found = find(&change, id).ok_or_else(|| Refusal::OverrideNotFound(id.to_owned()))?;
            check_etag(&wanted.etag, || found.etag(tenant), "override", id)?;
            let made = wanted.apply(&found);
            let terms = terms_with(&change, &made)?;
            let state = terms.state_of(&made, change.now);
            let fields = changed_fields([
                ("end_time", made.end != found.end),
                ("enforcement", made.enforcement != found.enforcement),
                ("quantity", made.quantity != found.quantity),
                ("reason", made.reason != found.reason),
                ("start_time", made.start != found.start),
                ("thresholds", made.thresholds != found.thresholds),
            ]);
            if fields.is_empty() {
                return Ok((transaction, (made, state)));
            }
            refuse_times(&made)?;
            if made.quantity.is_none() && made.enforcement.is_none() && made.thresholds.is_none() {
                let text = "must be given, unless the override replaces enforcement or thresholds";
                return Err(Refusal::Invalid(vec![Fault::new("override.quantity", text)]).into());
            }
            let made = Override { updated_at: change.now, ..made };
            let before = (Override::clone(&found), terms_with(&change, &found)?.state_of(&found, change.now));
            let row = model_of_override(change.tenant.key, &made).into_active_model().reset_all();
            row.update(transaction.connection()).await?;
            let changed = (made, state);
            let altered = altered(tenant, id, (Some(&before), Some(&changed)), Done::Updated(fields));
            change.finish(&transaction, by, altered).await?;
            Ok((transaction, changed))
        })
        .await
    }

    /// Deletes an override. The limit applies again as its plan gives it.
    pub async fn delete_override(
        &self,
        by: By<'_>,
        tenant: &str,
        id: &str,
        etag: &str,
    ) -> Result<(), AdminError> {
        self.run("delete override", move |transaction| async move {
            let change = TermsChange::begin(&transaction, by.shown, tenant).await?;
            let found = find(&change, id).ok_or_else(|| Refusal::OverrideNotFound(id.to_owned()))?;
            check_etag(etag, || found.etag(tenant), "override", id)?;
            let row = (change.tenant.key.0, id.to_owned());
            limit_override::Entity::delete_by_id(row).exec(transaction.connection()).await?;
            let before = (Override::clone(&found), terms_with(&change, &found)?.state_of(&found, change.now));
            let altered = altered(tenant, id, (Some(&before), None), Done::Deleted);
            change.finish(&transaction, by, altered).await?;
            Ok((transaction, ()))
        })
        .await
    }
}

impl OverrideChange {
    /// Returns the override with the changes.
    fn apply(&self, found: &Override) -> Override {
        Override {
            quantity: self.quantity.unwrap_or(found.quantity),
            enforcement: self.enforcement.unwrap_or(found.enforcement),
            thresholds: self.thresholds.clone().unwrap_or_else(|| found.thresholds.clone()),
            start: self.start.unwrap_or(found.start),
            end: self.end.unwrap_or(found.end),
            reason: self.reason.clone().unwrap_or_else(|| found.reason.clone()),
            ..found.clone()
        }
    }
}

fn altered<'a>(
    tenant: &'a str,
    id: &'a str,
    (before, after): (Option<&'a MadeOverride>, Option<&'a MadeOverride>),
    what: Done,
) -> Altered<'a> {
    let thing = |made| Thing::Override(tenant, made);
    Altered {
        kind: ChangedKind::Override,
        thing: ThingKind::Override,
        id,
        before: before.map(thing),
        after: after.map(thing),
        what,
    }
}

fn find(change: &TermsChange, id: &str) -> Option<Arc<Override>> {
    change.own.overrides.iter().find(|made| *made.id == *id).cloned()
}

/// Returns the tenant's terms with this override.
fn terms_with(change: &TermsChange, made: &Override) -> Result<Terms, StoreError> {
    let missing = || StoreError::Corrupt(format!("a plan of tenant {:?} is missing", change.tenant.id));
    let plan = change.policy.plans.get(&change.tenant.plan).ok_or_else(missing)?;
    let overrides = vec![Arc::new(made.clone())];
    let own = OwnTerms { version: 0, agents: change.own.agents.clone(), overrides };
    Ok(Terms::new(&change.policy, Arc::clone(plan), Arc::new(own)))
}

/// Refuses an override if limits have its id, but none of them counts separately what it selects.
fn refuse_misfit(terms: &Terms, made: &Override) -> Result<(), Refusal> {
    let limits: Vec<_> = terms.limits_for_override(made).collect();
    let misfit = limits.first().and_then(|limit| made.misfits(limit));
    match misfit {
        Some(field) if !limits.iter().any(|limit| made.fits(limit)) => {
            let text = format!("must not be given: limit {:?} does not count this separately", made.limit_id);
            Err(Refusal::Invalid(vec![Fault::new(format!("override.{field}"), text)]))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses an override that would end before it begins.
fn refuse_times(made: &Override) -> Result<(), Refusal> {
    if made.end <= made.start.unwrap_or(made.created_at) {
        let text = "must be after start_time, or after the creation of an override without start_time";
        return Err(Refusal::Invalid(vec![Fault::new("override.end_time", text)]));
    }
    Ok(())
}
