//! Traces: the spans of sampled calls, which a collector receives by OTLP.
//!
//! Without the setting `otlp_endpoint` there is no [`Traces`], and nothing here costs anything. With it, a call whose
//! caller sends a sampled `traceparent` is traced, and of the other calls a part. Each traced call makes the span of the
//! call and, for each batch that decides operations of the call, a span of the wait. A batch has a trace of its own,
//! because it decides operations of many calls: its span has a link to each of its traced calls, and the spans of its
//! transactions are below it. The span of the wait has a link to the batch. Calls and batches that nobody traces make no
//! span.

mod export;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use http::HeaderMap;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{
        BatchSpanProcessor, IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks, SpanProcessor,
    },
};

pub use self::export::TracesError;
use crate::clock::wall_time;

/// The header with the trace of the caller (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// Maximum number of calls that the span of a batch has links to.
const LINKS_MAX: usize = 128;

/// The codes of gRPC that are faults of the server: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and
/// DATA_LOSS.
const CODES_OF_SERVER: [i32; 6] = [2, 4, 12, 13, 14, 15];

/// Which calls are traced, and the way of their spans to the collector.
#[derive(Debug)]
pub struct Traces {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    propagator: TraceContextPropagator,
    /// A call without a sampled parent is traced if its number, scattered, is below this one.
    sampled_below: u64,
    calls: AtomicU64,
}

/// A call that is traced.
pub struct CallTrace {
    traces: Arc<Traces>,
    context: SpanContext,
    /// The span of the caller, if it has one.
    parent: Option<SpanId>,
    /// When the operations of the call were first put into the queue of a lane.
    queued_at: OnceLock<Instant>,
}

/// A transaction of a traced batch, which has ended.
#[derive(Debug)]
pub struct EndedTransaction {
    /// The name of the transaction.
    pub name: &'static str,
    /// How it ended, as the metrics say.
    pub outcome: &'static str,
    /// The instant at which it began.
    pub began: Instant,
    /// The instant at which it ended.
    pub ended: Instant,
}

tokio::task_local! {
    /// The transactions that have ended since the traced batch of this task began.
    static ENDED: RefCell<Vec<EndedTransaction>>;
}

impl Traces {
    /// Begins to trace a part of the calls, from 0 to 1. Does not wait for the collector.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used.
    pub fn start(endpoint: &str, sample: f64) -> Result<Self, TracesError> {
        Ok(Self::on(export::processor(endpoint)?, sample))
    }

    fn on(processor: BatchSpanProcessor, sample: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of all numbers, which need not be exact"
        )]
        let sampled_below = (sample * u64::MAX as f64) as u64;
        Self {
            processor,
            scope: InstrumentationScope::builder("tope").build(),
            propagator: TraceContextPropagator::new(),
            sampled_below,
            calls: AtomicU64::new(0),
        }
    }

    /// Decides whether a call with these headers is traced.
    pub fn call(self: &Arc<Self>, headers: &HeaderMap) -> Option<Arc<CallTrace>> {
        let caller = match headers.contains_key(TRACEPARENT) {
            true => self.propagator.extract(&Headers(headers)).span().span_context().clone(),
            false => SpanContext::NONE,
        };
        let is_sampled = match caller.is_valid() {
            true => caller.is_sampled(),
            false => scatter(self.calls.fetch_add(1, Ordering::Relaxed)) < self.sampled_below,
        };
        if !is_sampled {
            return None;
        }
        let (trace, parent) = match caller.is_valid() {
            true => (caller.trace_id(), Some(caller.span_id())),
            false => (RandomIdGenerator::default().new_trace_id(), None),
        };
        let context = context(trace);
        Some(Arc::new(CallTrace { traces: Arc::clone(self), context, parent, queued_at: OnceLock::new() }))
    }

    /// Sends the spans that were not sent yet, for a few seconds at most.
    pub async fn stop(self: Arc<Self>) {
        // The processor blocks the thread meanwhile. An error says that the collector does not answer.
        let _ = tokio::task::spawn_blocking(move || self.processor.shutdown()).await;
    }

    fn emit(&self, span: Span) {
        let (parent, remote) = span.parent.map_or((SpanId::INVALID, false), |parent| parent);
        let mut links = SpanLinks::default();
        links.links = span.links;
        self.processor.on_end(SpanData {
            span_context: span.context,
            parent_span_id: parent,
            parent_span_is_remote: remote,
            span_kind: span.kind,
            name: span.name.into(),
            start_time: wall_time(span.began),
            end_time: wall_time(span.ended),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: span.status,
            instrumentation_scope: self.scope.clone(),
        });
    }
}

/// A span that has ended.
struct Span {
    context: SpanContext,
    /// The span above this one, and whether it is one of the caller.
    parent: Option<(SpanId, bool)>,
    kind: SpanKind,
    name: String,
    began: Instant,
    ended: Instant,
    attributes: Vec<KeyValue>,
    links: Vec<Link>,
    status: Status,
}

