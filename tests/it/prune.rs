//! Retention: reservations that were settled long ago are removed, and the books stay correct.

use std::future::IntoFuture;

use futures::{FutureExt, future::join};
use tonic::Code;

use crate::harness::{postgres::psql, v1::*, world::run_in_world, *};

const KEPT: i64 = 30 * DAY;

fn gone<T: std::fmt::Debug>(answer: Result<T, Box<No>>) {
    answer.expect_err("it was pruned").is(Code::NotFound, "RESERVATION_NOT_FOUND");
}

/// Runs the job `prune`. Returns the number of removed reservations and the number of removed request ids.
async fn pruned(clients: &Clients) -> (i64, i64) {
    let figures = clients.job("prune").await;
    (figures["reservations"], figures["request_ids"])
}

/// Records 1 token `count` times, each time with a request_id.
async fn record_many(world: &World, tenant: &str, count: i64) {
    let record = |number| world.record(tenant).tokens(1).id(&format!("{tenant}-{number}")).operation();
    let operations: Vec<Operation> = (0..count).map(record).collect();
    for portion in operations.chunks(1_000) {
        for result in world.batch(portion.to_vec()).await.expect("each stands for itself") {
            assert!(matches!(result.result, Some(operation_result::Result::Record(_))), "{result:?}");
        }
    }
}

