//! Agents and overrides of tenants: rows ⇄ domain. All rows of a tenant are read at once, and remembered by version.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sea_orm::{Value, sea_query::ArrayType::BigInt};

use crate::{
    domain::{
        agent::{Agent, AgentState},
        id::{PlanKey, TenantKey},
        overrides::Override,
        plan::Enforcement,
        terms::OwnTerms,
    },
    store::{
        Statements, StoreError, Transaction,
        bulk::Bulk,
        entity::{agent, limit_override},
        policy::carried_from_text,
        row::Row,
    },
};

static FIND_AGENTS: Bulk = Bulk {
    columns: &[BigInt],
    postgres:
        "SELECT tenant_key, id, display_name, plan_key, state, carried, created_at, updated_at FROM agents
      WHERE tenant_key = ANY($1)",
    sqlite:
        "SELECT tenant_key, id, display_name, plan_key, state, carried, created_at, updated_at FROM agents
      WHERE tenant_key = ?",
};
static FIND_OVERRIDES: Bulk = Bulk {
    columns: &[BigInt],
    postgres:
        "SELECT tenant_key, id, limit_id, agent, user_name, model, labels, quantity, enforcement, thresholds,
            start_at, end_at, reason, created_at, updated_at FROM overrides WHERE tenant_key = ANY($1)",
    sqlite:
        "SELECT tenant_key, id, limit_id, agent, user_name, model, labels, quantity, enforcement, thresholds,
            start_at, end_at, reason, created_at, updated_at FROM overrides WHERE tenant_key = ?",
};

impl<W: Statements> Transaction<W> {
    /// Reads the agents and overrides of these tenants, sorted by id. The versions of the results are 0. Tenants
    /// without any are left out.
    pub async fn load_terms(
        &self,
        tenants: &[TenantKey],
    ) -> Result<HashMap<TenantKey, OwnTerms>, StoreError> {
        let keys = || vec![tenants.iter().map(|key| Value::from(key.0)).collect()];
        let mut found: HashMap<TenantKey, OwnTerms> = HashMap::new();
        for row in self.find(&FIND_AGENTS, keys()).await? {
            let agent = agent_from_model(agent_of_row(&row)?)?;
            found.entry(TenantKey(row.get(0)?)).or_default().agents.push(Arc::new(agent));
        }
        for row in self.find(&FIND_OVERRIDES, keys()).await? {
            let made = override_from_model(override_of_row(&row)?)?;
            found.entry(TenantKey(row.get(0)?)).or_default().overrides.push(Arc::new(made));
        }
        for own in found.values_mut() {
            own.agents.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            own.overrides.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        }
        Ok(found)
    }
}

fn agent_of_row(row: &Row) -> Result<agent::Model, StoreError> {
    Ok(agent::Model {
        tenant_key: row.get(0)?,
        id: row.get(1)?,
        display_name: row.get(2)?,
        plan_key: row.get(3)?,
        state: row.get(4)?,
        carried: row.get(5)?,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
    })
}

fn override_of_row(row: &Row) -> Result<limit_override::Model, StoreError> {
    Ok(limit_override::Model {
        tenant_key: row.get(0)?,
        id: row.get(1)?,
        limit_id: row.get(2)?,
        agent: row.get(3)?,
        user_name: row.get(4)?,
        model: row.get(5)?,
        labels: row.get(6)?,
        quantity: row.get(7)?,
        enforcement: row.get(8)?,
        thresholds: row.get(9)?,
        start_at: row.get(10)?,
        end_at: row.get(11)?,
        reason: row.get(12)?,
        created_at: row.get(13)?,
        updated_at: row.get(14)?,
    })
}

/// Reads an agent from its row.
pub(in crate::store) fn agent_from_model(row: agent::Model) -> Result<Agent, StoreError> {
    let corrupt = |what: &str| StoreError::Corrupt(format!("{what} of agent {:?}", row.id));
    let carried = carried_from_text(&row.carried)?;
    Ok(Agent {
        state: AgentState::from_code(row.state).ok_or_else(|| corrupt("the state"))?,
        id: row.id.into(),
        display_name: row.display_name,
        plan: row.plan_key.map(PlanKey),
        plan_since: carried.plan_since,
        carried: carried.lineages,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

/// Reads an override from its row.
pub(in crate::store) fn override_from_model(row: limit_override::Model) -> Result<Override, StoreError> {
    let corrupt = |what: &str| StoreError::Corrupt(format!("{what} of override {:?}", row.id));
    let labels = row.labels.as_deref().map(serde_json::from_str::<BTreeMap<String, String>>);
    let thresholds = row.thresholds.as_deref().map(serde_json::from_str);
    let enforcement = row
        .enforcement
        .map(|code| Enforcement::from_code(i32::from(code)).ok_or_else(|| corrupt("the enforcement")));
    Ok(Override {
        labels: labels.transpose().map_err(|_| corrupt("the labels"))?.into_iter().flatten().collect(),
        thresholds: thresholds.transpose().map_err(|_| corrupt("the thresholds"))?,
        enforcement: enforcement.transpose()?,
        id: row.id.into(),
        limit_id: row.limit_id,
        selectors: [row.agent, row.user_name, row.model].into(),
        quantity: row.quantity,
        start: row.start_at,
        end: row.end_at,
        reason: row.reason,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

/// Makes the row of an override.
pub(in crate::store) fn model_of_override(tenant: TenantKey, made: &Override) -> limit_override::Model {
    let [agent, user_name, model] = made.selectors.clone().into();
    let labels: BTreeMap<&str, &str> =
        made.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    limit_override::Model {
        tenant_key: tenant.0,
        id: made.id.to_string(),
        limit_id: made.limit_id.clone(),
        agent,
        user_name,
        model,
        labels: (!labels.is_empty()).then(|| serde_json::json!(labels).to_string()),
        quantity: made.quantity,
        enforcement: made.enforcement.map(|enforcement| i16::try_from(enforcement.code()).unwrap_or(0)),
        thresholds: made.thresholds.as_ref().map(|thresholds| serde_json::json!(thresholds).to_string()),
        start_at: made.start,
        end_at: made.end,
        reason: made.reason.clone(),
        created_at: made.created_at,
        updated_at: made.updated_at,
    }
}
