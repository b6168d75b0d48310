//! What a lane promises about those who wait in it.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::time::Instant;

use super::{Engine, Request, TenantRef};
use crate::{
    clock::{Clock, ManualClock, random},
    domain::{
        decide::Reply,
        id::TenantKey,
        operation::{Operation, Record, Units},
        plan::Subject,
        tenant::TenantState,
    },
    policy::PolicyCache,
    store::{NewPlan, NewResource, NewTenant, Store, fixture::databases},
};

const TENANTS: [&str; 3] = ["acme", "bolt", "cobalt"];
const NOW: i64 = 1_790_000_000_000;

async fn prepare(store: &Store) {
    let shown = Some(NOW);
    let resource = NewResource { id: "tokens".to_owned(), display_name: String::new(), unit: String::new() };
    store.create_resource(shown, &resource).await.expect("declared");
    let plan = NewPlan { id: "plan".to_owned(), display_name: String::new(), limits: Vec::new() };
    store.create_plan(shown, &plan).await.expect("made");
    for id in TENANTS {
        let new = NewTenant {
            key: TenantKey::mint(id, random()),
            id: id.to_owned(),
            display_name: String::new(),
            plan: plan.id.clone(),
            zone: chrono_tz::UTC,
            state: TenantState::Active,
        };
        store.create_tenant(shown, &new).await.expect("made");
    }
}

fn record(tenant: &str) -> Request {
    let amounts = vec![Units { resource: "tokens".to_owned(), quantity: 1 }];
    let record = Record { request: None, subject: Subject::default(), amounts, labels: Vec::new() };
    Request { tenant: TenantRef::Id(tenant.to_owned()), operation: Operation::Record(record) }
}

#[tokio::test]
async fn what_waits_is_served_in_the_order_of_arrival() {
    for overlap in [false, true] {
        serve_in_order(overlap).await;
    }
}

async fn serve_in_order(overlap: bool) {
    for fixture in databases().await {
        prepare(&fixture.store).await;
        fixture.store.set_available(true);
        let clock = Clock::Manual(ManualClock::at(NOW));
        let (engine, mut lanes) =
            Engine::start(&fixture.store, &Arc::new(PolicyCache::default()), &clock, (1, overlap))
                .expect("started");
        // What is remembered of the tenants is decided ahead, once some batches have passed.
        for number in 0..60 {
            engine.submit(record(TENANTS[number % TENANTS.len()]), None).await.expect("recorded");
        }
        // More than two batches of three tenants wait for the lock that every decision needs.
        let stall = fixture.store.begin_write("test").await.expect("begun");
        let keys = stall.find_tenant_keys(&TENANTS).await.expect("they are there");
        let mut keys: Vec<TenantKey> = keys.into_iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        stall.lock_tenants(&keys).await.expect("locked");
        let mut calls: Vec<_> = (0..2_500)
            .map(|number| Box::pin(engine.submit(record(TENANTS[number % TENANTS.len()]), None)))
            .collect();
        for call in &mut calls {
            assert!(futures::poll!(call).is_pending(), "it waits");
        }
        stall.rollback().await.expect("ended");

        // Ids are minted when an operation is decided, and grow.
        let mut ids = Vec::new();
        for outcome in join_all(calls).await {
            match outcome.expect("recorded").reply {
                Reply::Recorded { reservation, .. } => ids.push(reservation.id),
                other => panic!("{other:?}"),
            }
        }
        assert!(ids.is_sorted(), "the order of arrival is the order of decisions");
        assert!(lanes.drain(Instant::now() + Duration::from_secs(60)).await, "nothing is left");
        lanes.end();
    }
}
