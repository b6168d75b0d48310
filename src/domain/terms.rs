//! The terms of a tenant: all limits that can apply to its calls, from its plan and from the plans of its agents, with
//! its overrides (R4.32 to R4.35).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use super::{
    agent::{Agent, AgentState},
    counter::CounterKey,
    id::ResourceKey,
    lineage::Since,
    overrides::{Overridden, Override, OverrideState},
    plan::{Limit, Plan, Policy, Source, Uncovered},
    shape::Subject,
    tenant::Tenant,
    time::{Span, Time},
    timing::TenantCalendar,
    window::Window,
};

/// The agents and overrides of a tenant, as its rows describe them.
#[derive(Debug, Default)]
pub struct OwnTerms {
    /// [`Tenant::terms_version`] of the tenant when the rows were read.
    pub version: i64,
    /// All agents that were declared.
    pub agents: Vec<Arc<Agent>>,
    /// All overrides, also those that have ended.
    pub overrides: Vec<Arc<Override>>,
}

/// The terms of a tenant at one revision of the policy. Terms are immutable, and lanes and readers share them.
#[derive(Debug)]
pub struct Terms {
    /// The plan of the tenant.
    pub plan: Arc<Plan>,
    /// The agents and overrides from which the terms were made.
    pub own: Arc<OwnTerms>,
    /// The revision of the policy with which the terms were made.
    revision: i64,
    agents: HashMap<Arc<str>, AgentTerms>,
    overridden: OverriddenLimits,
    /// Whether a limit carries over.
    carries_over: bool,
}

/// The limits that have overrides, by their ids.
type OverriddenLimits = HashMap<String, Overridden>;

/// An agent, with its plan and the limits that follow from the plan.
#[derive(Debug)]
struct AgentTerms {
    agent: Arc<Agent>,
    plan: Option<Arc<Plan>>,
    /// Made when they are first needed: a tenant may have many agents.
    limits: OnceLock<AgentLimits>,
}

#[derive(Debug, Default)]
struct AgentLimits {
    limits: Vec<Arc<Limit>>,
    overridden: OverriddenLimits,
}

impl Terms {
    /// Makes the terms of a tenant with this plan. An agent whose plan does not exist has no plan: a server of the
    /// previous release deletes plans without a look at agents.
    pub fn new(policy: &Policy, plan: Arc<Plan>, own: Arc<OwnTerms>) -> Self {
        let mut carries_over = plan.carries_over();
        let mut agents = HashMap::with_capacity(own.agents.len());
        for agent in &own.agents {
            let plan = agent.plan.and_then(|key| policy.plans.get(&key)).map(Arc::clone);
            carries_over |= plan.as_ref().is_some_and(|plan| plan.carries_over());
            let terms = AgentTerms { agent: Arc::clone(agent), plan, limits: OnceLock::new() };
            agents.insert(Arc::clone(&agent.id), terms);
        }
        let overridden = overridden(&plan.limits, &own.overrides);
        Self { plan, own, revision: policy.revision, agents, overridden, carries_over }
    }

    /// Makes the terms of a tenant that has no agents and no overrides.
    pub fn of_plan(policy: &Policy, plan: Arc<Plan>) -> Self {
        let (agents, overridden, carries_over) = (HashMap::new(), HashMap::new(), plan.carries_over());
        Self { plan, own: Arc::default(), revision: policy.revision, agents, overridden, carries_over }
    }

    /// Returns whether these are the present terms of the tenant.
    pub fn are_current(&self, policy: &Policy, tenant: &Tenant) -> bool {
        (self.revision, self.plan.key, self.own.version)
            == (policy.revision, tenant.plan, tenant.terms_version)
    }

    /// Returns whether a limit of the tenant's plan, or of the plan of an agent, carries over (R4.46).
    pub fn carries_over(&self) -> bool {
        self.carries_over
    }

    /// Returns the number of rows from which the terms were made.
    pub fn rows(&self) -> usize {
        self.own.agents.len() + self.own.overrides.len()
    }

