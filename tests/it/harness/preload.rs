//! Runs a server with a preloaded library, which replaces some functions of the system's libraries. So a test can
//! change the clock or the disk for the server, on every machine and without privileges.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::process::{run, said, tope};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness");

/// A clock that is ahead of the machine's clock or behind it. The server sees this clock as if the machine's clock had
/// been set.
pub struct ShiftedClock(Preload);

impl ShiftedClock {
    /// Makes a clock that shows the right time at first. Writes the library into `folder`.
    pub async fn new(folder: &Path) -> Self {
        let clock = Self(Preload::compile(folder, "shifted_clock").await);
        clock.set(0);
        clock
    }

    /// Makes a command that runs the binary with this clock.
    pub fn command(&self) -> Command {
        self.0.command("SHIFTED_CLOCK")
    }

    /// Sets the clock to this number of milliseconds ahead of the right time. A negative number sets the clock behind.
    pub fn set(&self, millis: i64) {
        self.0.set(millis);
    }
}

/// A folder whose files together have a maximum number of bytes, which the test sets.
pub struct SmallDisk {
    preload: Preload,
    disk: PathBuf,
}

impl SmallDisk {
    /// Makes a disk without a limit at first. Writes the library into `folder`, which must not be inside `disk`.
    pub async fn new(folder: &Path, disk: &Path) -> Self {
        let small = Self { preload: Preload::compile(folder, "small_disk").await, disk: disk.to_owned() };
        small.preload.set(i64::MAX);
        small
    }

    /// Makes a command that runs the binary with this small disk.
    pub fn command(&self) -> Command {
        let mut command = self.preload.command("SMALL_DISK");
        command.env("SMALL_DISK_FOLDER", &self.disk);
        command
    }

    /// Sets the number of free bytes: the files may grow by this number of bytes together.
    pub fn leave(&self, bytes: u64) {
        let files = fs::read_dir(&self.disk).expect("the folder can be read");
        // A file may be removed in the meantime.
        let sizes = files.filter_map(|file| file.ok()?.metadata().ok()).map(|data| data.len());
        let size = sizes.sum::<u64>() + bytes;
        self.preload.set(i64::try_from(size).expect("a small folder"));
    }
}

/// A library, and a file with a number that the library reads. The test changes the number.
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
