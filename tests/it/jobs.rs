//! The jobs. Usually they run on a schedule, but here the tests run them.

use std::future::IntoFuture;

use futures::{FutureExt, future::join};
use tonic::Code;

use crate::harness::{
    postgres::psql,
    process::{run, said, tope},
    v1::*,
    world::run_in_world,
    *,
};

/// Makes `count` holds of 1 token each that end in a minute.
async fn hold_many(world: &World, tenant: &str, count: usize) {
    let reserve = || world.reserve(tenant).tokens(1).ttl(MINUTE).operation();
    let mut left = count;
    while left > 0 {
        let portion = left.min(1_000);
        for result in world.batch((0..portion).map(|_| reserve()).collect()).await.expect("a reply") {
            assert!(matches!(result.result, Some(operation_result::Result::Reserve(_))), "{result:?}");
        }
        left -= portion;
    }
}

async fn swept(clients: &Clients) -> (i64, i64) {
    let figures = clients.job("expire-holds").await;
    (figures["tenants"], figures["holds"])
}

/// A statement that makes each counter larger than the sum of its rows.
const SPOIL_COUNTERS: &str = "UPDATE counters SET committed = committed + 1";

both! {
    async fn jobs_are_listed_with_their_last_runs(world: World) {
        let jobs = world.jobs().await;
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert!(names.is_sorted(), "{names:?}");
        for name in ["expire-holds", "prune", "prune-events", "verify-sample"] {
            assert!(names.contains(&name), "{names:?}");
        }
        for job in &jobs {
            assert_eq!(job.schedule.split(' ').count(), 6, "{job:?}");
            assert!(!job.description.is_empty() && job.timeout.is_some_and(|timeout| timeout.seconds > 0));
            // A schedule follows the real time. With a clock that the test sets, nothing is scheduled.
            assert_eq!((job.next_run_time, job.running, &job.last_run), (None, false, &None), "{job:?}");
        }
        world.clock.advance(MINUTE);
        let answered = world.run_job("prune").await.expect("the job exists");
        assert_eq!(millis(answered.start_time.as_ref()), Some(NOON + MINUTE));
        for job in world.jobs().await {
            let last = (job.name == "prune").then_some(&answered);
            assert_eq!(job.last_run.as_ref(), last, "{}", job.name);
        }
        world.restart().await;
        assert!(world.jobs().await.iter().all(|job| job.last_run.is_none()));
    }

    async fn an_unknown_job_is_refused(world: World) {
        world.run_job("").await.expect_err("it has no name").names(&["name"]);
        world.run_job("a\nb").await.expect_err("it is no name").names(&["name"]);
        world.run_job(&"x".repeat(129)).await.expect_err("it is too long").names(&["name"]);
        for name in ["nonsense", "PRUNE", "prune "] {
            let no = world.run_job(name).await.expect_err("there is none");
            no.is(Code::NotFound, "JOB_NOT_FOUND");
            assert_eq!(no.resource, Some(("job".to_owned(), name.to_owned())));
        }
    }

    async fn expire_holds_ends_due_holds_of_idle_tenants(world: World) {
        for tenant in ["acme", "globex", "idle"] {
            world.tenant_with(tenant, &[lifetime("tokens", 1_000)]).await;
        }
        let charged = world.reserve("acme").tokens(30).ttl(MINUTE).charged_on_expiry();
        let charged = charged.await.expect("there is quota");
        hold_many(world, "acme", 4).await;
        hold_many(world, "globex", 2).await;
        world.reserve("globex").tokens(5).ttl(HOUR).await.expect("there is quota");
        assert_eq!(swept(world).await, (0, 0), "none is due");
        world.clock.advance(MINUTE);
        let before = (world.usage("acme").await, world.usage("globex").await);
        assert_eq!(swept(world).await, (2, 7));
        assert_eq!((world.usage("acme").await, world.usage("globex").await), before, "they count at once");
        assert_eq!(swept(world).await, (0, 0), "they were ended");
        assert_eq!(world.figures("acme", "lifetime").await, (30, 0));
        assert_eq!(world.figures("globex", "lifetime").await, (0, 5));
        // A swept hold is kept for the retention of settled reservations.
        let late = world.commit(charged.name()).tokens(20).await.expect("it is kept");
        assert!(late.held().late);
        world.clock.advance(31 * DAY);
        assert_eq!(world.job("prune").await["reservations"], 7);
    }

    /// The job skips holds of a deleted tenant.
    async fn expire_holds_ends_many_due_holds_in_bounded_steps(world: World) {
        for tenant in ["acme", "globex", "gone"] {
            world.tenant_with(tenant, &[lifetime("tokens", 1_000_000)]).await;
        }
        hold_many(world, "acme", 4_500).await;
        hold_many(world, "globex", 30).await;
        hold_many(world, "gone", 3).await;
        let request = DeleteTenantRequest { id: "gone".into(), force: true, ..DeleteTenantRequest::default() };
        world.admin.clone().delete_tenant(request).await.expect("it is forced");
        world.clock.advance(MINUTE);
        // In the meantime calls are decided, and their batches sweep holds, too.
        let (figures, ()) = join(swept(world), async {
            for _ in 0..10 {
                world.record("acme").tokens(1).await.expect("it is recorded");
            }
        })
        .await;
        assert!(figures.0 <= 2 && figures.1 <= 4_530, "{figures:?}");
        assert_eq!(swept(world).await, (0, 0));
        assert_eq!(world.figures("acme", "lifetime").await, (10, 0));
        assert_eq!(world.figures("globex", "lifetime").await, (0, 0));
    }

    /// The run fails, and reports the fault.
    async fn a_tenant_that_cannot_be_swept_delays_no_other_tenant(world: World) {
        for tenant in ["acme", "bad"] {
            world.tenant_with(tenant, &[lifetime("tokens", 1_000_000)]).await;
        }
        let [poison, cure] = match world.database.kind() {
            Kind::Sqlite => [
                "CREATE TRIGGER poison BEFORE INSERT ON reservations
                   WHEN NEW.tenant_key = (SELECT key FROM tenants WHERE id = 'bad')
                 BEGIN SELECT RAISE(ABORT, 'no'); END",
                "DROP TRIGGER poison",
            ],
            Kind::Postgres => [
                "DO $$ BEGIN
                   EXECUTE format('ALTER TABLE reservations ADD CONSTRAINT poison CHECK (tenant_key <> %s)',
                                  (SELECT key FROM tenants WHERE id = 'bad'));
                 END $$",
                "ALTER TABLE reservations DROP CONSTRAINT poison",
            ],
        };
        // One round of the job does not end all of these holds.
        hold_many(world, "acme", 4_500).await;
        hold_many(world, "bad", 3).await;
        world.database.execute(poison).await;
        world.clock.advance(MINUTE);
        let run = world.run_job("expire-holds").await.expect("a run that failed is an answer");
        assert_eq!(run.outcome(), JobOutcome::Failed, "{run:?}");
        let counted: Vec<(&str, i64)> =
            run.figures.iter().map(|figure| (figure.name.as_str(), figure.value)).collect();
        assert_eq!(counted, [("tenants", 2), ("holds", 4_500)]);
        world.database.execute(cure).await;
        assert_eq!(swept(world).await, (1, 3));
    }

    async fn a_running_job_is_not_started_again(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        hold_many(world, "acme", 1).await;
        world.clock.advance(MINUTE);
        let stall = world.database.stall().await;
        let first = tokio::spawn({
            let clients = Clients::clone(world);
            async move { swept(&clients).await }
        });
        eventually("it runs", async || {
            world.jobs().await.iter().any(|job| job.name == "expire-holds" && job.running).then_some(())
        })
        .await;
        let no = world.run_job("expire-holds").await.expect_err("it runs already");
        no.is(Code::FailedPrecondition, "JOB_RUNNING");
        assert_eq!(no.metadata["job"], "expire-holds");
        stall.end().await;
        assert_eq!(first.await.expect("it is answered"), (1, 1));
        assert_eq!(swept(world).await, (0, 0), "it may run again");
    }

    /// The sample has all tenants, because there are fewer than a hundred.
    async fn verify_sample_finds_wrong_counters(world: World) {
        assert_eq!(world.job("verify-sample").await["tenants"], 0);
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &[lifetime("tokens", 1_000)]).await;
            world.record(tenant).tokens(10).id("c").await.expect("it is recorded");
            world.reserve(tenant).tokens(10).await.expect("there is quota");
        }
        world.reset_only("acme", &[], &["lifetime"]).await.expect("the tenant is there");
        let figures = world.job("verify-sample").await;
        let counted = ["tenants", "counters", "holds", "settled"].map(|name| figures[name]);
        assert_eq!(counted, [2, 2, 2, 2]);
        world.database.execute(SPOIL_COUNTERS).await;
        let run = world.run_job("verify-sample").await.expect("a run that failed is an answer");
        assert_eq!(run.outcome(), JobOutcome::Failed, "{run:?}");
        assert!(run.error.contains("2 row(s)"), "{run:?}");
        let counted: Vec<(&str, i64)> =
            run.figures.iter().map(|figure| (figure.name.as_str(), figure.value)).collect();
        assert_eq!(counted, [("tenants", 2), ("counters", 2), ("holds", 2), ("settled", 2)], "all the same");
        world.database.execute("UPDATE counters SET committed = committed - 1").await;
        assert_eq!(world.job("verify-sample").await["tenants"], 2);
    }

    async fn a_shutdown_waits_for_a_running_job(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        hold_many(world, "acme", 1).await;
        world.clock.advance(MINUTE);
        let stall = world.database.stall().await;
        let clients = Clients::clone(world);
        let job = tokio::spawn(async move { swept(&clients).await });
        eventually("it runs", async || {
            world.jobs().await.iter().any(|job| job.running).then_some(())
        })
        .await;
        let clients = Clients::clone(world);
        let release = async {
            // A server that shuts down refuses new calls. The test uses a call that needs no database: another call
            // might be accepted and then wait for the lock.
            eventually("it takes no more", async || {
                clients.admin.clone().list_jobs(ListJobsRequest {}).await.err()
            })
            .await;
            stall.end().await;
        };
        join(world.restart(), release).await;
        assert_eq!(job.await.expect("it is answered"), (1, 1));
        assert_eq!(world.figures("acme", "lifetime").await, (0, 0));
    }
}

