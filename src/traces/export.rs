//! The way of the spans to the collector: batches, by OTLP over gRPC. If the collector is away, spans are dropped.

use std::{error::Error, fmt, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter as Export, SpanProcessor},
};
use rustls::RootCertStore;
use tonic::transport::ClientTlsConfig;

use crate::seldom::Seldom;

/// Maximum time of one batch of spans to the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of spans that wait. Further spans are dropped.
const QUEUE_SPANS_MAX: usize = 8_192;

/// Time after which spans are sent, also if they are few.
const EXPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Why calls cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The exporter does not accept the endpoint.
    #[error("otlp_endpoint cannot be used")]
    Endpoint(#[from] ExporterBuildError),
    /// The endpoint has TLS, and the system has no CA.
    #[error("otlp_endpoint begins with https, and this system has no CAs")]
    NoCas,
}

/// Makes the processor that collects spans and sends them.
pub(super) fn processor(endpoint: &str) -> Result<BatchSpanProcessor, TracesError> {
    let mut exporter =
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
    if endpoint.starts_with("https") {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TracesError::NoCas);
        }
        exporter = exporter.with_tls_config(ClientTlsConfig::new().trust_anchors(roots.roots));
    }
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS_MAX)
        .with_scheduled_delay(EXPORT_INTERVAL)
        .build();
    let mut processor =
        BatchSpanProcessor::builder(Reported(exporter.build()?)).with_batch_config(config).build();
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    // The attributes of OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, if they are set, replace these.
    let resource = Resource::builder_empty()
        .with_service_name("tope")
        .with_attribute(version)
        .with_detector(Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new()))
        .build();
    processor.set_resource(&resource);
    Ok(processor)
}

/// An exporter whose failures are logged, once a minute.
struct Reported(SpanExporter);

impl Export for Reported {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        static FAILED: Seldom<()> = Seldom::new();
        let count = spans.len();
        let outcome = self.0.export(spans).await;
        if let Err(error) = &outcome
            && let Some(left_out) = FAILED.due(())
        {
            tracing::warn!(
                error = error as &dyn Error,
                trace.spans = count,
                log.left_out = left_out,
                "the collector of otlp_endpoint did not accept spans, which are lost"
            );
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

impl fmt::Debug for Reported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reported")
    }
}
