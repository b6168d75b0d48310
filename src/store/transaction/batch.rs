//! Transactions of batches, on the connections of lanes.

use std::sync::Arc;

use sea_orm::Value;

use super::{Statements, Transaction, Writes, drop_empty, thread};
use crate::store::{
    bulk::{Bulk, Write, join},
    connect::{LaneWay, Store},
    dialect::Dialect,
    error::{StoreError, read_only},
    postgres::wire::{Question, WireTransaction},
    pulse::Pulse,
    row::Row,
    sqlite::{connection::ThreadTransaction, turn::Writer},
};

/// The way of a batch. It has no entities, since SeaORM does not run on the connections of lanes.
#[derive(Debug)]
pub struct Batch {
    lane: LaneTransaction,
    /// Records for the probe that rows of a batch were committed.
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
enum LaneTransaction {
    Thread(ThreadTransaction),
    Wire(Box<WireTransaction>),
}

/// Shows whether other writers have changed the database between two batches of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataVersion {
    /// `PRAGMA data_version` of SQLite. The number stays the same while only the lane's connection writes: batches, and
    /// jobs that change no rows that the lane remembers.
    File(i64),
    /// PostgreSQL has no such number. Other sessions may write at any time. Only the versions of rows show their
    /// writes.
    Rows,
}

impl DataVersion {
    /// Returns whether it is certain that nobody else has written since a batch saw `earlier`. On PostgreSQL this is
    /// never certain.
    pub fn is_unchanged_since(self, earlier: DataVersion) -> bool {
        matches!(self, DataVersion::File(_)) && self == earlier
    }
}

/// A query, and the values for it.
pub(in crate::store) enum Asked {
    /// A query over rows of values, given column by column. If there are no rows, the query is not run.
    Rows(&'static Bulk, Vec<Vec<Value>>),
    /// A query without any values.
    One(&'static str),
}

impl Asked {
    fn question(&self) -> Option<Question<'_>> {
        match self {
            Asked::Rows(_, columns) if columns.first().is_none_or(Vec::is_empty) => None,
            Asked::Rows(bulk, columns) => Some(Question::of_columns(bulk.postgres, bulk.columns, columns)),
            Asked::One(text) => Some(Question::of_values(text, &[])),
        }
    }
}

impl Statements for Batch {
    fn dialect(&self) -> Dialect {
        match self.lane {
            LaneTransaction::Thread(_) => Dialect::Sqlite,
            LaneTransaction::Wire(_) => Dialect::Postgres,
        }
    }

    async fn rows(&self, text: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        match &self.lane {
            LaneTransaction::Thread(transaction) => thread::rows(transaction, text, &values),
            LaneTransaction::Wire(transaction) => {
                let answers = transaction.ask(&[Question::of_values(text, &values)]).await?;
                Ok(answers.into_iter().flatten().map(Row::Wire).collect())
            }
        }
    }

    async fn find(&self, bulk: &Bulk, columns: Vec<Vec<Value>>) -> Result<Vec<Row>, StoreError> {
        match &self.lane {
            LaneTransaction::Thread(transaction) => thread::find(transaction, bulk, &columns),
            LaneTransaction::Wire(transaction) => {
                let question = Question::of_columns(bulk.postgres, bulk.columns, &columns);
                let answers = transaction.ask(&[question]).await?;
                Ok(answers.into_iter().flatten().map(Row::Wire).collect())
            }
        }
    }

    async fn rollback(self) -> Result<(), StoreError> {
        match self.lane {
            LaneTransaction::Thread(transaction) => transaction.rollback(),
            LaneTransaction::Wire(transaction) => transaction.rollback().await,
        }
    }
}

impl Writes for Batch {
    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        match &self.lane {
            LaneTransaction::Thread(transaction) => thread::write(transaction, &writes),
            LaneTransaction::Wire(transaction) => transaction.write(&writes).await,
        }
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.write_and_commit(Vec::new()).await
    }
}

impl Batch {
    async fn write_and_commit(self, writes: Vec<Write>) -> Result<(), StoreError> {
        match self.lane {
            LaneTransaction::Thread(transaction) => {
                thread::write(&transaction, &writes)?;
                transaction.commit()?;
            }
            LaneTransaction::Wire(transaction) => {
                let text = join(&writes);
                let question = (!writes.is_empty()).then(|| Question::of_writes(&text, &writes));
                transaction.commit(question.as_slice()).await?;
            }
        }
        if !writes.is_empty() {
            self.pulse.note_written();
        }
        Ok(())
    }
}

impl Transaction<Batch> {
    /// Returns the version of the data that this batch sees.
    pub fn data_version(&self) -> DataVersion {
        match &self.way.lane {
            LaneTransaction::Thread(transaction) => DataVersion::File(transaction.data_version),
            LaneTransaction::Wire(_) => DataVersion::Rows,
        }
    }

    /// Runs several statements, one after the other, and returns the rows that each of them finds. On PostgreSQL they
    /// are sent at once.
    pub(in crate::store) async fn find_all(&self, asked: Vec<Asked>) -> Result<Vec<Vec<Row>>, StoreError> {
        let LaneTransaction::Wire(transaction) = &self.way.lane else {
            let mut found = Vec::with_capacity(asked.len());
            for asked in asked {
                found.push(match asked {
                    Asked::Rows(bulk, columns) => self.find(bulk, columns).await?,
                    Asked::One(text) => self.rows(text, Vec::new()).await?,
                });
            }
            return Ok(found);
        };
        let questions: Vec<Question<'_>> = asked.iter().filter_map(Asked::question).collect();
        let mut answers = transaction.ask(&questions).await?.into_iter();
        let found = asked.iter().map(|asked| match asked.question() {
            Some(_) => answers.next().unwrap_or_default().into_iter().map(Row::Wire).collect(),
            None => Vec::new(),
        });
        Ok(found.collect())
    }

    /// Writes rows, as [`Transaction::write`] does, and commits. On PostgreSQL both are sent at once. After
    /// [`StoreError::Unavailable`] the outcome is unknown.
    pub(in crate::store) async fn write_and_commit(self, mut writes: Vec<Write>) -> Result<(), StoreError> {
        drop_empty(&mut writes);
        let committed = self.way.write_and_commit(writes).await;
        self.after.run(committed.is_ok());
        committed
    }
}

impl Store {
    /// Begins the transaction of a batch: BEGIN IMMEDIATE on SQLite, READ COMMITTED on PostgreSQL. On SQLite the
    /// transaction blocks the thread, so a lane has a thread of its own.
    pub async fn begin_batch(&self) -> Result<Transaction<Batch>, StoreError> {
        self.begin_batch_as("batch").await
    }

    /// Begins the transaction of a batch under another name, for the probe.
    pub(in crate::store) async fn begin_batch_as(
        &self,
        name: &'static str,
    ) -> Result<Transaction<Batch>, StoreError> {
        let lane = match self.lane_way() {
            LaneWay::Thread(lane) => {
                let turn = self.turns().take(Writer::Batch).await?;
                LaneTransaction::Thread(ThreadTransaction::begin(lane.connection.clone(), turn)?)
            }
            LaneWay::Wire(wire) => LaneTransaction::Wire(Box::new(wire.begin().await?)),
            LaneWay::None => return Err(read_only()),
        };
        Ok(self.transaction(Batch { lane, pulse: Arc::clone(self.pulse()) }, name))
    }
}
