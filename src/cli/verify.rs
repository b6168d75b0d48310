//! `aforo verify`: checks that the books add up.

use clap::Args;

use super::{DatabaseArgs, error::CliError, say};
use crate::store::{Store, StoreOptions};

/// Options of `aforo verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Checks a database, and prints what was checked, and each row at fault.
///
/// # Errors
///
/// When the database cannot be read, or does not add up.
pub async fn run(args: VerifyArgs) -> Result<(), CliError> {
    let tried = args.database.tried("verify");
    let failed = |error| CliError::caused(&tried, &error);
    let store = Store::connect(&args.database.database, StoreOptions::default()).await.map_err(failed)?;
    store.check_schema().await.map_err(failed)?;
    let report = store.verify().await.map_err(failed)?;
    store.close().await.map_err(failed)?;
    say(format!("tenants       {:>12}  no hold is due before the tenant's row says so", report.tenants));
    say(format!("counters      {:>12}  I2: each is the sum of the rows that name it", report.counters));
    say(format!("open holds    {:>12}  I3: none is settled, too", report.holds));
    say(format!("settled       {:>12}  Records included", report.settled));
    say(format!("request ids   {:>12}  I3: each made one reservation", report.requests));
    say(format!("adjustments   {:>12}", report.adjustments));
    for fault in &report.faults {
        say(format!("fault         {fault}"));
    }
    if report.fault_count == 0 {
        say("the books add up");
        Ok(())
    } else {
        Err(CliError::new(format!("{} fault(s): the books do not add up", report.fault_count)))
    }
}
