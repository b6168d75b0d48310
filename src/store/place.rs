//! Where a database is: what its URL means, and whether a file can be used. SQLite's own messages would say less.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::error::StoreError;

/// The bytes with which every SQLite file begins (<https://www.sqlite.org/fileformat.html>).
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// The accepted URLs, for error messages.
const ACCEPTED: &str = "sqlite://FILE, sqlite:FILE, postgres://… or postgresql://…";

/// Where a database is.
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
            "the database URL {url:?} has parameters; SQLite takes a file name only"
        )));
    }
    Ok(Location::Sqlite(PathBuf::from(path)))
}

/// Finds faults that SQLite would report with a poorer message. If `exclusive`, the file must be writable, and may be
/// missing. Returns the path without symbolic links, so that a file has one lock under all of its names.
pub(super) fn check_file(path: &Path, exclusive: bool) -> Result<PathBuf, StoreError> {
    let name = path.display();
    let Some(file_name) = path.file_name() else {
        return Err(unusable(format!("the database {name} is not a file")));
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(directory) = directory.canonicalize() else {
        return Err(unusable(format!(
            "the directory {} of the database does not exist",
            directory.display()
        )));
    };
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(unusable(format!("the database {name} is not a file"))),
        Ok(_) => {
            check_magic(path, exclusive)?;
            path.canonicalize()
                .map_err(|error| unusable(format!("the database {name} cannot be read: {error}")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && exclusive => Ok(directory.join(file_name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(unusable(format!("the database {name} does not exist")))
        }
        Err(error) => Err(unusable(format!("the database {name} cannot be read: {error}"))),
    }
}

fn check_magic(path: &Path, write: bool) -> Result<(), StoreError> {
    let name = path.display();
    let mut file = OpenOptions::new().read(true).write(write).open(path).map_err(|error| {
        let needed = if write { "written" } else { "read" };
        unusable(format!("the database {name} cannot be {needed}: {error}"))
    })?;
    let mut start = Vec::with_capacity(SQLITE_MAGIC.len());
    let length = u64::try_from(SQLITE_MAGIC.len()).unwrap_or(u64::MAX);
    file.by_ref()
        .take(length)
        .read_to_end(&mut start)
        .map_err(|error| unusable(format!("the database {name} cannot be read: {error}")))?;
    // SQLite takes an empty file for an empty database.
    if start.is_empty() || start == SQLITE_MAGIC {
        Ok(())
    } else {
        Err(unusable(format!("the file {name} is not a SQLite database")))
    }
}

/// Takes the lock that only the one process that writes a file may have.
pub(super) fn lock_file(database: &Path) -> Result<File, StoreError> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|error| {
        let directory = path.parent().unwrap_or(Path::new("."));
        unusable(format!("the directory {} of the database cannot be written: {error}", directory.display()))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(unusable(format!(
            "the database {} is in use by another tope process; only one process may write a SQLite file",
            database.display()
        ))),
        Err(TryLockError::Error(error)) => {
            Err(unusable(format!("the lock file {} cannot be locked: {error}", path.display())))
        }
    }
}

/// The error of a database that cannot be opened; the text says why.
pub(super) fn unusable(text: impl Into<String>) -> StoreError {
    StoreError::Unusable(text.into())
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
