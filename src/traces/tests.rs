//! Tests of the choice of calls. The tests with a collector are in `tests/it/spans.rs`.

use http::HeaderValue;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn traces(sample: f64) -> Arc<Traces> {
    Arc::new(Traces::on(BatchSpanProcessor::builder(Quiet).build(), sample))
}

/// An exporter that drops all spans.
#[derive(Debug)]
struct Quiet;

impl opentelemetry_sdk::trace::SpanExporter for Quiet {
    async fn export(&self, _: Vec<SpanData>) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }
}

fn headers(parent: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", HeaderValue::from_str(parent).expect("a header"));
    headers
}

#[test]
fn the_caller_decides_whether_its_call_is_traced() {
    for sample in [0.0, 1.0] {
        let traces = traces(sample);
        let sampled =
            traces.call(&headers(&format!("00-{TRACE}-b7ad6b7169203331-01"))).expect("it is sampled");
        assert_eq!(sampled.context.trace_id().to_string(), TRACE);
        assert_eq!(sampled.parent.expect("it has a parent").to_string(), "b7ad6b7169203331");
        assert!(traces.call(&headers(&format!("00-{TRACE}-b7ad6b7169203331-00"))).is_none());
    }
}

#[test]
fn a_part_of_the_calls_without_a_valid_parent_is_traced() {
    let malformed =
        ["", "00", "00-0-0-01", "garbage", "00-00000000000000000000000000000000-b7ad6b7169203331-01"];
    for headers in malformed.map(headers).into_iter().chain([HeaderMap::new()]) {
        let count = |sample| {
            let traces = traces(sample);
            (0..4_000).filter(|_| traces.call(&headers).is_some()).count()
        };
        assert_eq!(count(0.0), 0);
        assert_eq!(count(1.0), 4_000);
        let quarter = count(0.25);
        assert!((900..1_100).contains(&quarter), "{quarter} of 4,000");
    }
}
