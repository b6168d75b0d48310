//! `tope completions`: lets a shell complete the commands and flags of `tope`.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::console::{client::print_line, error::CliError};

/// Options of `tope completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that reads the script
    pub shell: Shell,
}

/// Prints the script that makes a shell complete this command line.
///
/// # Errors
///
/// When the script cannot be written to stdout.
pub fn run(args: &CompletionsArgs, command: &Command) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(command), "tope", &mut script);
    print_line(String::from_utf8_lossy(&script).trim_end())
}

/// Returns the command line without its hidden subcommands, which clap_complete would show.
fn shown(command: &Command) -> Command {
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    Command::new("tope").version(env!("TOPE_VERSION")).subcommands(subcommands.cloned())
}
