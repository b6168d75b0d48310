//! Checks the heads of counters of ROLLING: the newest window of each head has a counter.

use std::collections::HashSet;

use super::{
    super::{Reading, StoreError, Transaction, entity::counter},
    report::Report,
};
use crate::domain::{counter::CounterKey, id::TenantKey, time::Time};

/// Checks the heads among these rows.
pub(super) async fn verify_heads(
    transaction: &Transaction<Reading>,
    report: &mut Report,
    rows: &[counter::Model],
) -> Result<(), StoreError> {
    // A head whose subject was only refused so far has no window yet.
    let begun = rows.iter().filter(|row| row.window_end != Time::EPOCH);
    let newest: Vec<(TenantKey, CounterKey)> = begun
        .filter_map(|row| {
            let head = CounterKey::from_bytes(&row.key)?;
            Some((TenantKey(row.tenant_key), head.newest_of_head(row.window_end)?))
        })
        .collect();
    if newest.is_empty() {
        return Ok(());
    }
    let found = transaction.find_counters(&newest).await?;
    let found: HashSet<(TenantKey, CounterKey)> =
        found.into_iter().map(|(tenant, (key, _))| (tenant, key)).collect();
    for (tenant, key) in newest.into_iter().filter(|newest| !found.contains(newest)) {
        let described = report.describe_counter(tenant, &key);
        report.fault(format!("counter {described}: it is missing, although a head names it"));
    }
    Ok(())
}
