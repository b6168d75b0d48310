//! Checks whether a file can be used as a database, and locks the file for its one writer. The messages are more
//! helpful than those of SQLite.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::store::error::{StoreError, unusable};

/// The bytes with which every SQLite file begins (<https://www.sqlite.org/fileformat.html>).
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Finds faults that SQLite would report with a less helpful message. If `exclusive`, the file must be writable, and
/// may be missing. Returns the path without symbolic links, so that a file has one lock under all of its names.
pub(in crate::store) fn check_file(path: &Path, exclusive: bool) -> Result<PathBuf, StoreError> {
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
pub(in crate::store) fn lock_file(database: &Path) -> Result<File, StoreError> {
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
