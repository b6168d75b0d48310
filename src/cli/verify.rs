//! `tope verify`: checks whether the books of a database are correct.

use clap::Args;

use super::DatabaseArgs;
use crate::{
    console::{client::print_line, error::CliError},
    store::{Store, StoreOptions},
};

/// Options of `tope verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The database to check.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Checks a database. Prints how many rows were checked, and each wrong row.
///
/// # Errors
///
/// When the database cannot be read, or its books are wrong.
pub async fn run(args: VerifyArgs) -> Result<(), CliError> {
    let tried = args.database.tried("verify");
    let failed = |error| CliError::caused(&tried, &error);
    let store = Store::connect(&args.database.database, StoreOptions::default()).await.map_err(failed)?;
    store.ping().await.map_err(failed)?;
    store.check_schema().await.map_err(failed)?;
    let report = store.verify().await.map_err(failed)?;
    store.close().await.map_err(failed)?;
    print_line(format!(
        "tenants       {:>12}  no hold is due before next_due of the tenant's row",
        report.tenants
    ))?;
    print_line(format!(
        "counters      {:>12}  I2: each counter is the sum of the rows that name it and of what was pruned",
        report.counters
    ))?;
    print_line(format!("open holds    {:>12}  I3: no hold is also settled", report.holds))?;
    print_line(format!("settled       {:>12}  including Records", report.settled))?;
    print_line(format!("request ids   {:>12}  I3: each request id made one reservation", report.requests))?;
    print_line(format!("adjustments   {:>12}", report.adjustments))?;
    for fault in &report.faults {
        print_line(format!("fault         {fault}"))?;
    }
    if report.fault_count == 0 {
        print_line("the books are correct")?;
        Ok(())
    } else {
        Err(CliError::new(format!("{} fault(s): the books are wrong", report.fault_count)))
    }
}
