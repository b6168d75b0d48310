//! Traces, as a collector that speaks OTLP over gRPC receives them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use data_encoding::HEXLOWER;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

use crate::harness::{
    database::scratch_folder,
    postgres::free_port,
    process::{run, said, tope},
    *,
};
use tope::grpc::v1::{BatchRequest, Operation, ReserveAmount, ReserveRequest, operation};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A collector that remembers what it received.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    /// The attributes of the resources, by name.
    resource: Arc<Mutex<HashMap<String, String>>>,
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let service = TraceServiceServer::new(collector.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (collector, address)
    }

    /// Waits until a span of this name has come, and returns all spans that came.
    async fn await_span(&self, name: &str) -> Vec<Span> {
        eventually(name, async || {
            let spans = self.spans.lock().expect("no test panics meanwhile").clone();
            spans.iter().any(|span| span.name == name).then_some(spans)
        })
        .await
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            for attribute in spans.resource.unwrap_or_default().attributes {
                if let Some(Value::StringValue(value)) = attribute.value.and_then(|value| value.value) {
                    self.resource.lock().expect("no test panics meanwhile").insert(attribute.key, value);
                }
            }
            let spans = spans.scope_spans.into_iter().flat_map(|spans| spans.spans);
            self.spans.lock().expect("no test panics meanwhile").extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn traced<T>(message: T, parent: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", parent.parse().expect("ASCII"));
    request
}

fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

fn reserve(tokens: i64) -> ReserveRequest {
    let amount =
        ReserveAmount { resource: "tokens".to_owned(), quantity: tokens, ..ReserveAmount::default() };
    let amounts = vec![amount];
    ReserveRequest { tenant: "acme".to_owned(), amounts, ..ReserveRequest::default() }
}

on_both! {
    async fn a_traced_reserve_is_linked_to_its_batch(kind: Kind) {
        let (database, (collector, address)) = (Database::fresh(kind), Collector::start().await);
        let endpoint = format!("http://{address}");
        let (process, channel) = Process::serving(
            database.url(),
            &database.path(""),
            &["--demo", "--otlp-endpoint", &endpoint, "--otlp-sample", "0"],
        )
        .await;
        let clients = Clients::of(channel);
        clients.record("acme").tokens(1).await.expect("a call that is not traced");
        let unsampled = traced(reserve(1), &format!("00-{TRACE}-{PARENT}-00"));
        clients.quota.clone().reserve(unsampled).await.expect("its caller is not sampled");
        let sampled = traced(reserve(5), &format!("00-{TRACE}-{PARENT}-01"));
        clients.quota.clone().reserve(sampled).await.expect("a traced call");

        let call = "tope.v1.QuotaService/Reserve";
        let spans = collector.await_span(call).await;
        let (call, wait, batch) = (only(&spans, call), only(&spans, "wait"), only(&spans, "batch"));
        assert_eq!(HEXLOWER.encode(&call.trace_id), TRACE);
        assert_eq!(HEXLOWER.encode(&call.parent_span_id), PARENT);
        assert_eq!((&wait.trace_id, &wait.parent_span_id), (&call.trace_id, &call.span_id));
        assert!(batch.parent_span_id.is_empty() && batch.trace_id != call.trace_id);
        let links = |span: &Span| -> Vec<Vec<u8>> {
            span.links.iter().map(|link| [&link.trace_id[..], &link.span_id[..]].concat()).collect()
        };
        assert_eq!(links(batch), [[&call.trace_id[..], &call.span_id[..]].concat()]);
        assert_eq!(links(wait), [[&batch.trace_id[..], &batch.span_id[..]].concat()]);
        let transaction = spans.iter().find(|span| span.name.starts_with("transaction "));
        let transaction = transaction.unwrap_or_else(|| panic!("no transaction in {spans:#?}"));
        assert_eq!((&transaction.trace_id, &transaction.parent_span_id), (&batch.trace_id, &batch.span_id));
        for span in [wait, transaction] {
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        }
        assert!(transaction.start_time_unix_nano >= batch.start_time_unix_nano.saturating_sub(1_000_000));
        let status = call.attributes.iter().find(|attribute| attribute.key == "rpc.grpc.status_code");
        let status = status.and_then(|attribute| attribute.value.clone()?.value);
        assert_eq!(status, Some(Value::IntValue(0)));
        let resource = collector.resource.lock().expect("no test panics meanwhile").clone();
        assert_eq!(resource.get("service.name").map(String::as_str), Some("tope"));
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_of_one_call_share_its_trace_and_the_end_of_the_server_sends_the_rest() {
    let (folder, (collector, address)) = (scratch_folder(), Collector::start().await);
    let (process, channel) = Process::serving(
        &format!("sqlite://{}", folder.path().join("tope.db").display()),
        folder.path(),
        &["--demo", "--otlp-endpoint", &format!("http://{address}"), "--otlp-sample", "1"],
    )
    .await;
    let mut quota = Clients::of(channel).quota.clone();
    let operation =
        |number: i64| Operation { operation: Some(operation::Operation::Reserve(reserve(number))) };
    let batch = BatchRequest { operations: (1..=5).map(operation).collect() };
    quota.batch(batch).await.expect("five operations");
    quota.reserve(reserve(-1)).await.expect_err("a negative quantity");
    process.stop().await;

    let spans = collector.spans.lock().expect("the server has ended").clone();
    let call = only(&spans, "tope.v1.QuotaService/Batch");
    let waits: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == call.span_id).collect();
    assert_eq!(waits.len(), 1, "all operations are of one batch: {waits:?}");
    let batch = spans.iter().find(|span| span.name == "batch").expect("a batch");
    let operations = batch.attributes.iter().find(|attribute| attribute.key == "tope.operations");
    let operations = operations.and_then(|attribute| attribute.value.clone()?.value);
    assert_eq!(operations, Some(Value::IntValue(5)));
    let refused = only(&spans, "tope.v1.QuotaService/Reserve");
    assert!(!spans.iter().any(|span| span.parent_span_id == refused.span_id), "it came to no batch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_wait_for_a_collector_that_is_away() {
    let folder = scratch_folder();
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let (process, channel) = Process::serving(
        &format!("sqlite://{}", folder.path().join("tope.db").display()),
        folder.path(),
        &["--demo", "--otlp-endpoint", &endpoint, "--otlp-sample", "1"],
    )
    .await;
    let clients = Clients::of(channel);
    for _ in 0..100 {
        clients.record("acme").tokens(1).await.expect("the collector does not matter");
    }
    eventually("the loss is logged", async || {
        process.log().contains("the collector of otlp_endpoint did not accept spans").then_some(())
    })
    .await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_traces_that_cannot_be_used_are_refused() {
    let cases = [
        (["--otlp-endpoint", "127.0.0.1:4317"], "otlp_endpoint must be a URL such as http://127.0.0.1:4317"),
        (["--otlp-endpoint", "http://host:4317/v1/traces"], "without a path"),
        (["--otlp-sample", "1.5"], "otlp_sample must be 0 to 1, but is 1.5"),
        (["--otlp-sample", "NaN"], "otlp_sample must be 0 to 1"),
        (["--otlp-sample", "all"], "otlp"),
    ];
    for (arguments, reason) in cases {
        let mut command = tope();
        command.arg("serve").args(arguments);
        let output = run(command).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(reason), "{arguments:?}: {}", said(&output));
    }
}
