//! Agents: create, update, delete. They are read with the terms of their tenant.

use std::sync::Arc;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    EntityTrait,
};

use super::{
    super::{
        audit::{By, Thing},
        books::terms::agent_from_model,
        connect::Store,
        entity::agent,
        error::AdminError,
        policy::{Carried, carried_to_text},
    },
    Done, changed_fields, changes, set_if,
    terms::{Altered, TermsChange},
};
use crate::domain::{
    agent::{Agent, AgentState},
    audit::ThingKind,
    bounds::AGENTS_MAX,
    etag::check_etag,
    event::ChangedKind,
    plan::{Plan, Policy},
    refusal::Refusal,
};

/// An agent to be declared.
#[derive(Clone, Debug)]
pub struct NewAgent {
    /// The id of the tenant.
    pub tenant: String,
    /// The name with which calls name the agent.
    pub id: String,
    /// A name for people to read.
    pub display_name: String,
    /// The id of the agent's own plan. `None`: it has no plan of its own.
    pub plan: Option<String>,
    /// Whether the agent may take new holds.
    pub state: AgentState,
}

/// The fields of an agent to change; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct AgentChange {
    /// A name for people to read.
    pub display_name: Option<String>,
    /// The id of another plan. Inner `None`: no plan of its own.
    pub plan: Option<Option<String>>,
    /// Whether the agent may take new holds.
    pub state: Option<AgentState>,
    /// The etag that the agent must have. Empty: any.
    pub etag: String,
}

/// An agent, and the id of its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedAgent {
    /// The agent, as its database row describes it.
    pub agent: Agent,
    /// The id of the agent's plan. `None`: it has no plan of its own.
    pub plan_id: Option<String>,
}

impl Store {
    /// Declares an agent. Refuses if the id is taken, if the plan does not exist, or if the tenant has too many agents.
    pub async fn create_agent(&self, by: By<'_>, new: &NewAgent) -> Result<PlannedAgent, AdminError> {
        self.run("create agent", move |transaction| async move {
            let change = TermsChange::begin(&transaction, by.shown, &new.tenant).await?;
            if find(&change, &new.id).is_some() {
                return Err(Refusal::NameTaken { kind: "agent", id: new.id.clone() }.into());
            }
            if change.own.agents.len() as u64 >= AGENTS_MAX {
                return Err(Refusal::TooManyAgents(AGENTS_MAX).into());
            }
            let plan = find_plan(&change.policy, new.plan.as_deref())?;
            let carried = Carried { plan_since: change.since(), lineages: Vec::new() };
            let row = agent::ActiveModel {
                tenant_key: Set(change.tenant.key.0),
                id: Set(new.id.clone()),
                display_name: Set(new.display_name.clone()),
                plan_key: Set(plan.map(|plan| plan.key.0)),
                state: Set(new.state.code()),
                carried: Set(carried_to_text(&carried)?),
                created_at: Set(change.now),
                updated_at: Set(change.now),
            };
            let plan_id = plan.map(|plan| plan.id.clone());
            let agent = agent_from_model(row.insert(transaction.connection()).await?)?;
            let made = PlannedAgent { agent, plan_id };
            let altered = altered(&new.tenant, &new.id, (None, Some(&made)), Done::Created);
            change.finish(&transaction, by, altered).await?;
            Ok((transaction, made))
        })
        .await
    }