    /// Returns the limits on a resource that apply to a subject: those of the tenant's plan, and those of the plan of
    /// its agent. Overrides are not applied, see [`Terms::at`].
    pub fn limits_for<'a>(
        &'a self,
        resource: ResourceKey,
        subject: &'a Subject,
    ) -> impl Iterator<Item = &'a Arc<Limit>> {
        let all = self.plan.limits.iter().chain(self.limits_of_agent(&subject.agent));
        all.filter(move |limit| limit.shape.resource == resource && limit.shape.applies_to(subject))
    }

    /// Returns the limits that read a counter. Overrides are not applied, see [`Terms::at`].
    pub fn limits_of<'a>(
        &'a self,
        key: &'a CounterKey,
        calendars: &'a [TenantCalendar],
    ) -> impl Iterator<Item = &'a Arc<Limit>> {
        let candidates = if !self.agents.is_empty() && key.is_of_agents_plan() {
            self.limits_of_agent(key.dimensions().agent.unwrap_or_default())
        } else {
            &self.plan.limits
        };
        candidates.iter().filter(move |limit| limit.shape.counts(key, calendars))
    }

    /// Returns the limits that read a counter of this window, as they apply at `now`. If the window is over, as they
    /// applied at its end.
    pub fn limits_of_at<'a>(
        &'a self,
        key: &'a CounterKey,
        window: Window,
        calendars: &'a [TenantCalendar],
        now: Time,
    ) -> impl Iterator<Item = &'a Arc<Limit>> {
        self.limits_of(key, calendars).map(move |limit| self.in_window(limit, key, window, now))
    }

    /// Returns a limit as it applies to a counter of this window at `now`, see [`Terms::at`]. If the window is over, as
    /// it applied at its end.
    pub fn in_window<'a>(
        &'a self,
        limit: &'a Arc<Limit>,
        key: &CounterKey,
        window: Window,
        now: Time,
    ) -> &'a Arc<Limit> {
        self.at(limit, key, now.min(window.end.saturating_sub(Span::MILLISECOND)))
    }

    /// Returns a limit of these terms as it applies to a counter at `now`: with the values of an override, if there is
    /// one.
    pub fn at<'a>(&'a self, limit: &'a Arc<Limit>, key: &CounterKey, now: Time) -> &'a Arc<Limit> {
        self.overridden_of(limit).map_or(limit, |overridden| overridden.at(key, now))
    }

    /// Returns the instants after `now` at which another version of a limit begins to apply to a counter, because an
    /// override begins or ends, each with that version.
    pub fn later(&self, limit: &Limit, key: &CounterKey, now: Time) -> Vec<(Time, Arc<Limit>)> {
        self.overridden_of(limit).map(|overridden| overridden.later(key, now)).unwrap_or_default()
    }

    /// Returns the limits of this id in the tenant's plan and in the plans of its agents, as the plans give them.
    pub fn limits_named<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Arc<Limit>> {
        let plans = std::iter::once(&self.plan).chain(self.agents_plans());
        plans.flat_map(|plan| &plan.limits).filter(move |limit| limit.id == id)
    }

    /// Returns the plans of the agents, each once, by their keys.
    pub fn agents_plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        let plans = self.agents.values().filter_map(|agent| agent.plan.as_ref());
        plans.map(|plan| (plan.key, plan)).collect::<BTreeMap<_, _>>().into_values()
    }

    /// Returns whether the agent was declared and is suspended.
    pub fn is_suspended(&self, agent: &str) -> bool {
        !self.agents.is_empty()
            && self.agents.get(agent).is_some_and(|found| found.agent.state == AgentState::Suspended)
    }

    /// Returns whether the tenant's plan, or the plan of the agent, refuses resources that no limit covers (R4.42).
    pub fn refuses_uncovered(&self, agent: &str) -> bool {
        let of_agent = || self.agents.get(agent).and_then(|found| found.plan.as_ref());
        self.plan.uncovered == Uncovered::Refuse
            || of_agent().is_some_and(|plan| plan.uncovered == Uncovered::Refuse)
    }

    /// Returns since when a counter has been counted without a gap. `None`: no limit counts the counter.
    pub fn counted_since(&self, tenant: &Tenant, key: &CounterKey) -> Option<Since> {
        // Limits whose timings have different histories may share a counter, and may have counted it since different
        // changes.
        self.limits_of(key, &tenant.calendars).map(|limit| tenant.counts_since(limit, key)).min()
    }

    /// Returns what an override does at `now`.
    pub fn state_of(&self, made: &Override, now: Time) -> OverrideState {
        let fits = self.limits_for_override(made).any(|limit| made.fits(limit));
        if fits { made.state(now) } else { OverrideState::Inert }
    }

    /// Returns the limits of the id that the override names: that of the tenant's plan and, if the override selects an
    /// agent, that of the agent's plan. The override need not fit them.
    pub fn limits_for_override<'a>(&'a self, made: &'a Override) -> impl Iterator<Item = &'a Arc<Limit>> {
        let of_agent = made.selectors.agent.as_deref().map(|agent| self.limits_of_agent(agent));
        let limits = self.plan.limits.iter().chain(of_agent.into_iter().flatten());
        limits.filter(|limit| limit.id == made.limit_id)
    }

    /// Returns the limits of the plan of an agent, for this agent. Overrides are not applied, see [`Terms::at`].
    pub fn limits_of_agent(&self, agent: &str) -> &[Arc<Limit>] {
        self.agent_limits(agent).map_or(&[], |found| &found.limits)
    }

    fn agent_limits(&self, agent: &str) -> Option<&AgentLimits> {
        if self.agents.is_empty() {
            return None;
        }
        let found = self.agents.get(agent)?;
        Some(found.limits.get_or_init(|| found.make_limits(&self.own.overrides)))
    }

    fn overridden_of(&self, limit: &Limit) -> Option<&Overridden> {
        match &limit.source.agent {
            _ if self.own.overrides.is_empty() => None,
            Some(agent) => self.agent_limits(&agent.id)?.overridden.get(&limit.id),
            None => self.overridden.get(&limit.id),
        }
    }
}

