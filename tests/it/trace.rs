//! The trace of model calls that the replays play, and a model of the decisions about these calls.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::harness::v1::{Reservation, ReservationState};
use crate::harness::{amount, state};

/// Number of tokens that each call reserves in addition to its context.
pub const ESTIMATE: i64 = 1_000;

/// File of the real trace. Below: its number of rows, and the sum of its tokens.
const FILE: &str = "data/azure_llm_conversation_2023.csv";
const ROWS: usize = 19_366;
const TOKENS: i64 = 26_450_535;

/// A trace of model calls.
pub struct Trace {
    /// Path of the CSV file.
    pub path: PathBuf,
    /// For each call, in order: the tokens of its context, and its generated tokens.
    pub calls: Vec<(i64, i64)>,
}

impl Trace {
    /// Returns the real trace if its file exists. Otherwise makes a similar trace in this folder.
    pub fn get(folder: &Path) -> Self {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
        let shared = env::var_os("TOPE_SHARED").map(PathBuf::from);
        let real = [Some(beside), shared].into_iter().flatten().map(|folder| folder.join(FILE));
        let found = real.into_iter().find(|path| path.exists());
        let is_real = found.is_some();
        let path = found.unwrap_or_else(|| made_up(&folder.join("trace.csv")));
        let mut reader = csv::Reader::from_path(&path).expect("the trace can be read");
        let rows = reader.records().map(|row| row.expect("a row"));
        let number = |text: &str| text.trim().parse::<i64>().expect("a number");
        let calls: Vec<(i64, i64)> = rows.map(|row| (number(&row[1]), number(&row[2]))).collect();
        let trace = Self { path, calls };
        if is_real {
            assert_eq!((trace.calls.len(), trace.tokens()), (ROWS, TOKENS), "this is not the trace");
        }
        trace
    }

    /// Returns the trace of its first calls only. Its file is made in this folder.
    pub fn first(mut self, calls: usize, folder: &Path) -> Self {
        let text = fs::read_to_string(&self.path).expect("the trace can be read");
        self.path = folder.join("first.csv");
        let rows: Vec<&str> = text.lines().take(1 + calls).collect();
        fs::write(&self.path, rows.join("\n")).expect("the folder can be written to");
        self.calls.truncate(calls);
        assert_eq!(self.calls.len(), calls, "the trace is longer");
        self
    }

    /// Returns the sum of the context and generated tokens of all calls.
    pub fn tokens(&self) -> i64 {
        self.calls.iter().map(|(context, generated)| context + generated).sum()
    }

    /// Returns a limit that is reached at about the middle of the trace.
    pub fn limit(&self) -> i64 {
        self.tokens() / 2
    }

    /// Applies a HARD LIFETIME limit to the calls, one after the other. Returns the reserved and the committed tokens
    /// of the granted calls, in order.
    pub fn granted(&self, limit: i64) -> Vec<(i64, i64)> {
        let mut spent = 0;
        let mut granted = Vec::new();
        for (context, generated) in &self.calls {
            let (asked, used) = (context + ESTIMATE, context + generated);
            if spent + asked <= limit {
                spent += used;
                granted.push((asked, used));
            }
        }
        granted
    }
}

/// Fails unless these reservations are exactly the granted calls. The newest reservation comes first.
pub fn assert_granted(reservations: &[Reservation], granted: &[(i64, i64)]) {
    assert!(reservations.iter().all(|reservation| state(reservation) == ReservationState::Committed));
    let made: Vec<(i64, i64)> =
        reservations.iter().rev().map(|reservation| amount(reservation, "tokens")).collect();
    let differs = made.iter().zip(granted).position(|(made, granted)| made != granted);
    assert_eq!(differs, None, "the first decision that differs");
    assert_eq!(made.len(), granted.len());
}

/// Writes an invented trace. Contexts have some hundred to some thousand tokens, answers have some hundred tokens, and
/// there are three or four calls a second.
fn made_up(path: &Path) -> PathBuf {
    const CALLS: u64 = 4_000;
    let mut csv = String::from("TIMESTAMP,ContextTokens,GeneratedTokens\n");
    let mut seed: u64 = 20_231_116;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for call in 0..CALLS {
        let (second, fraction) = (call * 3 / 10, next(10_000_000));
        let context = if next(3) == 0 { 2_000 + next(4_000) } else { 50 + next(1_500) };
        let generated = if next(50) == 0 { 1_000 + next(500) } else { 10 + next(450) };
        let (minute, second) = (second / 60, second % 60);
        csv.push_str(&format!("2023-11-16 18:{minute:02}:{second:02}.{fraction:07},{context},{generated}\n"));
    }
    fs::write(path, csv).expect("the folder can be written to");
    path.to_owned()
}
