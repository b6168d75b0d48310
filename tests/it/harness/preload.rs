//! A server with a library of ours in front of the system's, so that a test sets what the server sees of the machine: on
//! every machine, and without privileges.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::process::{run, said, tope};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness");

/// By how much the clock of a server is ahead: the scheduler, the store and all else see what they would see if the machine's
/// clock were set.
pub struct ShiftedClock(Preload);

impl ShiftedClock {
    /// Makes a clock that is right as yet. `folder` takes the library.
    pub async fn new(folder: &Path) -> Self {
        let clock = Self(Preload::compile(folder, "shifted_clock").await);
        clock.set(0);
        clock
    }

    /// Makes the command line of a binary that goes by it.
    pub fn command(&self) -> Command {
        self.0.command("SHIFTED_CLOCK")
    }

    /// Sets it, to so many milliseconds ahead of the right time, or behind.
    pub fn set(&self, millis: i64) {
        self.0.set(millis);
    }
}

/// A folder whose files may only take so many bytes together.
pub struct SmallDisk {
    preload: Preload,
    disk: PathBuf,
}

impl SmallDisk {
    /// Makes a disk with room for anything as yet. `folder` takes the library, and is not a part of `disk`.
    pub async fn new(folder: &Path, disk: &Path) -> Self {
        let small = Self { preload: Preload::compile(folder, "small_disk").await, disk: disk.to_owned() };
        small.preload.set(i64::MAX);
        small
    }

    /// Makes the command line of a binary for which the disk is small.
    pub fn command(&self) -> Command {
        let mut command = self.preload.command("SMALL_DISK");
        command.env("SMALL_DISK_FOLDER", &self.disk);
        command
    }

    /// Leaves so many bytes free beside the files that are there.
    pub fn leave(&self, bytes: u64) {
        let files = fs::read_dir(&self.disk).expect("the folder can be read");
        // A file may go meanwhile.
        let sizes = files.filter_map(|file| file.ok()?.metadata().ok()).map(|data| data.len());
        let size = sizes.sum::<u64>() + bytes;
        self.preload.set(i64::try_from(size).expect("a small folder"));
    }
}

/// A library, and the number that it looks up whenever it needs it.
struct Preload {
    library: PathBuf,
    path: PathBuf,
    number: File,
}

impl Preload {
    async fn compile(folder: &Path, name: &str) -> Self {
        let (library, path) = (folder.join(format!("{name}.so")), folder.join(name));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(format!("{SOURCES}/{name}.c"));
        let compiled = run(compiler).await;
        assert!(compiled.status.success(), "{}", said(&compiled));
        let mut options = OpenOptions::new();
        let number = options.create_new(true).write(true).open(&path).expect("the folder can be written to");
        Self { library, path, number }
    }

    fn command(&self, variable: &str) -> Command {
        let mut command = tope();
        command.env("LD_PRELOAD", &self.library).env(variable, &self.path);
        command
    }

    fn set(&self, number: i64) {
        self.number.write_all_at(&number.to_ne_bytes(), 0).expect("it can be written to");
    }
}
