//! Transactions of jobs that change no rows that a lane remembers. On SQLite they run on the lane's connection, so
//! that the lane's memory stays valid, in a thread that may block.

use std::{panic::resume_unwind, sync::Arc};

use sea_orm::Value;
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{Statements, Transaction, Writes, Writing, thread};
use crate::store::{
    bulk::{Bulk, Write},
    connect::Store,
    dialect::Dialect,
    error::StoreError,
    row::Row,
    sqlite::{connection::ThreadTransaction, turn::Writer},
};

/// The way of a job: on SQLite the lane's connection, on PostgreSQL a connection of a pool. It has no entities, since
/// SeaORM does not run on the lane's connection.
#[derive(Debug)]
pub(in crate::store) struct Job(JobTransaction);

#[derive(Debug)]
enum JobTransaction {
    Thread(ThreadTransaction),
    Pool(Writing),
}

impl Statements for Job {
    fn dialect(&self) -> Dialect {
        match &self.0 {
            JobTransaction::Thread(_) => Dialect::Sqlite,
            JobTransaction::Pool(writing) => writing.dialect(),
        }
    }

    async fn rows(&self, text: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        match &self.0 {
            JobTransaction::Thread(transaction) => thread::rows(transaction, text, &values),
            JobTransaction::Pool(writing) => writing.rows(text, values).await,
        }
    }

    async fn find(&self, bulk: &Bulk, columns: Vec<Vec<Value>>) -> Result<Vec<Row>, StoreError> {
        match &self.0 {
            JobTransaction::Thread(transaction) => thread::find(transaction, bulk, &columns),
            JobTransaction::Pool(writing) => writing.find(bulk, columns).await,
        }
    }

    async fn rollback(self) -> Result<(), StoreError> {
        match self.0 {
            JobTransaction::Thread(transaction) => transaction.rollback(),
            JobTransaction::Pool(writing) => writing.rollback().await,
        }
    }
}

impl Writes for Job {
    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        match &self.0 {
            JobTransaction::Thread(transaction) => thread::write(transaction, &writes),
            JobTransaction::Pool(writing) => writing.write(writes).await,
        }
    }

    async fn commit(self) -> Result<(), StoreError> {
        match self.0 {
            JobTransaction::Thread(transaction) => transaction.commit(),
            JobTransaction::Pool(writing) => writing.commit().await,
        }
    }
}

impl Store {
    /// Runs the steps of a job, which commit the transaction or roll it back. They must not change rows that a lane
    /// remembers. On SQLite they run in a thread for blocking work, and go on there even if this future is dropped.
    pub(in crate::store) async fn run_job<T, F, S>(
        &self,
        name: &'static str,
        steps: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Transaction<Job>) -> S + Send + 'static,
        S: Future<Output = Result<T, StoreError>> + Send,
    {
        let Some(lane) = self.lane() else {
            let way = Job(JobTransaction::Pool(self.writing(Writer::Job).await?));
            return steps(self.transaction(way, name)).await;
        };
        let place = self.turns().queue(Writer::Job).await?;
        let (connection, runtime) = (lane.connection.clone(), Handle::current());
        let (numbering, metrics) = (Arc::clone(self.numbering()), Arc::clone(self.metrics()));
        let run = move || {
            runtime.block_on(async {
                // Only here: a job that waits for a thread must not keep batches from writing.
                let turn = place.take().await?;
                let way = Job(JobTransaction::Thread(ThreadTransaction::begin(connection, turn)?));
                steps(Transaction::new(way, name, numbering, metrics)).await
            })
        };
        match spawn_blocking(run).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(_) => Err(StoreError::Unusable("the server is shutting down".to_owned())),
        }
    }
}
