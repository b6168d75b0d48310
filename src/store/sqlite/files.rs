//! Watches the files of a SQLite database: are they still those that the server opened?
//!
//! SQLite does not notice when somebody removes, replaces, truncates or overwrites its files. It continues with its
//! open files and cached pages, so changes that it acknowledges are lost. So the server checks the files a few times a
//! second, and right after each COMMIT, before it replies to any call.
//!
//! A file that was overwritten by a copy may have the same size as before. So the server regularly writes a mark into
//! one page. It reads that page from the file itself, not through SQLite. A copy has no mark, or an older mark.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rusqlite::Connection;
use tokio::sync::Notify;

use crate::store::error::StoreError;

/// Length of the random number with which all marks of this server begin, in bytes.
const SESSION_BYTES: usize = 16;
/// Length of the count that follows the random number, in bytes.
const COUNT_BYTES: usize = 8;

/// The files of an open database.
#[derive(Debug)]
pub(super) struct Files {
    /// The database, its write-ahead log, and the log's index.
    known: [KnownFile; 3],
    /// The database file. It stays open as long as SQLite has it open: closing any handle releases all locks that this
    /// process has on the file.
    database: File,
    log: File,
    /// The largest known size of the database, in bytes. The database never shrinks, since nobody vacuums a database
    /// that is in use.
    size: AtomicU64,
    mark: Mutex<Option<Mark>>,
    taken: AtomicBool,
    /// Wakes the task that waits in [`Files::until_taken`].
    noticed: Notify,
    /// Cleared when a check finds that the files were taken away.
    available: Arc<AtomicBool>,
}

/// A path, and the file that was there when the database was opened: device and inode.
#[derive(Debug)]
struct KnownFile {
    path: PathBuf,
    file: (u64, u64),
}

/// The mark that the server writes into the root page of the table of probes.
#[derive(Debug)]
struct Mark {
    session: [u8; SESSION_BYTES],
    latest: u64,
    /// The count of the mark that was last seen in the file. `None` until a mark was seen.
    seen: Option<u64>,
    /// The offset of the page in the file, and its size, in bytes.
    page: (u64, usize),
}

impl Files {
    /// Remembers the files of a database that SQLite has opened. Clears `available` when the files are taken away.
    pub(super) fn open(path: &Path, available: Arc<AtomicBool>) -> Result<Self, StoreError> {
        let open = |path: &Path| File::open(path).map_err(|error| unreadable(path, &error));
        let [database_path, log_path, index_path] = ["", "-wal", "-shm"].map(|end| with_suffix(path, end));
        // The index is not opened, since closing it would release SQLite's locks on it.
        let (database, log) = (open(&database_path)?, open(&log_path)?);
        let size = database.metadata().map_err(|error| unreadable(path, &error))?.len();
        Ok(Self {
            known: [KnownFile::of(database_path)?, KnownFile::of(log_path)?, KnownFile::of(index_path)?],
            database,
            log,
            size: AtomicU64::new(size),
            mark: Mutex::default(),
            taken: AtomicBool::new(false),
            noticed: Notify::new(),
            available,
        })
    }

