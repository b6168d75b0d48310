//! Code that all commands share, including the commands that load a server: connections, output and errors.
//!
//! `error.rs` has the error type of all commands, with its exit codes. `client.rs` connects to a server and prints
//! lines, `tls.rs` has the certificates of both. The URL of a database is printed without its password.

pub mod client;
pub mod error;
pub mod tls;

/// Returns a database URL without password and parameters, so that it may be printed.
pub(crate) fn without_password(database: &str) -> String {
    let shown = database.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = shown.split_once("://") else { return shown.to_owned() };
    let Some((user, place)) = rest.rsplit_once('@') else { return shown.to_owned() };
    let user = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}@{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let cases = [
            ("postgres://me:s3cret@db:5432/tope", "postgres://me@db:5432/tope"),
            ("postgres://me:p@s/s@db/tope", "postgres://me@db/tope"),
            ("postgres://db/tope?user=me&password=s3cret", "postgres://db/tope"),
            ("postgres://db/tope", "postgres://db/tope"),
            ("sqlite://tope.db", "sqlite://tope.db"),
        ];
        for (database, shown) in cases {
            assert_eq!(without_password(database), shown);
        }
    }
}
