//! Agents of tenants: the rpcs, and messages ⇄ arguments of the store.

use tonic::{Response, Status};

use super::{
    convert::{ID_IS_FIXED, Mask, display_name_fault, required},
    lists::List,
    parts::{Admin, of_error, of_refusal},
};
use crate::{
    domain::{
        agent::{Agent, AgentState},
        audit::Author,
        faults::Faults,
        id::{name_fault, new_id_fault},
        plan::Policy,
        refusal::Refusal,
    },
    grpc::{v1, wire::timestamp},
    store::{AgentChange, NewAgent, PlannedAgent},
};

impl Admin {
    pub(super) async fn make_agent(
        &self,
        request: v1::CreateAgentRequest,
        author: &Author,
    ) -> Result<Response<v1::Agent>, Status> {
        let new = new_agent(request.agent).map_err(of_refusal)?;
        let made = self.store()?.create_agent(self.by(author), &new).await.map_err(of_error)?;
        let warnings = self.warnings_of_agent(&new.tenant, &new.id).await;
        Ok(Response::new(v1::Agent { warnings, ..message(&new.tenant, &made.agent, made.plan_id) }))
    }

    pub(super) async fn find_agent(
        &self,
        request: v1::GetAgentRequest,
    ) -> Result<Response<v1::Agent>, Status> {
        names(&request.tenant, &request.id).map_err(of_refusal)?;
        let terms = self.terms_of(&request.tenant).await?;
        let found = terms.own.agents.iter().find(|agent| *agent.id == *request.id);
        let found = found.ok_or_else(|| of_refusal(Refusal::AgentNotFound(request.id)))?;
        Ok(Response::new(message(&request.tenant, found, plan_id(found, &terms.policy))))
    }

    pub(super) async fn page_of_agents(
        &self,
        request: v1::ListAgentsRequest,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let tenant = ("tenant", request.tenant.as_str());
        let list = List::read("ListAgents", tenant, request.page_size, &request.page_token)?;
        let terms = self.terms_of(&request.tenant).await?;
        let (page, more) = list.page_of(&terms.own.agents, |agent| &agent.id);
        let next_page_token = list.next(more, page.last().map(|last| &*last.id));
        let agent = |agent| message(&request.tenant, agent, plan_id(agent, &terms.policy));
        let agents = page.iter().map(|found| agent(found)).collect();
        Ok(Response::new(v1::ListAgentsResponse { agents, next_page_token }))
    }

    pub(super) async fn change_agent(
        &self,
        request: v1::UpdateAgentRequest,
        author: &Author,
    ) -> Result<Response<v1::Agent>, Status> {
        let ((tenant, id), change) = agent_change(request).map_err(of_refusal)?;
        let changed = self.store()?.update_agent(self.by(author), &tenant, &id, &change).await;
        let PlannedAgent { agent, plan_id } = changed.map_err(of_error)?;
        let warnings = self.warnings_of_agent(&tenant, &id).await;
        Ok(Response::new(v1::Agent { warnings, ..message(&tenant, &agent, plan_id) }))
    }

    pub(super) async fn remove_agent(
        &self,
        request: v1::DeleteAgentRequest,
        author: &Author,
    ) -> Result<Response<()>, Status> {
        names(&request.tenant, &request.id).map_err(of_refusal)?;
        let deleted =
            self.store()?.delete_agent(self.by(author), &request.tenant, &request.id, &request.etag).await;
        deleted.map(Response::new).map_err(of_error)
    }
}

/// Checks the names of a tenant and of something that it has.
pub(super) fn names(tenant: &str, id: &str) -> Result<(), Refusal> {
    let mut faults = Faults::default();
    faults.check("tenant", name_fault(tenant));
    faults.check("id", name_fault(id));
    faults.into_result(())
}

/// The fields of an agent or override that name it, with the reason why no update can change them.
pub(super) const NAMES_ARE_FIXED: [(&str, &str); 2] = [ID_IS_FIXED[0], ("tenant", "is fixed at creation")];

/// Parses an agent to declare.
fn new_agent(message: Option<v1::Agent>) -> Result<NewAgent, Refusal> {
    let mut faults = Faults::default();
    let message = required("agent", message)?;
    faults.check("agent.tenant", name_fault(&message.tenant));
    faults.check("agent.id", new_id_fault(&message.id));
    faults.check("agent.display_name", display_name_fault(&message.display_name));
    let plan = plan(&mut faults, message.plan);
    let state = state(&mut faults, message.state).unwrap_or(AgentState::Active);
    let (tenant, id, display_name) = (message.tenant, message.id, message.display_name);
    faults.into_result(NewAgent { tenant, id, display_name, plan, state })
}

/// Parses an update: the ids of the tenant and the agent, and the changes.
fn agent_change(request: v1::UpdateAgentRequest) -> Result<((String, String), AgentChange), Refusal> {
    let mut faults = Faults::default();
    let message = required("agent", request.agent)?;
    faults.check("agent.tenant", name_fault(&message.tenant));
    faults.check("agent.id", name_fault(&message.id));
    let changeable = ["display_name", "plan", "state"];
    let mask = Mask::read(&mut faults, request.update_mask, &changeable, &NAMES_ARE_FIXED);
    let display_name = mask.take("display_name", message.display_name, String::is_empty);
    faults.check("agent.display_name", display_name.as_deref().and_then(display_name_fault));
    let given = mask.take("plan", message.plan, String::is_empty);
    let plan = given.map(|given| plan(&mut faults, given));
    let given = mask.take("state", message.state, |state| *state == 0);
    let state = given.and_then(|given| state(&mut faults, given));
    faults.into_result((
        (message.tenant, message.id),
        AgentChange { display_name, plan, state, etag: message.etag },
    ))
}

/// Parses the plan of an agent. `None`: it has no plan of its own.
fn plan(faults: &mut Faults, plan: String) -> Option<String> {
    if plan.is_empty() {
        return None;
    }
    faults.check("agent.plan", name_fault(&plan));
    Some(plan)
}

/// Parses an agent's state. `None` if the state is unset or wrong.
fn state(faults: &mut Faults, state: i32) -> Option<AgentState> {
    match v1::AgentState::try_from(state) {
        Ok(given) => given.into(),
        Err(_) => {
            faults.add("agent.state", "must be AGENT_STATE_ACTIVE or AGENT_STATE_SUSPENDED");
            None
        }
    }
}

fn plan_id(agent: &Agent, policy: &Policy) -> Option<String> {
    agent.plan.and_then(|key| policy.plans.get(&key)).map(|plan| plan.id.clone())
}

/// Returns the message of an agent.
pub(super) fn message(tenant: &str, agent: &Agent, plan_id: Option<String>) -> v1::Agent {
    v1::Agent {
        tenant: tenant.to_owned(),
        id: agent.id.to_string(),
        display_name: agent.display_name.clone(),
        plan: plan_id.unwrap_or_default(),
        state: v1::AgentState::from(agent.state).into(),
        create_time: Some(timestamp(agent.created_at)),
        update_time: Some(timestamp(agent.updated_at)),
        etag: agent.etag(tenant),
        warnings: Vec::new(),
    }
}
