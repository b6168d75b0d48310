//! I4: an acknowledged call survives kill -9. A call without an answer may have taken effect or not. A retry returns
//! the outcome.

use std::{
    collections::HashMap,
    future::IntoFuture,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::future::join_all;
use tonic::Code;

use crate::harness::{
    clients::ALL_STATES,
    database::scratch_folder,
    postgres::{self, Cluster},
    v1::*,
    *,
};

/// Number of times that the server is killed.
const KILLS: usize = 10;
/// Number of clients. They call without pauses.
const WORKERS: usize = 16;
/// Number of acknowledged operations before the first kill, and number of further operations before each next kill.
const ACKNOWLEDGED: (usize, usize) = (150, 37);

/// What a client knows about one model call.
#[derive(Clone, Debug)]
struct Known {
    request_id: String,
    tokens: i64,
    /// The reservation's name, if the Reserve was acknowledged.
    name: Option<String>,
    /// Whether the Commit was acknowledged.
    committed: bool,
}

type Ledger = Arc<Mutex<Vec<Known>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_calls_survive_kill_9_on_sqlite() {
    let folder = scratch_folder();
    let url = database::sqlite_url(&folder.path().join("tope.db"));
    survive(&url, folder.path(), &mut |_| ()).await;
}

/// In every second round PostgreSQL is stopped, too, without a checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_calls_survive_kill_9_on_postgres() {
    let folder = scratch_folder();
    let mut cluster = Cluster::start(postgres::free_port());
    cluster.create("tope");
    let url = cluster.url("tope");
    survive(&url, folder.path(), &mut |kill| {
        if kill % 2 == 1 {
            cluster.stop();
            cluster.resume();
        }
    })
    .await;
}

/// PostgreSQL crashes under load while the server goes on. The server finds out whether each COMMIT without an answer
/// took effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_calls_survive_a_crash_of_postgres() {
    let folder = scratch_folder();
    let mut cluster = Cluster::start(postgres::free_port());
    cluster.create("tope");
    let url = cluster.url("tope");
    let ledger = Ledger::default();
    let (process, channel) = Process::serving(&url, folder.path(), &[]).await;
    let clients = Clients::of(channel);
    clients.tenant_with("acme", &[lifetime("tokens", i64::MAX)]).await;
    for crash in 0..KILLS / 2 {
        load(&clients, &ledger, crash, || {
            cluster.stop();
            cluster.resume();
        })
        .await;
        clients::serving(&clients.channel).await;
        settle_the_books(&clients, &ledger).await;
        process::verify(&url).await;
    }
    process.stop().await;
}

async fn survive(url: &str, folder: &std::path::Path, crash: &mut dyn FnMut(usize)) {
    let ledger = Ledger::default();
    let (setup, channel) = Process::serving(url, folder, &[]).await;
    Clients::of(channel).tenant_with("acme", &[lifetime("tokens", i64::MAX)]).await;
    setup.stop().await;
    for kill in 0..KILLS {
        let (mut process, channel) = Process::serving(url, folder, &[]).await;
        let clients = Clients::of(channel);
        settle_the_books(&clients, &ledger).await;
        load(&clients, &ledger, kill, || process.kill()).await;
        crash(kill);
        process::verify(url).await;
    }
    let (process, channel) = Process::serving(url, folder, &[]).await;
    settle_the_books(&Clients::of(channel), &ledger).await;
    process.stop().await;
    process::verify(url).await;
}

/// Lets clients call until enough calls are acknowledged. Then causes the disaster while the clients go on.
async fn load(clients: &Clients, ledger: &Ledger, round: usize, disaster: impl FnOnce()) {
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let prefix = format!("{round}-{worker}");
            tokio::spawn(work(clients.clone(), prefix, ledger.clone(), stop.clone(), acknowledged.clone()))
        })
        .collect();
    let enough = ACKNOWLEDGED.0 + round * ACKNOWLEDGED.1;
    eventually("the load is acknowledged", async || {
        (acknowledged.load(Ordering::Relaxed) >= enough).then_some(())
    })
    .await;
    disaster();
    stop.store(true, Ordering::Relaxed);
    for worker in join_all(workers).await {
        worker.expect("no client fails");
    }
}

