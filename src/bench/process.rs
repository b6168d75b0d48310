//! The servers that a bench starts. They are separate processes, so that each side is measured only with its own work.

use std::{
    env, fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use prost::Message;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::workload::Replies;
use crate::console::{
    client::{endpoint, run_id},
    error::CliError,
};

/// Maximum time until a started server reports SERVING.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two health checks of a starting server.
const START_POLL: Duration = Duration::from_millis(20);

/// A server process. It is killed when dropped; this is safe, because each acknowledged call is durable.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// Address of the server, as a URL.
    pub target: String,
}

/// A temporary database file, which is removed when this value is dropped.
#[derive(Debug)]
pub struct ScratchDatabase(PathBuf);

impl Server {
    /// Starts `tope serve` on a database.
    ///
    /// # Errors
    ///
    /// When the process does not report SERVING in time.
    pub async fn start(database: &str) -> Result<Self, CliError> {
        let allowed = ["--webhook-allow-http", "--webhook-allow-private"];
        Self::start_with("serve", &["--http", "off", "--database", database, allowed[0], allowed[1]]).await
    }

    /// Starts the empty service, which answers with these replies.
    ///
    /// # Errors
    ///
    /// When the process does not report SERVING in time.
    pub async fn start_empty(replies: &Replies) -> Result<Self, CliError> {
        let reserve = HEXLOWER.encode(&replies.reserve.encode_to_vec());
        let commit = HEXLOWER.encode(&replies.commit.encode_to_vec());
        Self::start_with("bench-empty", &["--reserve-reply", &reserve, "--commit-reply", &commit]).await
    }

    async fn start_with(command: &str, args: &[&str]) -> Result<Self, CliError> {
        let failed =
            |error: io::Error| CliError::caused(format_args!("cannot start `tope {command}`"), &error);
        let address = free_address().map_err(failed)?;
        let mut process = Command::new(env::current_exe().map_err(failed)?);
        process
            .arg(command)
            .args(["--listen", &address])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // The server logs to the stderr of the bench, so it logs only warnings and errors.
        if env::var_os("RUST_LOG").is_none() {
            process.env("RUST_LOG", "warn");
        }
        let mut server =
            Self { process: process.spawn().map_err(failed)?, target: format!("http://{address}") };
        server.wait_until_serving(command).await?;
        Ok(server)
    }

    async fn wait_until_serving(&mut self, command: &str) -> Result<(), CliError> {
        let mut health = HealthClient::new(endpoint(&self.target)?.connect_lazy());
        let begin = Instant::now();
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(CliError::new(format!(
                    "`tope {command}` ended before it reported SERVING ({status}); its error is above"
                )));
            }
            let reply = health.check(HealthCheckRequest::default()).await;
            if reply.is_ok_and(|reply| reply.into_inner().status() == ServingStatus::Serving) {
                return Ok(());
            }
            if begin.elapsed() > START_TIMEOUT {
                let seconds = START_TIMEOUT.as_secs();
                return Err(CliError::new(format!(
                    "`tope {command}` did not report SERVING within {seconds} s"
                )));
            }
            tokio::time::sleep(START_POLL).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both calls fail only if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl ScratchDatabase {
    /// Chooses a random name for a new file in the current folder.
    pub fn in_current_folder() -> Self {
        Self(PathBuf::from(format!("tope-bench-{}.db", run_id())))
    }

    /// Returns the URL, for `serve --database`.
    pub fn url(&self) -> String {
        format!("sqlite://{}", self.0.display())
    }
}

impl Drop for ScratchDatabase {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", ".lock"] {
            let mut path = self.0.clone().into_os_string();
            path.push(suffix);
            // Some of these files may not exist.
            let _ = fs::remove_file(path);
        }
    }
}

/// Returns the folder of a SQLite file; for other databases, the current folder.
pub fn folder_of(database: &str) -> PathBuf {
    let Some(rest) = database.strip_prefix("sqlite:") else { return PathBuf::from(".") };
    let path = rest.strip_prefix("//").unwrap_or(rest).split('?').next().unwrap_or_default();
    match Path::new(path).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Finds a free port on loopback. If another process takes the port before the server does, the start fails.
fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_database_is_the_folder_of_its_file() {
        let cases = [
            ("sqlite://tope.db", "."),
            ("sqlite:///var/lib/tope.db?mode=rw", "/var/lib"),
            ("sqlite:data/tope.db", "data"),
            ("postgres://localhost/tope", "."),
        ];
        for (database, folder) in cases {
            assert_eq!(folder_of(database), Path::new(folder), "{database}");
        }
    }
}
