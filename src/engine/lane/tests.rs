//! Tests of the order in which lanes decide operations, and of operations that wait for locked rows.

use std::{sync::Arc, task::Poll, time::Duration};

use futures::future::join_all;
use tokio::{
    task::yield_now,
    time::{Instant, timeout},
};

use super::super::{Engine, Failure, LaneOptions, Lanes, Outcome, Request, TenantRef};
use crate::{
    clock::{Clock, ManualClock, random},
    domain::{
        decide::Reply,
        id::{ReservationId, TenantKey},
        operation::{Check, Operation, Record, Units},
        plan::Uncovered,
        shape::Subject,
        tenant::TenantState,
        time::Time,
    },
    policy::PolicyCache,
    store::{
        Dialect, NewPlan, NewResource, NewTenant, SettingsChange, Store, Transaction, Writing,
        fixture::{Fixture, by, databases},
    },
};

const TENANTS: [&str; 3] = ["acme", "bolt", "cobalt"];
const NOW: i64 = 1_790_000_000_000;

async fn prepare(store: &Store) {
    let by = by(Some(Time(NOW)));
    let resource = NewResource { id: "tokens".to_owned(), display_name: String::new(), unit: String::new() };
    store.create_resource(by, &resource).await.expect("declared");
    let uncovered = Uncovered::Meter;
    let plan = NewPlan { id: "plan".to_owned(), display_name: String::new(), limits: Vec::new(), uncovered };
    store.create_plan(by, &plan).await.expect("made");
    for id in TENANTS {
        let new = NewTenant {
            key: TenantKey::mint(id, random()),
            id: id.to_owned(),
            display_name: String::new(),
            plan: plan.id.clone(),
            zone: chrono_tz::UTC,
            anchor_time: None,
            state: TenantState::Active,
        };
        store.create_tenant(by, &new).await.expect("made");
    }
}

fn record(tenant: &str) -> Request {
    let amounts = vec![Units { resource: "tokens".to_owned(), quantity: 1 }];
    let record = Record { request: None, subject: Subject::default(), amounts, occurred_at: None };
    Request::new(TenantRef::Id(tenant.to_owned()), Operation::Record(record))
}

#[tokio::test]
async fn operations_are_decided_in_the_order_of_arrival() {
    for overlap in [false, true] {
        decide_in_order(overlap).await;
    }
}

async fn decide_in_order(overlap: bool) {
    for fixture in databases().await {
        prepare(&fixture.store).await;
        let (engine, lanes) = start(&fixture.store, overlap);
        // After some batches the lane remembers the tenants and decides ahead.
        for number in 0..60 {
            engine.submit(record(TENANTS[number % TENANTS.len()]), None).await.expect("recorded");
        }
        // Now more operations than two batches can take wait for the locks of three tenants.
        let stall = lock(&fixture.store, &TENANTS).await;
        let mut calls: Vec<_> = (0..2_500)
            .map(|number| Box::pin(engine.submit(record(TENANTS[number % TENANTS.len()]), None)))
            .collect();
        for call in &mut calls {
            assert!(futures::poll!(call).is_pending(), "it waits");
        }
        stall.rollback().await.expect("ended");

        let ids: Vec<ReservationId> = join_all(calls).await.into_iter().map(recorded).collect();
        for number in 0..TENANTS.len() {
            let of_tenant = ids.iter().skip(number).step_by(TENANTS.len());
            assert!(of_tenant.is_sorted(), "the order of arrival is the order of decisions");
        }
        assert!(
            fixture.store.dialect() == Dialect::Postgres || ids.is_sorted(),
            "where rows are not locked, of all"
        );
        end(lanes).await;
    }
}

