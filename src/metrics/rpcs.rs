//! Calls by method and code, with their durations.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use foldhash::HashMap;
use prometheus::{Histogram, HistogramVec, IntGauge, Registry};

use super::make::{gauge, histogram_of};
use crate::traces::CallTrace;

/// The names of the codes of gRPC, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The code of a call whose client went away.
const CANCELLED: usize = 1;

/// The code of a call whose code is no code of gRPC.
const UNKNOWN: usize = 2;

/// The label of all paths that are no rpc of this server.
const UNKNOWN_METHOD: &str = "(unknown)";

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The figures of the calls of clients.
#[derive(Debug)]
pub struct Rpcs {
    durations: HistogramVec,
    in_flight: IntGauge,
}

/// The rpcs that a server serves. Each pair of a method and a code gets its series when it first occurs.
#[derive(Debug)]
pub struct RpcTable {
    durations: HistogramVec,
    in_flight: IntGauge,
    /// The place of each known path in `methods`.
    places: HashMap<String, usize>,
    /// The last method stands for all unknown paths.
    methods: Vec<Method>,
}

#[derive(Debug)]
struct Method {
    label: String,
    by_code: [OnceLock<Histogram>; CODES.len()],
}

/// A call under way. If it is dropped before it ends, the call counts as CANCELLED.
#[derive(Debug)]
pub struct RpcTimer {
    table: Arc<RpcTable>,
    place: usize,
    began: Instant,
    code: usize,
    trace: Option<Arc<CallTrace>>,
}

impl Rpcs {
    pub(super) fn new(registry: &Registry) -> Self {
        let help = "Time until a call was answered, or until the stream of a call ended.";
        let labels = ["method", "code"];
        Self {
            durations: histogram_of(registry, "tope_rpc_duration_seconds", help, &labels, &BUCKETS),
            in_flight: gauge(registry, "tope_rpcs_in_flight", "Calls that are open, streams included."),
        }
    }

    /// Makes the table of the rpcs with these paths, such as `/tope.v1.QuotaService/Reserve`.
    pub fn table(&self, paths: impl Iterator<Item = String>) -> RpcTable {
        let paths: Vec<String> = paths.collect();
        let label = |path: &String| path.trim_start_matches('/').to_owned();
        let labels = paths.iter().map(label).chain([UNKNOWN_METHOD.to_owned()]);
        RpcTable {
            durations: self.durations.clone(),
            in_flight: self.in_flight.clone(),
            methods: labels.map(|label| Method { label, by_code: Default::default() }).collect(),
            places: paths.into_iter().enumerate().map(|(place, path)| (path, place)).collect(),
        }
    }
}

impl RpcTable {
    /// Begins to measure a call of this path.
    pub fn begin(self: &Arc<Self>, path: &str) -> RpcTimer {
        let place = self.places.get(path).copied().unwrap_or(self.methods.len() - 1);
        self.in_flight.inc();
        RpcTimer { table: Arc::clone(self), place, began: Instant::now(), code: CANCELLED, trace: None }
    }
}

impl RpcTimer {
    /// Ends also the span of the call when the call ends.
    pub fn follow(&mut self, trace: Arc<CallTrace>) {
        self.trace = Some(trace);
    }

    /// Ends the call with a code of gRPC, by its number.
    pub fn end(mut self, code: i32) {
        self.code = usize::try_from(code).ok().filter(|code| *code < CODES.len()).unwrap_or(UNKNOWN);
    }
}

impl Drop for RpcTimer {
    fn drop(&mut self) {
        let method = &self.table.methods[self.place];
        let labels = || self.table.durations.with_label_values(&[method.label.as_str(), CODES[self.code]]);
        method.by_code[self.code].get_or_init(labels).observe(self.began.elapsed().as_secs_f64());
        self.table.in_flight.dec();
        if let Some(trace) = &self.trace {
            trace.end(&method.label, i32::try_from(self.code).unwrap_or_default(), self.began);
        }
    }
}
