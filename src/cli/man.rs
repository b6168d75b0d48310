//! `tope man`: writes the man pages, for those who make packages.

use std::{fs, path::PathBuf};

use clap::{Args, Command};

use crate::console::error::CliError;

/// Options of `tope man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write the pages to; it is made if it does not exist
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Writes a page about the program, and a page about each subcommand.
///
/// # Errors
///
/// When the folder or a page cannot be written.
pub fn run(args: &ManArgs, command: Command) -> Result<(), CliError> {
    fs::create_dir_all(&args.folder).and_then(|()| clap_mangen::generate_to(command, &args.folder)).map_err(
        |error| CliError::caused(format_args!("cannot write man pages to {}", args.folder.display()), &error),
    )
}
