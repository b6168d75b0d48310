//! The address and credentials of PostgreSQL, and the errors that say why it cannot be reached.

use std::time::Duration;

use sea_orm::{
    SqlxError,
    sqlx::{ConnectOptions as _, postgres::PgConnectOptions},
};

use super::tls::{PostgresTls, is_of_certificates};
use crate::store::error::{StoreError, unusable};

/// Maximum time to wait for the connection that finds out why other connections fail.
pub(in crate::store) const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(3);

/// Makes the error that says why PostgreSQL accepts no connection. The codes are SQLSTATE codes: class 28 is a wrong
/// user or password, or a rule of `pg_hba.conf`; 3D000 is a database that does not exist; 42501 is a user who may not
/// connect to the database.
pub(in crate::store) fn no_access(address: &str, error: &SqlxError) -> StoreError {
    match error {
        SqlxError::Database(reason) => {
            let text = format!("{address} refuses the connection: {}", reason.message());
            match reason.code().as_deref() {
                Some(code) if code.starts_with("28") || ["3D000", "42501"].contains(&code) => unusable(text),
                _ => StoreError::Unreachable(text),
            }
        }
        error if is_of_certificates(error) => {
            unusable(format!("{address} cannot be used, because of a certificate: {error}"))
        }
        SqlxError::Io(reason) => StoreError::Unreachable(format!("{address} cannot be reached: {reason}")),
        SqlxError::Tls(reason) => unusable(format!("{address} cannot be used: {reason}")),
        SqlxError::Configuration(reason) => unusable(format!("{address} cannot be used: {reason}")),
        reason => StoreError::Unreachable(format!("{address} cannot be used: {reason}")),
    }
}

/// Formats the address and the port, for messages.
pub(in crate::store) fn address_of(options: &PgConnectOptions) -> String {
    format!("PostgreSQL at {}:{}", options.get_host(), options.get_port())
}

/// Makes the error of an invalid URL. It does not quote the driver's error, which contains the URL and perhaps a
/// password.
pub(in crate::store) fn refused_url() -> StoreError {
    unusable("the URL of the PostgreSQL database is not valid")
}

/// Returns the address and the user of the lanes' connections, which are those of the pools.
pub(in crate::store) fn wire_config(options: &PgConnectOptions) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.user(options.get_username()).port(options.get_port());
    match options.get_socket() {
        Some(socket) => config.host_path(socket),
        None => config.host(options.get_host()),
    };
    config.options(options.get_options().unwrap_or_default());
    config.dbname(options.get_database().unwrap_or(options.get_username()));
    if let Some(password) = find_password(options) {
        config.password(password);
    }
    config.ssl_mode(PostgresTls::of(options).mode());
    config.keepalives_idle(Duration::from_secs(15)).tcp_user_timeout(Duration::from_secs(30));
    config
}

/// Finds the password, whether from the URL, its parameters, PGPASSWORD or the password file. The options reveal it
/// only in a URL, where user and host are replaced, since not every name fits into one.
fn find_password(options: &PgConnectOptions) -> Option<Vec<u8>> {
    let url = options.clone().username("name").host("host").to_url_lossy();
    let parsed: tokio_postgres::Config = format!("postgres://name:{}@host", url.password()?).parse().ok()?;
    parsed.get_password().map(<[u8]>::to_vec)
}
