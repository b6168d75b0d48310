//! A command in the background, and the lines that it prints.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use super::wait::{PATIENCE, eventually};

/// A running command. It is killed when this value is dropped.
pub struct Printing {
    child: Child,
    lines: Receiver<String>,
}

impl Printing {
    /// Starts the command, and reads its stdout in a thread.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the command can be started");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        // The thread ends when the command closes the pipe.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Waits for the next line. Fails if no line comes.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("it prints a line")
    }

    /// Waits for the end of the command.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the command ends", async || self.child.try_wait().expect("the process is our child"))
            .await
    }

    /// Returns the next line, or `None` if it was not printed yet.
    pub fn line_by_now(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        // An error only means that the command has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
