//! Jobs: functions that run on a schedule, or by hand. Each job is idempotent.
//!
//! A tick starts a run of a job, unless a run is still under way in this process. Several replicas may run the same job
//! at the same time. If a run is missed, the next run does its work: each run searches for work, and does the work in
//! bounded steps.
//!
//! Read `table.rs` first: it lists the jobs, and each job has a file. `tools.rs` contains the parts of the server that
//! jobs use, `runs.rs` runs a job, `schedule.rs` makes the ticks, and `clockwork.rs` combines these parts.

mod change_plans;
mod clockwork;
mod close;
mod deliver;
mod expire;
mod note_keys;
mod number;
mod prune;
mod prune_events;
mod runs;
mod schedule;
mod table;
mod tools;
mod verify;

pub use self::{
    clockwork::{Clockwork, JobState},
    runs::{Claim, NotRun, Outcome, Run},
    schedule::ScheduleError,
    table::{JOBS, Job},
    tools::{Figures, Tools},
};
