//! What changes of agents and overrides share: the locks, the tenant's present terms, and the end of the change.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
};

use super::{
    super::{
        audit::{By, Deed, Thing},
        books::tenant::tenant_from_model,
        entity::tenant,
        error::{AdminError, StoreError},
        transaction::{Transaction, Writing},
    },
    Done, emit_of_tenant, lock_policy,
    next_plan::change_if_due,
    next_version,
    tenants::{Lock, get_row},
};
use crate::domain::{
    audit::ThingKind, event::ChangedKind, lineage::Since, plan::Policy, tenant::Tenant, terms::OwnTerms,
    time::Time,
};

/// A tenant whose row and policy are locked, with its present terms.
pub(super) struct TermsChange {
    row: tenant::Model,
    pub(super) tenant: Tenant,
    pub(super) policy: Policy,
    pub(super) own: OwnTerms,
    pub(super) now: Time,
}

/// What a change of an agent or override does: the thing before it and after it.
pub(super) struct Altered<'a> {
    pub(super) kind: ChangedKind,
    pub(super) thing: ThingKind,
    pub(super) id: &'a str,
    pub(super) before: Option<Thing<'a>>,
    pub(super) after: Option<Thing<'a>>,
    pub(super) what: Done,
}

impl TermsChange {
    /// Locks the policy and the tenant, and reads the tenant's terms.
    pub(super) async fn begin(
        transaction: &Transaction<Writing>,
        shown: Option<Time>,
        tenant: &str,
    ) -> Result<Self, AdminError> {
        lock_policy(transaction).await?;
        let row = get_row(transaction, tenant, Lock::Yes).await?;
        let now = transaction.now(shown).await?.max(row.decided_at);
        let row = change_if_due(transaction, row, now).await?;
        let tenant = tenant_from_model(row.clone())?;
        let policy = transaction.load_policy().await?;
        let own = transaction.load_terms(&[tenant.key]).await?.remove(&tenant.key).unwrap_or_default();
        Ok(Self { row, tenant, policy, own, now })
    }

    /// Returns the position of this change among the changes of the tenant's agents.
    pub(super) fn since(&self) -> Since {
        Since::of_agent(self.now, self.policy.revision, self.tenant.event_number.saturating_add(1))
    }

    /// Gives the tenant's terms a new version, writes the change into the audit, and emits POLICY_CHANGED.
    pub(super) async fn finish(
        self,
        transaction: &Transaction<Writing>,
        by: By<'_>,
        altered: Altered<'_>,
    ) -> Result<(), StoreError> {
        let Altered { kind, thing, id, before, after, what } = altered;
        let row = tenant::ActiveModel {
            key: Unchanged(self.row.key),
            // As the version of the row, it does not repeat if a failover loses changes.
            terms_version: Set(self.row.terms_version.wrapping_add(self.now.0).max(1)),
            decided_at: Set(self.now),
            version: Set(next_version(&self.row, self.now)),
            event_number: Set(self.row.event_number + 1),
            ..Default::default()
        };
        let tenant = tenant_from_model(row.update(transaction.connection()).await?)?;
        let deed = Deed {
            at: self.now,
            kind: thing,
            thing: id,
            tenant: &self.tenant.id,
            before,
            after,
            revision: None,
        };
        emit_of_tenant(transaction, by, &tenant, kind, deed, what).await
    }
}