async fn expire_holds_on_two_replicas(world: &mut World) {
    world.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
    world.tenant_with("globex", &[lifetime("tokens", 1_000_000)]).await;
    let charged = world.reserve("acme").tokens(7).ttl(MINUTE).charged_on_expiry().into_future();
    charged.await.expect("there is quota");
    hold_many(world, "acme", 2_500).await;
    hold_many(world, "globex", 2_500).await;
    let (other, there) = world.replica().await;
    world.clock.advance(MINUTE);
    let (here, there) = join(swept(world), swept(&there)).await;
    // Both runs may count a hold if both read it before it ended.
    assert!(here.1 + there.1 >= 5_001, "{here:?} {there:?}");
    assert!(here.1 <= 5_001 && there.1 <= 5_001, "{here:?} {there:?}");
    assert_eq!(psql(world.database.url(), "SELECT count(*) FROM holds").trim(), "0");
    assert_eq!(psql(world.database.url(), "SELECT count(*) FROM reservations").trim(), "5001");
    assert_eq!(world.figures("acme", "lifetime").await, (7, 0));
    assert_eq!(world.figures("globex", "lifetime").await, (0, 0));
    other.shutdown().await;
}

#[test]
fn two_replicas_expire_each_hold_once() {
    run_in_world(Kind::Postgres, |world| expire_holds_on_two_replicas(world).boxed_local());
}

