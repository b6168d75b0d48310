//! `aforo migrate`: brings the schema of a database up to date.

use clap::Args;

use super::{DatabaseArgs, client::print_line, error::CliError};
use crate::store::{Store, StoreOptions};

/// Options of `aforo migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Applies the migrations that are missing.
///
/// # Errors
///
/// When the database cannot be used.
pub async fn run(args: MigrateArgs) -> Result<(), CliError> {
    let tried = args.database.tried("migrate");
    let failed = |error| CliError::caused(&tried, &error);
    let options = StoreOptions { exclusive: true, ..StoreOptions::default() };
    let store = Store::connect(&args.database.database, options).await.map_err(failed)?;
    store.ping().await.map_err(failed)?;
    store.migrate().await.map_err(failed)?;
    store.close().await.map_err(failed)?;
    print_line("the schema is up to date")?;
    Ok(())
}