    /// Fails if a check has ever found that the files were taken away.
    pub(super) fn refuse_taken(&self) -> Result<(), StoreError> {
        if self.taken.load(Ordering::Acquire) {
            return Err(StoreError::Unreachable(
                "the files of the database were removed, replaced or overwritten; put the right files there, \
                 and restart the server"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Waits until the files are taken away. Wakes only one caller.
    pub(super) async fn until_taken(&self) {
        self.noticed.notified().await;
    }

    /// Makes the checks that are cheap enough for each COMMIT: the database and the log still have names, and the
    /// database has not shrunk.
    pub(super) fn check_quickly(&self) -> Result<(), StoreError> {
        self.refuse_taken()?;
        let sound = |metadata: &Metadata, size| metadata.nlink() > 0 && metadata.len() >= size;
        let database = self.database.metadata().is_ok_and(|metadata| sound(&metadata, self.size()));
        let log = self.log.metadata().is_ok_and(|metadata| sound(&metadata, 0));
        if database && log { Ok(()) } else { self.check() }
    }

    /// Makes all checks. No other thread of this process may write to the files meanwhile.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.refuse_taken()?;
        match self.find_fault() {
            None => Ok(()),
            Some(fault) => {
                self.take_away(&fault);
                self.refuse_taken()
            }
        }
    }

    /// Describes what is wrong with the files. A page that is being written at this moment may look wrong.
    pub(super) fn find_fault(&self) -> Option<String> {
        self.known.iter().find_map(KnownFile::find_fault).or_else(|| {
            let name = self.known[0].path.display();
            if self.has_shrunk() {
                return Some(format!("{name} was truncated"));
            }
            self.is_overwritten().then(|| format!("{name} was overwritten"))
        })
    }

    /// Makes the next mark, which the caller writes into the one row of the table of probes.
    pub(super) fn next_mark(&self, connection: &Connection) -> Result<Vec<u8>, rusqlite::Error> {
        let mut mark = self.mark();
        if mark.is_none() {
            let session = connection.query_row("SELECT randomblob(16)", [], |row| row.get(0))?;
            *mark = Some(Mark { session, latest: 0, seen: None, page: find_page(connection)? });
        }
        Ok(mark.as_mut().map(Mark::next).unwrap_or_default())
    }

    fn take_away(&self, fault: &str) {
        self.available.store(false, Ordering::Release);
        if !self.taken.swap(true, Ordering::AcqRel) {
            let name = self.known[0].path.display();
            tracing::error!(
                "the files of the database were removed, replaced or overwritten while this server uses them: \
                 {fault}. The server refuses all calls until it is restarted. What to do: stop this server; put \
                 the right file at {name}, without the files {name}-wal and {name}-shm unless they belong to \
                 it; run `tope verify`; start the server"
            );
            self.noticed.notify_one();
        }
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn has_shrunk(&self) -> bool {
        let Ok(size) = self.database.metadata().map(|metadata| metadata.len()) else {
            return true;
        };
        size < self.size.fetch_max(size, Ordering::Relaxed)
    }

    fn is_overwritten(&self) -> bool {
        let mut mark = self.mark();
        let Some(mark) = mark.as_mut() else {
            return false;
        };
        let found = mark.find(&self.database);
        let known = found >= mark.seen && found <= Some(mark.latest);
        if known {
            mark.seen = found;
        }
        !known
    }

    fn mark(&self) -> MutexGuard<'_, Option<Mark>> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownFile {
    fn of(path: PathBuf) -> Result<Self, StoreError> {
        let file = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        Ok(Self { file: (file.dev(), file.ino()), path })
    }

    fn find_fault(&self) -> Option<String> {
        let name = self.path.display();
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.file => None,
            Ok(_) => Some(format!("{name} was replaced by another file")),
            Err(error) => Some(format!("{name} cannot be found ({error})")),
        }
    }
}

impl Mark {
    fn next(&mut self) -> Vec<u8> {
        self.latest += 1;
        [&self.session[..], &self.latest.to_be_bytes()[..]].concat()
    }

    /// Finds the count in the latest mark that this server wrote into the file. `None`: the page has no mark of this
    /// server.
    fn find(&self, database: &File) -> Option<u64> {
        let (offset, size) = self.page;
        let mut page = vec![0; size];
        database.read_exact_at(&mut page, offset).ok()?;
        let marks = page.windows(SESSION_BYTES + COUNT_BYTES).filter_map(|bytes| {
            let count = bytes.strip_prefix(&self.session)?;
            count.try_into().map(u64::from_be_bytes).ok()
        });
        marks.max()
    }
}

fn find_page(connection: &Connection) -> Result<(u64, usize), rusqlite::Error> {
    let size: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let text = "SELECT rootpage FROM sqlite_schema WHERE name = 'probes'";
    let number: u32 = connection.query_row(text, [], |row| row.get(0))?;
    let offset = u64::from(number.saturating_sub(1)) * u64::from(size);
    Ok((offset, usize::try_from(size).unwrap_or(0)))
}

/// Returns the size of the database in bytes as SQLite sees it. The file may be smaller until the log is copied.
pub(super) fn database_size(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let pages: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let size: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    Ok(u64::from(pages) * u64::from(size))
}

fn with_suffix(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    PathBuf::from(path)
}

fn unreadable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unusable(format!("the file {} cannot be read: {error}", path.display()))
}