impl AgentTerms {
    fn make_limits(&self, overrides: &[Arc<Override>]) -> AgentLimits {
        let Some(plan) = &self.plan else { return AgentLimits::default() };
        let limits = limits_of_agent(plan, &self.agent);
        let selected = |made: &&Arc<Override>| made.selectors.agent.as_deref() == Some(&*self.agent.id);
        let selected: Vec<Arc<Override>> = overrides.iter().filter(selected).cloned().collect();
        let overridden = overridden(&limits, &selected);
        AgentLimits { limits, overridden }
    }
}

/// Returns the limits of a plan that apply to an agent which has the plan. They count the agent separately, by counters
/// of their own. A limit that selects another agent is left out.
pub fn limits_of_agent(plan: &Plan, agent: &Arc<Agent>) -> Vec<Arc<Limit>> {
    let of_agent = |limit: &Arc<Limit>| {
        let shape = limit.shape.of_agents_plan(&agent.id)?;
        let kept = limit.kept.iter().filter_map(|lineage| lineage.of_agents_plan(&agent.id)).collect();
        let source = Source { agent: Some(Arc::clone(agent)), ..limit.source.clone() };
        Some(Arc::new(Limit { shape, kept, source, ..Limit::clone(limit) }))
    };
    plan.limits.iter().filter_map(of_agent).collect()
}

fn overridden(limits: &[Arc<Limit>], overrides: &[Arc<Override>]) -> OverriddenLimits {
    if overrides.is_empty() {
        return HashMap::new();
    }
    let found = |limit: &Arc<Limit>| Some((limit.id.clone(), Overridden::of(limit, overrides)?));
    limits.iter().filter_map(found).collect()
}
