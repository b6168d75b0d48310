//! Lanes and batches: every operation joins a batch, and a batch is one transaction.
//!
//! An operation waits in the lane of its tenant. The lane takes all that waits, up to a bound, locks the tenants, loads
//! what the operations name, decides them in order of arrival, saves, commits, and only then answers. While one batch
//! commits the next one fills. Nothing runs in the caller: one that goes away leaves its operation to the lane.

mod batch;
mod close;
mod hints;
mod item;
mod lane;
#[cfg(test)]
mod lane_tests;
mod load;
mod memory;
mod pace;
mod read;

pub use self::close::{Closed, close_windows};
pub use self::read::{Names, Page, Reader, ReservationQuery, Snapshot, UsagePlace, UsageQuery};

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    runtime::{self, Runtime},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::{
        decide::Reply,
        id::{TenantKey, name_hash},
        operation::{Check, Operation},
        plan::{Policy, Subject},
        refusal::Refusal,
        window::Millis,
    },
    policy::PolicyCache,
    store::{Store, StoreError},
};

/// Most operations that wait in one lane.
pub const QUEUE_OPERATIONS_MAX: usize = 10_000;

/// Most operations of one batch.
pub const BATCH_OPERATIONS_MAX: usize = 1_000;

/// Whose books an operation is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantRef {
    /// By its id, as clients know it.
    Id(String),
    /// By its key, from the name of a reservation.
    Key(TenantKey),
}

impl TenantRef {
    fn hash(&self) -> u32 {
        match self {
            TenantRef::Id(id) => name_hash(id),
            TenantRef::Key(key) => key.hash(),
        }
    }
}

/// An operation, and whose books it is about.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose.
    pub tenant: TenantRef,
    /// What.
    pub operation: Operation,
}

/// What an answer has to be told with: the tenant's id, the names of resources, the instant of the decision.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The tenant's key.
    pub tenant_key: TenantKey,
    /// The tenant's id; as it was given where there is no such tenant.
    pub tenant: Arc<str>,
    /// Resources and plans.
    pub policy: Arc<Policy>,
    /// When it was decided.
    pub now: Millis,
}

/// A yes.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What it did.
    pub reply: Reply,
    /// What it has to be told with.
    pub frame: Frame,
}

/// Why an operation has no answer.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The rules say no.
    Refused {
        /// The no.
        refusal: Refusal,
        /// What it has to be told with.
        frame: Box<Frame>,
    },
    /// The lane's queue is full.
    Overloaded,
    /// The process ends.
    Draining,
    /// The database is away.
    DatabaseUnavailable,
    /// The caller's time ran out before the decision, which was not taken.
    DeadlineExceeded,
    /// A defect, or a database that refuses; it was logged.
    Internal,
}

impl From<&StoreError> for Failure {
    fn from(error: &StoreError) -> Self {
        match error {
            // From the third on: somebody else was in the way, again and again.
            StoreError::Unavailable(_)
            | StoreError::Unreachable(_)
            | StoreError::Serialization(_)
            | StoreError::Locked(_)
            | StoreError::TenantMoved
            | StoreError::Outdated => Failure::DatabaseUnavailable,
            StoreError::Permanent(_)
            | StoreError::Conflict(_)
            | StoreError::KnownRequest
            | StoreError::Unusable(_)
            | StoreError::Corrupt(_) => Failure::Internal,
        }
    }
}

/// The outcome of an operation.
pub type Outcome = Result<Answer, Failure>;

/// Operations of one caller for one lane, with one wake-up.
struct Submission {
    asked: Asked,
    /// When the caller stops waiting.
    deadline: Option<Instant>,
}

/// What is asked, and where the answer goes.
enum Asked {
    One(Request, oneshot::Sender<Outcome>),
    Several(Vec<Request>, oneshot::Sender<Vec<Outcome>>),
}

#[derive(Debug)]
struct LaneDoor {
    queue: mpsc::UnboundedSender<Submission>,
    /// Operations in the queue: the bound of the unbounded channel.
    waiting: Arc<AtomicUsize>,
}

