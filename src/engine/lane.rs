//! A lane: takes all that waits, has it decided as one batch, and answers. While one batch commits, what comes is decided
//! ahead as the next one. What is about a tenant whose row somebody else has locked for long is set aside.

mod aside;
mod callers;

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
};
use tokio_util::sync::CancellationToken;

use self::{aside::Aside, callers::Batch};
use super::{
    Asked, BATCH_OPERATIONS_MAX, Outcome, Submission,
    batch::{Ahead, Batcher, Planned},
};
use crate::{
    domain::{id::TenantKey, window::Millis},
    store::{Store, StoreError},
};

/// One lane. It ends when it was stopped, its queue is empty, and nothing is set aside.
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
    /// What waits for the rows of tenants.
    aside: Aside,
    /// It answers who waits for the batch that was committed last.
    answering: Option<JoinHandle<()>>,
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
        let (deferred, aside) = (VecDeque::new(), Aside::new(store.clone()));
        Self { submissions, waiting, batcher, store, overlap, stop, deferred, aside, answering: None }
    }

    pub(super) async fn run(mut self) {
        let mut flight: Option<Flight> = None;
        while self.next(&mut flight).await {
            let mut batch = Batch::default();
            self.fill(&mut batch);
            if batch.items.is_empty() {
                continue;
            }
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
        // The batch before may have found some of the tenants locked.
        self.aside.take_followers(&mut batch, |tenant| self.batcher.find_key(tenant));
        let run = async {
            if let Some(held) = self.batcher.hold(&mut batch.items).await {
                self.join(&held, &mut batch);
            }
            self.batcher.run(&mut batch.items).await;
        };
        if AssertUnwindSafe(run).catch_unwind().await.is_err() {
            // A defect; the panic was logged. The lane goes on, with nothing that the batch may have left half done.
            self.batcher.forget();
        }
        self.aside.take_locked(&mut batch);
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

    /// Waits until there is something for the next batch; meanwhile a flight may land. False: there will be nothing any more.
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
        let comes = self.receive().await;
        if let (false, Some(task)) = (comes, self.answering.take()) {
            let _ = task.await;
        }
        comes
    }

    /// Waits for something to decide. False: the lane was stopped, and has nothing left.
    async fn receive(&mut self) -> bool {
        loop {
            if self.aside.has_ready() || !self.deferred.is_empty() {
                return true;
            }
            let submission = tokio::select! {
                biased;
                submission = self.submissions.recv() => submission,
                () = self.aside.changed() => continue,
                () = self.stop.cancelled(), if !self.submissions.is_closed() => {
                    // Nobody gets in any more; who is in is served.
                    self.submissions.close();
                    continue;
                }
            };
            match submission {
                Some(submission) => {
                    self.deferred.push_back(submission);
                    return true;
                }
                None if self.aside.is_empty() => return false,
                None => self.aside.changed().await,
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
                self.aside.take_locked(&mut batch);
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

    /// Adds what waits, as far as it fits, but for what has to wait for a tenant's row.
    fn fill(&mut self, batch: &mut Batch) {
        self.aside.collect();
        while batch.items.len() < BATCH_OPERATIONS_MAX
            && let Some(waiting) = self.aside.next_ready()
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
        self.waiting.fetch_sub(submission.count(), Ordering::AcqRel);
        batch.push(submission);
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
