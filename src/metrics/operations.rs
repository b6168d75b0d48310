//! Operations by kind and outcome, refusals by limit, and the sizes of batches.

use prometheus::{Histogram, IntCounter, IntCounterVec, Registry};

use super::{
    make::{counter_of, histogram_of},
    table::Table,
};

/// Maximum number of limits with a series of their own. The ids of limits come from plans, so their number has no bound
/// of its own.
pub(super) const LIMITS_MAX: usize = 200;

/// The label of all limits that have no series of their own.
const OTHER_LIMITS: &str = "(other)";

/// The label of a refusal because no limit covers the resource.
const NO_LIMIT: &str = "(none)";

/// Upper bounds of the buckets of batch sizes, in operations.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0, 500.0];

/// Declares an enum whose variants are the values of a label.
macro_rules! label {
    ($(#[doc = $help:literal])+ $name:ident { $($(#[doc = $text:literal])+ $variant:ident = $label:literal,)+ }) => {
        $(#[doc = $help])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $text])+ $variant,)+
        }

        impl $name {
            /// The values of the label, in the order of the variants.
            pub(super) const LABELS: &[&str] = &[$($label),+];
        }
    };
}

label! {
    /// The kind of an operation, as a label has it.
    OperationKind {
        /// A Reserve of a client.
        Reserve = "reserve",
        /// A Commit of a client.
        Commit = "commit",
        /// A Release of a client.
        Release = "release",
        /// An Extend of a client.
        Extend = "extend",
        /// A Record of a client.
        Record = "record",
        /// An Amend of a client.
        Amend = "amend",
        /// A Check of a client.
        Check = "check",
        /// A ResetUsage of a client.
        Reset = "reset",
        /// An empty Check of a job, which sweeps one tenant.
        Sweep = "sweep",
    }
}

label! {
    /// The outcome of an operation, as a label has it.
    OperationOutcome {
        /// The operation was carried out.
        Ok = "ok",
        /// The quota does not suffice.
        QuotaExceeded = "quota_exceeded",
        /// The rules refuse the operation for another reason.
        Refused = "refused",
        /// A queue was full.
        Overloaded = "overloaded",
        /// The server was shutting down.
        Draining = "draining",
        /// The database could not be reached.
        DatabaseUnavailable = "database_unavailable",
        /// The caller's time ran out before the decision.
        DeadlineExceeded = "deadline_exceeded",
        /// A defect, or a permanent error of the database.
        Internal = "internal",
    }
}

/// The figures of operations and batches.
#[derive(Debug)]
pub struct Operations {
    /// One counter per kind and outcome.
    counters: Vec<Vec<IntCounter>>,
    refusals: IntCounterVec,
    /// The counters of the limits that have a series of their own.
    limits: Table<IntCounter>,
    /// The counter of all other limits.
    other_limits: IntCounter,
    /// The counter of refusals without a limit.
    no_limit: IntCounter,
    batches: Histogram,
}

impl Operations {
    pub(super) fn new(registry: &Registry) -> Self {
        let help = "Operations that were answered, by kind and outcome; a Batch counts as its operations.";
        let counters = counter_of(registry, "tope_operations_total", help, &["kind", "outcome"]);
        let of_kind = |kind: &&str| {
            let counter = |outcome: &&str| counters.with_label_values(&[*kind, *outcome]);
            OperationOutcome::LABELS.iter().map(counter).collect()
        };
        let help = "Violations of HARD limits in refused operations, by the id of the limit.";
        let refusals = counter_of(registry, "tope_refusals_total", help, &["limit"]);
        let help = "Operations that one batch answered.";
        let batches = histogram_of(registry, "tope_batch_operations", help, &[], &BATCH_BUCKETS);
        Self {
            counters: OperationKind::LABELS.iter().map(of_kind).collect(),
            limits: Table::new(LIMITS_MAX),
            other_limits: refusals.with_label_values(&[OTHER_LIMITS]),
            no_limit: refusals.with_label_values(&[NO_LIMIT]),
            refusals,
            batches: batches.with_label_values::<&str>(&[]),
        }
    }

    /// Counts an operation that was answered.
    pub fn count(&self, kind: OperationKind, outcome: OperationOutcome) {
        self.counters[kind as usize][outcome as usize].inc();
    }

    /// Counts the refusal of one limit. The first 200 limits that refuse have a series of their own until the server
    /// ends; all others share the series `(other)`. `None`: no limit covers the resource.
    pub fn refuse(&self, limit: Option<&str>) {
        let counter = match limit {
            Some(limit) => {
                let counter = || self.refusals.with_label_values(&[limit]);
                self.limits.get(limit, counter).unwrap_or(&self.other_limits)
            }
            None => &self.no_limit,
        };
        counter.inc();
    }

    /// Records the number of operations that one batch answers.
    pub fn record_batch(&self, operations: usize) {
        self.batches.observe(operations as f64);
    }
}
