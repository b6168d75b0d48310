//! A fresh database for each test.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use super::postgres;

/// The kind of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A SQLite file in a new folder.
    Sqlite,
    /// A database in the PostgreSQL cluster that the tests share.
    Postgres,
}

/// A database of one test. Its folder is removed when this value is dropped. A PostgreSQL database stays until the
/// cluster is removed.
pub struct Database {
    kind: Kind,
    url: String,
    folder: TempDir,
}

impl Database {
    /// Makes an empty database.
    pub fn fresh(kind: Kind) -> Self {
        let folder = scratch_folder();
        let url = match kind {
            Kind::Sqlite => sqlite_url(&folder.path().join("tope.db")),
            Kind::Postgres => {
                static COUNT: AtomicU32 = AtomicU32::new(0);
                let name = format!("test_{}_{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
                postgres::shared().create(&name);
                postgres::shared().url(&name)
            }
        };
        Self { kind, url, folder }
    }

    /// Copies the database that an earlier version left in `tests/fixtures`, in a folder named after its last
    /// migration.
    pub fn from_fixture(kind: Kind, migration: &str) -> Self {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(migration);
        let database = Self::fresh(kind);
        match kind {
            Kind::Sqlite => {
                let copied = fs::copy(fixture.join("books.db"), database.path("tope.db"));
                copied.expect("the fixture can be copied");
            }
            Kind::Postgres => postgres::restore(&database.url, &fixture.join("books.sql")),
        }
        database
    }

    /// Returns the kind of this database.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the URL, for `--database`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns a path in the folder of this database.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Returns the URL of a SQLite file, for `--database`.
pub fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

/// Makes a temporary folder in the folder of the build, because that is on a real disk and not in memory.
pub fn scratch_folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("tope-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the build folder can be written to")
}
