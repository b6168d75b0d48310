//! The command: one file per subcommand.

use clap::{Parser, Subcommand};

pub mod bench;
pub mod client;
pub mod error;
pub mod replay;
pub mod serve;

/// A quota authority for AI token usage.
#[derive(Debug, Parser)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server until Ctrl-C
    Serve(serve::ServeArgs),
    /// Measure a server against an empty service
    Bench(bench::BenchArgs),
    /// The empty service that `bench` measures against
    #[command(hide = true)]
    BenchEmpty(bench::empty::EmptyArgs),
    /// Play a trace of model calls
    Replay(replay::ReplayArgs),
}

/// Runs a command.
///
/// # Errors
///
/// When the command failed.
pub async fn run(cli: Cli) -> Result<(), error::CliError> {
    match cli.command {
        Command::Serve(args) => serve::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::BenchEmpty(args) => bench::empty::run(args).await,
        Command::Replay(args) => replay::run(args).await,
    }
}