#[tokio::test]
async fn operations_of_a_contended_tenant_join_the_batch_that_waits_for_its_lock() {
    let shared = |fixture: &Fixture| fixture.store.dialect() == Dialect::Postgres;
    for fixture in databases().await.into_iter().filter(shared) {
        prepare(&fixture.store).await;
        let patient = fixture.patient().await;
        let ((here, lanes), (there, others)) = (start(&patient, false), start(&patient, false));
        for _ in 0..4 {
            here.submit(record("bolt"), None).await.expect("recorded");
            there.submit(record("acme"), None).await.expect("recorded");
            here.submit(record("acme"), None).await.expect("recorded");
        }
        let stall = lock(&fixture.store, &["acme"]).await;
        let mut first = Box::pin(here.submit(record("acme"), None));
        assert!(futures::poll!(&mut first).is_pending(), "it waits");
        let waited_for = async {
            while !fixture.waits_for_lock().await {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), waited_for).await.expect("its batch waits for the lock");
        let mut other = Box::pin(here.submit(record("bolt"), None));
        assert!(futures::poll!(&mut other).is_pending(), "it waits");
        let mut second = Box::pin(here.submit(record("acme"), None));
        assert!(futures::poll!(&mut second).is_pending(), "it waits");
        stall.rollback().await.expect("ended");

        let (first, other, second) = (recorded(first.await), recorded(other.await), recorded(second.await));
        assert!(first < second, "one tenant's operations are decided in the order of arrival");
        assert!(
            second < other,
            "what is about the tenant that was waited for did not wait for the next batch"
        );
        end(lanes).await;
        end(others).await;
    }
}

#[tokio::test]
async fn only_operations_of_a_locked_tenant_wait_and_they_keep_their_order() {
    for (overlap, warm) in [(false, false), (false, true), (true, false), (true, true)] {
        for fixture in databases().await.into_iter().filter(is_postgres) {
            wait_alone(&fixture.store, overlap, warm).await;
        }
    }
}

fn is_postgres(fixture: &Fixture) -> bool {
    fixture.store.dialect() == Dialect::Postgres
}

async fn wait_alone(store: &Store, overlap: bool, warm: bool) {
    prepare(store).await;
    let (engine, lanes) = start(store, overlap);
    for number in 0..(if warm { 60 } else { 0 }) {
        engine.submit(record(TENANTS[number % TENANTS.len()]), None).await.expect("recorded");
    }
    let stall = lock(store, &["acme"]).await;
    let mut first = Box::pin(engine.submit(record("acme"), None));
    let mixed = ["bolt", "acme", "cobalt", "acme"].map(record).to_vec();
    let mut mixed = Box::pin(engine.submit_all(mixed, None));
    let mut second = Box::pin(engine.submit(record("acme"), None));
    assert!(futures::poll!(&mut first).is_pending(), "it waits");
    assert!(futures::poll!(&mut mixed).is_pending(), "it waits");
    assert!(futures::poll!(&mut second).is_pending(), "it waits");
    for _ in 0..30 {
        for tenant in ["bolt", "cobalt"] {
            let call = timeout(Duration::from_secs(60), engine.submit(record(tenant), None));
            call.await.expect("nobody waits for another tenant's row").expect("recorded");
        }
    }
    // The other operations of the same call are decided, and wait to be answered with it.
    assert!(futures::poll!(&mut first).is_pending(), "it waits");
    assert!(futures::poll!(&mut mixed).is_pending(), "it waits");
    let mut third = Box::pin(engine.submit(record("acme"), None));
    assert!(futures::poll!(&mut third).is_pending(), "it waits");
    assert!(futures::poll!(&mut second).is_pending(), "it waits");
    let later = engine.submit(record("bolt"), None).await;
    stall.rollback().await.expect("ended");

    let mixed: Vec<ReservationId> = mixed.await.into_iter().map(recorded).collect();
    let ids = [recorded(first.await), mixed[1], mixed[3], recorded(second.await), recorded(third.await)];
    assert!(ids.is_sorted(), "one tenant's operations keep their order");
    assert!(mixed[0] < recorded(later), "they did not wait for the row");
    end(lanes).await;
}

