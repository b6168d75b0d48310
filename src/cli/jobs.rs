//! `tope jobs`: lists the jobs of a server, or runs one job now.

use clap::{Args, Subcommand, ValueEnum};
use prost_types::{Duration, Timestamp};
use serde_json::{Map, Value, json};

use crate::{
    console::{
        client::{TargetArgs, print_line},
        error::CliError,
    },
    grpc::v1::{
        Job, JobOutcome, JobRun, ListJobsRequest, RunJobRequest, admin_service_client::AdminServiceClient,
    },
};

/// Options of `tope jobs`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// The subcommand of `tope jobs`.
    #[command(subcommand)]
    pub command: JobsCommand,
}

/// The subcommands of `tope jobs`.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List the jobs of a server, with their next and last runs
    List(ServerArgs),
    /// Run a job now and wait for its end; exit code 1 unless the run succeeds
    Run {
        /// Name of the job, as `list` prints it
        name: String,
        /// The server, and the form of the output.
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// The server, and the form in which its reply is printed.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The server to call.
    #[command(flatten)]
    pub server: TargetArgs,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns, for people.
    Table,
    /// One JSON document, for programs.
    Json,
}

/// Lists the jobs of a server, or runs one job.
///
/// # Errors
///
/// When the server cannot be reached or refuses, or the run did not succeed.
pub async fn run(args: JobsArgs) -> Result<(), CliError> {
    match args.command {
        JobsCommand::List(server) => list(&server).await,
        JobsCommand::Run { name, server } => run_one(name, &server).await,
    }
}

async fn list(server: &ServerArgs) -> Result<(), CliError> {
    let mut admin = AdminServiceClient::new(server.server.connect().await?);
    let reply = admin.list_jobs(ListJobsRequest {}).await;
    let jobs = reply.map_err(|status| CliError::refused("cannot list the jobs", &status))?.into_inner().jobs;
    match server.output {
        Output::Json => print_line(pretty(&Value::Array(jobs.iter().map(job_json).collect()))),
        Output::Table => print_table(&jobs),
    }
}

async fn run_one(name: String, server: &ServerArgs) -> Result<(), CliError> {
    let mut admin = AdminServiceClient::new(server.server.connect().await?);
    let tried = format!("cannot run {name:?}");
    let reply = admin.run_job(RunJobRequest { name: name.clone() }).await;
    let run = reply.map_err(|status| CliError::refused(&tried, &status))?.into_inner();
    match server.output {
        Output::Json => print_line(pretty(&run_json(&run)))?,
        Output::Table => print_line(format!("{name}  {}", describe_run(&run)))?,
    }
    match run.outcome() {
        JobOutcome::Succeeded => Ok(()),
        JobOutcome::Failed | JobOutcome::TimedOut | JobOutcome::Stopped | JobOutcome::Unspecified => {
            Err(CliError::new(format!("the job {name:?} did not succeed")))
        }
    }
}

fn print_table(jobs: &[Job]) -> Result<(), CliError> {
    let mut rows = vec![["NAME", "SCHEDULE (UTC)", "NEXT RUN", "LAST RUN"].map(str::to_owned)];
    for job in jobs {
        let next = if job.running { "runs now".to_owned() } else { format_time(job.next_run_time.as_ref()) };
        let last = match &job.last_run {
            Some(run) => format!("{}  {}", format_time(run.start_time.as_ref()), describe_run(run)),
            None => "none".to_owned(),
        };
        rows.push([job.name.clone(), job.schedule.clone(), next, last]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [name, schedule, next] = [width(0), width(1), width(2)];
    for row in &rows {
        print_line(format!("{:name$}  {:schedule$}  {:next$}  {}", row[0], row[1], row[2], row[3]))?;
    }
    print_line("")?;
    jobs.iter().try_for_each(|job| print_line(format!("{:name$}  {}", job.name, job.description)))
}

/// Describes a run: `SUCCEEDED in 0.012 s: reservations 5, request_ids 0`.
fn describe_run(run: &JobRun) -> String {
    let figures: Vec<String> =
        run.figures.iter().map(|figure| format!("{} {}", figure.name, figure.value)).collect();
    let said = [run.error.clone(), figures.join(", ")];
    let said = said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    let colon = if said.is_empty() { "" } else { ": " };
    format!("{} in {:.3} s{colon}{said}", outcome(run), seconds(run.duration.as_ref()))
}

fn outcome(run: &JobRun) -> &'static str {
    run.outcome().as_str_name().trim_start_matches("JOB_OUTCOME_")
}

fn job_json(job: &Job) -> Value {
    json!({
        "name": job.name,
        "schedule": job.schedule,
        "description": job.description,
        "timeout_seconds": seconds(job.timeout.as_ref()),
        "running": job.running,
        "next_run_time": job.next_run_time.as_ref().map(|at| format_time(Some(at))),
        "last_run": job.last_run.as_ref().map(run_json),
    })
}

fn run_json(run: &JobRun) -> Value {
    let figures: Map<String, Value> =
        run.figures.iter().map(|figure| (figure.name.clone(), figure.value.to_string().into())).collect();
    json!({
        "start_time": run.start_time.as_ref().map(|at| format_time(Some(at))),
        "duration_seconds": seconds(run.duration.as_ref()),
        "outcome": outcome(run),
        "error": run.error,
        "figures": figures,
    })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// Formats an instant in whole seconds, in UTC: 2026-12-01T00:00:00Z. Returns `-` for an absent instant.
fn format_time(at: Option<&Timestamp>) -> String {
    let instant = at.and_then(|at| chrono::DateTime::from_timestamp(at.seconds, 0));
    let text = instant.map(|instant| instant.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    text.unwrap_or_else(|| "-".to_owned())
}

fn seconds(duration: Option<&Duration>) -> f64 {
    let whole = duration.map(|duration| std::time::Duration::try_from(*duration).unwrap_or_default());
    whole.unwrap_or_default().as_secs_f64()
}
