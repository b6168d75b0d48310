//! Opens a database: its connections, and the lock of a file.
//!
//! SQLite runs in WAL mode. It has a writing connection for the lane, one for administration, and a few that only
//! read. One process writes at a time: it holds a lock on `<file>.lock`. Within that process, writers take turns.
//! PostgreSQL has a connection per lane, a pool for administration and jobs, and a pool for reads. It is connected
//! when first used, so that a server can start before its database.

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
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, SqlxError, Statement,
    sqlx::{
        ConnectOptions as _, Connection,
        postgres::{PgConnectOptions, PgConnection},
    },
};
use tokio::{sync::Notify, time::timeout};

use super::{
    error::StoreError,
    lane::Lane,
    place::{Location, check_file, lock_file, parse_url, unusable},
    probe::{Identity, Pulse},
    turn::Turns,
    wire::Wire,
};

/// Longest wait for a free connection of a pool, or for a new one to PostgreSQL.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the connection that finds out why others fail.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait of SQLite for a lock of another process, such as a backup's.
pub(super) const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Each commit is synced to the disk before its batch is answered.
pub(super) const SQLITE_SYNCHRONOUS: &str = "FULL";

/// Length of the write-ahead log from which on a commit copies it into the database, in pages of 4 KiB. The log never
/// gets there while the thread of `checkpoint.rs` runs.
pub(super) const SQLITE_AUTOCHECKPOINT: &str = "65536";

/// Settings of the lane's connection. The page cache has 32 MiB.
pub(super) const SQLITE_LANE_PRAGMAS: [(&str, &str); 4] = [
    ("synchronous", SQLITE_SYNCHRONOUS),
    ("temp_store", "MEMORY"),
    ("cache_size", "-32768"),
    ("wal_autocheckpoint", SQLITE_AUTOCHECKPOINT),
];

/// A setting of PostgreSQL: name and value.
type Setting = (&'static str, &'static str);

/// Settings of each connection to PostgreSQL, by the server's names.
const POSTGRES_SETTINGS: [Setting; 4] = [
    ("statement_timeout", "30s"),
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// How long PostgreSQL keeps a transaction that may hold locks for a process that is silent, since it was stopped or
/// cut off. Our transactions wait for nothing but the database, so a live process goes on within milliseconds. The
/// second setting is for a PostgreSQL that still has to send what the process does not read. Both end the session,
/// and so its transaction, within 5 seconds. A process that wakes up then repeats the transaction.
const POSTGRES_HOLDER_SETTINGS: [Setting; 2] =
    [("idle_in_transaction_session_timeout", "3s"), ("tcp_user_timeout", "4s")];

/// How long administration and jobs wait for a locked row.
const POSTGRES_PATIENT_SETTINGS: [Setting; 1] = [("lock_timeout", "5s")];

/// Settings of connections that write. Their statements find rows by key, for lists of any length. The right plan is
/// always nested loops over an index, so the settings force it. The planner's choice would depend on what the tables
/// contained when it last looked: a table that was empty then would be scanned ever after.
const POSTGRES_WRITER_SETTINGS: [Setting; 7] = [
    ("default_transaction_isolation", "read committed"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// Settings of connections that read, so that BEGIN alone begins a read-only snapshot.
const POSTGRES_READER_SETTINGS: [Setting; 5] = [
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_read_only", "on"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("tcp_user_timeout", "30s"),
];

/// The kind of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A file that one process writes.
    Sqlite,
    /// A server that replicas share.
    Postgres,
}

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Open the database for writing. A SQLite file is created if it is missing, and refused if another process
    /// writes it. Without this, the file must exist and is only read. PostgreSQL is shared in either case.
    pub exclusive: bool,
    /// Most PostgreSQL connections that write, besides one per lane: for administration, jobs and webhooks.
    pub writers_max: u32,
    /// Most connections that only read.
    pub readers_max: u32,
    /// How long a batch waits for a row of PostgreSQL that somebody else has locked, while its other tenants wait as
    /// well. Replicas that share tenants lock rows for some milliseconds.
    pub row_wait: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { exclusive: false, writers_max: 2, readers_max: 4, row_wait: Duration::from_millis(100) }
    }
}

/// An open database: its connections, locks and state.
#[derive(Clone, Debug)]
pub struct Store {
    dialect: Dialect,
    /// `None` if the database is only read.
    writer: Option<DatabaseConnection>,
    /// SQLite's lane; `None` if the file is only read.
    lane: Option<Lane>,
    /// Gives each writer its turn.
    turns: Turns,
    /// The lanes' connections to PostgreSQL.
    wire: Option<Wire>,
    reader: DatabaseConnection,
    /// How PostgreSQL is reached, for connections besides the pools.
    postgres: Option<Box<PgConnectOptions>>,
    /// Held until the database is closed. The operating system releases the lock when the process dies.
    lock: Option<Arc<File>>,
    /// Whether calls should be taken: the schema is up to date, and the last probes succeeded.
    available: Arc<AtomicBool>,
    /// Wakes the numbering task after each commit that wrote events.
    told: Arc<Notify>,
    /// What batches show of the state of the database.
    pulse: Arc<Pulse>,
    /// The identity of the database at the first look. PostgreSQL only.
    identity: Arc<OnceLock<Identity>>,
}

