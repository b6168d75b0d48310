//! Claims about administration, on both databases.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use sea_orm::{ActiveModelTrait, ActiveValue::Set};
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        id::{ResourceKey, TenantKey},
        lineage::Since,
        plan::{Enforcement, Limit, Plan, Resource, Source, Uncovered},
        refusal::Refusal,
        shape::{PerDimension, Shape},
        tenant::TenantState,
        time::{Span, Time},
        window::{Cycle, Period},
    },
    store::{
        AdminError, Store,
        entity::hold,
        fixture::{by, databases},
    },
};

const NOON: Time = Time(1_750_000_000_000);

/// Fixed numbers instead of random numbers, so that each run of a test does the same.
fn next_number() -> u32 {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

async fn resource(store: &Store, id: &str, now: Time) -> Result<Resource, AdminError> {
    let new = NewResource { id: id.to_owned(), display_name: "Name".to_owned(), unit: "unit".to_owned() };
    store.create_resource(by(Some(now)), &new).await
}

async fn plan(store: &Store, id: &str, limits: Vec<Limit>, now: Time) -> Result<Plan, AdminError> {
    let (id, uncovered) = (id.to_owned(), Uncovered::Meter);
    store.create_plan(by(Some(now)), &NewPlan { id, display_name: String::new(), limits, uncovered }).await
}

async fn tenant(store: &Store, id: &str, plan: &str, now: Time) -> Result<PlannedTenant, AdminError> {
    let new = NewTenant {
        key: TenantKey::mint(id, next_number()),
        id: id.to_owned(),
        display_name: String::new(),
        plan: plan.to_owned(),
        zone: chrono_tz::Europe::Lisbon,
        anchor_time: None,
        state: TenantState::Active,
    };
    store.create_tenant(by(Some(now)), &new).await
}

fn limit(id: &str, resource: ResourceKey, period: Period) -> Limit {
    Limit {
        id: id.to_owned(),
        shape: Shape {
            resource,
            timing: Cycle::plain(period).into(),
            selectors: PerDimension::default(),
            per: PerDimension::default(),
            labels: Vec::new(),
        },
        quantity: 100,
        enforcement: Enforcement::Hard,
        thresholds: Vec::new(),
        carry: None,
        origin_date: String::new(),
        since: Since::default(),
        kept: Vec::new(),
        source: Source::default(),
    }
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, AdminError>) -> Refusal {
    match outcome {
        Err(AdminError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

async fn revision(store: &Store) -> i64 {
    let transaction = store.begin_read("test").await.expect("begun");
    transaction.read_revision().await.expect("a revision")
}

async fn hold_until(store: &Store, tenant: TenantKey, deadline: Time) {
    let transaction = store.begin_write("test").await.expect("begun");
    let row = hold::ActiveModel {
        tenant_key: Set(tenant.0),
        id: Set(Uuid::from_u128(u128::from(next_number()))),
        deadline: Set(deadline),
        body: Set(Vec::new()),
    };
    row.insert(transaction.connection()).await.expect("inserted");
    transaction.commit().await.expect("committed");
}

#[tokio::test]
async fn the_id_of_a_deleted_resource_can_be_used_again() {
    for fixture in databases().await {
        let store = &fixture.store;
        let first = resource(store, "tokens", NOON).await.expect("declared");
        assert_eq!((first.key, first.created_at, first.unit.as_str()), (ResourceKey(1), NOON, "unit"));
        assert!(matches!(
            refusal(resource(store, "tokens", NOON).await),
            Refusal::NameTaken { kind: "resource", id } if id == "tokens"
        ));
        let change = ResourceChange {
            display_name: Some("Tokens".to_owned()),
            unit: None,
            ..ResourceChange::default()
        };
        let changed =
            store.update_resource(by(Some(NOON + Span(5))), "tokens", &change).await.expect("changed");
        assert_eq!((changed.display_name.as_str(), changed.unit.as_str()), ("Tokens", "unit"));
        assert_eq!((changed.created_at, changed.updated_at), (NOON, NOON + Span(5)));
        store.delete_resource(by(Some(NOON)), "tokens", "").await.expect("deleted");
        assert!(matches!(
            refusal(store.delete_resource(by(Some(NOON)), "tokens", "").await),
            Refusal::ResourceNotFound(_)
        ));
        let second = resource(store, "tokens", NOON).await.expect("declared again");
        assert_eq!(second.key, ResourceKey(4));
        assert_eq!(revision(store).await, 4);
        let read = store.begin_read("test").await.expect("begun");
        let policy = read.load_policy().await.expect("a policy");
        assert_eq!(policy.find_resource("tokens"), Some(second.key));
        assert_eq!((policy.resource_id(first.key), policy.resources.len()), ("tokens", 2));
    }
}

#[tokio::test]
async fn a_resource_or_plan_in_use_is_not_deleted() {
    for fixture in databases().await {
        let store = &fixture.store;
        let tokens = resource(store, "tokens", NOON).await.expect("declared").key;
        plan(store, "free", vec![limit("day", tokens, Period::Day)], NOON).await.expect("made");
        assert!(matches!(
            refusal(store.delete_resource(by(Some(NOON)), "tokens", "").await),
            Refusal::ResourceInUse { id, plan } if id == "tokens" && plan == "free"
        ));
        for name in ["globex", "acme"] {
            tenant(store, name, "free", NOON).await.expect("made");
        }
        assert!(matches!(
            refusal(store.delete_plan(by(None), "free", "").await),
            Refusal::PlanInUse { tenant, tenants: 2, .. } if tenant == "acme"
        ));
        for name in ["globex", "acme"] {
            store.delete_tenant(by(Some(NOON)), name, false, "").await.expect("deleted");
        }
        store.delete_plan(by(None), "free", "").await.expect("deleted");
        store.delete_resource(by(Some(NOON)), "tokens", "").await.expect("deleted");
        let faults = match refusal(plan(store, "pro", vec![limit("day", tokens, Period::Day)], NOON).await) {
            Refusal::Invalid(faults) => faults,
            other => panic!("{other:?}"),
        };
        assert_eq!(faults[0].field, "plan.limits[0].resource");
        assert!(matches!(refusal(store.delete_plan(by(None), "free", "").await), Refusal::PlanNotFound(_)));
    }
}

#[tokio::test]
async fn a_limit_counts_since_its_shape_was_in_the_plan() {
    for fixture in databases().await {
        let store = &fixture.store;
        let tokens = resource(store, "tokens", NOON).await.expect("declared").key;
        let day = |id| limit(id, tokens, Period::Day);
        let made = plan(store, "free", vec![day("a")], NOON).await.expect("made");
        assert_eq!(made.limits[0].since.at, NOON);
        let change = |limits| PlanChange { limits: Some(limits), ..PlanChange::default() };
        let limits = vec![day("renamed"), limit("new", tokens, Period::Month)];
        let changed =
            store.update_plan(by(Some(NOON + Span(10))), "free", &change(limits)).await.expect("changed");
        assert_eq!(
            changed.limits.iter().map(|limit| limit.since.at).collect::<Vec<_>>(),
            [NOON, NOON + Span(10)]
        );
        store.update_plan(by(Some(NOON + Span(20))), "free", &change(Vec::new())).await.expect("changed");
        let again = store
            .update_plan(by(Some(NOON + Span(30))), "free", &change(vec![day("a")]))
            .await
            .expect("changed");
        assert_eq!(again.limits[0].since.at, NOON + Span(30));
        let named = PlanChange { display_name: Some("Free".to_owned()), ..PlanChange::default() };
        let named = store.update_plan(by(Some(NOON + Span(40))), "free", &named).await.expect("changed");
        assert_eq!((named.limits[0].since.at, named.display_name.as_str()), (NOON + Span(30), "Free"));
        let read = store.begin_read("test").await.expect("begun");
        assert_eq!(read.get_plan("free").await.expect("there"), named);
        let policy = read.load_policy().await.expect("a policy");
        let mut loaded = Plan::clone(policy.find_plan("free").expect("there"));
        assert_eq!(&*loaded.limits[0].source.plan, "free");
        Arc::make_mut(&mut loaded.limits[0]).source = Source::default();
        assert_eq!(loaded, named);
    }
}

#[tokio::test]
async fn a_tenant_changes_and_its_time_never_decreases() {
    for fixture in databases().await {
        let store = &fixture.store;
        for name in ["free", "pro"] {
            plan(store, name, Vec::new(), NOON).await.expect("made");
        }
        assert!(matches!(refusal(tenant(store, "acme", "none", NOON).await), Refusal::PlanNotFound(_)));
        let before = revision(store).await;
        let made = tenant(store, "acme", "free", NOON).await.expect("made");
        assert_eq!(
            (made.plan_id.as_str(), made.tenant.decided_at, made.tenant.next_due),
            ("free", NOON, Time::NEVER)
        );
        assert_eq!(made.tenant.calendar().zone, chrono_tz::Europe::Lisbon);
        assert!(matches!(
            refusal(tenant(store, "acme", "free", NOON).await),
            Refusal::NameTaken { kind: "tenant", .. }
        ));
        let same = TenantChange { plan: Some("free".to_owned()), ..TenantChange::default() };
        let unchanged =
            store.update_tenant(by(Some(NOON + Span(5))), "acme", &same).await.expect("the tenant exists");
        assert_eq!(unchanged, made);
        let named = TenantChange { display_name: Some("Acme".to_owned()), ..same };
        let named = store.update_tenant(by(Some(NOON + Span(10))), "acme", &named).await.expect("changed");
        assert_eq!((named.tenant.plan_since.at, named.tenant.updated_at), (NOON, NOON + Span(10)));
        let other = TenantChange {
            plan: Some("pro".to_owned()),
            state: Some(TenantState::Suspended),
            ..TenantChange::default()
        };
        // The clock jumped back.
        let other = store.update_tenant(by(Some(NOON + Span(-10))), "acme", &other).await.expect("changed");
        assert_eq!((other.tenant.plan_since.at, other.tenant.decided_at), (NOON + Span(10), NOON + Span(10)));
        assert_eq!((other.plan_id.as_str(), other.tenant.state), ("pro", TenantState::Suspended));
        let read = store.begin_read("test").await.expect("begun");
        assert_eq!(read.get_tenant(Some(NOON), "acme").await.expect("there"), other);
        assert!(matches!(refusal(read.get_tenant(Some(NOON), "globex").await), Refusal::TenantNotFound(_)));
        let unchanged = revision(store).await;
        assert_eq!(unchanged, before, "tenants are no part of the policy");
    }
}

#[tokio::test]
async fn a_tenant_with_open_holds_is_deleted_only_by_force() {
    for fixture in databases().await {
        let store = &fixture.store;
        plan(store, "free", Vec::new(), NOON).await.expect("made");
        let first = tenant(store, "acme", "free", NOON).await.expect("made").tenant;
        // At its deadline a hold is not open any more.
        hold_until(store, first.key, NOON).await;
        hold_until(store, first.key, NOON + Span(1)).await;
        assert!(matches!(
            refusal(store.delete_tenant(by(Some(NOON)), "acme", false, "").await),
            Refusal::TenantHasHolds { id, holds: 1 } if id == "acme"
        ));
        store.delete_tenant(by(Some(NOON)), "acme", true, "").await.expect("forced");
        assert!(matches!(
            refusal(store.delete_tenant(by(Some(NOON)), "acme", true, "").await),
            Refusal::TenantNotFound(_)
        ));
        let second = tenant(store, "acme", "free", NOON).await.expect("made").tenant;
        assert_ne!(first.key, second.key);
        assert_eq!(first.key.hash(), second.key.hash());
        store.delete_tenant(by(Some(NOON)), "acme", false, "").await.expect("clean");
    }
}

#[tokio::test]
async fn pages_follow_the_order_of_bytes() {
    for fixture in databases().await {
        let store = &fixture.store;
        let ids = ["Z", "a", "a b", "a-b", "b", "ä"];
        for id in ids.iter().rev() {
            resource(store, id, NOON).await.expect("declared");
            plan(store, id, Vec::new(), NOON).await.expect("made");
            tenant(store, id, id, NOON).await.expect("made");
        }
        store.delete_tenant(by(Some(NOON)), "b", false, "").await.expect("deleted");
        let read = store.begin_read("test").await.expect("begun");
        let mut after: Option<String> = None;
        let mut seen = Vec::new();
        loop {
            let page = read.list_resources(after.as_deref(), 2).await.expect("a page");
            assert!(page.items.len() == 2);
            seen.extend(page.items.into_iter().map(|resource| resource.id));
            after = seen.last().cloned();
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, ids);
        let plans = read.list_plans(Some("a"), 10).await.expect("a page");
        assert_eq!(plans.items.iter().map(|plan| plan.id.as_str()).collect::<Vec<_>>(), &ids[2..]);
        assert!(!plans.more);
        let tenants = read.list_tenants(Some(NOON), None, Some("a-b"), 10).await.expect("a page");
        assert_eq!(tenants.items.iter().map(|tenant| &*tenant.tenant.id).collect::<Vec<_>>(), ["ä"]);
        let tenants = read.list_tenants(Some(NOON), Some("a b"), None, 10).await.expect("a page");
        assert_eq!(tenants.items.iter().map(|tenant| tenant.plan_id.as_str()).collect::<Vec<_>>(), ["a b"]);
        assert!(matches!(
            refusal(read.list_tenants(Some(NOON), Some("none"), None, 10).await),
            Refusal::PlanNotFound(_)
        ));
    }
}

#[tokio::test]
async fn simultaneous_changes_happen_one_after_another() {
    for fixture in databases().await {
        let store = &fixture.store;
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move {
                    resource(&store, &format!("r{number}"), NOON).await.map(|made| made.key.0)
                })
            })
            .collect();
        let mut keys = Vec::new();
        for task in tasks {
            keys.push(task.await.expect("no panic").expect("declared"));
        }
        keys.sort_unstable();
        assert_eq!(keys, (1..=8).collect::<Vec<_>>());
        assert_eq!(revision(store).await, 8);
    }
}
