//! A command that runs on, and the lines that it prints.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use super::wait::{PATIENCE, eventually};

/// It runs until it is dropped.
pub struct Printing {
    child: Child,
    lines: Receiver<String>,
}

impl Printing {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the command can be started");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        // It ends with the pipe.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The next line, which must come.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("it prints a line")
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the command ends", async || self.child.try_wait().expect("it is ours")).await
    }

    /// The next line, if there is one by now.
    pub fn line_by_now(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
