//! Checks agents and overrides: their tenants exist and know that they have them, and the plans of agents exist.

use std::collections::HashSet;

use sea_orm::EntityTrait;

use super::{
    super::{Reading, StoreError, Transaction, entity::plan},
    report::Report,
};
use crate::domain::id::TenantKey;

/// Maximum number of tenants whose agents and overrides are read at once.
const TENANTS_AT_ONCE: usize = 50;

/// Lists the tenants of a scope that have agents or overrides, with the version in the tenant's row. The version is
/// NULL without such a row.
const TENANTS: &str = "SELECT o.tenant_key, t.terms_version
      FROM (SELECT tenant_key FROM agents UNION SELECT tenant_key FROM overrides) AS o
      LEFT JOIN tenants AS t ON t.key = o.tenant_key AND t.id IS NOT NULL
      WHERE o.tenant_key BETWEEN $1 AND $2 ORDER BY o.tenant_key";

/// Checks the agents and overrides of the tenants in the scope of the report.
pub(super) async fn verify(
    transaction: &Transaction<Reading>,
    report: &mut Report,
) -> Result<(), StoreError> {
    let scope = report.scope;
    let rows = transaction.rows(TENANTS, vec![scope.first.into(), scope.last.into()]).await?;
    let mut tenants = Vec::with_capacity(rows.len());
    for row in rows {
        let (tenant, version) = (TenantKey(row.get(0)?), row.get::<Option<i64>>(1)?);
        let described = report.describe_tenant(tenant);
        match version {
            None => report.fault(format!("{described}: agents or overrides of a tenant that does not exist")),
            Some(0) => {
                report.fault(format!(
                    "{described}: terms_version is 0, although there are agents or overrides"
                ));
            }
            Some(_) => {}
        }
        tenants.push(tenant);
    }
    let plans = plan::Entity::find().all(transaction.connection()).await?;
    let plans: HashSet<i32> = plans.into_iter().map(|plan| plan.key).collect();
    for some in tenants.chunks(TENANTS_AT_ONCE) {
        for (tenant, own) in transaction.load_terms(some).await? {
            for agent in &own.agents {
                if agent.plan.is_some_and(|plan| !plans.contains(&plan.0)) {
                    let described = report.describe_tenant(tenant);
                    report.fault(format!("{described}: the plan of agent {:?} does not exist", agent.id));
                }
            }
        }
    }
    Ok(())
}
