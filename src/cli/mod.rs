//! The command line: one file per subcommand. The subcommands that load a server are in `bench`, and a program without
//! the feature `bench` does not have them.

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

#[cfg(feature = "bench")]
use crate::bench::{self, replay};
use crate::{
    console::{error::CliError, without_password},
    telemetry,
};

pub mod backup;
pub mod changes;
pub mod commit;
pub mod completions;
pub mod jobs;
pub mod keys;
pub mod man;
pub mod migrate;
pub mod quota;
pub mod reserve;
pub mod serve;
mod systemd;
pub mod usage;
pub mod verify;
pub mod watch;

/// A quota authority for AI token usage.
#[derive(Debug, Parser)]
#[command(version = env!("TOPE_VERSION"))]
pub struct Cli {
    /// The subcommand to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of `tope`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server until Ctrl-C
    Serve(serve::ServeArgs),
    /// Reserve quota before a model call
    Reserve(reserve::ReserveArgs),
    /// Commit a reservation: charge what was really used
    Commit(commit::CommitArgs),
    /// Print the balances of a tenant
    Usage(usage::UsageArgs),
    /// Bring the schema of a database up to date (`serve` also does this when it starts)
    Migrate(migrate::MigrateArgs),
    /// Check whether the books of a database are correct
    Verify(verify::VerifyArgs),
    /// Copy a SQLite database while it is in use
    Backup(backup::BackupArgs),
    /// Create, list, revoke and delete the keys of callers
    Keys(keys::KeysArgs),
    /// Print who changed what, the newest change first
    Changes(changes::ChangesArgs),
    /// List the jobs of a server, or run a job now
    Jobs(jobs::JobsArgs),
    /// Compare the speed of a server with that of an empty service
    #[cfg(feature = "bench")]
    Bench(bench::BenchArgs),
    /// The empty service with which `bench` compares a server
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchEmpty(bench::empty::EmptyArgs),
    /// Print events as they happen
    Watch(watch::WatchArgs),
    /// Play a trace of model calls
    #[cfg(feature = "bench")]
    Replay(replay::ReplayArgs),
    /// Print a script with which a shell completes commands and flags
    Completions(completions::CompletionsArgs),
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// Parses the command line and runs the command. The function is not generic, so it is compiled once, with the library,
/// instead of once with each program.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&CliError::caused("cannot start", &error)),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Makes the command line, with the settings described in the help of `serve`.
fn command() -> clap::Command {
    Cli::command().mut_subcommand("serve", crate::config::describe)
}

fn failed(error: &CliError) -> ExitCode {
    // If stderr is closed, the error cannot be written.
    let _ = writeln!(std::io::stderr(), "tope: {error}");
    ExitCode::from(error.exit() as u8)
}

async fn run(cli: Cli) -> Result<(), CliError> {
    if !matches!(cli.command, Command::Serve(_)) {
        telemetry::start_quietly();
    }
    match cli.command {
        Command::Serve(args) => serve::run(args).await,
        Command::Reserve(args) => reserve::run(args).await,
        Command::Commit(args) => commit::run(args).await,
        Command::Usage(args) => usage::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Keys(args) => keys::run(args).await,
        Command::Changes(args) => changes::run(args).await,
        Command::Jobs(args) => jobs::run(args).await,
        #[cfg(feature = "bench")]
        Command::Bench(args) => bench::run(args).await,
        #[cfg(feature = "bench")]
        Command::BenchEmpty(args) => bench::empty::run(args).await,
        #[cfg(feature = "bench")]
        Command::Replay(args) => replay::run(args).await,
        Command::Watch(args) => watch::run(args).await,
        Command::Completions(args) => completions::run(&args, &command()),
        Command::Man(args) => man::run(&args, command()),
    }
}

/// The database that a command works on.
#[derive(Debug, clap::Args)]
pub struct DatabaseArgs {
    /// Database: sqlite://FILE or postgres://…
    #[arg(long, value_name = "URL", env = "TOPE_DATABASE", hide_env_values = true, default_value = crate::config::DATABASE_DEFAULT, value_parser = crate::config::parse_database)]
    pub database: String,
}

impl DatabaseArgs {
    /// Returns the beginning of an error: what the command tried to do, and with which database.
    fn tried(&self, verb: &str) -> String {
        format!("cannot {verb} {}", without_password(&self.database))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_the_feature_bench_has_neither_bench_nor_replay() {
        let command = Cli::command();
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert!(names.contains(&"serve") && names.contains(&"watch"), "{names:?}");
        for name in ["bench", "bench-empty", "replay"] {
            assert_eq!(names.contains(&name), cfg!(feature = "bench"), "{name}: {names:?}");
        }
    }
}
