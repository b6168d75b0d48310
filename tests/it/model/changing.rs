//! Makes the changes of a life, on the server and in the model.

use super::{
    asking::{labels_chosen, names_chosen},
    changes::{BEGINNINGS, Change, Except},
    limit::{menu, menu_of_agents},
    plans::{Agent, Exception, PLANS},
    player::{Player, plan_limits},
    policy::Filter,
    steps::{DIMENSIONS, MENU, MENU_OF_AGENTS, NAMES, RESOURCES, ZONES},
};
use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::*,
    *,
};

impl Player<'_> {
    /// Makes a change, unless it is not possible here.
    pub async fn change(&mut self, change: &Change) {
        let returned = self.books.returned.len();
        let is_made = match change {
            Change::Suspend(is) => self.suspend(*is).await,
            Change::Limits(changes) => self.change_limits(changes).await,
            Change::Shape(plan, on) => {
                self.books.change(self.books.now(), |books| books.shape(*plan, on));
                self.write_plan(*plan).await
            }
            Change::Uncovered(plan, refuses) => self.set_uncovered(*plan, *refuses).await,
            Change::Move => self.move_at_once().await,
            Change::Schedule(delay) => self.schedule(*delay).await,
            Change::Stay => self.stay().await,
            Change::Anchors(plan, limit, choice) => {
                self.books.anchor(*plan, *limit, *choice) && self.write_plan(*plan).await
            }
            Change::Zone(zone) => self.set_zone(*zone).await,
            Change::Begin(beginning) => self.set_beginning(*beginning).await,
            Change::Agent(agent, plan) => self.set_plan_of(*agent, *plan).await,
            Change::SuspendAgent(agent, is) => self.suspend_agent(*agent, *is).await,
            Change::DeleteAgent(agent) => self.delete_agent(*agent).await,
            Change::Except(except) => self.except(except).await,
            Change::Alter(which, quantity) => self.alter(*which, *quantity).await,
            Change::Withdraw(which) => self.withdraw(*which).await,
        };
        self.tally.note_if(is_made, change.name());
        self.tally.note_if(self.books.returned.len() > returned, "a limit returned");
    }

    async fn suspend(&mut self, is: bool) -> bool {
        let state = if is { TenantState::Suspended } else { TenantState::Active };
        self.world.set_state(&self.tenant, state).await;
        self.books.suspended = is;
        true
    }

    async fn change_limits(&mut self, changes: &[(i64, usize)]) -> bool {
        for plan in 0..self.books.plans.len() {
            for (limit, &(quantity, enforcement)) in self.books.plans[plan].limits.iter_mut().zip(changes) {
                (limit.quantity, limit.enforcement) = (quantity, enforcement);
            }
            self.write_plan(plan).await;
        }
        true
    }

    async fn write_plan(&self, plan: usize) -> bool {
        let plan = &self.books.plans[plan];
        self.world.change_plan(&plan.id, &plan_limits(plan)).await.expect("the plan is there");
        true
    }

    async fn set_uncovered(&mut self, plan: usize, refuses: bool) -> bool {
        self.books.plans[plan].refuses = refuses;
        let uncovered = if refuses { Uncovered::Refuse } else { Uncovered::Meter };
        let plan =
            Plan { id: self.books.plans[plan].id.clone(), uncovered: uncovered.into(), ..Plan::default() };
        let request = UpdatePlanRequest { plan: Some(plan), update_mask: Some(mask(&["uncovered"])) };
        done(self.world.admin.clone().update_plan(request).await).expect("the plan is there");
        true
    }

    async fn move_at_once(&mut self) -> bool {
        self.books.change(self.books.now(), |books| {
            books.plan = 1 - books.plan;
            books.next = None;
        });
        self.world.set_plan(&self.tenant, &self.books.plans[self.books.plan].id).await;
        true
    }

    async fn schedule(&mut self, delay: Option<i64>) -> bool {
        let plan = 1 - self.books.plan;
        let at = delay.map_or_else(|| self.books.end_of_month(), |delay| self.books.now() + delay);
        self.books.next = Some((plan, at));
        let effective_time = delay.map(|_| timestamp(at));
        let next = NextPlan { plan: self.books.plans[plan].id.clone(), effective_time };
        let tenant = self.change_tenant(|tenant| tenant.next_plan = Some(next), "next_plan").await;
        let shown = tenant.next_plan.expect("it is scheduled");
        assert_eq!(
            (shown.plan.as_str(), millis(shown.effective_time.as_ref())),
            (self.books.plans[plan].id.as_str(), Some(at))
        );
        true
    }

    async fn stay(&mut self) -> bool {
        self.books.next = None;
        self.change_tenant(|_| {}, "next_plan").await;
        true
    }

    async fn set_zone(&mut self, zone: usize) -> bool {
        let is_possible =
            self.books.recalendar(|calendar| calendar.zone = ZONES[zone].parse().expect("a zone"));
        if is_possible {
            self.change_tenant(|tenant| tenant.zone = ZONES[zone].into(), "zone").await;
        }
        is_possible
    }

    async fn set_beginning(&mut self, beginning: usize) -> bool {
        let begun = at(BEGINNINGS[beginning]);
        let is_possible = self.books.recalendar(|calendar| calendar.anchor_time = begun);
        if is_possible {
            self.change_tenant(|tenant| tenant.anchor_time = Some(timestamp(begun)), "anchor_time").await;
        }
        is_possible
    }

    async fn change_tenant(&self, change: impl FnOnce(&mut Tenant), path: &str) -> Tenant {
        let mut tenant = Tenant { id: self.tenant.clone(), ..Tenant::default() };
        change(&mut tenant);
        self.world.change_tenant(tenant, &[path]).await.expect("the tenant is there")
    }

    fn agent(&self, agent: usize) -> v1::Agent {
        v1::Agent { tenant: self.tenant.clone(), id: NAMES[agent].into(), ..v1::Agent::default() }
    }

    fn plan_id(&self, plan: Option<usize>) -> String {
        plan.map_or_else(String::new, |plan| self.books.plans[plan].id.clone())
    }

    /// Declares an agent of the tenant.
    pub async fn declare(&mut self, agent: usize, plan: Option<usize>) {
        let declared = Agent { plan, suspended: false };
        self.books.change(self.books.now(), |books| books.agents[agent] = Some(declared));
        let made = v1::Agent { plan: self.plan_id(plan), ..self.agent(agent) };
        let created = self.world.admin.clone().create_agent(CreateAgentRequest { agent: Some(made) }).await;
        done(created).expect("the agent is new");
    }

    async fn set_plan_of(&mut self, agent: usize, plan: Option<usize>) -> bool {
        let Some(declared) = self.books.agents[agent] else {
            self.declare(agent, plan).await;
            return true;
        };
        self.books.change(self.books.now(), |books| books.agents[agent] = Some(Agent { plan, ..declared }));
        let plan = self.plan_id(plan);
        self.update_agent(v1::Agent { plan, ..self.agent(agent) }, "plan").await;
        true
    }

    async fn suspend_agent(&mut self, agent: usize, suspended: bool) -> bool {
        let Some(declared) = &mut self.books.agents[agent] else { return false };
        declared.suspended = suspended;
        let state = if suspended { AgentState::Suspended } else { AgentState::Active };
        self.update_agent(v1::Agent { state: state.into(), ..self.agent(agent) }, "state").await;
        true
    }

    async fn update_agent(&self, agent: v1::Agent, path: &str) {
        let request = UpdateAgentRequest { agent: Some(agent), update_mask: Some(mask(&[path])) };
        done(self.world.admin.clone().update_agent(request).await).expect("the agent is there");
    }

    async fn delete_agent(&mut self, agent: usize) -> bool {
        if self.books.agents[agent].is_none() {
            return false;
        }
        self.books.change(self.books.now(), |books| books.agents[agent] = None);
        let (tenant, id) = (self.tenant.clone(), NAMES[agent].to_owned());
        let request = DeleteAgentRequest { tenant, id, ..DeleteAgentRequest::default() };
        done(self.world.admin.clone().delete_agent(request).await).expect("the agent is there");
        true
    }

    async fn except(&mut self, except: &Except) -> bool {
        let made = self.exception(except);
        let fits = self.books.fits(&made);
        let answer = self.create_override(&made).await;
        if fits == Some(false) {
            let no = answer.expect_err("the limit does not count it separately");
            assert!(!no.fields.is_empty() && no.reason == "INVALID_ARGUMENT", "{no:?}");
            self.tally.note("an override was refused");
            return false;
        }
        answer.unwrap_or_else(|no| panic!("{no:?}, and not {made:?}"));
        self.tally.note_if(fits.is_none(), "an override was inert");
        self.books.exceptions.push(made);
        true
    }

    fn exception(&self, except: &Except) -> Exception {
        let now = self.books.now();
        let known = &self.books.plans[if except.own { PLANS / 2 } else { 0 }].limits;
        let limit = match except.limit.checked_rem(known.len()) {
            Some(place) if !except.any => known[place].clone(),
            _ if except.own => menu_of_agents(except.limit % MENU_OF_AGENTS, 0, 0),
            _ => menu(except.limit % MENU, 0, 0),
        };
        let mut names = except.names;
        if except.own {
            names[0] = limit.selectors[0].or(names[0].filter(|agent| *agent != 0)).or(Some(1));
        }
        for dimension in 0..DIMENSIONS {
            let mut alone = [None; DIMENSIONS];
            alone[dimension] = names[dimension];
            if except.fits && !limit.admits(&alone, except.own) {
                names[dimension] = None;
            }
        }
        let [start, end] = except.times;
        let start = start.map(|delay| now + delay);
        Exception {
            id: format!("override-{:03}", self.books.exceptions.len()),
            limit: limit.id,
            names,
            quantity: except.quantity,
            enforcement: except.enforcement,
            given: [start, end.map(|after| start.unwrap_or(now) + after)],
            made: now,
            deleted: false,
        }
    }

    async fn create_override(&self, made: &Exception) -> Answer<Override> {
        let [agent, user, model] = names_chosen(&made.names);
        let enforcement = made.enforcement.map(|how| i32::try_from(how).expect("one of three"));
        let [start_time, end_time] = made.given.map(|at| at.map(timestamp));
        let new = Override {
            tenant: self.tenant.clone(),
            id: made.id.clone(),
            limit_id: made.limit.into(),
            agent,
            user,
            model,
            labels: labels_chosen(&made.names),
            quantity: made.quantity,
            enforcement: enforcement.unwrap_or_default(),
            start_time,
            end_time,
            reason: "a test".into(),
            ..Override::default()
        };
        done(self.world.admin.clone().create_override(CreateOverrideRequest { r#override: Some(new) }).await)
    }

    /// Returns the place of an override that was not deleted.
    fn override_at(&self, which: usize) -> Option<usize> {
        let exceptions = self.books.exceptions.iter().enumerate();
        let present: Vec<usize> =
            exceptions.filter(|(_, made)| !made.deleted).map(|(place, _)| place).collect();
        Some(present[which.checked_rem(present.len())?])
    }

    async fn alter(&mut self, which: usize, quantity: i64) -> bool {
        let Some(place) = self.override_at(which) else { return false };
        let made = &mut self.books.exceptions[place];
        made.quantity = Some(quantity);
        let (tenant, id) = (self.tenant.clone(), made.id.clone());
        let changed = Override { tenant, id, quantity: Some(quantity), ..Override::default() };
        let update_mask = Some(mask(&["quantity"]));
        let request = UpdateOverrideRequest { r#override: Some(changed), update_mask };
        done(self.world.admin.clone().update_override(request).await).expect("the override is there");
        true
    }

    async fn withdraw(&mut self, which: usize) -> bool {
        let Some(place) = self.override_at(which) else { return false };
        self.books.exceptions[place].deleted = true;
        let (tenant, id) = (self.tenant.clone(), self.books.exceptions[place].id.clone());
        let request = DeleteOverrideRequest { tenant, id, ..DeleteOverrideRequest::default() };
        done(self.world.admin.clone().delete_override(request).await).expect("the override is there");
        true
    }

    /// Sends a ResetUsage, and returns its reply.
    pub async fn send_reset(&self, filter: &Filter, limit: Option<&str>) -> ResetUsageResponse {
        let [agent, user, model] = names_chosen(&filter.names);
        let request = ResetUsageRequest {
            tenant: self.tenant.clone(),
            resources: filter.resource.iter().map(|&index| RESOURCES[index].to_owned()).collect(),
            limit_ids: limit.into_iter().map(str::to_owned).collect(),
            agent,
            user,
            model,
            labels: labels_chosen(&filter.names),
            reason: "a test".into(),
            operator: "tests".into(),
            ..ResetUsageRequest::default()
        };
        done(self.world.admin.clone().reset_usage(request).await).expect("the tenant is there")
    }
}
