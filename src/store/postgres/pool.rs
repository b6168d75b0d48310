//! The pools of connections to PostgreSQL, and the settings of all connections to it.

use sea_orm::ConnectOptions;

use crate::store::pool::pool_options;

/// A setting of PostgreSQL: name and value.
pub(in crate::store) type Setting = (&'static str, &'static str);

/// Settings of each connection to PostgreSQL, by the server's names.
pub(in crate::store) const POSTGRES_SETTINGS: [Setting; 4] = [
    ("statement_timeout", "30s"),
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// How long PostgreSQL keeps the transaction of a process that is stopped or cut off, since the transaction may have
/// locked rows. Our transactions wait only for the database, so a live process continues within milliseconds. The
/// second setting is for data that PostgreSQL has sent and the process does not acknowledge. Both settings end the
/// session, and so its transaction, within 5 seconds. If the process wakes up later, it repeats the transaction.
pub(in crate::store) const POSTGRES_LOST_CLIENT_SETTINGS: [Setting; 2] =
    [("idle_in_transaction_session_timeout", "3s"), ("tcp_user_timeout", "4s")];

/// How long administration and jobs wait for a locked row.
pub(in crate::store) const POSTGRES_PATIENT_SETTINGS: [Setting; 1] = [("lock_timeout", "5s")];

/// Settings of connections that write. Their statements find rows by key, for lists of any length. The right query plan
/// is always nested loops over an index, so the settings force it. Otherwise the planner's choice would depend on the
/// rows that the tables had when PostgreSQL last analyzed them: a table that was empty then would always be scanned.
pub(in crate::store) const POSTGRES_WRITER_SETTINGS: [Setting; 7] = [
    ("default_transaction_isolation", "read committed"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// Settings of connections that read, so that BEGIN alone begins a read-only snapshot.
pub(in crate::store) const POSTGRES_READER_SETTINGS: [Setting; 5] = [
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_read_only", "on"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("tcp_user_timeout", "30s"),
];

/// Makes the settings of a pool. The pool connects when it is first used.
pub(in crate::store) fn postgres_options(
    url: &str,
    settings: Vec<Setting>,
    connections_max: u32,
) -> ConnectOptions {
    let mut options = pool_options(url, connections_max);
    options.connect_lazy(true).set_application_name("tope");
    options.map_sqlx_postgres_opts(move |postgres| {
        let all = POSTGRES_SETTINGS.iter().chain(&settings);
        postgres.options(all.copied())
    });
    options
}
