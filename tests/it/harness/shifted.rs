//! A server whose clock is set while it runs: a shared library, preloaded, adds what a file says to the time of day. So the
//! scheduler, the store and all else see what they would see if the machine's clock were set.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
};

use super::process::{run, said, tope};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/shifted_clock.c");

/// By how much the clock of a server is ahead.
pub struct ShiftedClock(File);

impl ShiftedClock {
    /// One that is right as yet, and the command line of a binary that goes by it.
    pub async fn start(folder: &Path) -> (Self, Command) {
        let (library, shift) = (folder.join("shifted_clock.so"), folder.join("shift"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(SOURCE);
        let compiled = run(compiler).await;
        assert!(compiled.status.success(), "{}", said(&compiled));
        let mut options = OpenOptions::new();
        let file = options.create_new(true).write(true).open(&shift).expect("the folder can be written to");
        let clock = Self(file);
        clock.set(0);
        let mut command = tope();
        command.env("LD_PRELOAD", &library).env("SHIFTED_CLOCK", &shift);
        (clock, command)
    }

    /// Sets it, to so many milliseconds ahead of the right time, or behind.
    pub fn set(&self, millis: i64) {
        self.0.write_all_at(&millis.to_ne_bytes(), 0).expect("it can be written to");
    }
}
