//! Many clients spend from one limit. The granted quantity never exceeds the limit (I1), and less than one reservation
//! is left at the end.

use std::future::IntoFuture;

use futures::future::{join_all, try_join_all};

use crate::harness::{clients::connect, v1::*, *};

/// Number of clients. Each client has its own connection.
const CLIENTS: usize = 64;
/// Quantity of the limit; not a multiple of [`SIZE`].
const LIMIT: i64 = 10_007;
/// Quantity of each Reserve.
const SIZE: i64 = 10;

#[derive(Default)]
struct Taken {
    held: i64,
    committed: i64,
}

/// Reserves until a refusal. Some holds are kept, some are committed, and some are released. After the refusal no hold
/// is released.
async fn ask_until_refused(clients: Clients, number: usize) -> Taken {
    let mut taken = Taken::default();
    for round in 0.. {
        let reply = match clients.reserve("acme").tokens(SIZE).await {
            Ok(reply) => reply,
            Err(no) => {
                no.is_quota(&["lifetime"]);
                break;
            }
        };
        let balance = reply.balance("lifetime");
        assert!(balance.committed + balance.reserved <= LIMIT, "{balance:?}");
        match (number * 31 + round * 17) % 4 {
            0 => {
                clients.release(reply.name()).await.expect("it is held");
            }
            1 => taken.held += SIZE,
            _ => {
                clients.commit(reply.name()).await.expect("it is held");
                taken.committed += SIZE;
            }
        }
    }
    taken
}

/// Runs many clients, spread over several servers on one database.
async fn crowd(targets: &[String]) {
    let first = Clients::of(connect(&targets[0]).await);
    first.tenant_with("acme", &[lifetime("tokens", LIMIT)]).await;
    let asking = (0..CLIENTS).map(async |number| {
        let clients = Clients::of(connect(&targets[number % targets.len()]).await);
        tokio::spawn(ask_until_refused(clients, number)).await
    });
    let taken = try_join_all(asking).await.expect("no client fails");
    let held: i64 = taken.iter().map(|taken| taken.held).sum();
    let committed: i64 = taken.iter().map(|taken| taken.committed).sum();
    assert!(held + committed <= LIMIT, "granted {} of {LIMIT}", held + committed);
    assert!(held + committed > LIMIT - SIZE, "granted {} of {LIMIT}", held + committed);
    for target in targets {
        let clients = Clients::of(connect(target).await);
        assert_eq!(clients.figures("acme", "lifetime").await, (committed, held), "{target}");
    }
    // A partial grant takes exactly the rest of the limit.
    let rest = first.reserve("acme").tokens(SIZE).partial().await.expect("a few are left");
    let balance = rest.balance("lifetime");
    assert_eq!(balance.committed + balance.reserved, LIMIT);
}

both! {
    async fn many_clients_use_up_a_limit_and_never_exceed_it(world: World) {
        crowd(&[format!("http://{}", world.address())]).await;
    }

    async fn partial_grants_of_many_clients_use_up_a_limit_exactly(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", LIMIT)]).await;
        let asking = (0..CLIENTS).map(|_| {
            let clients = Clients::clone(world);
            tokio::spawn(async move {
                let mut granted = 0;
                while let Ok(reply) = clients.reserve("acme").tokens(SIZE).partial().await {
                    granted += amount(reply.held(), "tokens").0;
                }
                granted
            })
        });
        let granted: i64 = try_join_all(asking).await.expect("no client fails").into_iter().sum();
        assert_eq!(granted, LIMIT);
        assert_eq!(world.figures("acme", "lifetime").await, (0, LIMIT));
    }

    /// I5 is true with many clients, too.
    async fn many_clients_hold_two_resources_together_or_not_at_all(world: World) {
        let limits = [lifetime("tokens", 1_000), lifetime("requests", 70).named("calls")];
        world.tenant_with("acme", &limits).await;
        let asking = (0..CLIENTS).map(|number| {
            let clients = Clients::clone(world);
            tokio::spawn(async move {
                let mut held = 0;
                for _ in 0..20 {
                    match clients.reserve("acme").tokens(10).amount("requests", 1).await {
                        Ok(reply) if number % 2 == 0 => {
                            assert_eq!(amount(reply.held(), "requests"), (1, 0));
                            held += 1;
                        }
                        Ok(reply) => drop(clients.release(reply.name()).await.expect("it is held")),
                        Err(no) => drop(no.is_quota(&["calls"])),
                    }
                }
                held
            })
        });
        let held: i64 = try_join_all(asking).await.expect("no client fails").into_iter().sum();
        assert_eq!(world.figures("acme", "lifetime").await, (0, held * 10));
        assert_eq!(world.figures("acme", "calls").await, (0, held));
        assert!(held <= 70, "{held} of 70 calls");
    }
}