impl Store {
    /// Whether calls should be taken. False until [`Store::set_available`].
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

    /// Whether SQLite's files were taken away. This stays so until a restart, and was logged.
    pub fn is_taken(&self) -> bool {
        self.lane.as_ref().is_some_and(|lane| lane.connection.is_taken())
    }

    /// Waits until SQLite's files are taken away. Wakes only one caller.
    pub async fn until_taken(&self) {
        match &self.lane {
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

    /// The kind of the database.
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

    /// Whether PostgreSQL lets this program in, asked by a connection of its own. SQLite was opened already.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] when it will not, however long one waits: the database does not exist, the password is wrong, or
    /// TLS is demanded and not offered. [`StoreError::Unreachable`] when it may later.
    pub async fn check_access(&self) -> Result<(), StoreError> {
        let Some(options) = &self.postgres else { return Ok(()) };
        match timeout(DIAGNOSIS_TIMEOUT, PgConnection::connect_with(options)).await {
            // Its end is of no interest.
            Ok(Ok(connection)) => {
                let _ = connection.close().await;
                Ok(())
            }
            Ok(Err(error)) => Err(no_access(&place_of(options), &error)),
            Err(_) => Err(self.no_answer()),
        }
    }

    /// Why the database cannot be reached, as a connection of its own says it: a pool only says that it waited in vain.
    pub(super) async fn diagnose(&self, error: StoreError) -> StoreError {
        self.check_access().await.err().unwrap_or(error)
    }

    /// The error of a database that has not answered in time.
    pub fn no_answer(&self) -> StoreError {
        let place = self.postgres.as_deref().map_or_else(|| "the database".to_owned(), place_of);
        StoreError::Unreachable(format!("{place} does not answer"))
    }

    /// Closes all connections, so that SQLite leaves no write-ahead log behind, and releases the lock of the file.
    pub async fn close(self) -> Result<(), StoreError> {
        self.reader.close_by_ref().await?;
        if let Some(wire) = &self.wire {
            wire.close();
        }
        if let Some(writer) = &self.writer {
            writer.close_by_ref().await?;
        }
        if let Some(lane) = &self.lane {
            lane.close();
        }
        // Now, and not when the last task that has a `Store` ends.
        if let Some(lock) = &self.lock {
            lock.unlock().map_err(|error| unusable(format!("the lock file cannot be unlocked: {error}")))?;
        }
        Ok(())
    }

    pub(super) fn writer(&self) -> Result<&DatabaseConnection, StoreError> {
        self.writer.as_ref().ok_or_else(|| unusable("the database was opened read-only"))
    }

    pub(super) fn lane(&self) -> Option<&Lane> {
        self.lane.as_ref()
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    pub(super) fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    pub(super) fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// How PostgreSQL is reached, for connections besides the pools.
    pub(super) fn postgres_options(&self) -> Option<&PgConnectOptions> {
        self.postgres.as_deref()
    }

    /// Wakes the numbering task after each commit of this process that wrote events.
    pub fn told(&self) -> &Arc<Notify> {
        &self.told
    }

    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
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
        Some(_) => Some(open(sqlite_options(&path, 1, Access::Write)).await?),
        None => None,
    };
    let (turn, available) = (Arc::default(), Arc::default());
    let lane = match &lock {
        Some(_) => Some(Lane::open(&path, &turn, Arc::clone(&available))?),
        None => None,
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
        lane,
        turns: Turns::of_one_writer(turn),
        wire: None,
        reader,
        postgres: None,
        lock,
        available,
        told: Arc::default(),
        pulse: Arc::default(),
        identity: Arc::default(),
    })
}

async fn connect_postgres(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let open = |settings: Vec<Setting>, connections_max| async move {
        let options = postgres_options(url, settings, connections_max);
        Database::connect(options).await.map_err(|_| refused_url())
    };
    let holder = || POSTGRES_WRITER_SETTINGS.into_iter().chain(POSTGRES_HOLDER_SETTINGS);
    let writer = holder().chain(POSTGRES_PATIENT_SETTINGS).collect();
    let writer = Some(open(writer, options.writers_max).await?);
    let reader = open(POSTGRES_READER_SETTINGS.to_vec(), options.readers_max).await?;
    let row_wait = format!("{}ms", options.row_wait.as_millis());
    let options: PgConnectOptions = url.parse().map_err(|_| refused_url())?;
    let settings = POSTGRES_SETTINGS.into_iter().chain(holder()).chain([("lock_timeout", &*row_wait)]);
    let wire = Some(Wire::new(wire_config(&options), settings));
    let postgres = Some(Box::new(options));
    Ok(Store {
        dialect: Dialect::Postgres,
        writer,
        lane: None,
        turns: Turns::of_many_writers(),
        wire,
        reader,
        postgres,
        lock: None,
        available: Arc::default(),
        told: Arc::default(),
        pulse: Arc::default(),
        identity: Arc::default(),
    })
}

/// The codes are PostgreSQL's SQLSTATE: class 28 is a wrong user or password, or a rule of `pg_hba.conf`; 3D000 is a
/// database that does not exist; 42501 is a user who may not connect to it.
fn no_access(place: &str, error: &SqlxError) -> StoreError {
    match error {
        SqlxError::Database(reason) => {
            let text = format!("{place} refuses the connection: {}", reason.message());
            match reason.code().as_deref() {
                Some(code) if code.starts_with("28") || ["3D000", "42501"].contains(&code) => unusable(text),
                _ => StoreError::Unreachable(text),
            }
        }
        SqlxError::Io(reason) => StoreError::Unreachable(format!("{place} cannot be reached: {reason}")),
        SqlxError::Tls(reason) => unusable(format!("{place} cannot be used: {reason}")),
        SqlxError::Configuration(reason) => unusable(format!("{place} cannot be used: {reason}")),
        reason => StoreError::Unreachable(format!("{place} cannot be used: {reason}")),
    }
}

fn place_of(options: &PgConnectOptions) -> String {
    format!("PostgreSQL at {}:{}", options.get_host(), options.get_port())
}

/// The driver's error quotes the URL, which may contain a password.
fn refused_url() -> StoreError {
    unusable("the URL of the PostgreSQL database is not valid")
}

/// The address and the user of the lanes' connections, which are those of the pools.
fn wire_config(options: &PgConnectOptions) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.user(options.get_username()).port(options.get_port());
    match options.get_socket() {
        Some(socket) => config.host_path(socket),
        None => config.host(options.get_host()),
    };
    config.options(options.get_options().unwrap_or_default());
    config.dbname(options.get_database().unwrap_or(options.get_username()));
    if let Some(password) = find_password(options) {
        config.password(password);
    }
    config.keepalives_idle(Duration::from_secs(15)).tcp_user_timeout(Duration::from_secs(30));
    config
}

