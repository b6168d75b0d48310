//! The engine: every operation joins a batch of its tenant's lane, and a batch is one transaction.
//!
//! A lane takes all operations that wait, up to a bound. It locks their tenants, loads what the operations name,
//! decides the operations in order of arrival, saves and commits. It answers after the commit. While one batch commits,
//! the next batch fills. Nothing runs in the caller's task, so a caller that goes away leaves its operation to the lane
//! (R4.10).
//!
//! Read `ask.rs` first: the interface of the engine. Then read `lane`, which collects operations into batches, and
//! `batch`, which decides and writes a batch. `read` and `close.rs` work without lanes.

mod ask;
mod backlog;
mod batch;
mod close;
mod lane;
mod read;
mod tally;

pub use self::ask::{Answer, Failure, Frame, Outcome, Request, TenantRef};
pub use self::close::{Closed, close_windows};
pub use self::read::{Names, Page, Reader, ReservationQuery, Snapshot, UsagePlace, UsageQuery};

use std::{io, sync::Arc, time::Duration};

use tokio::{
    runtime::{self, Runtime},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::{
    ask::{Asked, Submission},
    backlog::Backlog,
    batch::Batcher,
    lane::{Lane, QUEUE_OPERATIONS_MAX},
};
use crate::{
    clock::Clock,
    domain::{
        id::TenantKey,
        operation::{Check, Operation},
        shape::Subject,
    },
    policy::PolicyCache,
    store::Store,
};

#[derive(Debug)]
struct LaneHandle {
    queue: mpsc::UnboundedSender<Submission>,
    backlog: Arc<Backlog>,
}

/// How many lanes run, and how they run.
#[derive(Clone, Copy, Debug)]
pub struct LaneOptions {
    /// Number of lanes, 1 or more.
    pub count: usize,
    /// Whether a lane decides a batch while the previous batch commits, which uses one more core.
    pub overlap: bool,
    /// Number of counters of one tenant beyond which Reserve and Extend make no counters of new subjects.
    pub counters_max: i64,
}

/// The lanes, as callers see them.
#[derive(Debug)]
pub struct Engine {
    lanes: Vec<LaneHandle>,
    store: Store,
}

/// The running lanes. They have threads of their own. On the threads of the calls, each step of a batch would wait
/// until the calls that the previous batch answered have run.
#[derive(Debug)]
pub struct Lanes {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    threads: Threads,
}

/// The threads of the lanes. If the start of a server is given up, they end without being waited for, which a task must
/// not do.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Engine {
    /// Starts the lanes. Fails if the operating system gives no threads.
    pub fn start(
        store: &Store,
        policies: &Arc<PolicyCache>,
        clock: &Clock,
        LaneOptions { count, overlap, counters_max }: LaneOptions,
    ) -> io::Result<(Engine, Lanes)> {
        let mut tasks = JoinSet::new();
        let stop = CancellationToken::new();
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(count + usize::from(overlap))
            .thread_name("lane")
            .enable_all()
            .build()?;
        let lanes = (0..count)
            .map(|_| {
                let (queue, submissions) = mpsc::unbounded_channel();
                let backlog = Arc::new(Backlog::new());
                let batcher = Batcher::new(store.clone(), Arc::clone(policies), clock.clone(), counters_max);
                let lane = Lane::new(
                    submissions,
                    Arc::clone(&backlog),
                    batcher,
                    store.clone(),
                    overlap,
                    stop.clone(),
                );
                tasks.spawn_on(lane.run(), runtime.handle());
                LaneHandle { queue, backlog }
            })
            .collect();
        Ok((Engine { lanes, store: store.clone() }, Lanes { tasks, stop, threads: Threads(Some(runtime)) }))
    }

    /// Waits until one operation is decided. After `deadline` the operation may be dropped undecided (R4.10).
    pub async fn submit(&self, request: Request, deadline: Option<Instant>) -> Outcome {
        let lane = self.lane_of(&request.tenant);
        let (reply, answer) = oneshot::channel();
        self.enqueue(lane, Submission::new(Asked::One(request, reply), deadline))?;
        answer.await.unwrap_or_else(|_| Err(self.unanswered(lane)))
    }

    /// Waits until several operations are decided. The operations of one tenant are decided in their order. Outcome i
    /// belongs to request i.
    pub async fn submit_all(&self, requests: Vec<Request>, deadline: Option<Instant>) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = requests.iter().map(|_| Err(Failure::Internal)).collect();
        let mut groups: Vec<(Vec<usize>, Vec<Request>)> =
            self.lanes.iter().map(|_| Default::default()).collect();
        for (place, request) in requests.into_iter().enumerate() {
            let (places, group) = &mut groups[self.lane_of(&request.tenant)];
            places.push(place);
            group.push(request);
        }
        let mut waiting = Vec::with_capacity(groups.len());
        for (lane, (places, group)) in groups.into_iter().enumerate() {
            if group.is_empty() {
                continue;
            }
            let (reply, answers) = oneshot::channel();
            match self.enqueue(lane, Submission::new(Asked::Several(group, reply), deadline)) {
                Ok(()) => waiting.push((lane, places, answers)),
                Err(failure) => places.iter().for_each(|&place| outcomes[place] = Err(failure.clone())),
            }
        }
        for (lane, places, answers) in waiting {
            let Ok(answers) = answers.await else {
                places.iter().for_each(|&place| outcomes[place] = Err(self.unanswered(lane)));
                continue;
            };
            for (place, outcome) in places.into_iter().zip(answers) {
                outcomes[place] = outcome;
            }
        }
        outcomes
    }

    /// Returns whether operations wait in a lane. Jobs that are not urgent pause then.
    pub fn is_busy(&self) -> bool {
        self.lanes.iter().any(|lane| lane.backlog.len() > 0)
    }

    /// Returns for each lane the number of operations in its queue, and how long the oldest of them has waited.
    pub fn queues(&self) -> impl Iterator<Item = (usize, Duration)> {
        self.lanes.iter().map(|lane| (lane.backlog.len(), lane.backlog.age()))
    }

    /// Expires due holds of these tenants, as many as one batch may expire. It submits Checks without amounts, because
    /// every batch first sweeps its tenants.
    pub async fn sweep(&self, tenants: &[TenantKey]) -> Vec<Outcome> {
        let nothing = Check { subject: Subject::default(), amounts: Vec::new(), allow_partial: false };
        let request = |&key| Request::new(TenantRef::Key(key), Operation::Check(nothing.clone()));
        self.submit_all(tenants.iter().map(request).collect(), None).await
    }

    /// Makes the failure of an operation without an answer: the lane ended, or a defect stopped its batch.
    fn unanswered(&self, lane: usize) -> Failure {
        if self.lanes[lane].queue.is_closed() { Failure::Draining } else { Failure::Internal }
    }

    fn lane_of(&self, tenant: &TenantRef) -> usize {
        tenant.hash() as usize % self.lanes.len()
    }

    fn enqueue(&self, lane: usize, submission: Submission) -> Result<(), Failure> {
        if !self.store.is_available() {
            return Err(self.refuse(&submission, Failure::DatabaseUnavailable));
        }
        let lane = &self.lanes[lane];
        let (count, queued_at) = (submission.count(), submission.queued_at);
        if !lane.backlog.add(count, queued_at, QUEUE_OPERATIONS_MAX) {
            return Err(self.refuse(&submission, Failure::Overloaded));
        }
        lane.queue.send(submission).map_err(|unsent| {
            lane.backlog.remove(count, queued_at);
            self.refuse(&unsent.0, Failure::Draining)
        })
    }

    /// Counts the operations that no lane takes.
    fn refuse(&self, submission: &Submission, failure: Failure) -> Failure {
        for request in submission.requests() {
            tally::count_failure(self.store.metrics(), request, &failure);
        }
        failure
    }
}

impl Lanes {
    /// Stops the lanes: accepts no more operations, and answers the operations that wait. At `until` it gives up the
    /// remaining operations. Returns whether all operations were answered.
    pub async fn drain(&mut self, until: Instant) -> bool {
        self.stop.cancel();
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        let answered = timeout_at(until, drained).await.is_ok();
        self.tasks.abort_all();
        answered
    }

    /// Ends the threads. The connections that were opened on them must be closed first.
    pub fn end(self) {
        drop(self.threads);
    }
}
