//! Opens a database: its connections, and the lock of a file.
//!
//! SQLite runs in WAL mode. It has a writing connection for the lane, one for administration, and a few that only read.
//! One process writes at a time: it has a lock on `<file>.lock`. Within that process, writers take turns to write.
//! PostgreSQL has a connection per lane, a pool for administration and jobs, and a pool for reads. It is connected when
//! first used, so that a server can start before its database.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement,
    sqlx::{
        Connection,
        postgres::{PgConnectOptions, PgConnection},
    },
};
use tokio::{sync::Notify, time::timeout};

use super::{
    dialect::Dialect,
    error::{StoreError, read_only, unusable},
    location::{Location, parse_url},
    postgres::{
        access::{DIAGNOSIS_TIMEOUT, address_of, no_access, refused_url, wire_config},
        identity::Identity,
        pool::{
            POSTGRES_LOST_CLIENT_SETTINGS, POSTGRES_PATIENT_SETTINGS, POSTGRES_READER_SETTINGS,
            POSTGRES_SETTINGS, POSTGRES_WRITER_SETTINGS, Setting, postgres_options,
        },
        tls::PostgresTls,
        wire::Wire,
    },
    pulse::Pulse,
    sqlite::{
        check::{check_file, lock_file},
        lane::Lane,
        pool::{Access, has_no_log, is_readable, sqlite_options},
        turn::Turns,
    },
};
use crate::metrics::Metrics;

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Open the database for writing. A SQLite file is created if it is missing, and refused if another process
    /// writes it. Without this, the file must exist and is only read. PostgreSQL is shared in either case.
    pub exclusive: bool,
    /// Open a SQLite file for a few small changes although a server may be writing it. The file must exist.
    pub beside_server: bool,
    /// Maximum number of PostgreSQL connections that write for administration, jobs and webhooks. Each lane has a
    /// connection of its own in addition.
    pub writers_max: u32,
    /// Maximum number of connections that only read.
    pub readers_max: u32,
    /// How long a batch waits for a row of PostgreSQL that another session has locked. The other tenants of the batch
    /// wait, too. Replicas that share tenants lock rows for some milliseconds.
    pub row_wait: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            exclusive: false,
            beside_server: false,
            writers_max: 2,
            readers_max: 4,
            row_wait: Duration::from_millis(100),
        }
    }
}

/// An open database: its connections, locks and state.
#[derive(Clone, Debug)]
pub struct Store {
    dialect: Dialect,
    /// `None` if the database is only read.
    writer: Option<DatabaseConnection>,
    lane_way: LaneWay,
    /// Gives each writer its turn to write.
    turns: Turns,
    reader: DatabaseConnection,
    /// The address and the credentials of PostgreSQL, for connections outside the pools.
    postgres: Option<Box<PgConnectOptions>>,
    /// The lock is kept until the database is closed. The operating system releases the lock when the process dies.
    lock: Option<Arc<File>>,
    /// Whether calls should be taken: the schema is up to date, and the last probes succeeded.
    available: Arc<AtomicBool>,
    /// Wakes the numbering task after each commit that wrote events.
    numbering: Arc<Notify>,
    /// The signs by which batches show the state of the database.
    pulse: Arc<Pulse>,
    /// The identity that the first probe found in the database. PostgreSQL only.
    identity: Arc<OnceLock<Identity>>,
    /// The figures of the server that uses this database. Each part of a server has the store, and so its figures.
    metrics: Arc<Metrics>,
}

/// How the batches of lanes reach the database.
#[derive(Clone, Debug)]
pub(super) enum LaneWay {
    /// SQLite in the lane's thread, on the connection that this lane shares with jobs.
    Thread(Lane),
    /// Connections to PostgreSQL, one per lane.
    Wire(Arc<Wire>),
    /// A SQLite file that is only read.
    None,
}