/// The password, whether from the URL, its parameters, PGPASSWORD or the password file. The options reveal it only in
/// a URL, where user and host are replaced, since not every name fits into one.
fn find_password(options: &PgConnectOptions) -> Option<Vec<u8>> {
    let url = options.clone().username("name").host("host").to_url_lossy();
    let parsed: tokio_postgres::Config = format!("postgres://name:{}@host", url.password()?).parse().ok()?;
    parsed.get_password().map(<[u8]>::to_vec)
}

/// Whether a file can be read. SQLite makes a write-ahead log beside a file that it only reads, and cannot where this process
/// may not write.
async fn is_readable(reader: &DatabaseConnection) -> bool {
    let question =
        Statement::from_string(reader.get_database_backend(), "SELECT COUNT(*) FROM sqlite_schema");
    reader.query_one_raw(question).await.is_ok()
}

/// Whether a file is all there is of its database.
fn has_no_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(true, |log| log.len() == 0)
}

/// What a connection does with a SQLite file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Write,
    Read,
    /// Where nothing can be written, not even the log and its index. Nobody else may write meanwhile.
    ReadAsItIs,
}

fn sqlite_options(path: &Path, connections_max: u32, access: Access) -> ConnectOptions {
    // The path is set below as it is: in a URL it would be decoded.
    let mut options = pool_options("sqlite:tope", connections_max);
    options.min_connections(1).idle_timeout(None);
    let path = path.to_owned();
    options.map_sqlx_sqlite_opts(move |sqlite| {
        let sqlite = sqlite.filename(&path).busy_timeout(SQLITE_BUSY_TIMEOUT);
        match access {
            Access::Read => sqlite.read_only(true),
            Access::ReadAsItIs => sqlite.read_only(true).immutable(true),
            Access::Write => sqlite
                .create_if_missing(true)
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", SQLITE_SYNCHRONOUS)
                .pragma("wal_autocheckpoint", SQLITE_AUTOCHECKPOINT),
        }
    });
    options
}

fn postgres_options(url: &str, settings: Vec<Setting>, connections_max: u32) -> ConnectOptions {
    let mut options = pool_options(url, connections_max);
    options.connect_lazy(true).set_application_name("tope");
    options.map_sqlx_postgres_opts(move |postgres| {
        let all = POSTGRES_SETTINGS.iter().chain(&settings);
        postgres.options(all.copied())
    });
    options
}

fn pool_options(url: &str, connections_max: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections_max)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    options
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
    async fn what_cannot_be_opened_is_refused_with_the_reason() {
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
        let connection = transaction.connection().expect("a pool's");
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
