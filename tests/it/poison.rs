//! R4.14: an operation that the database always refuses fails alone. A batch that the database refuses once is
//! repeated.

use std::future::IntoFuture;

use tokio::time::timeout;
use tonic::Code;

use crate::harness::{
    v1::{EventKind, operation_result::Result as Answered},
    wait::PATIENCE,
    *,
};

/// Makes the database always refuse the request_id `poison`.
async fn poison(world: &World) {
    let statement = match world.database.kind() {
        Kind::Sqlite => {
            "CREATE TRIGGER poison BEFORE INSERT ON requests WHEN NEW.request_id = 'poison'
             BEGIN SELECT RAISE(ABORT, 'a secret of the database'); END"
        }
        Kind::Postgres => "ALTER TABLE requests ADD CONSTRAINT secret CHECK (request_id <> 'poison')",
    };
    world.database.execute(statement).await;
}

both! {
    async fn an_operation_that_the_database_always_refuses_fails_alone(world: World) {
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &[day("tokens", 1_000)]).await;
        }
        poison(world).await;
        let mut operations = Vec::new();
        for number in 0..60 {
            let tenant = ["acme", "globex"][number % 2];
            let id = if number == 37 { "poison".to_owned() } else { format!("r{number}") };
            operations.push(match number % 3 {
                0 => world.record(tenant).tokens(1).id(&id).operation(),
                _ => world.reserve(tenant).tokens(1).id(&id).operation(),
            });
        }
        let results = world.batch(operations).await.expect("each stands for itself");
        for (number, result) in results.into_iter().enumerate() {
            match result.result.expect("every operation has its answer") {
                Answered::Error(status) => {
                    assert_eq!(number, 37, "{status:?}");
                    let no = No::from(status);
                    assert_eq!(no.code, Code::Internal, "{no:?}");
                    let said = format!("{no:?}");
                    assert!(!said.contains("secret") && !said.contains("requests"), "{said}");
                }
                _ => assert_ne!(number, 37),
            }
        }
        let sums = (world.figures("acme", "day").await, world.figures("globex", "day").await);
        assert_eq!(sums, ((10, 20), (10, 19)));
        // The refused operation does not affect later operations. A repeat of it is refused again.
        let again = world.reserve("globex").tokens(1).id("poison").await.expect_err("it is still poisonous");
        assert_eq!(again.code, Code::Internal, "{again:?}");
        world.reserve("globex").tokens(1).id("fresh").await.expect("it is not");
    }

    /// The test causes the panic by an invalid row: the number of the tenant's next event is too large.
    async fn a_lane_goes_on_after_a_panic(world: World) {
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &[day("tokens", 100).thresholds(&[50])]).await;
        }
        world.record("acme").tokens(1).await.expect("it is recorded");
        let number = world.database.number("SELECT event_number FROM tenants WHERE id = 'acme'").await;
        let spoil = async |number: i64| {
            let version = "version = version / 2 + 1";
            let change = format!("UPDATE tenants SET event_number = {number}, {version} WHERE id = 'acme'");
            world.database.execute(&change).await;
        };
        spoil(i64::MAX).await;
        let no = world.record("acme").tokens(60).await.expect_err("it comes to its threshold");
        assert_eq!(no.code, Code::Internal, "{no:?}");
        // The lane answers other calls, and no part of the failed batch took effect.
        world.record("globex").tokens(60).await.expect("it is recorded");
        assert_eq!(world.record("acme").tokens(1).await.expect("it is recorded").figures("day"), (2, 0));
        spoil(number).await;
        assert_eq!(world.record("acme").tokens(60).await.expect("it is recorded").figures("day"), (62, 0));
        assert_eq!(world.kinds("acme").await, [(EventKind::ThresholdReached, 50)]);
    }
}

/// With the error 40001 the database asks for another attempt. The trigger refuses two of three batches. It counts with
/// a sequence, because a sequence is not rolled back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_with_a_serialization_failure_is_repeated() {
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
    world
        .database
        .execute(
            "CREATE SEQUENCE attempts;
             CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('attempts') % 3 <> 0 THEN
                     RAISE EXCEPTION 'try again' USING ERRCODE = '40001';
                 END IF;
                 RETURN NULL;
             END $$;
             CREATE TRIGGER stumble AFTER UPDATE ON tenants FOR EACH STATEMENT EXECUTE FUNCTION stumble()",
        )
        .await;
    for number in 0..30 {
        let hold = world.reserve("acme").tokens(10).id(&format!("r{number}")).await.expect("it is repeated");
        world.commit(hold.name()).tokens(7).await.expect("it is repeated");
    }
    assert_eq!(world.figures("acme", "lifetime").await, (210, 0));
    assert_eq!(world.reservations("acme").await.len(), 30);
    world.end().await;
}

/// The server finds the tenant's row by the id, but can never lock the row by its key, as if somebody deleted the
/// tenant and created it again each time. A row security policy of PostgreSQL hides the row from each statement that
/// locks it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_row_can_never_be_locked_is_unavailable() {
    let world = World::start(Kind::Postgres).await;
    for tenant in ["acme", "globex"] {
        world.tenant_with(tenant, &[lifetime("tokens", 100)]).await;
    }
    let database = world.database.url().rsplit_once('/').expect("the URL names a database").1;
    let role = format!("short_sighted_{database}");
    world
        .database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN;
             GRANT ALL ON SCHEMA public TO {role};
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
             ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
             CREATE POLICY found ON tenants FOR SELECT USING (true);
             CREATE POLICY locked ON tenants FOR UPDATE USING (id <> 'acme')"
        ))
        .await;
    let url = world.database.url().replace(&format!("{}@", postgres::USER), &format!("{role}@"));
    let (server, clients) = world.replica_at(&url).await;
    let record = clients.record("acme").tokens(1).into_future();
    let no = timeout(PATIENCE, record).await.expect("it has an end").expect_err("nobody can lock it");
    no.is(Code::Unavailable, "DATABASE_UNAVAILABLE");
    assert!(no.retry.is_some(), "{no:?}");
    clients.record("globex").tokens(1).await.expect("the lane goes on");
    server.shutdown().await;
    assert_eq!(world.figures("acme", "lifetime").await, (0, 0));
    world.end().await;
}
