//! Remembers the terms of tenants: their plans, joined with their agents and overrides.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    domain::{
        id::{PlanKey, TenantKey},
        plan::Policy,
        tenant::Tenant,
        terms::{OwnTerms, Terms},
    },
    store::{Statements, StoreError, Transaction},
};

/// Maximum number of rows of agents and overrides whose terms are remembered. Beyond it all are forgotten.
const ROWS_MAX: usize = 100_000;

/// The terms that were made last. Terms are looked up by the tenant's row, which has the version of its agents and
/// overrides. So a transaction that has locked the tenant never gets terms that are out of date.
#[derive(Debug, Default)]
pub(super) struct TermsCache {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The revision of the policy to which `of_plans` belongs.
    revision: i64,
    /// The terms of tenants that have neither agents nor overrides.
    of_plans: HashMap<PlanKey, Arc<Terms>>,
    /// The terms of other tenants.
    of_tenants: HashMap<TenantKey, Arc<Terms>>,
    rows: usize,
}

impl TermsCache {
    /// Returns the terms of a tenant if no rows must be read for them.
    pub(super) fn find(&self, policy: &Policy, tenant: &Tenant) -> Option<Arc<Terms>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if tenant.terms_version == 0 {
            let found = known.of_plans.get(&tenant.plan).filter(|_| known.revision == policy.revision);
            if let Some(terms) = found {
                return Some(Arc::clone(terms));
            }
            drop(known);
            return self.make_of_plan(policy, tenant.plan);
        }
        let found = known.of_tenants.get(&tenant.key)?;
        if found.are_current(policy, tenant) {
            return Some(Arc::clone(found));
        }
        let own = Arc::clone(&found.own);
        drop(known);
        if own.version == tenant.terms_version { self.make(policy, tenant, own).ok() } else { None }
    }

    /// Returns the terms of tenants, in their order. The tenants must be locked, or of one snapshot.
    pub(super) async fn get(
        &self,
        transaction: &Transaction<impl Statements>,
        policy: &Policy,
        tenants: &[&Tenant],
    ) -> Result<Vec<Arc<Terms>>, StoreError> {
        let mut found: Vec<Option<Arc<Terms>>> =
            tenants.iter().map(|tenant| self.find(policy, tenant)).collect();
        let missing: Vec<TenantKey> = tenants
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(tenant, _)| tenant.key)
            .collect();
        if !missing.is_empty() {
            let mut own = transaction.load_terms(&missing).await?;
            for (tenant, place) in tenants.iter().zip(&mut found).filter(|(_, place)| place.is_none()) {
                let own = own.remove(&tenant.key).unwrap_or_default();
                let own = OwnTerms { version: tenant.terms_version, ..own };
                *place = Some(self.make(policy, tenant, Arc::new(own))?);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn make_of_plan(&self, policy: &Policy, plan: PlanKey) -> Option<Arc<Terms>> {
        let terms = Arc::new(Terms::of_plan(policy, Arc::clone(policy.plans.get(&plan)?)));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.revision < policy.revision {
            known.of_plans.clear();
            known.revision = policy.revision;
        }
        if known.revision == policy.revision {
            return Some(Arc::clone(known.of_plans.entry(plan).or_insert(terms)));
        }
        Some(terms)
    }

    fn make(&self, policy: &Policy, tenant: &Tenant, own: Arc<OwnTerms>) -> Result<Arc<Terms>, StoreError> {
        let missing = || StoreError::Corrupt(format!("a plan of tenant {:?} is missing", tenant.id));
        let plan = policy.plans.get(&tenant.plan).ok_or_else(missing)?;
        let terms = Arc::new(Terms::new(policy, Arc::clone(plan), own));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.rows > ROWS_MAX {
            (known.of_tenants, known.rows) = (HashMap::new(), 0);
        }
        known.rows += 1 + terms.rows();
        if let Some(before) = known.of_tenants.insert(tenant.key, Arc::clone(&terms)) {
            known.rows = known.rows.saturating_sub(1 + before.rows());
        }
        Ok(terms)
    }
}