impl Store {
    /// Returns whether calls should be taken. False until [`Store::set_available`].
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }

    /// Sets whether calls should be taken. Once SQLite's files were taken away, calls are never taken again.
    pub fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::Release);
        // The files may have been taken away meanwhile.
        if self.is_taken() {
            self.available.store(false, Ordering::Release);
        }
    }

    /// Returns whether SQLite's files were taken away. The log has an error then, and the answer stays true until a
    /// restart.
    pub fn is_taken(&self) -> bool {
        self.lane().is_some_and(|lane| lane.connection.is_taken())
    }

    /// Waits until SQLite's files are taken away. Wakes only one caller.
    pub async fn until_taken(&self) {
        match self.lane() {
            Some(lane) => lane.connection.until_taken().await,
            None => std::future::pending().await,
        }
    }

    /// Opens the database of a URL. Does not change its schema: see [`Store::migrate`]. Does not contact PostgreSQL
    /// yet: see [`Store::ping`].
    pub async fn connect(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
        match parse_url(url)? {
            Location::Sqlite(path) => connect_sqlite(&path, options).await,
            Location::Postgres(url) => connect_postgres(&url, options).await,
        }
    }

    /// Returns the kind of the database.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Checks that the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let question = Statement::from_string(self.reader.get_database_backend(), "SELECT 1");
        match self.reader.query_one_raw(question).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.diagnose(error.into()).await),
        }
    }

    /// Checks by a new connection that PostgreSQL accepts this program. SQLite was opened before, so nothing is
    /// checked.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] if PostgreSQL will never accept this program: the database does not exist, the
    /// password is wrong, or TLS is demanded and not offered. [`StoreError::Unreachable`] if it may accept this
    /// program later.
    pub async fn check_access(&self) -> Result<(), StoreError> {
        let Some(options) = &self.postgres else { return Ok(()) };
        match timeout(DIAGNOSIS_TIMEOUT, PgConnection::connect_with(options)).await {
            // The result of closing the connection does not matter.
            Ok(Ok(connection)) => {
                let _ = connection.close().await;
                Ok(())
            }
            Ok(Err(error)) => Err(no_access(&address_of(options), &error)),
            Err(_) => Err(self.no_answer()),
        }
    }

    /// Finds out why the database cannot be reached, by a new connection: a pool only reports that it waited too long.
    pub(super) async fn diagnose(&self, error: StoreError) -> StoreError {
        self.check_access().await.err().unwrap_or(error)
    }

    /// Makes the error of a database that has not answered in time.
    pub fn no_answer(&self) -> StoreError {
        let address = self.postgres.as_deref().map_or_else(|| "the database".to_owned(), address_of);
        StoreError::Unreachable(format!("{address} does not answer"))
    }

    /// Closes all connections, so that SQLite leaves no write-ahead log behind, and releases the lock of the file.
    pub async fn close(self) -> Result<(), StoreError> {
        self.reader.close_by_ref().await?;
        if let LaneWay::Wire(wire) = &self.lane_way {
            wire.close();
        }
        if let Some(writer) = &self.writer {
            writer.close_by_ref().await?;
        }
        if let Some(lane) = self.lane() {
            lane.close();
        }
        // Without this, the lock would stay until the last task that has a `Store` ends.
        if let Some(lock) = &self.lock {
            lock.unlock().map_err(|error| unusable(format!("the lock file cannot be unlocked: {error}")))?;
        }
        Ok(())
    }

    pub(super) fn writer(&self) -> Result<&DatabaseConnection, StoreError> {
        self.writer.as_ref().ok_or_else(read_only)
    }

    pub(super) fn lane_way(&self) -> &LaneWay {
        &self.lane_way
    }

    /// Returns SQLite's lane. `None`: the database is PostgreSQL, or is only read.
    pub(super) fn lane(&self) -> Option<&Lane> {
        match &self.lane_way {
            LaneWay::Thread(lane) => Some(lane),
            LaneWay::Wire(_) | LaneWay::None => None,
        }
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    pub(super) fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// Returns the address and the credentials of PostgreSQL, for connections outside the pools. `None`: the database
    /// is SQLite.
    pub(super) fn postgres_options(&self) -> Option<&PgConnectOptions> {
        self.postgres.as_deref()
    }

    /// Returns the notifier of the numbering task. Each commit of this process that wrote events wakes the task.
    pub fn numbering(&self) -> &Arc<Notify> {
        &self.numbering
    }

    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Returns the figures of the server that uses this database.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) fn identity(&self) -> &OnceLock<Identity> {
        &self.identity
    }
}

async fn connect_sqlite(path: &Path, options: StoreOptions) -> Result<Store, StoreError> {
    let path = check_file(path, options.exclusive)?;
    let lock = if options.exclusive { Some(Arc::new(lock_file(&path)?)) } else { None };
    let open = |options: ConnectOptions| {
        let path = path.display().to_string();
        async move {
            let refusal = |error| unusable(format!("the database {path:?} cannot be opened: {error}"));
            Database::connect(options).await.map_err(refusal)
        }
    };
    let writer = match &lock {
        None if !options.beside_server => None,
        Some(_) | None => Some(open(sqlite_options(&path, 1, Access::Write)).await?),
    };
    let (turn, available) = (Arc::default(), Arc::default());
    let lane_way = match &lock {
        Some(_) => LaneWay::Thread(Lane::open(&path, &turn, Arc::clone(&available))?),
        None => LaneWay::None,
    };
    let reader = match open(sqlite_options(&path, options.readers_max, Access::Read)).await {
        Ok(reader) if options.exclusive || is_readable(&reader).await => reader,
        _ if !options.exclusive && has_no_log(&path) => {
            open(sqlite_options(&path, options.readers_max, Access::ReadAsItIs)).await?
        }
        outcome => outcome?,
    };
    Ok(Store {
        dialect: Dialect::Sqlite,
        writer,
        lane_way,
        turns: Turns::of_one_writer(turn),
        reader,
        postgres: None,
        lock,
        available,
        numbering: Arc::default(),
        pulse: Arc::default(),
        identity: Arc::default(),
        metrics: Arc::default(),
    })
}

