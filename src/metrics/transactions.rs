//! Named transactions, by outcome, with their durations.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use prometheus::{Histogram, HistogramVec, Registry};

use super::{make::histogram_of, table::Table};
use crate::traces::note_transaction;

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

/// Maximum number of names. Names are constants of the code, so there are fewer.
const NAMES_MAX: usize = 256;

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The transaction was committed.
    Committed,
    /// The commit failed, so the outcome may be unknown.
    Failed,
    /// The transaction was rolled back, or dropped.
    RolledBack,
    /// The transaction could only read.
    Read,
}

impl Ending {
    /// The values of the label, in the order of the variants.
    const LABELS: [&str; 4] = ["committed", "failed", "rolled_back", "read"];
}

/// The figures of transactions.
#[derive(Debug)]
pub struct Transactions {
    durations: HistogramVec,
    /// The series by name, and by ending in the order of the variants. A series is made when it first occurs.
    known: Table<[OnceLock<Histogram>; Ending::LABELS.len()]>,
}

/// A transaction under way. It is recorded when this value is dropped.
#[derive(Debug)]
pub struct TransactionTimer {
    transactions: Arc<Transactions>,
    name: &'static str,
    began: Instant,
    ending: Ending,
}

impl Transactions {
    pub(super) fn new(registry: &Registry) -> Self {
        let help = "Time from the begin of a transaction to its end, by name and outcome.";
        let labels = ["name", "outcome"];
        let name = "tope_transaction_duration_seconds";
        let durations = histogram_of(registry, name, help, &labels, &BUCKETS);
        Self { durations, known: Table::new(NAMES_MAX) }
    }

    /// Begins to measure a transaction, which is recorded as `ending` unless the timer is given another ending.
    pub fn begin(self: &Arc<Self>, name: &'static str, ending: Ending) -> TransactionTimer {
        TransactionTimer { transactions: Arc::clone(self), name, began: Instant::now(), ending }
    }

    fn record(&self, name: &'static str, ending: Ending, seconds: f64) {
        let made = || self.durations.with_label_values(&[name, Ending::LABELS[ending as usize]]);
        if let Some(series) = self.known.get(name, Default::default) {
            series[ending as usize].get_or_init(made).observe(seconds);
        }
    }
}

impl TransactionTimer {
    /// Notes the end of the transaction after its COMMIT, which succeeded or failed.
    pub fn end(&mut self, committed: bool) {
        self.end_as(if committed { Ending::Committed } else { Ending::Failed });
    }

    /// Notes how the transaction ends.
    pub fn end_as(&mut self, ending: Ending) {
        self.ending = ending;
    }

    /// Returns the name of the transaction.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Drop for TransactionTimer {
    fn drop(&mut self) {
        self.transactions.record(self.name, self.ending, self.began.elapsed().as_secs_f64());
        note_transaction(self.name, Ending::LABELS[self.ending as usize], self.began);
    }
}
