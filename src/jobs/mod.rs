//! What runs on a schedule: each job an idempotent function that is also run by hand.
//!
//! A tick only wakes a job. One that still runs is left alone, several replicas may run the same one at once, and a tick
//! that is missed is made up for by the next: each job looks for what is to be done, and does it in bounded steps.

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
