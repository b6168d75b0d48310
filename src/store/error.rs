//! Errors of the database, classified by what helps: waiting, repeating, or neither.

use sea_orm::{
    ConnAcquireErr, DbErr, RuntimeErr, SqlxError, SqlxPostgresError, SqlxSqliteError,
    sqlx::error::DatabaseError,
};

use crate::domain::refusal::Refusal;

/// The reason why the store could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or cannot work now. Nothing is wrong with the call. If a commit failed with
    /// this, its outcome is unknown.
    #[error("the database is unavailable")]
    Unavailable(#[source] DbErr),
    /// The database cannot be reached. The text says which database, and why. Either nothing was sent yet, or SQLite's
    /// files were taken away.
    #[error("{0}")]
    Unreachable(String),
    /// The transaction collided with another transaction. The caller can repeat the whole transaction at once.
    #[error("the transaction conflicts with a concurrent one")]
    Serialization(#[source] DbErr),
    /// Another session kept a row locked for longer than the bounded wait. Nothing was changed.
    #[error("another transaction kept a row locked for too long")]
    Locked(#[source] DbErr),
    /// The database refuses the statement, and would refuse it again.
    #[error("the database refuses a statement")]
    Permanent(#[source] DbErr),
    /// A row with this key exists already.
    #[error("a row with this key exists already")]
    Conflict(#[source] DbErr),
    /// A `request_id` exists already. The caller must look up the `request_id`, and repeat the whole transaction.
    #[error("a request_id exists already")]
    KnownRequest,
    /// A tenant's id belongs to another internal key than before. The caller must look up the key by the id, and repeat
    /// the whole transaction.
    #[error("a tenant was deleted or created again meanwhile")]
    TenantMoved,
    /// Another session has changed the rows from which a batch was decided ahead. The caller must decide the batch
    /// again, under the lock.
    #[error("another transaction has changed the books since they were read")]
    Outdated,
    /// The database cannot be used as configured, or cannot be used for this call. The text says why.
    #[error("{0}")]
    Unusable(String),
    /// A row is missing, or is not as this program writes it.
    #[error("a row of the database is missing or damaged: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Returns a short name by which the log distinguishes errors.
    pub fn kind(&self) -> &'static str {
        match self {
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Unreachable(_) => "unreachable",
            StoreError::Serialization(_) => "serialization",
            StoreError::Locked(_) => "locked",
            StoreError::Permanent(_) => "permanent",
            StoreError::Conflict(_) => "conflict",
            StoreError::KnownRequest => "known request",
            StoreError::TenantMoved => "tenant moved",
            StoreError::Outdated => "outdated",
            StoreError::Unusable(_) => "unusable",
            StoreError::Corrupt(_) => "corrupt",
        }
    }

    /// Makes the error of a database that took a statement and does not answer.
    pub fn silent() -> Self {
        StoreError::Unavailable(DbErr::Custom("the database did not answer in time".to_owned()))
    }

    /// Makes the error for a SQLSTATE code of PostgreSQL.
    #[cfg(test)]
    pub(crate) fn of_code(sqlstate: &str) -> Self {
        kind_of_postgres(sqlstate).of(DbErr::Custom(sqlstate.to_owned()))
    }
}

/// Makes the error of a database that cannot be opened. The text says why.
pub(super) fn unusable(text: impl Into<String>) -> StoreError {
    StoreError::Unusable(text.into())
}

/// Makes the error of a database that was opened without the right to write.
pub(super) fn read_only() -> StoreError {
    unusable("the database was opened read-only")
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        classify(error)
    }
}

/// Why an administrative call had no effect.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The rules refuse the call.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not carry out the call.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DbErr> for AdminError {
    fn from(error: DbErr) -> Self {
        AdminError::Store(classify(error))
    }
}

/// Classifies an error of SeaORM. The codes are PostgreSQL's SQLSTATE (its documentation, appendix A) and SQLite's
/// result codes.
pub fn classify(error: DbErr) -> StoreError {
    let kind = match &error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout | ConnAcquireErr::ConnectionClosed) => {
            Kind::Unavailable
        }
        // No statement has run yet, so no statement is the cause of the error.
        DbErr::Conn(_) => Kind::Unavailable,
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => {
            kind_of(inner)
        }
        _ => Kind::Permanent,
    };
    kind.of(error)
}

/// Classifies an error of the lanes' connections to PostgreSQL.
pub(super) fn classify_wire(error: tokio_postgres::Error) -> StoreError {
    let (kind, text) = kind_of_wire(&error);
    kind.of(DbErr::Custom(text))
}

/// Classifies the error of a statement that writes a batch that was decided ahead. If such a statement does not find a
/// row, another session has changed the row, and the database is not faulty.
pub(super) fn classify_ahead(error: tokio_postgres::Error) -> StoreError {
    let (kind, text) = kind_of_wire(&error);
    kind.of_ahead(DbErr::Custom(text))
}

