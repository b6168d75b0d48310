//! The settings that the pools of both databases have in common.

use std::time::Duration;

use sea_orm::ConnectOptions;

/// Maximum time to wait for a free connection of a pool, or for a new connection to PostgreSQL.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the settings of a pool, for either kind of database.
pub(super) fn pool_options(url: &str, connections_max: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections_max)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    options
}
