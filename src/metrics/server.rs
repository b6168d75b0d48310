//! The other figures of a server: lanes, database, events, deliveries, jobs and books.

use std::time::Duration;

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, Registry};

use super::make::{Absent, counter, counter_of, gauge, gauge_of};

/// The queues of the lanes. They are set when the page is asked for.
#[derive(Debug)]
pub struct Lanes {
    operations: GaugeVec,
    oldest: GaugeVec,
}

impl Lanes {
    pub(super) fn new(registry: &Registry) -> Self {
        let help = "Operations that wait in the queue of a lane.";
        let operations = gauge_of(registry, "tope_lane_queue_operations", help, &["lane"]);
        let help = "Time for which the oldest operation in the queue of a lane has waited, 0 if none waits.";
        Self { operations, oldest: gauge_of(registry, "tope_lane_queue_oldest_seconds", help, &["lane"]) }
    }

    /// Sets the figures of one lane.
    pub fn set(&self, lane: usize, operations: usize, oldest: Duration) {
        let lane = lane.to_string();
        self.operations.with_label_values(&[&lane]).set(operations as f64);
        self.oldest.with_label_values(&[&lane]).set(oldest.as_secs_f64());
    }
}

/// The database, and the rows that the books have.
#[derive(Debug)]
pub struct Database {
    /// 1 if calls are passed on to the database.
    pub up: IntGauge,
    /// 1 if health is SERVING.
    pub serving: IntGauge,
    /// Number of open holds of all tenants.
    pub open_holds: Absent,
    /// Number of holds that this server ended at their deadlines.
    pub expired_holds: IntCounter,
}

impl Database {
    pub(super) fn new(registry: &Registry) -> Self {
        let up = "1 if the last probes reached the database, 0 if calls are refused without trying.";
        let serving = "1 if health is SERVING, 0 otherwise.";
        let open = "Open holds of all tenants in the database; counted at most every 15 seconds.";
        let expired = "Holds that this server ended because their deadlines had passed.";
        Self {
            up: gauge(registry, "tope_database_up", up),
            serving: gauge(registry, "tope_serving", serving),
            open_holds: Absent::new(registry, "tope_holds_open", open),
            expired_holds: counter(registry, "tope_holds_expired_total", expired),
        }
    }
}

/// The keys of the identity provider that signs JWTs.
#[derive(Debug)]
pub struct Jwks {
    reads: IntCounterVec,
    keys: Absent,
}

impl Jwks {
    pub(super) fn new(registry: &Registry) -> Self {
        let reads = "Reads of the keys of the identity provider, by outcome.";
        let keys = "Keys of the identity provider that are in use.";
        Self {
            reads: counter_of(registry, "tope_jwks_reads_total", reads, &["outcome"]),
            keys: Absent::new(registry, "tope_jwks_keys", keys),
        }
    }

    /// Records a read, and how many keys are in use after it.
    pub fn record(&self, succeeded: bool, keys: usize) {
        // Both series exist from the first read on, so that an alert can compare them.
        let [good, bad] = ["succeeded", "failed"].map(|outcome| self.reads.with_label_values(&[outcome]));
        if succeeded {
            good.inc()
        } else {
            bad.inc()
        }
        self.keys.set(Some(keys as f64));
    }
}

/// The log of events.
#[derive(Debug)]
pub struct Events {
    /// Number of events that transactions of this server wrote.
    pub written: IntCounter,
    /// Number of events to which this server gave places in the log.
    pub numbered: IntCounter,
    /// Number of events in the database that have no place yet.
    pub unnumbered: Absent,
}

impl Events {
    pub(super) fn new(registry: &Registry) -> Self {
        let written = "Events that committed transactions of this server emitted.";
        let numbered = "Events that this server gave their places in the log.";
        let behind = "Events in the database without a place in the log; counted at most every 15 seconds.";
        Self {
            written: counter(registry, "tope_events_written_total", written),
            numbered: counter(registry, "tope_events_numbered_total", numbered),
            unnumbered: Absent::new(registry, "tope_events_unnumbered", behind),
        }
    }
}

/// The deliveries of events to webhooks.
#[derive(Debug)]
pub struct Deliveries {
    succeeded: IntCounter,
    failed: IntCounter,
    /// Number of deliveries that are PENDING in the database.
    pub pending: Absent,
    /// Age of the oldest delivery that is PENDING, in seconds. 0 if there is none.
    pub oldest: Absent,
}

impl Deliveries {
    pub(super) fn new(registry: &Registry) -> Self {
        let help = "Attempts of this server to deliver an event to a webhook, by outcome.";
        let attempts = counter_of(registry, "tope_delivery_attempts_total", help, &["outcome"]);
        let pending = "Deliveries in the database that are PENDING; counted at most every 15 seconds.";
        let oldest = "Age of the oldest delivery that is PENDING, 0 if there is none; read with the count.";
        Self {
            succeeded: attempts.with_label_values(&["succeeded"]),
            failed: attempts.with_label_values(&["failed"]),
            pending: Absent::new(registry, "tope_deliveries_pending", pending),
            oldest: Absent::new(registry, "tope_delivery_oldest_pending_seconds", oldest),
        }
    }

    /// Counts one attempt, by its outcome.
    pub fn count(&self, succeeded: bool) {
        if succeeded { self.succeeded.inc() } else { self.failed.inc() }
    }
}

/// The runs of jobs in this process.
#[derive(Debug)]
pub struct Jobs {
    runs: IntCounterVec,
    last: GaugeVec,
    took: GaugeVec,
}

impl Jobs {
    pub(super) fn new(registry: &Registry) -> Self {
        let runs = "Runs of a job in this process that have ended, by outcome.";
        let last = "When the last run of a job with this outcome began, as unix time.";
        let took = "How long the last run of a job took.";
        let labels = ["name", "outcome"];
        Self {
            runs: counter_of(registry, "tope_job_runs_total", runs, &labels),
            last: gauge_of(registry, "tope_job_last_run_timestamp_seconds", last, &labels),
            took: gauge_of(registry, "tope_job_last_run_duration_seconds", took, &["name"]),
        }
    }

    /// Records a run that has ended. `began_at` is unix time in milliseconds.
    pub fn record(&self, job: &str, outcome: &str, began_at: i64, took: Duration) {
        self.runs.with_label_values(&[job, outcome]).inc();
        self.last.with_label_values(&[job, outcome]).set(seconds(began_at));
        self.took.with_label_values(&[job]).set(took.as_secs_f64());
    }
}

/// The verification of the books by this process.
#[derive(Debug)]
pub struct Books {
    verified: Absent,
    faults: Absent,
}

impl Books {
    pub(super) fn new(registry: &Registry) -> Self {
        let verified = "When this process last verified a sample of the books, as unix time.";
        let faults = "Wrong rows that the last verification of this process found.";
        Self {
            verified: Absent::new(registry, "tope_books_verified_timestamp_seconds", verified),
            faults: Absent::new(registry, "tope_books_faults", faults),
        }
    }

    /// Records a verification. `at` is unix time in milliseconds.
    pub fn record(&self, at: i64, faults: u64) {
        self.verified.set(Some(seconds(at)));
        self.faults.set(Some(faults as f64));
    }
}

/// Converts milliseconds into seconds.
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1_000.0
}
