//! A lane: takes all that waits, has it decided as one batch, and answers. While one batch commits, what comes is decided
//! ahead as the next one.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::HashSet;
use futures::FutureExt;
use tokio::{
    sync::{
        mpsc,
        oneshot::{self, error::RecvError},
    },
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Asked, BATCH_OPERATIONS_MAX, Failure, Outcome, Request, Submission,
    batch::{Ahead, Batcher, Planned},
    item::Item,
};
use crate::{
    domain::{id::TenantKey, window::Millis},
    store::{Store, StoreError},
};

/// One lane. It ends when it was stopped and its queue is empty.
pub(super) struct Lane {
    submissions: mpsc::UnboundedReceiver<Submission>,
    waiting: Arc<AtomicUsize>,
    batcher: Batcher,
    store: Store,
    /// Whether a batch is decided while the one before commits.
    overlap: bool,
    stop: CancellationToken,
    /// What came for the batch before, and did not get into it. It goes before what is in the queue.
    deferred: VecDeque<Submission>,
    /// It answers who waits for the batch that was committed last.
    answering: Option<JoinHandle<()>>,
}

/// Operations that are decided together, and who waits for their outcomes.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    callers: Vec<Caller>,
}

/// Who waits for the outcomes of the next items of the batch.
enum Caller {
    One(oneshot::Sender<Outcome>),
    Several(oneshot::Sender<Vec<Outcome>>, usize),
}

/// A batch that was decided ahead and is being committed, by a task that then answers who waits for it.
struct Flight {
    landed: oneshot::Receiver<Landed>,
    task: JoinHandle<()>,
}

/// The database's time, where it is the one that counts; or the batch, which has no outcomes then.
type Landed = Result<Option<Millis>, (Batch, StoreError)>;

impl Lane {
    pub(super) fn new(
        (submissions, waiting): (mpsc::UnboundedReceiver<Submission>, Arc<AtomicUsize>),
        (batcher, store): (Batcher, Store),
        (overlap, stop): (bool, CancellationToken),
    ) -> Self {
        let deferred = VecDeque::new();
        Self { submissions, waiting, batcher, store, overlap, stop, deferred, answering: None }
    }

    pub(super) async fn run(mut self) {
        let mut flight: Option<Flight> = None;
        while let Some(first) = self.next(&mut flight).await {
            let mut batch = Batch::default();
            self.take(first, &mut batch);
            self.fill(&mut batch);
            let mut ahead = self.decide_ahead(None, &batch);
            if let Some(mut before) = flight.take() {
                let landed = (&mut before.landed).await;
                let is_there = self.land(landed, Some(before.task)).await;
                let known = batch.items.len();
                self.fill(&mut batch);
                ahead = ahead.filter(|_| is_there);
                if ahead.is_some() && batch.items.len() > known {
                    ahead = self.decide_ahead(ahead, &batch);
                }
            }
            match ahead.and_then(|ahead| self.batcher.plan(ahead)) {
                Some((planned, outcomes)) => {
                    let (lands, landed) = oneshot::channel();
                    let flies = fly(batch, planned, outcomes, self.store.clone(), lands);
                    if self.overlap {
                        flight = Some(Flight { landed, task: tokio::spawn(flies) });
                    } else {
                        // A panic drops what it would have told.
                        let _ = AssertUnwindSafe(flies).catch_unwind().await;
                        self.land(landed.await, None).await;
                    }
                }
                None => self.run_locked(batch).await,
            }
        }
    }

    /// Has a batch decided under the lock of its tenants, and answers.
    async fn run_locked(&mut self, mut batch: Batch) {
        let run = async {
            if let Some(held) = self.batcher.hold(&batch.items).await {
                self.join(&held, &mut batch);
            }
            self.batcher.run(&mut batch.items).await;
        };
        if AssertUnwindSafe(run).catch_unwind().await.is_err() {
            // A defect; the panic was logged. The lane goes on, with nothing that the batch may have left half done.
            self.batcher.forget();
        }
        batch.answer();
    }

    /// Adds what has come for tenants that are locked while the lock was waited for. What came for others waits for the next batch.
    fn join(&mut self, held: &HashSet<TenantKey>, batch: &mut Batch) {
        let mut deferred = VecDeque::new();
        while batch.items.len() < BATCH_OPERATIONS_MAX && deferred.len() < BATCH_OPERATIONS_MAX {
            match self.next_waiting() {
                Some(more) if self.concerns(&more, held) => self.take(more, batch),
                Some(more @ Submission { asked: Asked::One(..), .. }) => deferred.push_back(more),
                Some(more) => {
                    // It may be about some that are locked, too, and they keep their order.
                    deferred.push_back(more);
                    break;
                }
                None => break,
            }
        }
        deferred.append(&mut self.deferred);
        self.deferred = deferred;
    }

    /// Whether it is one operation, about one of these tenants.
    fn concerns(&self, submission: &Submission, tenants: &HashSet<TenantKey>) -> bool {
        match &submission.asked {
            Asked::One(request, _) => {
                self.batcher.find_key(&request.tenant).is_some_and(|key| tenants.contains(&key))
            }
            Asked::Several(..) => false,
        }
    }