both! {
    async fn reservations_settled_30_days_ago_are_removed_and_the_figures_stay(world: World) {
        let per_agent = lifetime("tokens", 10_000).named("agent").per(&[Dimension::Agent]);
        world.tenant_with("acme", &[lifetime("tokens", 10_000), month("tokens", 10_000), per_agent]).await;
        world.declare("meter").await;
        let hold = world.reserve("acme").tokens(100).agent("planner").id("r").await.expect("there is quota");
        world.extend(hold.name()).tokens(10).id("e").await.expect("there is quota");
        world.extend(hold.name()).tokens(10).await.expect("there is quota");
        let committed = world.commit(hold.name()).tokens(130).amount("meter", 4).await.expect("it is held");
        world.record("acme").tokens(50).id("c").await.expect("it is recorded");
        world.record("acme").tokens(-20).await.expect("it is recorded");
        let released = world.reserve("acme").tokens(7).await.expect("there is quota");
        world.release(released.name()).await.expect("it is held");
        world.reserve("acme").tokens(9).ttl(MINUTE).charged_on_expiry().await.expect("there is quota");
        world.reset("acme", &["meter"]).await.expect("the tenant is there");
        world.clock.advance(MINUTE);
        world.record("acme").tokens(1).await.expect("it is recorded, and the hold is swept");

        world.clock.set(NOON + KEPT - 1);
        assert_eq!(pruned(world).await, (0, 4), "request ids are kept for a day");
        assert_eq!(world.reservations("acme").await.len(), 6);
        let before = world.usage("acme").await;
        assert_eq!(before.figures("lifetime"), (170, 0));
        world.clock.set(NOON + KEPT);
        assert_eq!(pruned(world).await, (4, 0));
        world.verify().await;
        world.clock.set(NOON + KEPT + MINUTE);
        assert_eq!(pruned(world).await, (2, 0));
        world.verify().await;
        assert_eq!(world.usage("acme").await, before);
        assert_eq!(world.reservations("acme").await, []);
        assert_eq!(pruned(world).await, (0, 0));

        // For a client, a removed reservation does not exist.
        gone(world.get(committed.name()).await);
        gone(world.commit(committed.name()).tokens(130).await);
        gone(world.release(released.name()).await);
        gone(world.extend(hold.name()).tokens(1).await);
        let again = world.reserve("acme").tokens(100).agent("planner").id("r").await.expect("a new one");
        assert_ne!(again.name(), hold.name());
        assert_eq!(again.figures("lifetime"), (170, 100));
        world.restart().await;
        assert_eq!(world.figures("acme", "lifetime").await, (170, 100));
    }

    async fn prune_keeps_open_holds_and_due_holds_that_are_not_swept(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        world.tenant_with("idle", &[lifetime("tokens", 1_000)]).await;
        // Nothing is decided for this tenant after the deadline, so its hold is due but not swept.
        let due = world.reserve("idle").tokens(10).ttl(MINUTE).await.expect("there is quota");
        world.record("acme").tokens(1).await.expect("it is recorded");
        world.clock.advance(2 * KEPT);
        let open = world.reserve("acme").tokens(10).id("r").ttl(DAY).await.expect("there is quota");
        assert_eq!(pruned(world).await, (1, 0));
        world.clock.advance(DAY - 1);
        assert_eq!(pruned(world).await, (0, 0));
        assert_eq!(world.figures("acme", "lifetime").await, (1, 10));
        world.commit(open.name()).tokens(5).await.expect("it is held");
        let late = world.commit(due.name()).tokens(8).await.expect("it is kept");
        assert!(late.held().late);
        assert_eq!(pruned(world).await, (0, 0));
        assert_eq!(world.figures("idle", "lifetime").await, (8, 0));
    }

    /// After a late Commit the server keeps the reservation for the whole retention again. The reservations that were
    /// made before and after this reservation are pruned at their own times.
    async fn an_expired_hold_can_be_committed_until_it_is_removed(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let reserve = || world.reserve("acme").tokens(100).ttl(MINUTE);
        let first = reserve().await.expect("there is quota");
        let second = reserve().charged_on_expiry().await.expect("there is quota");
        let third = reserve().charged_on_expiry().await.expect("there is quota");
        world.clock.advance(MINUTE);
        world.record("acme").tokens(1).await.expect("it is recorded, and the holds are swept");
        world.clock.advance(KEPT - 1);
        assert_eq!(pruned(world).await, (0, 0));
        let late = world.commit(second.name()).tokens(30).await.expect("it is kept");
        assert!(late.held().late);
        world.clock.advance(1);
        assert_eq!(pruned(world).await, (3, 0));
        gone(world.commit(first.name()).tokens(1).await);
        gone(world.release(third.name()).await);
        world.commit(second.name()).tokens(30).await.expect("the same amounts");
        assert_eq!(world.figures("acme", "lifetime").await, (131, 0));
        world.clock.advance(KEPT - 1);
        assert_eq!(pruned(world).await, (1, 0));
        gone(world.get(second.name()).await);
        assert_eq!(world.figures("acme", "lifetime").await, (131, 0));
    }

    async fn a_request_id_is_remembered_for_its_retention(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let reserve = || world.reserve("acme").tokens(100).id("r").ttl(DAY).into_future();
        let record = || world.record("acme").tokens(1).id("c").into_future();
        let hold = reserve().await.expect("there is quota");
        let extend = || world.extend(hold.name()).tokens(5).id("e").into_future();
        let extended = extend().await.expect("there is quota");
        let recorded = record().await.expect("it is recorded");
        world.clock.advance(DAY - 1);
        assert_eq!(pruned(world).await, (0, 0));
        assert_eq!(reserve().await.expect("a retry").reservation, hold.reservation);
        assert_eq!(extend().await.expect("a retry").reservation, extended.reservation);
        assert_eq!(record().await.expect("a retry").reservation, recorded.reservation);
        world.commit(hold.name()).tokens(1).await.expect("it is held");
        world.clock.advance(1);
        assert_eq!(pruned(world).await, (0, 3));
        world.verify().await;
        assert_ne!(record().await.expect("a new one").name(), recorded.name());
        assert_eq!(state(&world.get(hold.name()).await.expect("it is kept")), ReservationState::Committed);
        assert_eq!(world.figures("acme", "lifetime").await, (3, 0));
    }

    /// Calls are decided between the transactions.
    async fn prune_removes_at_most_500_rows_per_transaction(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
        world.tenant_with("globex", &[lifetime("tokens", 1_000_000)]).await;
        record_many(world, "acme", 2_300).await;
        record_many(world, "globex", 100).await;
        world.clock.advance(KEPT);
        let (figures, ()) = join(world.job("prune"), async {
            for _ in 0..20 {
                let hold = world.reserve("acme").tokens(1).await.expect("there is quota");
                world.commit(hold.name()).await.expect("it is held");
            }
        })
        .await;
        assert_eq!((figures["reservations"], figures["request_ids"]), (2_400, 2_400));
        assert_eq!(figures["transactions"], 2 * 5, "2,400 rows each, 2,000 of them of one page");
        assert_eq!(world.figures("acme", "lifetime").await, (2_320, 0));
        assert_eq!(world.figures("globex", "lifetime").await, (100, 0));
    }

    /// The next server continues the work.
    async fn a_shutdown_stops_prune_between_two_transactions(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
        record_many(world, "acme", 1_400).await;
        world.clock.advance(KEPT);
        let stall = world.database.stall().await;
        let clients = Clients::clone(world);
        let job = tokio::spawn(async move { clients.run_job("prune").await });
        eventually("it runs", async || world.jobs().await.iter().any(|job| job.running).then_some(())).await;
        let clients = Clients::clone(world);
        let release = async {
            // When the server refuses new calls, it is shutting down.
            eventually("it takes no more", async || {
                clients.admin.clone().list_jobs(ListJobsRequest {}).await.err()
            })
            .await;
            stall.end().await;
        };
        join(world.restart(), release).await;
        let run = job.await.expect("it is run").expect("it is answered");
        assert_eq!(run.outcome(), JobOutcome::Stopped, "{run:?}");
        let requests = run.figures.iter().find(|figure| figure.name == "request_ids").map(|figure| figure.value);
        let left = 1_400 - requests.expect("it is counted");
        assert!(left >= 900, "one step was made at most: {run:?}");
        assert_eq!(pruned(world).await, (1_400, left));
    }

    async fn a_late_commit_during_prune_leaves_the_books_correct(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let mut committed = 0;
        for round in 0..8 {
            let hold = world.reserve("acme").tokens(9).ttl(MINUTE).charged_on_expiry();
            let hold = hold.await.expect("there is quota");
            world.clock.advance(MINUTE);
            committed += 1;
            world.record("acme").tokens(1).await.expect("it is recorded, and the hold is swept");
            world.clock.advance(KEPT - 1);
            // Remove older reservations now, so that the next run begins with this hold.
            pruned(world).await;
            world.clock.advance(1);
            let stall = world.database.stall().await;
            let commit = world.commit(hold.name()).tokens(5).into_future();
            // This runs in its own task, because the job may block the thread of the test.
            let end = tokio::spawn(stall.end());
            let (reply, _) = join(commit, pruned(world)).await;
            end.await.expect("the lock is given back");
            committed += match reply {
                Ok(reply) if reply.held().late => 5,
                answer => {
                    gone(answer);
                    9
                }
            };
            assert_eq!(world.figures("acme", "lifetime").await, (committed, 0), "round {round}");
        }
        world.verify().await;
    }

    /// The other reservations are removed.
    async fn a_reservation_that_cannot_be_removed_stays(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        world.tenant_with("globex", &[lifetime("tokens", 1_000)]).await;
        record_many(world, "acme", 20).await;
        let kept = world.record("globex").tokens(1).await.expect("it is recorded");
        world.record("acme").tokens(20).await.expect("it is recorded");
        world.clock.advance(KEPT);
        let body = if world.database.kind() == Kind::Sqlite { "CAST(body || x'ff' AS BLOB)" } else { "body || '\\xff'" };
        let whose = "WHERE tenant_key = (SELECT key FROM tenants WHERE id = 'globex')";
        world.database.execute(&format!("UPDATE reservations SET body = {body} {whose}")).await;
        let figures = world.job("prune").await;
        assert_eq!((figures["reservations"], figures["refused"]), (21, 1));
        let body = "substr(body, 1, length(body) - 1)";
        world.database.execute(&format!("UPDATE reservations SET body = {body} {whose}")).await;
        world.get(kept.name()).await.expect("it is still there");
        world.verify().await;
        let figures = world.job("prune").await;
        assert_eq!((figures["reservations"], figures["refused"]), (1, 0));
        assert_eq!(world.figures("globex", "lifetime").await, (1, 0));
    }

    /// The sum of the removed rows includes usage that was reset, but not the adjustments. So it may exceed an int64.
    async fn the_removed_usage_of_one_counter_may_exceed_an_int64(world: World) {
        world.tenant_with("acme", &[]).await;
        world.declare("meter").await;
        for (quantity, reset) in [(i64::MAX, true), (1, false), (-1, false), (i64::MAX, true), (i64::MAX, true)] {
            world.record("acme").amount("meter", quantity).await.expect("it is recorded");
            let left = if reset {
                world.reset("acme", &["meter"]).await.expect("the tenant is there");
                0
            } else {
                quantity.max(0)
            };
            world.clock.advance(KEPT);
            let figures = world.job("prune").await;
            assert_eq!((figures["reservations"], figures["refused"]), (1, 0), "{quantity}");
            assert_eq!(world.figures("acme", "").await, (left, 0));
            world.verify().await;
        }
        // One run removes several such rows.
        for _ in 0..4 {
            world.record("acme").amount("meter", i64::MAX).await.expect("it is recorded");
            world.reset("acme", &["meter"]).await.expect("the tenant is there");
        }
        world.clock.advance(KEPT);
        let figures = world.job("prune").await;
        assert_eq!((figures["reservations"], figures["refused"]), (4, 0));
        world.verify().await;
    }

    async fn prune_removes_rows_of_a_deleted_tenant_too(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        world.record("acme").tokens(1).id("c").await.expect("it is recorded");
        let request = DeleteTenantRequest { id: "acme".into(), ..DeleteTenantRequest::default() };
        world.admin.clone().delete_tenant(request).await.expect("it has no holds");
        world.clock.advance(KEPT);
        assert_eq!(pruned(world).await, (1, 1));
    }
}

