//! Warnings: what is legal after a change and looks wrong. The change has taken effect.

use super::parts::Admin;
use crate::{
    domain::{
        bounds::WARNINGS_MAX,
        counter::Balance,
        operation::DimensionFilter,
        overrides::{Override, OverrideState},
        plan::{Enforcement, Limit, Plan},
    },
    engine::UsageQuery,
};

/// Maximum number of tenants of a plan whose usage is compared with the new limits.
const TENANTS_COMPARED_MAX: usize = 20;

/// Maximum number of balances of a tenant that are compared.
const BALANCES_COMPARED_MAX: usize = 1_000;

impl Admin {
    /// Returns the warnings of a plan: its limits of 0, and tenants that have used more than a limit permits.
    pub(super) async fn warnings_of_plan(&self, plan: &Plan) -> Vec<String> {
        let of_limits = plan.limits.iter().enumerate();
        let mut warnings: Vec<String> = of_limits
            .filter(|(_, limit)| refuses_all(limit))
            .map(|(place, limit)| format!("limits[{place}]: {}", zero(&limit.id)))
            .collect();
        let Ok(transaction) = self.read("warn of a plan").await else { return warnings };
        let Ok(page) =
            transaction.list_tenants(self.clock.now(), Some(&plan.id), None, TENANTS_COMPARED_MAX).await
        else {
            return warnings;
        };
        drop(transaction);
        for planned in page.items {
            if warnings.len() >= WARNINGS_MAX {
                break;
            }
            let exceeded = self.exceeded(&planned.tenant.id, DimensionFilter::default(), |_| true).await;
            warnings
                .extend(exceeded.into_iter().map(|text| format!("tenant {:?}: {text}", planned.tenant.id)));
        }
        bounded(warnings)
    }

    /// Returns the warnings of a tenant: limits of which it has used more than they permit.
    pub(super) async fn warnings_of_tenant(&self, tenant: &str) -> Vec<String> {
        bounded(self.exceeded(tenant, DimensionFilter::default(), |_| true).await)
    }

    /// Returns the warnings of an agent: limits of its plan of which it has used more than they permit.
    pub(super) async fn warnings_of_agent(&self, tenant: &str, agent: &str) -> Vec<String> {
        let filter = DimensionFilter { agent: Some(agent.to_owned()), ..DimensionFilter::default() };
        bounded(self.exceeded(tenant, filter, |limit| limit.source.agent.is_some()).await)
    }

    /// Returns the warnings of an override.
    pub(super) async fn warnings_of_override(
        &self,
        tenant: &str,
        made: &Override,
        state: OverrideState,
    ) -> Vec<String> {
        match state {
            OverrideState::Inert => {
                let text = format!(
                    "the override has no effect: neither the tenant's plan nor the agent's plan has a limit {:?} that counts separately what it selects",
                    made.limit_id
                );
                return vec![text];
            }
            OverrideState::Ended => return vec!["the override has ended".to_owned()],
            OverrideState::Scheduled | OverrideState::Active => {}
        }
        let mut warnings = Vec::new();
        if made.quantity == Some(0) && made.enforcement.is_none_or(|own| own == Enforcement::Hard) {
            warnings.push(format!("quantity: {}", zero(&made.limit_id)));
        }
        let is_own =
            |limit: &Limit| limit.source.replaced_by.as_ref().is_some_and(|source| source.id == made.id);
        warnings.extend(self.exceeded(tenant, made.selectors.clone(), is_own).await);
        bounded(warnings)
    }

    /// Describes the HARD limits that are exceeded in running windows. A failure to read them is no failure of the
    /// change, so it only leaves out these warnings.
    async fn exceeded(
        &self,
        tenant: &str,
        filter: DimensionFilter,
        chosen: impl Fn(&Limit) -> bool,
    ) -> Vec<String> {
        let query = UsageQuery {
            tenant: tenant.to_owned(),
            filter,
            limit: BALANCES_COMPARED_MAX,
            ..UsageQuery::default()
        };
        let Ok(page) = self.reader().usage(&query).await else { return Vec::new() };
        let texts = page.entries.iter().filter_map(|balance| exceeded(balance, &chosen));
        texts.take(WARNINGS_MAX).collect()
    }
}

fn exceeded(balance: &Balance, chosen: impl Fn(&Limit) -> bool) -> Option<String> {
    let limit = balance.limit.as_deref().filter(|limit| limit.enforcement == Enforcement::Hard)?;
    let (allowance, remaining) = (balance.allowance()?, balance.remaining()?);
    if remaining >= 0 || !chosen(limit) {
        return None;
    }
    let used = balance.counter.committed.saturating_add(balance.counter.reserved);
    let subject: String = balance
        .key
        .dimensions()
        .iter()
        .filter_map(|(dimension, value)| Some(format!(" of {} {:?}", dimension.name(), (*value)?)))
        .collect();
    Some(format!(
        "limit {:?}{subject} is exceeded: {used} of {allowance} are used, so new holds are refused",
        limit.id
    ))
}

fn refuses_all(limit: &Limit) -> bool {
    limit.quantity == 0 && limit.enforcement == Enforcement::Hard
}

fn zero(limit: &str) -> String {
    format!("limit {limit:?} is 0, so every Reserve of 1 unit or more is refused")
}

/// Returns the first warnings, as many as a reply may have.
fn bounded(mut warnings: Vec<String>) -> Vec<String> {
    warnings.truncate(WARNINGS_MAX);
    warnings
}
