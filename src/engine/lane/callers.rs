//! Batches of operations, with the callers who wait for the outcomes.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{sync::oneshot, time::Instant};

use super::super::{
    ask::{Asked, Failure, Outcome, Request, Submission},
    batch::Item,
    tally,
};
use crate::{
    metrics::Metrics,
    traces::{EndedTransaction, end_batch},
};

/// The operations of a batch, and the callers who wait for their outcomes.
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    callers: Vec<Caller>,
    began: Instant,
    /// The transactions of the batch that have ended, if the batch is traced.
    transactions: Vec<EndedTransaction>,
}

/// An operation outside of a batch, with the caller who waits for its outcome.
pub(super) struct Waiting {
    pub(super) item: Item,
    caller: Caller,
}

/// A caller who waits for the outcome of the next item of a batch, or for the outcomes of the next several items.
enum Caller {
    One(oneshot::Sender<Outcome>),
    Several(oneshot::Sender<Vec<Outcome>>, usize),
    /// For one of several operations of a caller. The other operations may be in other batches.
    Part(Arc<Gathering>, usize),
}

/// The outcomes of one caller, from several batches. The outcomes are sent when the last part is dropped.
struct Gathering {
    outcomes: Mutex<Vec<Outcome>>,
    reply: Option<oneshot::Sender<Vec<Outcome>>>,
}

impl Batch {
    /// Makes a batch that begins now.
    pub(super) fn new() -> Self {
        let (items, callers, transactions) = (Vec::new(), Vec::new(), Vec::new());
        Self { items, callers, began: Instant::now(), transactions }
    }

    /// Returns whether an operation of a traced call is in the batch.
    pub(super) fn is_traced(&self) -> bool {
        self.items.iter().any(|item| item.request.trace.is_some())
    }

    /// Adds transactions of the batch that have ended.
    pub(super) fn note_transactions(&mut self, ended: Vec<EndedTransaction>) {
        self.transactions.extend(ended);
    }

    pub(super) fn push(&mut self, submission: Submission) {
        let deadline = submission.deadline;
        match submission.asked {
            Asked::One(request, reply) => {
                self.items.push(item(request, deadline, reply.is_closed()));
                self.callers.push(Caller::One(reply));
            }
            Asked::Several(requests, reply) => {
                let (count, gone) = (requests.len(), reply.is_closed());
                self.items.extend(requests.into_iter().map(|request| item(request, deadline, gone)));
                self.callers.push(Caller::Several(reply, count));
            }
        }
    }

    /// Adds an operation that was taken out of an earlier batch.
    pub(super) fn push_waiting(&mut self, waiting: Waiting) {
        let Waiting { mut item, caller } = waiting;
        item.drop_if_gone(caller.is_gone());
        self.items.push(item);
        self.callers.push(caller);
    }

    /// Takes the operations for which `leaves` returns true out of the batch, in their order.
    pub(super) fn take_out(&mut self, leaves: impl Fn(&Item) -> bool) -> Vec<Waiting> {
        if !self.items.iter().any(&leaves) {
            return Vec::new();
        }
        let mut items = std::mem::take(&mut self.items).into_iter();
        let mut taken = Vec::new();
        for caller in std::mem::take(&mut self.callers) {
            let (count, parts) = match caller {
                Caller::Several(reply, count) if items.as_slice()[..count].iter().any(&leaves) => {
                    (count, Gathering::split(reply, count))
                }
                Caller::Several(_, count) => (count, vec![caller]),
                Caller::One(_) | Caller::Part(..) => (1, vec![caller]),
            };
            if parts.len() < count {
                self.items.extend(items.by_ref().take(count));
                self.callers.extend(parts);
                continue;
            }
            for (item, caller) in items.by_ref().take(count).zip(parts) {
                if leaves(&item) {
                    taken.push(Waiting { item, caller });
                } else {
                    self.items.push(item);
                    self.callers.push(caller);
                }
            }
        }
        taken
    }

    /// Counts the outcomes, and sends them to the callers.
    pub(super) fn answer(self, metrics: &Metrics) {
        if !self.items.is_empty() {
            metrics.operations.record_batch(self.items.len());
        }
        let traced = self.items.iter().filter_map(|item| item.request.trace.as_ref());
        end_batch(traced, self.began.into_std(), self.items.len(), self.transactions);
        let mut outcomes = self.items.into_iter().map(|item| {
            let outcome = item.outcome.unwrap_or(Err(Failure::Internal));
            tally::count(metrics, &item.request, &outcome);
            outcome
        });
        for caller in self.callers {
            match caller {
                Caller::Several(reply, count) => {
                    // An error says that the caller is gone.
                    let _ = reply.send(outcomes.by_ref().take(count).collect());
                }
                one => one.answer(outcomes.next().unwrap_or(Err(Failure::Internal))),
            }
        }
    }
}

impl Waiting {
    /// Answers the caller with a failure, without a decision.
    pub(super) fn answer(self, failure: Failure, metrics: &Metrics) {
        tally::count_failure(metrics, &self.item.request, &failure);
        self.caller.answer(Err(failure));
    }

    /// Answers the caller with the outcome that the operation has.
    pub(super) fn answer_outcome(self, metrics: &Metrics) {
        let outcome = self.item.outcome.unwrap_or(Err(Failure::Internal));
        tally::count(metrics, &self.item.request, &outcome);
        self.caller.answer(outcome);
    }
}

impl Caller {
    fn is_gone(&self) -> bool {
        match self {
            Caller::One(reply) => reply.is_closed(),
            Caller::Several(reply, _) => reply.is_closed(),
            Caller::Part(gathering, _) => gathering.reply.as_ref().is_none_or(oneshot::Sender::is_closed),
        }
    }

    /// Passes the outcome of one operation to its caller.
    fn answer(self, outcome: Outcome) {
        // An error says that the caller is gone.
        match self {
            Caller::One(reply) => drop(reply.send(outcome)),
            Caller::Several(reply, _) => drop(reply.send(vec![outcome])),
            Caller::Part(gathering, place) => gathering.enter(place, outcome),
        }
    }
}

impl Gathering {
    /// Splits a caller of `count` operations into one caller for each operation.
    fn split(reply: oneshot::Sender<Vec<Outcome>>, count: usize) -> Vec<Caller> {
        let outcomes = (0..count).map(|_| Err(Failure::Internal)).collect();
        let gathering = Arc::new(Self { outcomes: Mutex::new(outcomes), reply: Some(reply) });
        (0..count).map(|place| Caller::Part(Arc::clone(&gathering), place)).collect()
    }

    fn enter(&self, place: usize, outcome: Outcome) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = outcomes.get_mut(place) {
            *entry = outcome;
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let outcomes = self.outcomes.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(std::mem::take(outcomes));
        }
    }
}

/// Returns the item of a request. If the caller is gone, the operation is decided only if it must take effect in any
/// case (R4.10).
fn item(request: Request, deadline: Option<Instant>, gone: bool) -> Item {
    let mut item = Item::new(request, deadline);
    item.drop_if_gone(gone);
    item
}