/// Two runs read the same rows, and then both wait for the lock of the tenants.
async fn prune_on_two_replicas(world: &mut World) {
    const EACH: i64 = 400;
    let tenants = ["acme", "globex", "initech"];
    for tenant in tenants {
        world.tenant_with(tenant, &[lifetime("tokens", 1_000_000)]).await;
        record_many(world, tenant, EACH).await;
    }
    world.clock.advance(KEPT);
    let (other, there) = world.replica().await;
    let stall = world.database.stall().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FROM tenants WHERE key = ANY%'";
    let release = async {
        eventually("both wait", async || (psql(world.database.url(), waiting).trim() == "2").then_some(()))
            .await;
        stall.end().await;
    };
    let ((here, there), ()) = join(join(pruned(world), pruned(&there)), release).await;
    // A run that waits too long for the lock leaves its rows to the next run.
    let rest = pruned(world).await;
    assert_eq!(here.0 + there.0 + rest.0, 1_200, "reservations");
    assert_eq!(here.1 + there.1 + rest.1, 1_200, "request ids");
    for tenant in tenants {
        assert_eq!(world.figures(tenant, "lifetime").await, (EACH, 0));
    }
    other.shutdown().await;
}

#[test]
fn two_replicas_remove_and_count_each_row_once() {
    run_in_world(Kind::Postgres, |world| prune_on_two_replicas(world).boxed_local());
}
