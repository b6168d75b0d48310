//! `tope backup`: copies a SQLite database while it is in use.

use std::path::PathBuf;

use clap::Args;

use super::DatabaseArgs;
use crate::{
    clock::new_log_id,
    console::{client::print_line, error::CliError},
    store::{Store, StoreOptions},
};

/// Options of `tope backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// File to copy the database to; it must not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The database to copy.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Copies a database to a new file.
///
/// # Errors
///
/// When the database cannot be read, or the copy cannot be written.
pub async fn run(args: BackupArgs) -> Result<(), CliError> {
    let tried = args.database.tried("back up");
    let failed = |error| CliError::caused(&tried, &error);
    let store = Store::connect(&args.database.database, StoreOptions::default()).await.map_err(failed)?;
    store.backup(&args.file, new_log_id()).await.map_err(failed)?;
    store.close().await.map_err(failed)?;
    print_line(format!("copied to {}", args.file.display()))?;
    Ok(())
}