async fn connect_postgres(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let postgres: PgConnectOptions = url.parse().map_err(|_| refused_url())?;
    let tls = PostgresTls::of(&postgres);
    // Each connection reads the files. A mistake in them must be found now.
    tls.load()?;
    let open = |settings: Vec<Setting>, connections_max| async move {
        let options = postgres_options(url, settings, connections_max);
        Database::connect(options).await.map_err(|_| refused_url())
    };
    let base = || POSTGRES_WRITER_SETTINGS.into_iter().chain(POSTGRES_LOST_CLIENT_SETTINGS);
    let writer = base().chain(POSTGRES_PATIENT_SETTINGS).collect();
    let writer = Some(open(writer, options.writers_max).await?);
    let reader = open(POSTGRES_READER_SETTINGS.to_vec(), options.readers_max).await?;
    let row_wait = format!("{}ms", options.row_wait.as_millis());
    let settings = POSTGRES_SETTINGS.into_iter().chain(base()).chain([("lock_timeout", &*row_wait)]);
    let lane_way = LaneWay::Wire(Arc::new(Wire::new(wire_config(&postgres), tls, settings)));
    let postgres = Some(Box::new(postgres));
    Ok(Store {
        dialect: Dialect::Postgres,
        writer,
        lane_way,
        turns: Turns::of_many_writers(),
        reader,
        postgres,
        lock: None,
        available: Arc::default(),
        numbering: Arc::default(),
        pulse: Arc::default(),
        identity: Arc::default(),
        metrics: Arc::default(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn refusal(url: &str, exclusive: bool) -> String {
        let options = StoreOptions { exclusive, ..StoreOptions::default() };
        Store::connect(url, options).await.expect_err(url).to_string()
    }

    #[tokio::test]
    async fn a_database_that_cannot_be_opened_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("text"), "this is not a database, but long enough for one").expect("writable");
        fs::write(path("short"), "x").expect("writable");
        let url = |name: &str| format!("sqlite://{}", path(name).display());
        assert!(refusal(&url("text"), true).await.contains("is not a SQLite database"));
        assert!(refusal(&url("short"), false).await.contains("is not a SQLite database"));
        assert!(refusal(&url("absent"), false).await.contains("does not exist"));
        assert!(refusal(&url("absent/tope.db"), true).await.contains("directory"));
        assert!(
            refusal(&format!("sqlite://{}", folder.path().display()), true).await.contains("is not a file")
        );
        assert!(!path("absent").exists());
    }

    #[tokio::test]
    async fn one_process_writes_a_file_and_others_read_it() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let url = format!("sqlite://{}", folder.path().join("tope.db").display());
        let exclusive = StoreOptions { exclusive: true, ..StoreOptions::default() };
        let first = Store::connect(&url, exclusive).await.expect("the first");
        assert!(refusal(&url, true).await.contains("in use by another tope"));
        let reader = Store::connect(&url, StoreOptions::default()).await.expect("a reader");
        reader.ping().await.expect("it answers");
        let message = reader.begin_write("test").await.expect_err("it only reads").to_string();
        assert!(message.contains("opened read-only"), "{message}");
        first.close().await.expect("closed");
        Store::connect(&url, exclusive).await.expect("the next");
    }

    #[tokio::test]
    async fn the_settings_of_a_sqlite_file_are_durable() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let url = format!("sqlite://{}", folder.path().join("tope.db").display());
        let exclusive = StoreOptions { exclusive: true, ..StoreOptions::default() };
        let store = Store::connect(&url, exclusive).await.expect("opened");
        let transaction = store.begin_write("test").await.expect("begun");
        let connection = transaction.connection();
        let pragma = async |name: &str| {
            let statement = sea_orm::Statement::from_string(
                connection.get_database_backend(),
                format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"),
            );
            let row = connection.query_one_raw(statement).await.expect("a row").expect("a row");
            row.try_get_by_index::<String>(0).expect("a text")
        };
        assert_eq!(pragma("journal_mode").await, "wal");
        assert_eq!(pragma("synchronous").await, "2");
    }
}