/// Reserves and commits until a call gets no answer. Writes the answers into the ledger.
async fn work(
    clients: Clients,
    prefix: String,
    ledger: Ledger,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
) {
    for number in 0_i64.. {
        let request_id = format!("{prefix}-{number}");
        let mut known = Known { request_id, tokens: 1 + number % 50, name: None, committed: false };
        let reserved = clients.reserve("acme").tokens(known.tokens).id(&known.request_id).ttl(DAY).await;
        let mut answered = reserved.is_ok();
        if let Ok(reply) = reserved {
            acknowledged.fetch_add(1, Ordering::Relaxed);
            known.name = Some(reply.name().to_owned());
            // Some holds stay open.
            if number % 5 != 0 {
                answered = clients.commit(reply.name()).tokens(known.tokens + 1).await.is_ok();
                acknowledged.fetch_add(usize::from(answered), Ordering::Relaxed);
                known.committed = answered;
            }
        }
        ledger.lock().expect("no client fails").push(known);
        if !answered || stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Checks that all acknowledged calls took effect. Repeats the other calls, and checks that each took effect once.
async fn settle_the_books(clients: &Clients, ledger: &Ledger) {
    let mut known = ledger.lock().expect("no client fails").clone();
    let found = all_reservations(clients).await;
    let by_name: HashMap<&str, &Reservation> =
        found.iter().map(|reservation| (reservation.name.as_str(), reservation)).collect();
    for known in known.iter().filter(|known| known.name.is_some()) {
        let name = known.name.as_deref().expect("it was filtered");
        let reservation = by_name.get(name).unwrap_or_else(|| panic!("lost: {known:?}"));
        assert_eq!(reservation.request_id, known.request_id);
        if known.committed {
            assert_eq!(state(reservation), ReservationState::Committed, "{known:?}");
            assert_eq!(amount(reservation, "tokens"), (known.tokens, known.tokens + 1), "{known:?}");
        }
    }
    for known in &mut known {
        if known.name.is_none() {
            let retry = clients.reserve("acme").tokens(known.tokens).id(&known.request_id).ttl(DAY);
            known.name = Some(patiently(retry).await.name().to_owned());
        }
        if !known.committed {
            let commit = clients.commit(known.name.as_deref().expect("it has one by now"));
            patiently(commit.tokens(known.tokens + 1)).await;
            known.committed = true;
        }
    }
    let spent: i64 = known.iter().map(|known| known.tokens + 1).sum();
    assert_eq!(patiently(clients.get_usage("acme")).await.figures("lifetime"), (spent, 0));
    assert_eq!(all_reservations(clients).await.len(), known.len(), "each took effect once");
    *ledger.lock().expect("no client fails") = known;
}

async fn all_reservations(clients: &Clients) -> Vec<Reservation> {
    let mut call = clients.list("acme").states(&ALL_STATES).with(|request| request.page_size = 1_000);
    let mut found = Vec::new();
    loop {
        let page = patiently(call.clone()).await;
        found.extend(page.reservations);
        if page.next_page_token.is_empty() {
            return found;
        }
        call.request.page_token = page.next_page_token;
    }
}

/// Repeats a call while it is UNAVAILABLE, as a client must.
async fn patiently<Q, T>(call: Call<Q>) -> T
where
    Call<Q>: Clone + IntoFuture<Output = call::Answer<T>>,
{
    eventually("the server answers", async || match call.clone().await {
        Ok(reply) => Some(reply),
        Err(no) if no.code == Code::Unavailable => None,
        Err(no) => panic!("{no:?}"),
    })
    .await
}
