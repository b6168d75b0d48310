//! A lane: takes all that waits, has it decided as one batch, and answers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    BATCH_OPERATIONS_MAX, Failure, Outcome, Submission,
    batch::{Batcher, Item},
};

/// One lane. It ends when it was stopped and its queue is empty.
pub(super) struct Lane {
    pub(super) submissions: mpsc::UnboundedReceiver<Submission>,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) batcher: Batcher,
    pub(super) stop: CancellationToken,
}

/// A caller who waits for the outcomes of `count` items of the batch.
struct Caller {
    reply: oneshot::Sender<Vec<Outcome>>,
    count: usize,
}

impl Lane {
    pub(super) async fn run(mut self) {
        let mut next: Option<Submission> = None;
        loop {
            let first = match next.take() {
                Some(submission) => submission,
                None => match self.receive().await {
                    Some(submission) => submission,
                    None => return,
                },
            };
            let mut items = Vec::with_capacity(first.requests.len());
            let mut callers = Vec::new();
            self.take(first, &mut items, &mut callers);
            while items.len() < BATCH_OPERATIONS_MAX {
                match self.submissions.try_recv() {
                    // What does not fit whole leads the next batch.
                    Ok(more) if items.len() + more.requests.len() > BATCH_OPERATIONS_MAX => {
                        next = Some(more);
                        break;
                    }
                    Ok(more) => self.take(more, &mut items, &mut callers),
                    Err(_) => break,
                }
            }
            self.batcher.run(&mut items).await;
            answer(callers, items);
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
        let count = submission.requests.len();
        self.waiting.fetch_sub(count, Ordering::AcqRel);
        let (gone, deadline) = (submission.reply.is_closed(), submission.deadline);
        for request in submission.requests {
            let undecided = gone && !request.operation.is_owed();
            let outcome = undecided.then_some(Err(Failure::DeadlineExceeded));
            items.push(Item::new(request, deadline, outcome));
        }
        callers.push(Caller { reply: submission.reply, count });
    }
}

fn answer(callers: Vec<Caller>, items: Vec<Item>) {
    let mut outcomes = items.into_iter().map(|item| item.outcome.unwrap_or(Err(Failure::Internal)));
    for caller in callers {
        // Who went away does not hear it.
        let _ = caller.reply.send(outcomes.by_ref().take(caller.count).collect());
    }
}
