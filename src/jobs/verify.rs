//! verify-sample: checks whether the books of some tenants are correct, as `tope verify` does for all tenants.

use super::tools::{Course, JobError, Tools};
use crate::{
    clock::{random, system_now},
    domain::{id::TenantKey, time::Time},
};

/// Number of tenants of one sample.
const TENANTS: usize = 100;

/// Checks a sample in one snapshot. The keys of tenants are hashes, so the tenants after a random key are a random
/// sample.
pub(super) async fn run(tools: &Tools, now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let start = TenantKey((i64::from(random() >> 1) << 32) | i64::from(random()));
    let report = tokio::select! {
        report = tools.store.verify_sample(start, TENANTS) => report?,
        () = course.ends() => return Ok(()),
    };
    course.count("tenants", report.tenants);
    course.count("counters", report.counters);
    course.count("holds", report.holds);
    course.count("settled", report.settled);
    let verified_at = now.unwrap_or_else(system_now);
    tools.store.metrics().books.record(verified_at.0, report.fault_count);
    for fault in &report.faults {
        tracing::error!(verify.fault = %fault, "a row of the books is wrong");
    }
    if report.fault_count > 0 {
        tools.store.emit_books_disagree(now, report.fault_count).await?;
        return Err(JobError::BooksDisagree(report.fault_count));
    }
    Ok(())
}
