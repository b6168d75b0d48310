//! A fresh database for each test.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use super::postgres;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file in a folder of its own.
    Sqlite,
    /// A database of the cluster that the tests share.
    Postgres,
}

/// An empty database; what is left of it is removed in the end.
pub struct Database {
    kind: Kind,
    url: String,
    folder: TempDir,
}

impl Database {
    /// Makes one.
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

    /// A copy of the one that an earlier version left in `tests/fixtures`, under the name of its last migration.
    pub fn landed(kind: Kind, migration: &str) -> Self {
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

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What `--database` takes.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A path in a folder that is removed with the database.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What `--database` takes for a SQLite file.
pub fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

/// A folder on the disk of the build, which is a real one, and not in memory.
pub fn scratch_folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("tope-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the build folder can be written to")
}
