//! The table of jobs: when each one runs, what it does, and how long it may take.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

use super::{close, course::Course, deliver, expire, number, prune, prune_events, verify};
use crate::{
    domain::window::Millis,
    engine::{Engine, Failure},
    events::webhook::Deliverer,
    policy::PolicyCache,
    store::{Retention, Store, StoreError},
};

/// A row of the table: one job.
#[derive(Debug)]
pub struct Job {
    /// The name of the job, as `tope jobs run` takes it.
    pub name: &'static str,
    /// When the job runs, in UTC, as a cron expression of six fields: second, minute, hour, day of the month, month,
    /// day of the week.
    pub schedule: &'static str,
    /// What the job does, for people.
    pub description: &'static str,
    /// The longest time of a run. A run that takes longer is broken off, and what it did stays done.
    pub timeout: Duration,
    /// Runs the job, in steps. The instant is that of the process's clock; without one, the database's time counts.
    pub(super) run: Function,
}

type Function = for<'a> fn(&'a Tools, Option<Millis>, &'a Course) -> BoxFuture<'a, Result<(), JobError>>;

/// All jobs, sorted by name.
pub static JOBS: [Job; 7] = [
    Job {
        name: "close-windows",
        schedule: "15 * * * * *",
        description: "Emits WINDOW_CLOSED for windows that are over, with their final figures",
        timeout: Duration::from_secs(50),
        run: |tools, now, course| Box::pin(close::run(tools, now, course)),
    },
    Job {
        name: "deliver-webhooks",
        schedule: "* * * * * *",
        description: "Sends events to webhooks, in the background",
        timeout: Duration::from_secs(60),
        run: |tools, now, course| Box::pin(deliver::run(tools, now, course)),
    },
    Job {
        name: "expire-holds",
        schedule: "*/2 * * * * *",
        description: "Ends due holds of tenants for which nothing is decided",
        timeout: Duration::from_secs(50),
        run: |tools, now, course| Box::pin(expire::run(tools, now, course)),
    },
    Job {
        name: "number-events",
        schedule: "*/10 * * * * *",
        description: "Gives events their places in the log, if no server did so already",
        timeout: Duration::from_secs(60),
        run: |tools, now, course| Box::pin(number::run(tools, now, course)),
    },
    Job {
        name: "prune",
        schedule: "0 7 * * * *",
        description: "Removes settled reservations and request ids that are older than their retention",
        timeout: Duration::from_secs(3_000),
        run: |tools, now, course| Box::pin(prune::run(tools, now, course)),
    },
    Job {
        name: "prune-events",
        schedule: "0 37 * * * *",
        description: "Removes events that are older than their retention, and deliveries of such events",
        timeout: Duration::from_secs(3_000),
        run: |tools, now, course| Box::pin(prune_events::run(tools, now, course)),
    },
    Job {
        name: "verify-sample",
        schedule: "0 23 3 * * *",
        description: "Checks that the books of a hundred tenants, chosen at random, add up",
        timeout: Duration::from_secs(1_800),
        run: |tools, now, course| Box::pin(verify::run(tools, now, course)),
    },
];

/// The parts of the server that jobs work with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The database, for jobs that read and write rows.
    pub store: Store,
    /// The engine, for jobs that change counters.
    pub engine: Arc<Engine>,
    /// The policy: resources and plans.
    pub policies: Arc<PolicyCache>,
    /// How long settled reservations, request ids and events are kept.
    pub retention: Retention,
    /// Sends events to webhooks.
    pub deliverer: Arc<Deliverer>,
}

/// Why a run of a job failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// The database failed, or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine did not carry out an operation.
    #[error("an operation failed: {0:?}")]
    Engine(Failure),
    /// The check found this many rows that do not add up.
    #[error("{0} row(s) of the books do not add up; the server's log names them")]
    BooksDisagree(u64),
}
