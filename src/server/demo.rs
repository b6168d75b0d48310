//! Creates the data of `tope serve --demo`. Never overwrites existing data.

use chrono_tz::Tz;

use crate::{
    clock::{self, Clock},
    domain::{
        id::{ResourceKey, TenantKey},
        lineage::Since,
        plan::{Enforcement, Limit, Uncovered},
        refusal::Refusal,
        shape::{PerDimension, Shape},
        tenant::TenantState,
        window::{Cycle, Period},
    },
    store::{AdminError, NewPlan, NewResource, NewTenant, Store},
};

const RESOURCES: [(&str, &str); 3] =
    [("tokens", "token"), ("requests", "request"), ("storage_bytes", "byte")];

/// Each plan: its id, its tokens per day, and its tokens per month.
const PLANS: [(&str, i64, i64); 2] = [("free", 100_000, 1_000_000), ("pro", 1_000_000, 10_000_000)];

/// Each tenant: its id, and the id of its plan.
const TENANTS: [(&str, &str); 2] = [("acme", "free"), ("globex", "pro")];

/// Creates the resources, plans and tenants that do not exist yet.
pub(super) async fn create(store: &Store, clock: &Clock) -> Result<(), AdminError> {
    let now = clock.now();
    for (id, unit) in RESOURCES {
        let new = NewResource { id: id.to_owned(), display_name: String::new(), unit: unit.to_owned() };
        allow_existing(store.create_resource(now, &new).await)?;
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
        allow_existing(store.create_plan(now, &new).await)?;
    }
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
        allow_existing(store.create_tenant(now, &new).await)?;
    }
    Ok(())
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
        origin_date: String::new(),
        since: Since::default(),
        kept: Vec::new(),
    }
}

fn allow_existing<T>(outcome: Result<T, AdminError>) -> Result<(), AdminError> {
    match outcome {
        Ok(_) | Err(AdminError::Refused(Refusal::NameTaken { .. })) => Ok(()),
        Err(error) => Err(error),
    }
}
