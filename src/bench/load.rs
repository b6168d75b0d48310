//! The load generator: the generated client over a few channels, in a closed or an open loop.
//!
//! In a closed loop, a fixed number of workers have one call in flight each. The latency of a call is measured from
//! when it is sent. In an open loop, a call is due at each tick of the rate, even if earlier calls were not answered.
//! The latency of a call is measured from when it is due.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{runtime::Handle, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    call::{Answer, Call},
    workload::Workload,
};
use crate::{
    console::{
        client::{Connection, CredentialArgs},
        error::CliError,
    },
    grpc::v1::quota_service_client::QuotaServiceClient,
};

/// Maximum latency that is recorded. A longer latency is recorded as this long.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Pause between two checks of the time in the open loop. The times of its calls are as exact as this.
const TICK: Duration = Duration::from_micros(250);
/// Maximum number of calls that the open loop has in flight. Further calls wait, and their latency includes the wait.
const OPEN_CALLS_MAX: usize = 20_000;
/// Maximum time that a round waits at its end for open calls.
const ROUND_END_TIMEOUT: Duration = Duration::from_secs(30);

/// One side of the comparison: the channels to its servers, and its load.
#[derive(Debug)]
pub struct Side {
    clients: Vec<QuotaServiceClient<Connection>>,
    workload: Arc<Workload>,
    /// Number of operations per Batch. `None`: the operations are single calls.
    batch: Option<usize>,
}

/// The times at which the calls are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Closed loop, with this number of calls in flight.
    Closed(usize),
    /// Open loop, with this number of calls per second.
    Open(u32),
}

/// The figures of one round.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Operations that succeeded, per second.
    pub per_second: f64,
    /// Half of the calls took at most this long.
    pub p50: Duration,
    /// 99 of 100 calls took at most this long.
    pub p99: Duration,
    /// Operations that an overloaded server refused: UNAVAILABLE with details.
    pub overloaded: u64,
    /// Operations that failed for another reason.
    pub failed: u64,
    /// A text about the first failure.
    pub failure: Option<String>,
}

/// The servers of a side, and how the bench shows them who calls.
#[derive(Debug)]
pub struct Servers {
    /// The addresses of the servers.
    pub targets: Vec<String>,
    /// The key and the files of TLS, for all of them.
    pub credentials: CredentialArgs,
}

impl Side {
    /// Opens `channels` channels, spread evenly over the servers.
    ///
    /// # Errors
    ///
    /// When an address is malformed, or no server answers there.
    pub async fn connect(
        servers: &Servers,
        channels: usize,
        workload: Arc<Workload>,
        batch: Option<usize>,
    ) -> Result<Self, CliError> {
        let mut clients = Vec::with_capacity(channels);
        for target in servers.targets.iter().cycle().take(channels) {
            clients.push(QuotaServiceClient::new(servers.credentials.connect(target).await?));
        }
        Ok(Self { clients, workload, batch })
    }

    /// Sends calls for `duration`, and then commits all open holds of the round.
    pub async fn run(self: &Arc<Self>, pace: Pace, duration: Duration) -> Figures {
        let round = Arc::new(Round {
            side: Arc::clone(self),
            tallies: self.clients.iter().map(|_| Mutex::new(Tally::new())).collect(),
            held: Mutex::new(VecDeque::new()),
            over: AtomicBool::new(false),
        });
        let end = EndOnDrop(Arc::clone(&round));
        let calls = TaskTracker::new();
        let begin = Instant::now();
        match pace {
            Pace::Closed(in_flight) => {
                for worker in 0..in_flight {
                    calls.spawn(work(Arc::clone(&round), worker));
                }
            }
            Pace::Open(per_second) => {
                let (round, tracker, runtime) = (Arc::clone(&round), calls.clone(), Handle::current());
                calls.spawn_blocking(move || send_at_rate(&round, per_second, &tracker, &runtime));
            }
        }
        tokio::time::sleep(duration).await;
        drop(end);
        let elapsed = begin.elapsed();
        calls.close();
        let ended = timeout(ROUND_END_TIMEOUT, calls.wait()).await.is_ok();
        let held = lock(&round.held).drain(..).collect();
        settle(self, 0, held).await;
        let mut figures = round.figures(elapsed);
        if !ended {
            figures.failed += calls.len() as u64;
            figures.failure.get_or_insert(format!(
                "calls were not answered within {} seconds after the round",
                ROUND_END_TIMEOUT.as_secs()
            ));
        }
        figures
    }

    /// Chooses a Commit if a hold is open, and a Reserve otherwise. So there are about as many Commits as Reserves.
    fn next_call(&self, held: &mut VecDeque<String>) -> Call {
        match self.batch {
            Some(operations) => {
                let commits = held.len().min(operations / 2);
                let reserves = operations - operations / 2;
                Call::batch(&self.workload, reserves, held.drain(..commits).collect())
            }
            None => match held.pop_front() {
                Some(name) => Call::Commit(self.workload.commit(name)),
                None => Call::Reserve(self.workload.reserve()),
            },
        }
    }
}

/// The state that the calls of one round share.
struct Round {
    side: Arc<Side>,
    /// Counts and latencies, with one tally per channel, so that calls rarely wait for a lock.
    tallies: Vec<Mutex<Tally>>,
    /// Open holds of the open loop. In the closed loop each worker has its own list.
    held: Mutex<VecDeque<String>>,
    over: AtomicBool,
}