fn kind_of_wire(error: &tokio_postgres::Error) -> (Kind, String) {
    match error.as_db_error() {
        Some(reason) => (kind_of_postgres(reason.code().code()), reason.to_string()),
        // The connection broke, or carried something other than PostgreSQL's protocol.
        None if error.is_closed() || is_io(error) => (Kind::Unavailable, error.to_string()),
        None => (Kind::Permanent, error.to_string()),
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().and_then(|error| u32::try_from(error.extended_code).ok());
        code.map_or(Kind::Permanent, kind_of_sqlite).of(DbErr::Custom(error.to_string()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Serialization,
    Locked,
    Conflict,
    Miscounted,
    Permanent,
}

impl Kind {
    fn of(self, error: DbErr) -> StoreError {
        match self {
            Kind::Unavailable => StoreError::Unavailable(error),
            Kind::Serialization => StoreError::Serialization(error),
            Kind::Locked => StoreError::Locked(error),
            Kind::Conflict => StoreError::Conflict(error),
            Kind::Miscounted => {
                StoreError::Corrupt("a statement did not find all rows that it must write".to_owned())
            }
            Kind::Permanent => StoreError::Permanent(error),
        }
    }

    /// Makes the error of a statement that writes a batch that was decided ahead.
    fn of_ahead(self, error: DbErr) -> StoreError {
        match self {
            Kind::Miscounted => StoreError::Outdated,
            other => other.of(error),
        }
    }
}

fn kind_of(error: &SqlxError) -> Kind {
    match error {
        SqlxError::Io(_)
        | SqlxError::Tls(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed
        | SqlxError::BeginFailed => Kind::Unavailable,
        SqlxError::Database(inner) => kind_of_database(inner.as_ref()),
        _ => Kind::Permanent,
    }
}

fn kind_of_database(error: &dyn DatabaseError) -> Kind {
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<SqlxSqliteError>().is_some() {
        code.parse().map_or(Kind::Permanent, kind_of_sqlite)
    } else if error.try_downcast_ref::<SqlxPostgresError>().is_some() {
        kind_of_postgres(&code)
    } else {
        Kind::Permanent
    }
}

fn kind_of_sqlite(extended_code: u32) -> Kind {
    // The low byte is the primary code: BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN. The cause is the machine or
    // another process, so any other statement would fail as well.
    match extended_code & 0xff {
        // CONSTRAINT_PRIMARYKEY, CONSTRAINT_UNIQUE.
        _ if [1555, 2067].contains(&extended_code) => Kind::Conflict,
        5 | 6 | 8 | 10 | 13 | 14 => Kind::Unavailable,
        _ => Kind::Permanent,
    }
}

fn kind_of_postgres(sqlstate: &str) -> Kind {
    match sqlstate {
        // unique_violation; serialization_failure, deadlock_detected; lock_not_available.
        "23505" => Kind::Conflict,
        "40001" | "40P01" => Kind::Serialization,
        "55P03" => Kind::Locked,
        // division_by_zero: `bulk::join` causes it on purpose.
        "22012" => Kind::Miscounted,
        // query_canceled (statement_timeout), admin_shutdown, crash_shutdown, cannot_connect_now,
        // idle_in_transaction_session_timeout, read_only_sql_transaction (a standby, after a failover).
        "57014" | "57P01" | "57P02" | "57P03" | "25P03" | "25006" => Kind::Unavailable,
        // insufficient_privilege, undefined_table: the database is no longer as it was when the server began.
        "42501" | "42P01" => Kind::Unavailable,
        // Classes: connection exceptions; too many connections, a full disk, no memory; system errors.
        code if ["08", "53", "58"].iter().any(|class| code.starts_with(class)) => Kind::Unavailable,
        _ => Kind::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_decides_its_kind() {
        let postgres = [
            ("40001", Kind::Serialization),
            ("40P01", Kind::Serialization),
            ("55P03", Kind::Locked),
            ("57P01", Kind::Unavailable),
            ("57P02", Kind::Unavailable),
            ("57P03", Kind::Unavailable),
            ("53300", Kind::Unavailable),
            ("53100", Kind::Unavailable),
            ("08006", Kind::Unavailable),
            ("57014", Kind::Unavailable),
            ("42P01", Kind::Unavailable),
            ("23505", Kind::Conflict),
            ("22012", Kind::Miscounted),
            ("22003", Kind::Permanent),
            ("42601", Kind::Permanent),
            ("", Kind::Permanent),
        ];
        for (code, kind) in postgres {
            assert_eq!(kind_of_postgres(code), kind, "{code}");
        }
        // BUSY, BUSY_SNAPSHOT, FULL, IOERR_WRITE; CONSTRAINT_PRIMARYKEY, CORRUPT, NOTADB.
        let sqlite =
            [(5, true), (517, true), (13, true), (778, true), (1555, false), (11, false), (26, false)];
        for (code, unavailable) in sqlite {
            assert_eq!(kind_of_sqlite(code) == Kind::Unavailable, unavailable, "{code}");
        }
    }

    #[test]
    fn a_missing_row_means_a_fault_under_the_lock_and_another_writer_without_the_lock() {
        let error = || DbErr::Custom(String::new());
        assert!(matches!(Kind::Miscounted.of(error()), StoreError::Corrupt(_)));
        assert!(matches!(Kind::Miscounted.of_ahead(error()), StoreError::Outdated));
        assert!(matches!(Kind::Conflict.of_ahead(error()), StoreError::Conflict(_)));
    }

    #[test]
    fn an_error_does_not_print_its_source() {
        let error = classify(DbErr::Custom("secret".to_owned()));
        assert_eq!(error.to_string(), "the database refuses a statement");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("Custom Error: secret"));
    }
}
