//! The program as people run it, in a process.

use std::{
    env,
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{interval, timeout},
};
use tonic::transport::Channel;

use super::{
    clients::{connect, serving},
    postgres::free_port,
    wait::eventually,
};

/// Pause between two measurements of the memory of a process.
const MEASURE_PAUSE: Duration = Duration::from_millis(20);

/// Maximum time that a command may run. The longest command, a replay of the trace, takes about a minute.
const RUN_TIMEOUT: Duration = Duration::from_secs(500);

/// The path of the program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tope");

/// Makes a command that runs the program, without the settings of the environment.
pub fn tope() -> Command {
    tope_at(Path::new(PROGRAM))
}

/// Makes a command that runs this copy of the program, without the settings of the environment.
pub fn tope_at(program: &Path) -> Command {
    let mut command = Command::new(program);
    // Tests must not depend on the settings of a developer's machine.
    let ours = ["TOPE_LISTEN", "TOPE_DATABASE", "TOPE_CONFIG", "TOPE_LANES", "TOPE_DRAIN_SECONDS"];
    for name in ours.into_iter().chain([
        "TOPE_LOG_FORMAT",
        "RUST_LOG",
        "TOPE_CA_FILE",
        "TOPE_TLS_CERT",
        "TOPE_TLS_KEY",
    ]) {
        command.env_remove(name);
    }
    // Tests run many servers at the same time. A test of the HTTP listener chooses a free port.
    command.env("TOPE_HTTP", "off").stdin(Stdio::null());
    command
}

/// Returns the path of a tool that scripts/test installs.
pub fn tool(variable: &str) -> PathBuf {
    let path = env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} is not set: run scripts/test, which installs what is missing"))
        .into()
}

/// Runs a command to its end, on a thread that may block. If the command does not end, it is killed and the test fails.
pub async fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the command can be started");
    let id = child.id();
    let mut running = tokio::task::spawn_blocking(move || child.wait_with_output());
    let ended = timeout(RUN_TIMEOUT, &mut running).await;
    let Ok(ended) = ended else {
        send_signal("KILL", id);
        panic!("{command:?} has not ended within {RUN_TIMEOUT:?}");
    };
    ended.expect("it does not panic").expect("it can be waited for")
}

/// Returns the text that a command printed to stdout and stderr.
pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Fails unless `tope verify` finds the books in order.
pub async fn verify(database: &str) {
    let mut command = tope();
    command.args(["verify", "--database", database]);
    let output = run(command).await;
    assert!(output.status.success(), "verify: {}", said(&output));
    assert!(!output.stdout.is_empty(), "verify says what it checked");
}

/// A running `tope serve`.
pub struct Process {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// Starts a server, but does not wait until it answers. Its log goes to a file in `folder`.
    pub fn start(database: &str, folder: &Path, arguments: &[&str]) -> Self {
        Self::start_as(tope(), database, folder, arguments)
    }

    /// Starts a server like [`Self::start`], with a command that may have environment variables.
    pub fn start_as(mut command: Command, database: &str, folder: &Path, arguments: &[&str]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = folder.join(format!("serve-{}.log", address.port()));
        let file = File::create(&log).expect("the folder can be written to");
        let child = command
            .args(["serve", "--listen", &address.to_string(), "--database", database])
            .args(arguments)
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the binary can be started");
        Self { child, address, log }
    }

    /// Starts a server, and waits until it reports SERVING.
    pub async fn serving(database: &str, folder: &Path, arguments: &[&str]) -> (Self, Channel) {
        let process = Self::start(database, folder, arguments);
        let channel = process.connect().await;
        serving(&channel).await;
        (process, channel)
    }

    /// Returns the URL of the address on which the server listens.
    pub fn target(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens a new connection to the server.
    pub async fn connect(&self) -> Channel {
        connect(&self.target()).await
    }

    /// Returns the id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything that the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is there")
    }

    /// Begins to measure the memory that belongs only to this process.
    pub fn watch_memory(&self) -> Memory {
        let status = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let peak = Arc::new(AtomicU64::new(0));
        let measuring = tokio::spawn({
            let peak = Arc::clone(&peak);
            async move {
                let mut ticks = interval(MEASURE_PAUSE);
                while let Ok(text) = fs::read_to_string(&status) {
                    peak.fetch_max(own_kib(&text), Ordering::Relaxed);
                    ticks.tick().await;
                }
            }
        });
        Memory { peak, measuring }
    }

    /// Kills the process with SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("the process is our child");
    }

    /// Sends a signal such as TERM.
    pub fn signal(&self, signal: &str) {
        send_signal(signal, self.id());
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the server ends", async || self.child.try_wait().expect("the process is our child")).await
    }

    /// Asks the server to shut down, waits for the end of the process, and checks that the exit code is 0.
    pub async fn stop(mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert!(status.success(), "{status}: {}", self.log());
    }
}

fn send_signal(signal: &str, id: u32) {
    let order = format!("kill -{signal} {id}");
    let status = Command::new("sh").args(["-c", &order]).status().expect("every system has sh");
    assert!(status.success(), "{order}");
}

/// A measurement of the memory of a process. The measurement ends when this value is dropped.
pub struct Memory {
    peak: Arc<AtomicU64>,
    measuring: JoinHandle<()>,
}

impl Memory {
    /// Returns the largest memory that was measured, in MiB.
    pub fn peak_mib(&self) -> u64 {
        self.peak.load(Ordering::Relaxed) / 1024
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.measuring.abort();
    }
}

/// Returns the memory of a process that is not shared and belongs to no file, in KiB.
fn own_kib(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let count = line.and_then(|line| line.split_whitespace().next());
    // The status of a process that is ending does not have this line.
    count.map_or(0, |count| count.parse().expect("a number"))
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error only means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