/// The lanes.
#[derive(Debug)]
pub struct Engine {
    lanes: Vec<LaneDoor>,
    store: Store,
}

/// The running lanes. They have threads of their own: on those of the calls each step of a batch would wait until the
/// calls that the batch before has answered are through.
#[derive(Debug)]
pub struct Lanes {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    runtime: Runtime,
}

impl Engine {
    /// Starts `count` lanes on a database, which decide a batch while the one before commits, or after it: the first takes
    /// a core more. An error is the operating system's, which has no thread for them.
    pub fn start(
        store: &Store,
        policies: &Arc<PolicyCache>,
        clock: &Clock,
        (count, overlap): (usize, bool),
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
                let waiting = Arc::new(AtomicUsize::new(0));
                let batcher = batch::Batcher::new(store.clone(), Arc::clone(policies), clock.clone());
                let lane = lane::Lane::new(
                    (submissions, Arc::clone(&waiting)),
                    (batcher, store.clone()),
                    (overlap, stop.clone()),
                );
                tasks.spawn_on(lane.run(), runtime.handle());
                LaneDoor { queue, waiting }
            })
            .collect();
        Ok((Engine { lanes, store: store.clone() }, Lanes { tasks, stop, runtime }))
    }

    /// Has one operation decided.
    pub async fn submit(&self, request: Request, deadline: Option<Instant>) -> Outcome {
        let lane = self.lane_of(&request.tenant);
        let (reply, answer) = oneshot::channel();
        self.enqueue(lane, Submission { asked: Asked::One(request, reply), deadline })?;
        answer.await.unwrap_or_else(|_| Err(self.unanswered(lane)))
    }

    /// Has several operations decided, those of one tenant in order. Outcome i is that of request i.
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
            match self.enqueue(lane, Submission { asked: Asked::Several(group, reply), deadline }) {
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

    /// Ends holds of these tenants that are due, as many as a batch may: a Check of nothing, before which the batch sweeps its
    /// tenants.
    pub async fn sweep(&self, tenants: &[TenantKey]) -> Vec<Outcome> {
        let nothing = Check { subject: Subject::default(), amounts: Vec::new(), allow_partial: false };
        let request =
            |&key| Request { tenant: TenantRef::Key(key), operation: Operation::Check(nothing.clone()) };
        self.submit_all(tenants.iter().map(request).collect(), None).await
    }

    /// A lane answers all that it is given, but for a defect, and what is given up at the end.
    fn unanswered(&self, lane: usize) -> Failure {
        if self.lanes[lane].queue.is_closed() { Failure::Draining } else { Failure::Internal }
    }

    fn lane_of(&self, tenant: &TenantRef) -> usize {
        tenant.hash() as usize % self.lanes.len()
    }

    fn enqueue(&self, lane: usize, submission: Submission) -> Result<(), Failure> {
        if !self.store.is_available() {
            return Err(Failure::DatabaseUnavailable);
        }
        let lane = &self.lanes[lane];
        let count = submission.count();
        let before = lane.waiting.fetch_add(count, Ordering::AcqRel);
        if before + count > QUEUE_OPERATIONS_MAX {
            lane.waiting.fetch_sub(count, Ordering::AcqRel);
            return Err(Failure::Overloaded);
        }
        lane.queue.send(submission).map_err(|_| {
            lane.waiting.fetch_sub(count, Ordering::AcqRel);
            Failure::Draining
        })
    }
}

impl Submission {
    fn count(&self) -> usize {
        match &self.asked {
            Asked::One(..) => 1,
            Asked::Several(requests, _) => requests.len(),
        }
    }
}

impl Lanes {
    /// Takes no more operations, and answers those that wait; gives up what is not answered by then. Whether all was
    /// answered.
    pub async fn drain(&mut self, until: Instant) -> bool {
        self.stop.cancel();
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        let answered = timeout_at(until, drained).await.is_ok();
        self.tasks.abort_all();
        answered
    }

    /// Ends the threads. The connections that were opened on them must be closed before.
    pub fn end(self) {
        self.runtime.shutdown_background();
    }
}
