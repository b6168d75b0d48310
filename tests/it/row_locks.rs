//! Rows of tenants that another program has locked, for some seconds or until PostgreSQL ends its session. PostgreSQL
//! only.

use std::{
    future::IntoFuture,
    time::{Duration, Instant},
};

use prost::Message;
use tonic::Code;

use crate::harness::{
    clients::{done, mask},
    postgres, raw,
    v1::{Tenant, TenantState, UpdateTenantRequest, operation_result::Result as Answered},
    *,
};

/// The tenants whose rows are not locked.
const FREE: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Starts a replica with `lanes` lanes. A warm replica decides ahead.
async fn replica(world: &World, lanes: usize, warm: bool) -> (tope::server::Server, Clients) {
    let (server, clients) = world.replica_with(lanes).await;
    for _ in 0..if warm { 24 } else { 0 } {
        for tenant in FREE.into_iter().chain(["held"]) {
            clients.record(tenant).tokens(1).await.expect("it is recorded");
        }
    }
    (server, clients)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_tenants_do_not_wait_for_a_tenant_whose_row_is_locked() {
    let world = World::start(Kind::Postgres).await;
    for tenant in FREE.into_iter().chain(["held"]) {
        world.tenant_with(tenant, &[lifetime("tokens", 1_000_000)]).await;
    }
    for (lanes, warm) in [(1, false), (1, true), (2, true), (4, true)] {
        let (server, clients) = replica(&world, lanes, warm).await;
        let before = clients.figures("held", "lifetime").await.0;
        let free_before = clients.figures("a", "lifetime").await.0;
        let lock = world.database.lock_tenant("held").await;
        let mut first = tokio::spawn(clients.record("held").tokens(1).into_future());
        let operations =
            FREE.into_iter().chain(["held"]).map(|id| clients.record(id).tokens(100).operation());
        let mut mixed = tokio::spawn({
            let (clients, operations) = (clients.clone(), operations.collect());
            async move { clients.batch(operations).await }
        });
        eventually("somebody waits for the row", async || {
            (world.database.count_waiting().await > 0).then_some(())
        })
        .await;
        for round in 0..20 {
            for tenant in FREE {
                let hold = clients.reserve(tenant).tokens(10).id(&format!("{lanes} {warm} {round}")).await;
                clients.commit(hold.expect("its row is free").name()).tokens(5).await.expect("so is this");
            }
        }
        // The other operations of the Batch are decided. Their answers wait for the operation of the locked tenant.
        eventually("the others of its Batch are decided", async || {
            (world.figures("a", "lifetime").await == (free_before + 200, 0)).then_some(())
        })
        .await;
        // A call whose deadline passes is refused, and holds nothing.
        let late = clients.reserve("held").tokens(7).request.encode_to_vec();
        let address = server.address();
        let no =
            raw::post(address, "/tope.v1.QuotaService/Reserve", &[("grpc-timeout", "200m")], &late).await;
        no.expect("it waits for longer than that").is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert!(!first.is_finished() && !mixed.is_finished(), "their row is still locked");
        lock.end().await;
        (&mut first).await.expect("it does not panic").expect("it is recorded");
        let results = (&mut mixed).await.expect("it does not panic").expect("each stands for itself");
        for result in results {
            assert!(matches!(result.result, Some(Answered::Record(_))), "{result:?}");
        }
        assert_eq!(clients.figures("held", "lifetime").await, (before + 101, 0), "{lanes} {warm}");
        server.shutdown().await;
    }
    world.end().await;
}

/// Jobs lock many tenants at once. If a job waited for one tenant, calls for all the other tenants would wait for the
/// job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_skip_a_tenant_whose_row_is_locked() {
    let world = World::start(Kind::Postgres).await;
    for tenant in ["acme", "held"] {
        world.tenant_with(tenant, &[day("tokens", 1_000)]).await;
        world.record(tenant).tokens(10).id("r").await.expect("it is recorded");
    }
    world.clock.advance(31 * DAY);
    for (counters, request_ids, locked) in [(1, 1, true), (1, 1, false), (0, 0, false)] {
        let lock = if locked { Some(world.database.lock_tenant("held").await) } else { None };
        let closed = world.close_windows().await;
        assert_eq!((closed.counters, closed.waiting), (counters, usize::from(locked)));
        let figures = world.job("prune").await;
        assert_eq!((figures["request_ids"], figures["reservations"]), (request_ids, request_ids));
        world.verify().await;
        if let Some(lock) = lock {
            lock.end().await;
        }
    }
    world.end().await;
}

/// A server that is stopped by SIGSTOP keeps its locks until PostgreSQL ends its sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_of_a_stopped_server_are_released_within_5_seconds() {
    let database = Database::fresh(Kind::Postgres);
    let (second, there) = Process::serving(database.url(), &database.path(""), &["--demo"]).await;
    let there = Clients::of(there);
    let name = database.url().rsplit_once('/').expect("the URL names a database").1.to_owned();
    let role = format!("stopped_{name}");
    // In this role, each session that locks a tenant waits until the table `gate` has a row, and then has the lock.
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN;
             CREATE TABLE gate (open BOOLEAN);
             CREATE FUNCTION passes() RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$ BEGIN
                 WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
                 RETURN true;
             END $$;
             GRANT ALL ON SCHEMA public TO {role};
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
             ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
             CREATE POLICY found ON tenants FOR SELECT USING (true);
             CREATE POLICY locked ON tenants FOR UPDATE USING (passes())"
        ))
        .await;
    let url = database.url().replace(&format!("{}@", postgres::USER), &format!("{role}@"));
    let (first, here) = Process::serving(&url, &database.path(""), &[]).await;
    let here = Clients::of(here);
    let of_role =
        |state: &str| format!("SELECT COUNT(*) FROM pg_stat_activity WHERE usename = '{role}' AND {state}");
    let record = tokio::spawn(here.record("acme").tokens(10).into_future());
    let update = UpdateTenantRequest {
        tenant: Some(Tenant { id: "globex".into(), display_name: "Globex".into(), ..Tenant::default() }),
        update_mask: Some(mask(&["display_name"])),
    };
    let update = tokio::spawn({
        let mut admin = here.admin.clone();
        async move { done(admin.update_tenant(update).await) }
    });
    let at_gate = of_role("wait_event = 'PgSleep'");
    eventually("both are at the gate", async || (database.number(&at_gate).await == 2).then_some(())).await;
    first.signal("STOP");
    database.execute("INSERT INTO gate VALUES (true)").await;
    let idle = of_role("state = 'idle in transaction'");
    eventually("both have their locks", async || (database.number(&idle).await == 2).then_some(())).await;

    let begun = Instant::now();
    let other = tokio::spawn({
        let there = there.clone();
        async move { there.set_state("globex", TenantState::Suspended).await }
    });
    there.record("acme").tokens(1).await.expect("the lock has an end");
    let waited = begun.elapsed();
    other.await.expect("so has the other one");
    let ended = begun.elapsed();
    assert!(waited < Duration::from_secs(5) && ended < Duration::from_secs(5), "{waited:?}, {ended:?}");

    // The server continues, finds its connections closed, and decides the Record once.
    first.signal("CONT");
    record.await.expect("it does not panic").expect("it is recorded");
    let no = update.await.expect("it does not panic").expect_err("its transaction was ended");
    assert_eq!(no.code, Code::Unavailable, "{no:?}");
    assert_eq!(figures(&there.usage("acme").await[0]), (11, 0));
    first.stop().await;
    second.stop().await;
    process::verify(database.url()).await;
}
