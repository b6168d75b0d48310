//! The alerts in Python that README shows.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use tempfile::TempDir;

use crate::harness::{
    process::{run, said, tool},
    *,
};

/// It runs until it is dropped.
struct Python {
    child: Child,
    lines: Receiver<String>,
}

fn of_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Python {
    fn watching(address: &str, stubs: &Path) -> Self {
        let mut child = Command::new(tool("AFORO_TEST_PYTHON"))
            .arg(of_repository("examples/python/alerts.py"))
            .arg(address)
            .env("PYTHONPATH", stubs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python can be started");
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        // It ends with the pipe.
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn stubs() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut command = Command::new(tool("AFORO_TEST_PYTHON"));
    command.arg(of_repository("tests/python/stubs.py")).arg(folder.path());
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
    folder
}

both! {
    async fn it_prints_what_comes_to_a_threshold(world: World) {
        let stubs = stubs().await;
        let python = Python::watching(&world.address().to_string(), stubs.path());
        // Nobody says when it listens: each tenant comes to its threshold once, until one is heard of.
        let mut number = 0;
        let line = eventually("it prints an alert", async || {
            number += 1;
            let tenant = format!("tenant-{number}");
            world.tenant_with(&tenant, &[day("tokens", 100).thresholds(&[80])]).await;
            world.record(&tenant).tokens(85).await.expect("it is recorded");
            python.lines.try_recv().ok()
        })
        .await;
        assert!(line.starts_with("tenant-"), "{line}");
        assert!(line.ends_with(" THRESHOLD_REACHED day 85 of 100"), "{line}");
    }
}