    /// The first of the next batch. While nothing comes, a flight may land.
    async fn next(&mut self, flight: &mut Option<Flight>) -> Option<Submission> {
        if let Some(submission) = self.deferred.pop_front() {
            return Some(submission);
        }
        if let Some(mut before) = flight.take() {
            let landed = tokio::select! {
                biased;
                landed = &mut before.landed => landed,
                submission = self.receive() => match submission {
                    Some(submission) => {
                        *flight = Some(before);
                        return Some(submission);
                    }
                    None => (&mut before.landed).await,
                },
            };
            self.land(landed, Some(before.task)).await;
        }
        let submission = self.receive().await;
        if let (None, Some(task)) = (&submission, self.answering.take()) {
            let _ = task.await;
        }
        submission
    }

    async fn receive(&mut self) -> Option<Submission> {
        tokio::select! {
            biased;
            submission = self.submissions.recv() => submission,
            () = self.stop.cancelled() => {
                // Nobody gets in any more; who is in is served.
                self.submissions.close();
                self.submissions.recv().await
            }
        }
    }

    /// Returns false when the batch was not written, and had to be decided anew, under the lock.
    async fn land(&mut self, landed: Result<Landed, RecvError>, task: Option<JoinHandle<()>>) -> bool {
        // The one before it has ended long ago.
        if let Some(before) = std::mem::replace(&mut self.answering, task) {
            let _ = before.await;
        }
        match landed {
            Ok(Ok(time)) => {
                self.batcher.note_time(time);
                return true;
            }
            Ok(Err((mut batch, error))) => {
                let run = self.batcher.run_after(&mut batch.items, &error);
                if AssertUnwindSafe(run).catch_unwind().await.is_err() {
                    self.batcher.forget();
                }
                batch.answer();
            }
            // A panic, which was logged; who waited was told that it is a defect.
            Err(_) => self.batcher.forget(),
        }
        false
    }

    /// Decides what it can without the database.
    fn decide_ahead(&mut self, ahead: Option<Ahead>, batch: &Batch) -> Option<Ahead> {
        let decided = catch_unwind(AssertUnwindSafe(|| self.batcher.decide_ahead(ahead, &batch.items)));
        decided.unwrap_or_else(|_| {
            self.batcher.forget();
            None
        })
    }

    /// Adds what waits, as far as it fits.
    fn fill(&mut self, batch: &mut Batch) {
        while batch.items.len() < BATCH_OPERATIONS_MAX {
            match self.next_waiting() {
                Some(more) if batch.items.len() + more.count() > BATCH_OPERATIONS_MAX => {
                    self.deferred.push_front(more);
                    break;
                }
                Some(more) => self.take(more, batch),
                None => break,
            }
        }
    }

    fn next_waiting(&mut self) -> Option<Submission> {
        self.deferred.pop_front().or_else(|| self.submissions.try_recv().ok())
    }

    fn take(&self, submission: Submission, batch: &mut Batch) {
        let count = submission.count();
        self.waiting.fetch_sub(count, Ordering::AcqRel);
        let deadline = submission.deadline;
        match submission.asked {
            Asked::One(request, reply) => {
                batch.items.push(item(request, deadline, reply.is_closed()));
                batch.callers.push(Caller::One(reply));
            }
            Asked::Several(requests, reply) => {
                let gone = reply.is_closed();
                batch.items.extend(requests.into_iter().map(|request| item(request, deadline, gone)));
                batch.callers.push(Caller::Several(reply, count));
            }
        }
    }
}

/// Commits a batch, tells the lane, and then answers who waits for it.
async fn fly(
    mut batch: Batch,
    planned: Planned,
    outcomes: Vec<Option<Outcome>>,
    store: Store,
    lands: oneshot::Sender<Landed>,
) {
    match planned.commit(store).await {
        Ok(time) => {
            let _ = lands.send(Ok(time));
            for (item, outcome) in batch.items.iter_mut().zip(outcomes) {
                item.outcome = outcome.or(item.outcome.take());
            }
            batch.answer();
        }
        Err(error) => drop(lands.send(Err((batch, error)))),
    }
}

/// What a caller asks, who may be gone: then only what is owed is decided.
fn item(request: Request, deadline: Option<Instant>, gone: bool) -> Item {
    let undecided = gone && !request.operation.is_owed();
    Item::new(request, deadline, undecided.then_some(Err(Failure::DeadlineExceeded)))
}

impl Batch {
    fn answer(self) {
        let mut outcomes = self.items.into_iter().map(|item| item.outcome.unwrap_or(Err(Failure::Internal)));
        for caller in self.callers {
            // Who went away does not hear it.
            match caller {
                Caller::One(reply) => {
                    let _ = reply.send(outcomes.next().unwrap_or(Err(Failure::Internal)));
                }
                Caller::Several(reply, count) => {
                    let _ = reply.send(outcomes.by_ref().take(count).collect());
                }
            }
        }
    }
}
