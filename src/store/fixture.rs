//! Fresh databases for tests of the store and of what stands on it.

use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::{ConnectionTrait, Database};
use tempfile::TempDir;

use super::{Store, StoreOptions};

/// Databases that this process made on a server.
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database of its own, gone with it (one on PostgreSQL goes with its server).
pub(crate) struct Fixture {
    /// The database.
    pub(crate) store: Store,
    _folder: Option<TempDir>,
}

/// A SQLite file; and a database on the PostgreSQL server whose URL, without a database, is in AFORO_TEST_POSTGRES, if
/// any.
pub(crate) async fn databases() -> Vec<Fixture> {
    let fixtures = empty_databases().await;
    for fixture in &fixtures {
        fixture.store.migrate().await.expect("migrated");
    }
    fixtures
}

/// Like [`databases`], without a schema.
pub(crate) async fn empty_databases() -> Vec<Fixture> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let url = format!("sqlite://{}", folder.path().join("aforo.db").display());
    let mut all = vec![Fixture { store: open(&url).await, _folder: Some(folder) }];
    if let Ok(server) = std::env::var("AFORO_TEST_POSTGRES") {
        let name = format!("aforo_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        let admin = Database::connect(format!("{server}/postgres")).await.expect("a server");
        // Left by a process that had the same number.
        admin.execute_unprepared(&format!("DROP DATABASE IF EXISTS {name}")).await.expect("no such database");
        admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database");
        all.push(Fixture { store: open(&format!("{server}/{name}")).await, _folder: None });
    }
    all
}

async fn open(url: &str) -> Store {
    let options = StoreOptions { exclusive: true, ..StoreOptions::default() };
    Store::connect(url, options).await.expect("opened")
}