on_both! {
    async fn the_command_lists_jobs_and_runs_one(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
        let command = async |arguments: &[&str]| {
            let mut command = tope();
            command.arg("jobs").args(arguments).args(["--target", &process.target()]);
            run(command).await
        };
        let listed = command(&["list"]).await;
        let text = said(&listed);
        assert!(listed.status.success(), "{text}");
        for job in Clients::of(channel).jobs().await {
            assert!(text.contains(&job.name) && text.contains(&job.description), "{text}");
            assert!(text.contains(&job.schedule), "{text}");
            assert!(job.next_run_time.is_some_and(|at| at.seconds > 0), "{job:?}");
        }
        let listed = command(&["list", "-o", "json"]).await;
        let jobs: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        let prune = jobs.as_array().expect("a list").iter().find(|job| job["name"] == "prune").expect("the job exists");
        assert!(prune["next_run_time"].as_str().is_some_and(|at| at.ends_with('Z')), "{prune}");

        let ran = command(&["run", "prune"]).await;
        assert!(ran.status.success(), "{}", said(&ran));
        assert!(said(&ran).contains("SUCCEEDED in "), "{}", said(&ran));
        let ran = command(&["run", "prune", "-o", "json"]).await;
        let figures: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("JSON");
        assert_eq!(figures["figures"]["request_ids"], "0", "{figures}");
        let listed = said(&command(&["list"]).await);
        assert!(listed.contains("SUCCEEDED in "), "{listed}");

        let refused = command(&["run", "nonsense"]).await;
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains("\"nonsense\"") && text.contains("JOB_NOT_FOUND"), "{text}");
        assert_eq!(command(&["run"]).await.status.code(), Some(2));
        process.stop().await;
    }
}