    /// Changes an agent. Has no effect if all given values are equal to the present values.
    pub async fn update_agent(
        &self,
        by: By<'_>,
        tenant: &str,
        id: &str,
        wanted: &AgentChange,
    ) -> Result<PlannedAgent, AdminError> {
        self.run("update agent", move |transaction| async move {
            let change = TermsChange::begin(&transaction, by.shown, tenant).await?;
            let found = find(&change, id).ok_or_else(|| Refusal::AgentNotFound(id.to_owned()))?;
            check_etag(&wanted.etag, || found.etag(tenant), "agent", id)?;
            let present = plan_of(&change.policy, &found);
            let plan = match &wanted.plan {
                Some(plan) => find_plan(&change.policy, plan.as_deref())?,
                None => present,
            };
            let plan_id = plan.map(|plan| plan.id.clone());
            let other_plan = plan.map(|plan| plan.key) != found.plan;
            let fields = changed_fields([
                ("display_name", changes(&wanted.display_name, &found.display_name)),
                ("plan", other_plan),
                ("state", changes(&wanted.state, &found.state)),
            ]);
            let before = planned(&found, present);
            if fields.is_empty() {
                return Ok((transaction, before));
            }
            let lineages = match (present, plan) {
                (Some(from), Some(to)) if other_plan => {
                    change.tenant.carry_agent_to(&found, from, to, change.now)
                }
                _ => Vec::new(),
            };
            let carried = Carried { plan_since: change.since(), lineages };
            let carried = if other_plan { Some(carried_to_text(&carried)?) } else { None };
            let row = agent::ActiveModel {
                tenant_key: Unchanged(change.tenant.key.0),
                id: Unchanged(id.to_owned()),
                display_name: set_if(wanted.display_name.clone()),
                plan_key: set_if(other_plan.then_some(plan.map(|plan| plan.key.0))),
                state: set_if(wanted.state.map(AgentState::code)),
                carried: set_if(carried),
                updated_at: Set(change.now),
                ..Default::default()
            };
            let agent = agent_from_model(row.update(transaction.connection()).await?)?;
            let changed = PlannedAgent { agent, plan_id };
            let altered = altered(tenant, id, (Some(&before), Some(&changed)), Done::Updated(fields));
            change.finish(&transaction, by, altered).await?;
            Ok((transaction, changed))
        })
        .await
    }

    /// Deletes an agent. Its calls are then those of an agent that was not declared.
    pub async fn delete_agent(
        &self,
        by: By<'_>,
        tenant: &str,
        id: &str,
        etag: &str,
    ) -> Result<(), AdminError> {
        self.run("delete agent", move |transaction| async move {
            let change = TermsChange::begin(&transaction, by.shown, tenant).await?;
            let found = find(&change, id).ok_or_else(|| Refusal::AgentNotFound(id.to_owned()))?;
            check_etag(etag, || found.etag(tenant), "agent", id)?;
            let before = planned(&found, plan_of(&change.policy, &found));
            let row = (change.tenant.key.0, id.to_owned());
            agent::Entity::delete_by_id(row).exec(transaction.connection()).await?;
            let altered = altered(tenant, id, (Some(&before), None), Done::Deleted);
            change.finish(&transaction, by, altered).await?;
            Ok((transaction, ()))
        })
        .await
    }
}

fn planned(agent: &Agent, plan: Option<&Plan>) -> PlannedAgent {
    PlannedAgent { agent: agent.clone(), plan_id: plan.map(|plan| plan.id.clone()) }
}

fn altered<'a>(
    tenant: &'a str,
    id: &'a str,
    (before, after): (Option<&'a PlannedAgent>, Option<&'a PlannedAgent>),
    what: Done,
) -> Altered<'a> {
    let thing = |planned| Thing::Agent(tenant, planned);
    Altered {
        kind: ChangedKind::Agent,
        thing: ThingKind::Agent,
        id,
        before: before.map(thing),
        after: after.map(thing),
        what,
    }
}

fn find(change: &TermsChange, id: &str) -> Option<Arc<Agent>> {
    change.own.agents.iter().find(|agent| *agent.id == *id).cloned()
}

fn find_plan<'a>(policy: &'a Policy, id: Option<&str>) -> Result<Option<&'a Plan>, Refusal> {
    let Some(id) = id else { return Ok(None) };
    let found = policy.find_plan(id).ok_or_else(|| Refusal::PlanNotFound(id.to_owned()))?;
    Ok(Some(found))
}

/// Returns the plan of an agent. `None`: it has no plan, or a server of the previous release has deleted the plan.
fn plan_of<'a>(policy: &'a Policy, agent: &Agent) -> Option<&'a Plan> {
    agent.plan.and_then(|key| policy.plans.get(&key)).map(Arc::as_ref)
}
