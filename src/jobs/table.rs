//! The table of jobs: when each job runs, what it does, and how long it may take.

use std::time::Duration;

use futures::future::BoxFuture;

use super::{
    change_plans, close, deliver, expire, note_keys, number, prune, prune_events,
    tools::{Course, JobError, Tools},
    verify,
};
use crate::domain::time::Time;

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
    /// Maximum duration of a run. A run that takes longer is aborted, but its changes so far stay.
    pub timeout: Duration,
    /// Runs the job, in steps. The instant is the time of the process's clock. Without an instant, the job uses the
    /// time of the database.
    pub(super) run: Function,
}

type Function = for<'a> fn(&'a Tools, Option<Time>, &'a Course) -> BoxFuture<'a, Result<(), JobError>>;

/// All jobs, sorted by name.
pub static JOBS: [Job; 9] = [
    Job {
        name: "change-plans",
        schedule: "*/2 * * * * *",
        description: "Writes scheduled changes of plan, for tenants that have no operations at the moment",
        timeout: Duration::from_secs(50),
        run: |tools, now, course| Box::pin(change_plans::run(tools, now, course)),
    },
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
        description: "Ends holds whose deadline has passed, for tenants that have no operations at the moment",
        timeout: Duration::from_secs(50),
        run: |tools, now, course| Box::pin(expire::run(tools, now, course)),
    },
    Job {
        name: "note-keys",
        schedule: "45 * * * * *",
        description: "Writes when keys were last used on this server",
        timeout: Duration::from_secs(50),
        run: |tools, now, course| Box::pin(note_keys::run(tools, now, course)),
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
        description: "Removes settled reservations, request ids and counters that are older than their retention",
        timeout: Duration::from_secs(3_000),
        run: |tools, now, course| Box::pin(prune::run(tools, now, course)),
    },
    Job {
        name: "prune-events",
        schedule: "0 37 * * * *",
        description: "Removes events and changes in the audit that are older than their retention, and deliveries of such events",
        timeout: Duration::from_secs(3_000),
        run: |tools, now, course| Box::pin(prune_events::run(tools, now, course)),
    },
    Job {
        name: "verify-sample",
        schedule: "0 23 3 * * *",
        description: "Checks whether the books of a hundred tenants, chosen at random, are correct",
        timeout: Duration::from_secs(1_800),
        run: |tools, now, course| Box::pin(verify::run(tools, now, course)),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_sorted_and_have_descriptions() {
        assert!(JOBS.is_sorted_by(|a, b| a.name < b.name));
        for job in &JOBS {
            assert!(!job.description.is_empty() && !job.description.ends_with('.'), "{}", job.name);
            assert!(job.timeout > Duration::ZERO, "{}", job.name);
            assert_eq!(job.schedule.split(' ').count(), 6, "{}", job.name);
        }
    }
}