impl Span {
    /// Makes a span within the server.
    fn inner(
        context: SpanContext,
        parent: Option<SpanId>,
        name: String,
        began: Instant,
        ended: Instant,
    ) -> Self {
        let parent = parent.map(|parent| (parent, false));
        let (attributes, links, status) = (Vec::new(), Vec::new(), Status::Unset);
        Self { context, parent, kind: SpanKind::Internal, name, began, ended, attributes, links, status }
    }
}

impl CallTrace {
    /// Notes when the operations of the call were put into a queue. Only the first time counts.
    pub fn note_queued(&self, queued_at: Instant) {
        let _ = self.queued_at.set(queued_at);
    }

    /// Emits the span of the call, which ends now. `method` is such as `tope.v1.QuotaService/Reserve`.
    pub fn end(&self, method: &str, code: i32, began: Instant) {
        let (service, rpc) = method.split_once('/').unwrap_or((method, ""));
        let attributes = vec![
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service.to_owned()),
            KeyValue::new("rpc.method", rpc.to_owned()),
            KeyValue::new("rpc.grpc.status_code", i64::from(code)),
        ];
        let status = if CODES_OF_SERVER.contains(&code) { Status::error("") } else { Status::Unset };
        let parent = self.parent.map(|parent| (parent, true));
        self.traces.emit(Span {
            parent,
            kind: SpanKind::Server,
            attributes,
            status,
            ..Span::inner(self.context.clone(), None, method.to_owned(), began, Instant::now())
        });
    }

    /// Emits the span of the wait of the call's operations for this batch.
    fn end_wait(&self, began: Instant, batch: &SpanContext) {
        let queued_at = self.queued_at.get().copied().unwrap_or(began);
        let context = context(self.context.trace_id());
        let links = vec![Link::with_context(batch.clone())];
        let wait = Span::inner(context, Some(self.context.span_id()), "wait".to_owned(), queued_at, began);
        self.traces.emit(Span { links, ..wait });
    }
}

impl fmt::Debug for CallTrace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CallTrace").field("context", &self.context).finish_non_exhaustive()
    }
}

/// Emits the spans of a batch that began at `began` and ends now, if operations of traced calls are in it: the waits of
/// these calls, the batch and its transactions.
pub fn end_batch<'a>(
    calls: impl Iterator<Item = &'a Arc<CallTrace>>,
    began: Instant,
    operations: usize,
    transactions: Vec<EndedTransaction>,
) {
    let mut traced: Vec<&Arc<CallTrace>> = calls.collect();
    // A call may have several operations in the batch.
    traced.sort_unstable_by_key(|call| Arc::as_ptr(call));
    traced.dedup_by_key(|call| Arc::as_ptr(call));
    let Some(first) = traced.first() else { return };
    let traces = Arc::clone(&first.traces);
    let batch = context(RandomIdGenerator::default().new_trace_id());
    for call in &traced {
        call.end_wait(began, &batch);
    }
    for transaction in transactions {
        let context = context(batch.trace_id());
        let EndedTransaction { name, outcome, began, ended } = transaction;
        let span = Span::inner(context, Some(batch.span_id()), format!("transaction {name}"), began, ended);
        traces.emit(Span { attributes: vec![KeyValue::new("tope.outcome", outcome)], ..span });
    }
    let links = traced.iter().take(LINKS_MAX).map(|call| Link::with_context(call.context.clone())).collect();
    let operations = i64::try_from(operations).unwrap_or(i64::MAX);
    let attributes = vec![KeyValue::new("tope.operations", operations)];
    let span = Span::inner(batch, None, "batch".to_owned(), began, Instant::now());
    traces.emit(Span { attributes, links, ..span });
}

/// Runs a part of a batch, and returns also the transactions that ended in it, if the batch is traced.
pub async fn with_transactions<T>(
    is_traced: bool,
    part: impl Future<Output = T>,
) -> (T, Vec<EndedTransaction>) {
    if !is_traced {
        return (part.await, Vec::new());
    }
    let part = async { (part.await, ENDED.with(RefCell::take)) };
    ENDED.scope(RefCell::default(), part).await
}

/// Notes the end of a transaction, if it is one of a traced batch.
pub fn note_transaction(name: &'static str, outcome: &'static str, began: Instant) {
    // Fails outside of a traced batch.
    let _ = ENDED.try_with(|ended| {
        ended.borrow_mut().push(EndedTransaction { name, outcome, began, ended: Instant::now() });
    });
}

/// Makes the context of a new span in a trace. The caller's `tracestate`, which can be long, is not passed on.
fn context(trace: TraceId) -> SpanContext {
    let span = RandomIdGenerator::default().new_span_id();
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

/// Scatters numbers that follow each other over all numbers (the finalizer of SplitMix64).
fn scatter(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The headers of a call, for the propagator.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
