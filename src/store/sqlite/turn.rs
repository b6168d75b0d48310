//! Turns to write: they decide which writer may write to a database next.
//!
//! A SQLite file has one writer at a time. There are three kinds of writers: batches, for which callers wait,
//! administrative changes, and jobs. Each kind has a queue, and only the first writer of each queue waits for the turn
//! to write. These writers get the turn in the order of their arrival. So the kinds alternate. Even among 2,000
//! simultaneous administrative changes, a batch waits for only one change.
//!
//! PostgreSQL needs no turn to write, because it has several writers at once. Administrative changes wait for each
//! other there, too. Nearly all of them lock the policy's row, so they would only occupy connections of the pool while
//! they wait. Jobs need these connections.

use std::{sync::Arc, time::Duration};

use sea_orm::{ConnAcquireErr, DbErr};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

use crate::store::error::StoreError;

/// Maximum time that a writer waits for earlier writers of the same kind.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum time that the first writer of a kind waits for the turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// The kinds of writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Writer {
    /// The lane: one batch at a time.
    Batch,
    /// Changes that operators ask for.
    Administration,
    /// Numbering, webhooks, pruning and the like.
    Job,
}

/// The turn to write, and a queue for each kind of writers.
#[derive(Clone, Debug)]
pub(in crate::store) struct Turns {
    /// The turn of a database with one writer at a time. `None`: the database has several writers at once.
    turn: Option<Arc<Mutex<()>>>,
    administration: Arc<Mutex<()>>,
    jobs: Arc<Mutex<()>>,
}

/// The first place in the queue of a kind of writers. Dropping this value gives the place to the next writer.
#[derive(Debug)]
pub(in crate::store) struct Place {
    turn: Option<Arc<Mutex<()>>>,
    queued: Option<OwnedMutexGuard<()>>,
}

/// The turn, and the first place in the queue of the writer's kind. Dropping this value releases both.
#[derive(Debug)]
pub(in crate::store) struct Turn {
    // The turn is dropped before the place in the queue. So the next writer of the same kind never waits for a turn
    // that this writer still has.
    _turn: Option<OwnedMutexGuard<()>>,
    _queued: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Makes the turns of a database with one writer at a time. The thread that copies the write-ahead log takes the
    /// same `turn`.
    pub(in crate::store) fn of_one_writer(turn: Arc<Mutex<()>>) -> Self {
        Self { turn: Some(turn), administration: Arc::default(), jobs: Arc::default() }
    }

    /// Makes the turns of a database with several writers at once.
    pub(in crate::store) fn of_many_writers() -> Self {
        Self { turn: None, administration: Arc::default(), jobs: Arc::default() }
    }

    /// Waits for the turn to write, at most [`QUEUE_TIMEOUT`] and then [`TURN_TIMEOUT`].
    pub(in crate::store) async fn take(&self, writer: Writer) -> Result<Turn, StoreError> {
        self.queue(writer).await?.take().await
    }

    /// Waits for the first place in the queue of a kind of writers, at most [`QUEUE_TIMEOUT`].
    pub(in crate::store) async fn queue(&self, writer: Writer) -> Result<Place, StoreError> {
        let queue = match (writer, &self.turn) {
            (Writer::Batch, _) | (Writer::Job, None) => None,
            (Writer::Administration, _) => Some(&self.administration),
            (Writer::Job, Some(_)) => Some(&self.jobs),
        };
        let queued = wait_for(queue, QUEUE_TIMEOUT).await?;
        Ok(Place { turn: self.turn.clone(), queued })
    }
}

impl Place {
    /// Waits for the turn to write, at most [`TURN_TIMEOUT`].
    pub(in crate::store) async fn take(self) -> Result<Turn, StoreError> {
        let turn = wait_for(self.turn.as_ref(), TURN_TIMEOUT).await?;
        Ok(Turn { _turn: turn, _queued: self.queued })
    }
}

async fn wait_for(
    lock: Option<&Arc<Mutex<()>>>,
    longest: Duration,
) -> Result<Option<OwnedMutexGuard<()>>, StoreError> {
    let Some(lock) = lock else { return Ok(None) };
    if let Ok(guard) = Arc::clone(lock).try_lock_owned() {
        return Ok(Some(guard));
    }
    let waited = timeout(longest, Arc::clone(lock).lock_owned()).await;
    Ok(Some(waited.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?))
}

#[cfg(test)]
mod tests {
    use futures::future::{BoxFuture, FutureExt, select_all};

    use super::*;

    /// Returns the order in which waiting writers get the turn after it becomes free. Each of them writes once.
    async fn order_of(turns: &Turns, waiting: &[Writer]) -> Vec<Writer> {
        let taken = turns.take(Writer::Batch).await.expect("it is free");
        let mut rest: Vec<BoxFuture<'_, (Writer, Turn)>> = Vec::new();
        for &writer in waiting {
            let mut take = async move { (writer, turns.take(writer).await.expect("it comes")) }.boxed();
            assert!(futures::poll!(&mut take).is_pending(), "{writer:?} waits");
            rest.push(take);
        }
        drop(taken);
        let mut order = Vec::new();
        while !rest.is_empty() {
            let ((writer, turn), _, others) = select_all(rest).await;
            order.push(writer);
            drop(turn);
            rest = others;
        }
        order
    }

    #[tokio::test]
    async fn many_waiting_writers_of_one_kind_do_not_delay_other_kinds() {
        let turns = Turns::of_one_writer(Arc::default());
        for (many, few) in [(Writer::Administration, Writer::Job), (Writer::Job, Writer::Administration)] {
            let mut waiting = vec![many; 200];
            waiting.extend([Writer::Batch, few, few]);
            let order = order_of(&turns, &waiting).await;
            assert_eq!(order.len(), waiting.len());
            let place = |writer| order.iter().position(|&turn| turn == writer).expect("it had its turn");
            assert!(place(Writer::Batch) <= 2, "{:?}", &order[..8]);
            assert!(place(few) <= 3, "{:?}", &order[..8]);
        }
    }

    #[tokio::test]
    async fn with_several_writers_only_administrative_changes_wait_for_each_other() {
        let turns = Turns::of_many_writers();
        let held = turns.take(Writer::Administration).await.expect("it is free");
        for writer in [Writer::Batch, Writer::Job, Writer::Job] {
            turns.take(writer).now_or_never().expect("nobody is in its way").expect("it is free");
        }
        let mut next = Box::pin(turns.take(Writer::Administration));
        assert!(futures::poll!(&mut next).is_pending());
        drop(held);
        next.await.expect("it comes");
    }
}
