//! A lane: takes all operations that wait, decides them as one batch, and answers. While the batch commits, the
//! operations that arrive are decided ahead as the next batch. Operations of tenants whose rows another transaction has
//! locked are set aside.
//!
//! Read [`Lane::run`] first. `callers.rs` has the operations of a batch, and the callers who wait for the outcomes.
//! `aside.rs` has the operations that wait for a row, and `newcomers.rs` the operations that wait for their tenants to
//! be created.

mod aside;
mod callers;
mod newcomers;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use foldhash::HashSet;
use futures::FutureExt;
use tokio::{
    sync::{
        mpsc,
        oneshot::{self, error::RecvError},
    },
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use self::{aside::Aside, callers::Batch, newcomers::Newcomers};
use super::{
    ask::{Asked, Outcome, Submission},
    backlog::Backlog,
    batch::{Ahead, Batcher, Planned},
};
use crate::{
    domain::{id::TenantKey, time::Time},
    store::{Store, StoreError},
    traces::with_transactions,
};

/// Maximum number of operations that wait in one lane.
pub(super) const QUEUE_OPERATIONS_MAX: usize = 10_000;

/// Maximum number of operations of one batch.
const BATCH_OPERATIONS_MAX: usize = 1_000;

/// One lane. It ends when it is stopped, its queue is empty, nothing is set aside, and no tenant is created for it.
pub(super) struct Lane {
    submissions: mpsc::UnboundedReceiver<Submission>,
    backlog: Arc<Backlog>,
    batcher: Batcher,
    store: Store,
    /// Whether a batch is decided while the previous batch commits.
    overlap: bool,
    stop: CancellationToken,
    /// Submissions that arrived during the previous batch and did not fit into it. They are taken before the
    /// submissions in the queue.
    deferred: VecDeque<Submission>,
    /// Operations that wait until their tenants' rows are free.
    aside: Aside,
    /// Operations that wait until their tenants are created.
    newcomers: Newcomers,
    /// The task that answers the callers of the batch that was committed last.
    answering: Option<JoinHandle<()>>,
}

/// A batch that was decided ahead and is being committed. Its task answers the callers afterwards.
struct Flight {
    landed: oneshot::Receiver<Landed>,
    task: JoinHandle<()>,
}

/// The result of a commit: the database's time if the database is the clock, or the error. The error comes with the
/// batch, whose operations have no outcomes yet.
type Landed = Result<Option<Time>, (Batch, StoreError)>;

impl Lane {
    pub(super) fn new(
        submissions: mpsc::UnboundedReceiver<Submission>,
        backlog: Arc<Backlog>,
        batcher: Batcher,
        store: Store,
        overlap: bool,
        stop: CancellationToken,
    ) -> Self {
        let (deferred, aside) = (VecDeque::new(), Aside::new(store.clone()));
        let newcomers = batcher.newcomers(Newcomers::new);
        let answering = None;
        Self { submissions, backlog, batcher, store, overlap, stop, deferred, aside, newcomers, answering }
    }

    pub(super) async fn run(mut self) {
        let mut flight: Option<Flight> = None;
        while self.next(&mut flight).await {
            let mut batch = Batch::new();
            self.fill(&mut batch);
            if batch.items.is_empty() {
                continue;
            }
            let mut ahead = self.decide_ahead(None, &batch);
            if let Some(mut before) = flight.take() {
                let landed = (&mut before.landed).await;
                let is_written = self.land(landed, Some(before.task)).await;
                let known = batch.items.len();
                self.fill(&mut batch);
                ahead = ahead.filter(|_| is_written);
                if ahead.is_some() && batch.items.len() > known {
                    ahead = self.decide_ahead(ahead, &batch);
                }
            }
            match ahead.and_then(|ahead| self.batcher.plan(ahead)) {
                Some((planned, outcomes)) => {
                    let (reply, landed) = oneshot::channel();
                    let commit = commit_flight(batch, planned, outcomes, self.store.clone(), reply);
                    if self.overlap {
                        flight = Some(Flight { landed, task: tokio::spawn(commit) });
                    } else {
                        // After a panic `landed` is an error.
                        let _ = AssertUnwindSafe(commit).catch_unwind().await;
                        self.land(landed.await, None).await;
                    }
                }
                None => self.run_locked(batch).await,
            }
        }
    }

    /// Decides a batch under the lock of its tenants, and answers.
    async fn run_locked(&mut self, mut batch: Batch) {
        // The previous batch may have found some of this batch's tenants locked.
        self.aside.take_followers(&mut batch, |tenant| self.batcher.find_key(tenant));
        let is_traced = batch.is_traced();
        let run = async {
            if let Some(locked) = self.batcher.lock_early(&mut batch.items).await {
                self.join(&locked, &mut batch);
            }
            self.batcher.run(&mut batch.items).await;
        };
        let (run, transactions) = with_transactions(is_traced, AssertUnwindSafe(run).catch_unwind()).await;
        batch.note_transactions(transactions);
        if run.is_err() {
            // The panic is a defect, and was logged. The lane forgets its memory, which the batch may have changed
            // only in part, and continues.
            self.batcher.forget();
        }
        self.aside.take_locked(&mut batch);
        self.newcomers.take(&mut batch);
        batch.answer(self.store.metrics());
    }

    /// Adds operations that arrived while the lane waited for the locks, if the lane has locked their tenants. Other
    /// operations wait for the next batch.
    fn join(&mut self, locked: &HashSet<TenantKey>, batch: &mut Batch) {
        let mut deferred = VecDeque::new();
        while batch.items.len() < BATCH_OPERATIONS_MAX && deferred.len() < BATCH_OPERATIONS_MAX {
            match self.next_waiting() {
                Some(more) if self.concerns(&more, locked) => self.take(more, batch),
                Some(more @ Submission { asked: Asked::One(..), .. }) => deferred.push_back(more),
                Some(more) => {
                    // Some of these operations may belong to locked tenants. To keep the order, no later operation
                    // joins.
                    deferred.push_back(more);
                    break;
                }
                None => break,
            }
        }
        deferred.append(&mut self.deferred);
        self.deferred = deferred;
    }

    /// Returns whether a submission is one operation of one of these tenants.
    fn concerns(&self, submission: &Submission, tenants: &HashSet<TenantKey>) -> bool {
        match &submission.asked {
            Asked::One(request, _) => {
                self.batcher.find_key(&request.tenant).is_some_and(|key| tenants.contains(&key))
            }
            Asked::Several(..) => false,
        }
    }

    /// Waits until there is an operation for the next batch. Meanwhile the commit of a flight may end. Returns false if
    /// no operation will ever come.
    async fn next(&mut self, flight: &mut Option<Flight>) -> bool {
        if let Some(mut before) = flight.take() {
            let landed = tokio::select! {
                biased;
                landed = &mut before.landed => landed,
                true = self.receive() => {
                    *flight = Some(before);
                    return true;
                }
            };
            self.land(landed, Some(before.task)).await;
        }
        let has_next = self.receive().await;
        if let (false, Some(task)) = (has_next, self.answering.take()) {
            let _ = task.await;
        }
        has_next
    }

    /// Waits for an operation to decide. Returns false if the lane was stopped and no operation is left.
    async fn receive(&mut self) -> bool {
        loop {
            if self.aside.has_ready() || self.newcomers.has_ready() || !self.deferred.is_empty() {
                return true;
            }
            let submission = tokio::select! {
                biased;
                submission = self.submissions.recv() => submission,
                () = self.aside.changed() => continue,
                () = self.newcomers.changed() => continue,
                () = self.stop.cancelled(), if !self.submissions.is_closed() => {
                    // No operation is accepted any more, but the operations in the queue are still decided.
                    self.submissions.close();
                    continue;
                }
            };
            match submission {
                Some(submission) => {
                    self.deferred.push_back(submission);
                    return true;
                }
                None if self.aside.is_empty() && self.newcomers.is_empty() => return false,
                None => tokio::select! {
                    () = self.aside.changed() => {}
                    () = self.newcomers.changed() => {}
                },
            }
        }
    }

    /// Ends a flight. Returns false if the batch could not be written, and was therefore decided again under the lock.
    async fn land(&mut self, landed: Result<Landed, RecvError>, task: Option<JoinHandle<()>>) -> bool {
        // The task of the previous batch has ended long ago.
        if let Some(before) = std::mem::replace(&mut self.answering, task) {
            let _ = before.await;
        }
        match landed {
            Ok(Ok(time)) => {
                self.batcher.note_time(time);
                return true;
            }
            Ok(Err((mut batch, error))) => {
                let is_traced = batch.is_traced();
                let run = AssertUnwindSafe(self.batcher.run_after(&mut batch.items, &error)).catch_unwind();
                let (run, transactions) = with_transactions(is_traced, run).await;
                batch.note_transactions(transactions);
                if run.is_err() {
                    self.batcher.forget();
                }
                self.aside.take_locked(&mut batch);
                self.newcomers.take(&mut batch);
                batch.answer(self.store.metrics());
            }
            // The task panicked. That was logged, and its callers got an error.
            Err(_) => self.batcher.forget(),
        }
        false
    }

    /// Decides a batch ahead, if it can be decided without the database.
    fn decide_ahead(&mut self, ahead: Option<Ahead>, batch: &Batch) -> Option<Ahead> {
        let decided = catch_unwind(AssertUnwindSafe(|| self.batcher.decide_ahead(ahead, &batch.items)));
        decided.unwrap_or_else(|_| {
            self.batcher.forget();
            None
        })
    }

    /// Adds waiting operations up to the bound. Operations of tenants that are set aside are set aside as well.
    fn fill(&mut self, batch: &mut Batch) {
        self.aside.collect();
        self.newcomers.collect();
        while batch.items.len() < BATCH_OPERATIONS_MAX
            && let Some(waiting) = self.aside.next_ready().or_else(|| self.newcomers.next_ready())
        {
            batch.push_waiting(waiting);
        }
        while batch.items.len() < BATCH_OPERATIONS_MAX {
            match self.next_waiting() {
                Some(more)
                    if !batch.items.is_empty() && batch.items.len() + more.count() > BATCH_OPERATIONS_MAX =>
                {
                    self.deferred.push_front(more);
                    break;
                }
                Some(more) => self.take(more, batch),
                None => break,
            }
        }
        self.aside.take_followers(batch, |tenant| self.batcher.find_key(tenant));
    }

    fn next_waiting(&mut self) -> Option<Submission> {
        self.deferred.pop_front().or_else(|| self.submissions.try_recv().ok())
    }

    fn take(&self, submission: Submission, batch: &mut Batch) {
        self.backlog.remove(submission.count(), submission.queued_at);
        batch.push(submission);
    }
}

/// Commits a batch, reports the result to the lane, and then answers the callers.
async fn commit_flight(
    mut batch: Batch,
    planned: Planned,
    outcomes: Vec<Option<Outcome>>,
    store: Store,
    reply: oneshot::Sender<Landed>,
) {
    let metrics = Arc::clone(store.metrics());
    let (committed, transactions) = with_transactions(batch.is_traced(), planned.commit(store)).await;
    batch.note_transactions(transactions);
    match committed {
        Ok(time) => {
            let _ = reply.send(Ok(time));
            for (item, outcome) in batch.items.iter_mut().zip(outcomes) {
                item.outcome = outcome.or(item.outcome.take());
            }
            batch.answer(&metrics);
        }
        Err(error) => drop(reply.send(Err((batch, error)))),
    }
}
