//! `tope migrate`: brings the schema of a database up to date.

use clap::Args;

use super::DatabaseArgs;
use crate::{
    clock::new_log_id,
    console::{client::print_line, error::CliError},
    store::{Store, StoreOptions},
};

/// Options of `tope migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// The database to migrate.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Also give the database a new log of events: after PostgreSQL was restored from a backup, or failed over to a
    /// replica that lagged
    #[arg(long)]
    pub new_log: bool,
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
    if args.new_log {
        store.renew_log(new_log_id()).await.map_err(failed)?;
    }
    store.close().await.map_err(failed)?;
    print_line("the schema is up to date")?;
    if args.new_log {
        print_line("the database has a new log of events: watchers cannot resume with old cursors")?;
    }
    Ok(())
}