impl Round {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn send(&self, lane: usize, call: Call, since: Instant) -> Answer {
        let lane = lane % self.tallies.len();
        let answer = call.send(&mut self.side.clients[lane].clone()).await;
        let waited = since.elapsed();
        lock(&self.tallies[lane]).record(&answer, waited, !self.is_over());
        answer
    }

    fn figures(&self, elapsed: Duration) -> Figures {
        let mut sum = Tally::new();
        for tally in &self.tallies {
            sum.add(&lock(tally));
        }
        let quantile = |q| Duration::from_micros(sum.latency.value_at_quantile(q));
        Figures {
            per_second: sum.succeeded as f64 / elapsed.as_secs_f64(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            overloaded: sum.overloaded,
            failed: sum.failed,
            failure: sum.failure,
        }
    }
}

/// Ends the round when dropped. Otherwise the thread of the open loop would run for ever if the round's future is
/// dropped.
struct EndOnDrop(Arc<Round>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Runs one worker of the closed loop.
async fn work(round: Arc<Round>, worker: usize) {
    let mut held = VecDeque::new();
    while !round.is_over() {
        let call = round.side.next_call(&mut held);
        let answer = round.send(worker, call, Instant::now()).await;
        held.extend(answer.held);
        if let Some(pause) = answer.pause {
            tokio::time::sleep(pause).await;
        }
    }
    settle(&round.side, worker, held.into()).await;
}

/// Starts the calls of the open loop at their times. Runs on a thread of its own, because the runtime's timers are only
/// exact to milliseconds.
fn send_at_rate(round: &Arc<Round>, per_second: u32, calls: &TaskTracker, runtime: &Handle) {
    let begin = Instant::now();
    let mut sent: u32 = 0;
    let mut due = begin;
    while !round.is_over() {
        while due <= Instant::now() && calls.len() < OPEN_CALLS_MAX {
            calls.spawn_on(send_one(Arc::clone(round), sent as usize, due), runtime);
            sent = sent.wrapping_add(1);
            due += Duration::from_secs(1) / per_second;
        }
        thread::park_timeout(TICK);
    }
}

async fn send_one(round: Arc<Round>, number: usize, due: Instant) {
    let call = round.side.next_call(&mut lock(&round.held));
    let answer = round.send(number, call, due).await;
    lock(&round.held).extend(answer.held);
}

/// Commits the holds that a round leaves open, so that nothing stays reserved. The figures do not include these calls.
async fn settle(side: &Side, lane: usize, mut held: Vec<String>) {
    let mut client = side.clients[lane % side.clients.len()].clone();
    while !held.is_empty() {
        let some = held.split_off(held.len().saturating_sub(side.batch.unwrap_or(1)));
        match side.batch {
            Some(_) => Call::batch(&side.workload, 0, some).send(&mut client).await,
            None => Call::Commit(side.workload.commit(some.concat())).send(&mut client).await,
        };
    }
}

struct Tally {
    succeeded: u64,
    overloaded: u64,
    failed: u64,
    failure: Option<String>,
    /// Latency of each call, in microseconds.
    latency: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        let latency_max =
            u64::try_from(LATENCY_MAX.as_micros()).expect("the microseconds of a minute fit into a u64");
        let latency =
            Histogram::new_with_max(latency_max, 3).expect("the bounds of the histogram are valid constants");
        Self { succeeded: 0, overloaded: 0, failed: 0, failure: None, latency }
    }

    fn record(&mut self, answer: &Answer, waited: Duration, in_time: bool) {
        let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(waited);
        if in_time {
            self.succeeded += answer.succeeded;
        }
        self.overloaded += answer.overloaded;
        self.failed += answer.failed;
        if self.failure.is_none() {
            self.failure.clone_from(&answer.failure);
        }
    }

    fn add(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.overloaded += other.overloaded;
        self.failed += other.failed;
        if self.failure.is_none() {
            self.failure.clone_from(&other.failure);
        }
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::DropGuard;

    use super::*;
    use crate::bench::empty::tests::start_typical;

    const ROUND: Duration = Duration::from_millis(200);

    async fn side(batch: Option<usize>) -> (Arc<Side>, DropGuard) {
        let (target, shutdown) = start_typical().await;
        let workload = Arc::new(Workload::new(3, false));
        let side = Side::connect(
            &Servers { targets: vec![target], credentials: CredentialArgs::default() },
            2,
            workload,
            batch,
        )
        .await
        .expect("it accepts");
        (Arc::new(side), shutdown.drop_guard())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_calls_of_a_closed_loop_are_counted() {
        let (side, _server) = side(None).await;
        let figures = side.run(Pace::Closed(8), ROUND).await;
        assert_eq!((figures.overloaded, figures.failed, figures.failure), (0, 0, None));
        assert!(figures.per_second > 0.0 && figures.p50 <= figures.p99 && !figures.p99.is_zero());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_open_loop_never_sends_faster_than_its_rate() {
        let (side, _server) = side(None).await;
        let figures = side.run(Pace::Open(500), ROUND).await;
        assert_eq!(figures.failure, None);
        // The first call is due at once, so a round may have one call more than its rate.
        assert!(figures.per_second > 0.0 && figures.per_second <= 505.0, "{figures:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_of_an_unimplemented_rpc_is_a_failure() {
        let (side, _server) = side(Some(10)).await;
        let figures = side.run(Pace::Closed(1), ROUND).await;
        assert!(figures.per_second.abs() < 1e-9 && figures.failed >= 5, "{figures:?}");
        assert!(figures.failure.is_some_and(|failure| failure.starts_with("Unimplemented")));
    }
}
