//! Jobs: what runs on a schedule. Each job is an idempotent function, which can also be run by hand.
//!
//! A tick starts a run of a job, unless a run is still under way in this process. Several replicas may run the same job
//! at the same time. The next run makes up for a missed one, because each job looks for work and does it in bounded
//! steps.

mod clockwork;
mod close;
mod course;
mod deliver;
mod expire;
mod number;
mod prune;
mod prune_events;
mod schedule;
mod table;
mod verify;

pub use self::{
    clockwork::{Clockwork, JobState, NotRun, Outcome, Run},
    course::Figures,
    schedule::ScheduleError,
    table::{JOBS, Job, Tools},
};
