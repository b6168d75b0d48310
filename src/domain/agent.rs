//! The agents of a tenant that operators declared: with a plan of their own, or suspended alone.

use std::sync::Arc;

use super::{
    codes::codes,
    id::PlanKey,
    lineage::{Lineage, Since},
    time::Time,
};

/// Whether an agent may take new holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// The agent may call every operation.
    Active,
    /// The agent may settle its holds and Record usage, but not Reserve or Extend (R4.33).
    Suspended,
}

codes!(AgentState as i16: Active = 1 "ACTIVE", Suspended = 2 "SUSPENDED");

/// An agent that was declared. An agent that was not declared has no plan and is never suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The name with which calls name the agent.
    pub id: Arc<str>,
    /// A name for people to read.
    pub display_name: String,
    /// The internal key of the agent's own plan. `None`: only the limits of the tenant's plan apply.
    pub plan: Option<PlanKey>,
    /// Whether the agent may take new holds.
    pub state: AgentState,
    /// The change that gave the agent its present plan.
    pub plan_since: Since,
    /// Shapes that both the previous plan and this plan count for the agent, with the change since which they are
    /// counted.
    pub carried: Vec<Lineage>,
    /// When the agent was declared.
    pub created_at: Time,
    /// When the agent was last changed.
    pub updated_at: Time,
}
