//! The messages of jobs.

use crate::{
    grpc::{v1, wire::timestamp},
    jobs::{JobState, Outcome, Run},
};

/// Returns the message of a job and its state in this process.
pub(super) fn job(state: JobState) -> v1::Job {
    v1::Job {
        name: state.job.name.to_owned(),
        schedule: state.job.schedule.to_owned(),
        description: state.job.description.to_owned(),
        timeout: prost_types::Duration::try_from(state.job.timeout).ok(),
        running: state.running,
        next_run_time: state.next_at.map(timestamp),
        last_run: state.last.map(run),
    }
}

/// Makes the message of one run.
pub(super) fn run(run: Run) -> v1::JobRun {
    let (outcome, error) = match run.outcome {
        Outcome::Succeeded => (v1::JobOutcome::Succeeded, String::new()),
        Outcome::Failed(error) => (v1::JobOutcome::Failed, error),
        Outcome::TimedOut => (v1::JobOutcome::TimedOut, String::new()),
        Outcome::Stopped => (v1::JobOutcome::Stopped, String::new()),
    };
    let figure = |(name, value): (&str, i64)| v1::JobFigure { name: name.to_owned(), value };
    v1::JobRun {
        start_time: Some(timestamp(run.began_at)),
        duration: prost_types::Duration::try_from(run.took).ok(),
        outcome: outcome.into(),
        error,
        figures: run.figures.into_iter().map(figure).collect(),
    }
}
