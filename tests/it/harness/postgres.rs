//! A PostgreSQL cluster that the tests start with the binaries of the system.
//!
//! A child process `sh` creates the cluster, runs it, and reads orders from its standard input. The input ends when the
//! cluster is dropped or when the test process dies. Then the child stops PostgreSQL and removes its folder.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};

/// The database user, which needs no password.
pub const USER: &str = "tope";

/// The script of the child. Arguments: folder of the binaries, folder for temporary files, port.
const SUPERVISOR: &str = r#"
trap '' INT TERM HUP
bin=$1 port=$3
folder=$(mktemp -d "$2/tope-postgres-XXXXXX") || exit 1
cd "$folder" || exit 1
start() {
    "$bin/pg_ctl" start -D data -w -t 60 -l log -o "-h 127.0.0.1 -p $port -k $folder -c max_connections=300" \
        >>log 2>&1 </dev/null && echo ready || { echo failed; cat log >&2; }
}
stop() {
    "$bin/pg_ctl" stop -D data -w -m "$1" >>log 2>&1 </dev/null
    echo stopped
}
# The first process comes first, so that it starts no others meanwhile.
signal() {
    main=$(head -n 1 data/postmaster.pid)
    kill "-$1" "$main"
    children=$(awk -v main="$main" '$4 == main { print $1 }' /proc/[0-9]*/stat 2>/dev/null)
    [ -z "$children" ] || kill "-$1" $children 2>/dev/null
    echo signalled
}
if "$bin/initdb" -D data -U tope -A trust -E UTF8 --locale=C --no-sync >log 2>&1 </dev/null; then
    start
else
    echo failed
    cat log >&2
fi
while read -r order; do
    case $order in
        start) start ;;
        stop) stop immediate ;;
        freeze) signal STOP ;;
        thaw) signal CONT ;;
    esac
done
[ ! -f data/postmaster.pid ] || signal CONT >/dev/null
stop immediate >/dev/null
cd / && rm -rf "$folder"
"#;

/// A running PostgreSQL cluster.
pub struct Cluster {
    port: u16,
    supervisor: Child,
    // This is an Option, so that `drop` can close the input first. Then the child ends.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    /// Starts a cluster on this port. If the machine has no PostgreSQL, the test fails.
    pub fn start(port: u16) -> Self {
        let mut supervisor = shell()
            .args(["-c", SUPERVISOR, "postgres"])
            .args([binaries(), scratch()])
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell can be started");
        let orders = supervisor.stdin.take();
        let answers = BufReader::new(supervisor.stdout.take().expect("it is piped"));
        let mut cluster = Self { port, supervisor, orders, answers };
        cluster.expect_answer("ready");
        cluster
    }

    /// Returns the URL of a database in this cluster.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// Creates an empty database.
    pub fn create(&self, database: &str) {
        self.psql("postgres", &format!("CREATE DATABASE {database}"));
    }

    /// Runs one statement, and returns its output: one row per line, values separated by `|`.
    pub fn psql(&self, database: &str, statement: &str) -> String {
        psql(&self.url(database), statement)
    }

    /// Stops PostgreSQL at once, like a crash.
    pub fn stop(&mut self) {
        self.order("stop");
        self.expect_answer("stopped");
    }

    /// Starts PostgreSQL again after `stop`.
    pub fn resume(&mut self) {
        self.order("start");
        self.expect_answer("ready");
    }

    /// Suspends all processes of PostgreSQL, as if the machine hung.
    pub fn freeze(&mut self) {
        self.order("freeze");
        self.expect_answer("signalled");
    }

    /// Resumes all processes after `freeze`.
    pub fn thaw(&mut self) {
        self.order("thaw");
        self.expect_answer("signalled");
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("it is open until the drop");
        writeln!(orders, "{order}").expect("the supervisor listens");
    }

    fn expect_answer(&mut self, wanted: &str) {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the supervisor answers");
        assert_eq!(answer.trim(), wanted, "PostgreSQL did not do as ordered; its log is above");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.orders.take());
        // An error only means that the child has ended already.
        let _ = self.supervisor.wait();
    }
}

/// Returns the URL of a database on this port.
pub fn url(port: u16, database: &str) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{database}")
}

/// Returns the cluster that all tests of this process share. The cluster is never dropped. It ends when the process
/// ends.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    // If the cluster does not start in the first test, the next test must try again and report the reason, too.
    let _starting = STARTING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    SHARED.get_or_init(|| Cluster::start(free_port()))
}

/// Fills an empty database from a dump of pg_dump.
pub fn restore(url: &str, dump: &Path) {
    run_psql(url, "-f", &dump.to_string_lossy());
}

/// Runs one statement, and returns its output as `Cluster::psql` does.
pub fn psql(url: &str, statement: &str) -> String {
    run_psql(url, "-c", statement)
}

fn run_psql(url: &str, what: &str, argument: &str) -> String {
    let output = Command::new(binaries().join("psql"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, what, argument])
        .stdin(Stdio::null())
        .output()
        .expect("psql is next to postgres");
    assert!(output.status.success(), "{argument}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Finds a free port below 32768. The system gives higher ports to connections, so a connection could take a higher
/// port before the test uses it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() % 10_000;
    loop {
        let next = first + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(20_000 + next % 12_000).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Returns the folder of initdb and postgres: the folder that scripts/setup found, or else the folder of the newest
/// version on Debian.
fn binaries() -> PathBuf {
    if let Some(folder) = env::var_os("TOPE_TEST_POSTGRES_BIN") {
        return folder.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let with_version = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        folder.join("initdb").exists().then_some((version, folder))
    });
    let newest = with_version.max().map(|(_, folder)| folder);
    newest.expect("the tests need PostgreSQL 15 or later: run scripts/test, which installs what is missing")
}

/// Returns a folder on a real disk that every user can access. Some users may not be able to access the build folder.
pub fn scratch() -> PathBuf {
    if Path::new("/var/tmp").is_dir() { "/var/tmp".into() } else { env::temp_dir() }
}

/// Makes a shell command that runs as another user than root, because PostgreSQL refuses to run as root.
pub fn shell() -> Command {
    if user_id("-u", None).as_deref() != Some("0") {
        return Command::new("sh");
    }
    let owner = ["postgres", "nobody"].into_iter().find(|name| user_id("-u", Some(name)).is_some());
    let owner = owner.expect("root needs a user postgres or nobody to run PostgreSQL as");
    let group = user_id("-g", Some(owner)).expect("every user has a group");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", owner, "--regid", &group, "--clear-groups", "sh"]).current_dir("/");
    command
}

fn user_id(kind: &str, name: Option<&str>) -> Option<String> {
    let output = Command::new("id").arg(kind).args(name).output().expect("every system has id");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
