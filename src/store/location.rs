//! The location of a database: a file or a server, as its URL says.

use std::path::PathBuf;

use super::error::{StoreError, unusable};

/// The accepted URLs, for error messages.
const ACCEPTED: &str = "sqlite://FILE, sqlite:FILE, postgres://… or postgresql://…";

/// The location of a database.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// The path of a SQLite file.
    Sqlite(PathBuf),
    /// A URL that begins with `postgres://`.
    Postgres(String),
}

/// Finds out whether a URL names a file or a server.
pub(super) fn parse_url(url: &str) -> Result<Location, StoreError> {
    if let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) {
        return Ok(Location::Postgres(format!("postgres://{rest}")));
    }
    let Some(rest) = url.strip_prefix("sqlite:") else {
        // The rest of the URL may contain a password.
        let scheme = url.split_once(':').map_or("none", |(scheme, _)| scheme);
        return Err(unusable(format!("the database URL has the scheme {scheme:?}; accepted are {ACCEPTED}")));
    };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.contains(":memory:") {
        return Err(unusable(format!("the database URL {url:?} names no file; accepted are {ACCEPTED}")));
    }
    if path.contains('?') {
        return Err(unusable(format!(
            "the database URL {url:?} has parameters; a URL of SQLite must contain only the name of a file"
        )));
    }
    Ok(Location::Sqlite(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file_or_a_server() {
        let accepted = [
            ("sqlite://tope.db", Location::Sqlite("tope.db".into())),
            ("sqlite:tope.db", Location::Sqlite("tope.db".into())),
            ("sqlite:///var/lib/a b.db", Location::Sqlite("/var/lib/a b.db".into())),
            ("postgres://u@h/d", Location::Postgres("postgres://u@h/d".into())),
            (
                "postgresql://u@h/d?sslmode=disable",
                Location::Postgres("postgres://u@h/d?sslmode=disable".into()),
            ),
        ];
        for (url, location) in accepted {
            assert_eq!(parse_url(url).expect(url), location);
        }
        let refused = [
            "",
            "tope.db",
            "mysql://u:secret@h/d",
            "sqlite:",
            "sqlite://",
            "sqlite::memory:",
            "sqlite://a?b=c",
        ];
        for url in refused {
            let message = parse_url(url).expect_err(url).to_string();
            assert!(message.contains("database URL"), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
