//! The table of jobs: what runs when, what it does, and how long it may take.

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

/// A job.
#[derive(Debug)]
pub struct Job {
    /// Its plain name.
    pub name: &'static str,
    /// When it runs, in UTC: second, minute, hour, day of the month, month, day of the week, as cron has them.
    pub schedule: &'static str,
    /// What it does, for people.
    pub description: &'static str,
    /// When it takes longer it is broken off. What it did until then stays done.
    pub timeout: Duration,
    /// Does it, in steps, at what the process's clock shows; without that, at the database's time.
    pub(super) run: Function,
}

type Function = for<'a> fn(&'a Tools, Option<Millis>, &'a Course) -> BoxFuture<'a, Result<(), JobError>>;

/// All jobs, by name.
pub static JOBS: [Job; 7] = [
    Job {
        name: "close-windows",
        schedule: "15 * * * * *",
        description: "Tells of windows that are over, with their final figures",
        timeout: Duration::from_secs(50),
        run: |tools, now, course| Box::pin(close::run(tools, now, course)),
    },
    Job {
        name: "deliver-webhooks",
        schedule: "* * * * * *",
        description: "Has events sent to webhooks, in the background",
        timeout: Duration::from_secs(60),
        run: |tools, now, course| Box::pin(deliver::run(tools, now, course)),
    },
    Job {
        name: "expire-holds",
        schedule: "*/2 * * * * *",
        description: "Ends the holds that are due of tenants for which nothing is decided any more",
        timeout: Duration::from_secs(50),
        run: |tools, now, course| Box::pin(expire::run(tools, now, course)),
    },
    Job {
        name: "number-events",
        schedule: "*/10 * * * * *",
        description: "Gives events their places in the log, where nobody else did",
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
        description: "Checks that the books of a hundred tenants, chosen by chance, add up",
        timeout: Duration::from_secs(1_800),
        run: |tools, now, course| Box::pin(verify::run(tools, now, course)),
    },
];

/// What jobs work with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The books.
    pub store: Store,
    /// Where what touches counters is decided.
    pub engine: Arc<Engine>,
    /// Resources and plans.
    pub policies: Arc<PolicyCache>,
    /// How long what is over is kept.
    pub retention: Retention,
    /// Tells webhooks.
    pub deliverer: Arc<Deliverer>,
}

/// Why a job did not do all that it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An operation has no answer.
    #[error("an operation got no answer: {0:?}")]
    Engine(Failure),
    /// What it looked for is there.
    #[error("{0} fault(s): the books do not add up; the log says which")]
    BooksDisagree(u64),
}
