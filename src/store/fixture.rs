//! Fresh databases for the tests of the store and of the layers above it.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;

use super::{By, Scribe, Store, StoreOptions};
use crate::domain::{
    audit::{Author, ChangeId},
    id::ReservationId,
    time::Time,
};

#[expect(dead_code, unreachable_pub, reason = "the integration tests use all functions of this module")]
#[path = "../../tests/it/harness/postgres.rs"]
mod postgres;

/// The number of databases that this process has made. The names of the databases contain it.
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database for one test. A SQLite file is deleted with the fixture. A PostgreSQL database exists until the process
/// ends.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    url: String,
    _folder: Option<TempDir>,
}

impl Fixture {
    /// Opens the database once more, with a `row_wait` longer than any test takes.
    pub(crate) async fn patient(&self) -> Store {
        let options = StoreOptions { row_wait: Duration::from_secs(60), ..StoreOptions::default() };
        Store::connect(&self.url, options).await.expect("opened")
    }

    /// Returns whether a session waits for a lock on PostgreSQL.
    pub(crate) async fn waits_for_lock(&self) -> bool {
        let text = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let read = self.store.begin_read("test").await.expect("begun");
        let rows = read.rows(text, Vec::new()).await.expect("a count");
        rows[0].get::<i64>(0).expect("a number") > 0
    }
}

/// Makes the author of a change in a test. The texts of things are empty.
pub(crate) fn by(shown: Option<Time>) -> By<'static> {
    static AUTHOR: LazyLock<Author> = LazyLock::new(|| Author::command_line("Test"));
    By { shown, author: &AUTHOR, scribe: Scribe { describe: |_| String::new(), mint } }
}

fn mint(at: Time) -> ReservationId {
    static MINTED: AtomicU32 = AtomicU32::new(0);
    let mut id = ChangeId::first_at(at).0;
    id[12..].copy_from_slice(&MINTED.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    ReservationId(id)
}

/// Makes a SQLite file, and a database on the PostgreSQL server that this process's tests share. Both have the schema.
pub(crate) async fn databases() -> Vec<Fixture> {
    let fixtures = empty_databases().await;
    for fixture in &fixtures {
        fixture.store.migrate().await.expect("migrated");
    }
    fixtures
}

/// Makes the same databases as [`databases`], without a schema.
pub(crate) async fn empty_databases() -> Vec<Fixture> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let url = format!("sqlite://{}", folder.path().join("tope.db").display());
    let name = format!("tope_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let cluster = postgres::shared();
    cluster.create(&name);
    vec![
        Fixture { store: open(&url).await, url, _folder: Some(folder) },
        Fixture { store: open(&cluster.url(&name)).await, url: cluster.url(&name), _folder: None },
    ]
}

async fn open(url: &str) -> Store {
    let options = StoreOptions { exclusive: true, ..StoreOptions::default() };
    Store::connect(url, options).await.expect("opened")
}