#[tokio::test]
async fn operations_that_wait_for_a_row_have_a_bound_of_their_own() {
    for fixture in databases().await.into_iter().filter(is_postgres) {
        prepare(&fixture.store).await;
        let (engine, lanes) = start(&fixture.store, false);
        let stall = lock(&fixture.store, &["acme"]).await;
        let mut waiting = Vec::new();
        let refused = loop {
            let mut call = Box::pin(engine.submit_all(vec![record("acme"); 1_000], None));
            // The lane may refuse the call while it is submitted.
            if let Poll::Ready(outcomes) = futures::poll!(&mut call) {
                break outcomes;
            }
            // This operation is behind the call in the lane. When the operation is decided, the call has been taken out
            // of the queue.
            engine.submit(record("bolt"), None).await.expect("recorded");
            match futures::poll!(&mut call) {
                Poll::Ready(outcomes) => break outcomes,
                Poll::Pending => waiting.push(call),
            }
            assert!(waiting.len() < 20, "20,000 are too many");
        };
        assert!(refused.iter().all(|outcome| matches!(outcome, Err(Failure::Overloaded))));
        stall.rollback().await.expect("ended");
        for outcome in join_all(waiting).await.into_iter().flatten() {
            recorded(outcome);
        }
        end(lanes).await;
    }
}

/// R4.10, R4.38: the lane creates the tenant, not the caller.
#[tokio::test]
async fn a_record_of_a_new_tenant_is_carried_out_although_its_caller_is_gone() {
    for fixture in databases().await {
        let store = &fixture.store;
        prepare(store).await;
        let change = SettingsChange { default_plan: Some("plan".to_owned()), ..SettingsChange::default() };
        store.update_settings(by(Some(Time(NOW))), &change).await.expect("changed");
        let (engine, lanes) = start(store, false);
        let mut call = Box::pin(engine.submit(record("new"), None));
        assert!(futures::poll!(&mut call).is_pending(), "it waits");
        drop(call);
        let late = engine.submit(check("late"), Some(Instant::now())).await;
        assert!(matches!(late, Err(Failure::DeadlineExceeded)), "{late:?}");
        drop(engine);
        end(lanes).await;
        let (engine, lanes) = start(store, false);
        match engine.submit(record("new"), None).await.expect("recorded").reply {
            Reply::Recorded { held, .. } => assert_eq!(held.balances[0].counter.committed, 2),
            other => panic!("{other:?}"),
        }
        let reading = store.begin_read("test").await.expect("begun");
        assert!(reading.get_tenant(Some(Time(NOW)), "late").await.is_err(), "nothing was decided for it");
        end(lanes).await;
    }
}

fn check(tenant: &str) -> Request {
    let check = Check { subject: Subject::default(), amounts: Vec::new(), allow_partial: false };
    Request::new(TenantRef::Id(tenant.to_owned()), Operation::Check(check))
}

fn start(store: &Store, overlap: bool) -> (Engine, Lanes) {
    store.set_available(true);
    let clock = Clock::Manual(ManualClock::at(NOW));
    let lanes = LaneOptions { count: 1, overlap, counters_max: i64::MAX };
    Engine::start(store, &Arc::new(PolicyCache::default()), &clock, lanes).expect("started")
}

async fn end(mut lanes: Lanes) {
    assert!(lanes.drain(Instant::now() + Duration::from_secs(60)).await, "nothing is left");
    lanes.end();
}

/// Locks these tenants until the transaction ends.
async fn lock(store: &Store, ids: &[&str]) -> Transaction<Writing> {
    let stall = store.begin_write("test").await.expect("begun");
    let keys = stall.find_tenant_keys(ids).await.expect("they are there");
    let mut keys: Vec<TenantKey> = keys.into_iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    stall.lock_tenants(&keys).await.expect("locked");
    stall
}

/// Returns the id of the reservation that a Record made. Ids grow in the order of decisions.
fn recorded(outcome: Outcome) -> ReservationId {
    match outcome.expect("recorded").reply {
        Reply::Recorded { held, .. } => held.reservation.id,
        other => panic!("{other:?}"),
    }
}
