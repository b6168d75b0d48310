//! Creates the data of `tope serve --demo`. Never overwrites existing data.

use chrono_tz::Tz;

use crate::{
    clock::{self, Clock},
    domain::{
        agent::AgentState,
        audit::Author,
        id::{ResourceKey, TenantKey},
        lineage::Since,
        overrides::Override,
        plan::{Enforcement, Limit, Source, Uncovered},
        refusal::Refusal,
        shape::{PerDimension, Shape},
        tenant::TenantState,
        time::Time,
        window::{Cycle, Period},
    },
    grpc::admin::SCRIBE,
    store::{AdminError, By, NewAgent, NewPlan, NewResource, NewTenant, Store},
};

const RESOURCES: [(&str, &str); 3] =
    [("tokens", "token"), ("requests", "request"), ("storage_bytes", "byte")];

/// Each plan: its id, its tokens per day, and its tokens per month.
const PLANS: [(&str, i64, i64); 2] = [("free", 100_000, 1_000_000), ("pro", 1_000_000, 10_000_000)];

/// Each tenant: its id, and the id of its plan.
const TENANTS: [(&str, &str); 2] = [("acme", "free"), ("globex", "pro")];

/// The plan of the demo's agent, with its tokens per week.
const AGENT_PLAN: (&str, i64) = ("agent", 500_000);

/// The demo's agent and override: the tenant that has them, and their ids.
const AGENT: (&str, &str) = ("globex", "researcher");
const OVERRIDE: (&str, &str) = ("globex", "more-for-the-launch");

/// Creates the resources, plans, tenants, agents and overrides that do not exist yet.
pub(super) async fn create(store: &Store, clock: &Clock) -> Result<(), AdminError> {
    let rpcs = ["CreateResource", "CreatePlan", "CreateTenant", "CreateAgent", "CreateOverride"];
    let authors = rpcs.map(Author::command_line);
    let by = |author| By { shown: clock.now(), author, scribe: SCRIBE };
    let [resource, plan, tenant, agent, r#override] = authors.each_ref().map(by);
    for (id, unit) in RESOURCES {
        let new = NewResource { id: id.to_owned(), display_name: String::new(), unit: unit.to_owned() };
        allow_existing(store.create_resource(resource, &new).await)?;
    }
    let reading = store.begin_read("demo").await?;
    let tokens = reading.get_resource("tokens").await?.key;
    reading.rollback().await?;
    for (id, day, month) in PLANS {
        let limits = vec![
            limit("tokens-per-day", tokens, Period::Day, day),
            limit("tokens-per-month", tokens, Period::Month, month),
        ];
        let (id, uncovered) = (id.to_owned(), Uncovered::Meter);
        let new = NewPlan { id, display_name: String::new(), limits, uncovered };
        allow_existing(store.create_plan(plan, &new).await)?;
    }
    let (id, week) = AGENT_PLAN;
    let limits = vec![limit("tokens-per-week", tokens, Period::Week, week)];
    let (id, uncovered) = (id.to_owned(), Uncovered::Meter);
    allow_existing(
        store.create_plan(plan, &NewPlan { id, display_name: String::new(), limits, uncovered }).await,
    )?;
    for (id, plan) in TENANTS {
        let new = NewTenant {
            key: TenantKey::mint(id, clock::random()),
            id: id.to_owned(),
            display_name: String::new(),
            plan: plan.to_owned(),
            zone: Tz::UTC,
            anchor_time: None,
            state: TenantState::Active,
        };
        allow_existing(store.create_tenant(tenant, &new).await)?;
    }
    create_terms(store, agent, r#override).await
}

/// Creates the agent and the override, unless somebody deleted their tenant.
async fn create_terms(store: &Store, agent: By<'_>, r#override: By<'_>) -> Result<(), AdminError> {
    let new = NewAgent {
        tenant: AGENT.0.to_owned(),
        id: AGENT.1.to_owned(),
        display_name: String::new(),
        plan: Some(AGENT_PLAN.0.to_owned()),
        state: AgentState::Active,
    };
    allow_existing(store.create_agent(agent, &new).await)?;
    let made = Override {
        id: OVERRIDE.1.into(),
        limit_id: "tokens-per-day".to_owned(),
        selectors: PerDimension::default(),
        labels: Vec::new(),
        quantity: Some(2_000_000),
        enforcement: None,
        thresholds: None,
        start: None,
        end: Time::NEVER,
        reason: "launch week".to_owned(),
        created_at: Time::default(),
        updated_at: Time::default(),
    };
    allow_existing(store.create_override(r#override, OVERRIDE.0, &made).await)
}

fn limit(id: &str, resource: ResourceKey, period: Period, quantity: i64) -> Limit {
    Limit {
        id: id.to_owned(),
        shape: Shape {
            resource,
            timing: Cycle::plain(period).into(),
            selectors: PerDimension::default(),
            per: PerDimension::default(),
            labels: Vec::new(),
        },
        quantity,
        enforcement: Enforcement::Hard,
        thresholds: vec![80, 100],
        carry: None,
        origin_date: String::new(),
        since: Since::default(),
        kept: Vec::new(),
        source: Source::default(),
    }
}

fn allow_existing<T>(outcome: Result<T, AdminError>) -> Result<(), AdminError> {
    match outcome {
        Ok(_) | Err(AdminError::Refused(Refusal::NameTaken { .. })) => Ok(()),
        Err(error) => Err(error),
    }
}
