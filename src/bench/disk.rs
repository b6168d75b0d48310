//! Measures how fast the disk makes a write durable.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::console::client::run_id;

/// Maximum latency that is recorded, in microseconds. A longer sync is recorded as this long.
const LATENCY_MAX_MICROS: u64 = 60_000_000;

/// Number of bytes per write and fsync: one page of a database.
const WRITE_BYTES: usize = 4096;

/// The speed with which pages are written and synced, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct DiskFigures {
    /// Pages written and synced per second.
    pub per_second: f64,
    /// Half of the pages took at most this long.
    pub p50: Duration,
    /// 99 of 100 pages took at most this long.
    pub p99: Duration,
}

/// Writes and syncs pages at the end of a new file in `folder` for `duration`, and removes the file.
///
/// # Errors
///
/// When the folder is not writable.
pub fn measure(folder: &Path, duration: Duration) -> io::Result<DiskFigures> {
    let path = folder.join(format!("tope-fsync-{}.tmp", run_id()));
    let file = File::create_new(&path)?;
    let figures = write_and_sync(file, duration);
    fs::remove_file(&path)?;
    figures
}

fn write_and_sync(mut file: File, duration: Duration) -> io::Result<DiskFigures> {
    let page = [0x5a; WRITE_BYTES];
    let mut latency = new_histogram();
    let begin = Instant::now();
    while begin.elapsed() < duration {
        let start = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        latency.saturating_record(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    let quantile = |q| Duration::from_micros(latency.value_at_quantile(q));
    Ok(DiskFigures {
        per_second: latency.len() as f64 / begin.elapsed().as_secs_f64(),
        p50: quantile(0.5),
        p99: quantile(0.99),
    })
}

/// Makes a histogram that can record latencies up to [`LATENCY_MAX_MICROS`]. `saturating_record` clamps larger values,
/// and does not make the histogram larger.
fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_MICROS, 3).expect("the bounds of the histogram are valid constants")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_of_5_milliseconds_is_recorded_as_that_long() {
        let mut latency = new_histogram();
        latency.saturating_record(5_000);
        assert!(latency.value_at_quantile(0.5) >= 5_000);
    }

    #[test]
    fn measuring_the_disk_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let figures = measure(folder.path(), Duration::from_millis(10)).expect("a writable folder");
        assert!(figures.per_second > 0.0 && figures.p50 <= figures.p99, "{figures:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder is there").count(), 0);
    }
}