/// Two servers share one database. All state is in the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_two_servers_together_never_exceed_a_limit() {
    let database = Database::fresh(Kind::Postgres);
    let (first, _) = Process::serving(database.url(), &database.path(""), &[]).await;
    let (second, _) = Process::serving(database.url(), &database.path(""), &[]).await;
    crowd(&[first.target(), second.target()]).await;
    first.stop().await;
    second.stop().await;
    process::verify(database.url()).await;
}

/// I3, R4.1: copies of a request reach two replicas at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_at_two_replicas_at_once_takes_effect_once() {
    const ROUNDS: i64 = 100;
    let database = Database::fresh(Kind::Postgres);
    let (first, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
    let (second, other) = Process::serving(database.url(), &database.path(""), &[]).await;
    let replicas = [Clients::of(channel), Clients::of(other)];
    replicas[0].tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
    for round in 0..ROUNDS {
        let id = format!("r{round}");
        let copies = [0, 1, 0, 1].map(|replica: usize| {
            let record = replicas[replica].record("acme").tokens(1).id(&format!("record-{round}"));
            let reserve = replicas[replica].reserve("acme").tokens(1).id(&id);
            async { (reserve.await.expect("there is quota"), record.await.expect("it is recorded")) }
        });
        let replies = join_all(copies).await;
        for (reserve, record) in &replies[1..] {
            assert_eq!(reserve.reservation, replies[0].0.reservation);
            assert_eq!(record.reservation, replies[0].1.reservation);
        }
        // Two Commits, one on each replica, also settle once.
        let name = replies[0].0.name();
        let settled =
            join_all(replicas.iter().map(|replica| replica.commit(name).tokens(2).into_future())).await;
        let settled: Vec<Reservation> =
            settled.into_iter().map(|reply| reply.expect("the same amounts").held().clone()).collect();
        assert_eq!(settled[0], settled[1]);
        for replica in &replicas {
            assert_eq!(replica.figures("acme", "lifetime").await, ((round + 1) * 3, 0));
        }
    }
    first.stop().await;
    second.stop().await;
    process::verify(database.url()).await;
}

/// R4.7: a change that one replica acknowledged binds the other replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_change_on_one_replica_binds_the_other() {
    let database = Database::fresh(Kind::Postgres);
    let (first, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
    let (second, other) = Process::serving(database.url(), &database.path(""), &[]).await;
    let (here, there) = (Clients::of(channel), Clients::of(other));
    here.tenant_with("acme", &[lifetime("tokens", 0)]).await;
    for quantity in 1..50 {
        there.reserve("acme").tokens(1).await.expect_err("it is used up").is_quota(&["lifetime"]);
        here.change_plan("acme", &[lifetime("tokens", quantity)]).await.expect("the plan is there");
        let reply = there.reserve("acme").tokens(1).await.expect("one more");
        assert_eq!(reply.balance("lifetime").allowance, Some(quantity));
        here.set_state("acme", TenantState::Suspended).await;
        there.reserve("acme").tokens(1).await.expect_err("suspended");
        here.set_state("acme", TenantState::Active).await;
    }
    first.stop().await;
    second.stop().await;
}
