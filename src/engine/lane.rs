//! A lane: takes all that waits, has it decided as one batch, and answers.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Asked, BATCH_OPERATIONS_MAX, Failure, Outcome, Request, Submission, batch::Batcher, item::Item};

/// One lane. It ends when it was stopped and its queue is empty.
pub(super) struct Lane {
    pub(super) submissions: mpsc::UnboundedReceiver<Submission>,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) batcher: Batcher,
    pub(super) stop: CancellationToken,
}

/// Who waits for the outcomes of the next items of the batch.
enum Caller {
    One(oneshot::Sender<Outcome>),
    Several(oneshot::Sender<Vec<Outcome>>, usize),
}

impl Lane {
    pub(super) async fn run(mut self) {
        let mut next: Option<Submission> = None;
        // Emptied by each batch, and kept for the next.
        let (mut items, mut callers) = (Vec::new(), Vec::new());
        loop {
            let first = match next.take() {
                Some(submission) => submission,
                None => match self.receive().await {
                    Some(submission) => submission,
                    None => return,
                },
            };
            self.take(first, &mut items, &mut callers);
            while items.len() < BATCH_OPERATIONS_MAX {
                match self.submissions.try_recv() {
                    // What does not fit whole leads the next batch.
                    Ok(more) if items.len() + more.count() > BATCH_OPERATIONS_MAX => {
                        next = Some(more);
                        break;
                    }
                    Ok(more) => self.take(more, &mut items, &mut callers),
                    Err(_) => break,
                }
            }
            if AssertUnwindSafe(self.batcher.run(&mut items)).catch_unwind().await.is_err() {
                // A defect; the panic was logged. The lane goes on, with nothing that the batch may have left half done.
                self.batcher.forget();
            }
            answer(&mut callers, &mut items);
        }
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

    fn take(&self, submission: Submission, items: &mut Vec<Item>, callers: &mut Vec<Caller>) {
        let count = submission.count();
        self.waiting.fetch_sub(count, Ordering::AcqRel);
        let deadline = submission.deadline;
        match submission.asked {
            Asked::One(request, reply) => {
                items.push(item(request, deadline, reply.is_closed()));
                callers.push(Caller::One(reply));
            }
            Asked::Several(requests, reply) => {
                let gone = reply.is_closed();
                items.extend(requests.into_iter().map(|request| item(request, deadline, gone)));
                callers.push(Caller::Several(reply, count));
            }
        }
    }
}

/// What a caller asks, who may be gone: then only what is owed is decided.
fn item(request: Request, deadline: Option<Instant>, gone: bool) -> Item {
    let undecided = gone && !request.operation.is_owed();
    Item::new(request, deadline, undecided.then_some(Err(Failure::DeadlineExceeded)))
}

fn answer(callers: &mut Vec<Caller>, items: &mut Vec<Item>) {
    let mut outcomes = items.drain(..).map(|item| item.outcome.unwrap_or(Err(Failure::Internal)));
    for caller in callers.drain(..) {
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
