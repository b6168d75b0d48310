//! The figures of one server, for Prometheus. Each server has its own registry, so two servers in one process never mix
//! their figures.
//!
//! The module knows no other part of the server. Each part records its figures at one place: calls in `grpc`,
//! operations and batches in `engine`, transactions and events in `store`. A record is a few atomic additions. Figures
//! that another part already has, such as the length of a queue, are set when somebody asks for the page.
//!
//! Labels are bounded. Their values come from the code, except the ids of limits, see [`Operations::refuse`], and the
//! ids of tenants, if an operator asks for them, see [`Metrics::follow_tenants`].

mod allocator;
mod make;
mod openmetrics;
mod operations;
mod rpcs;
mod server;
mod table;
mod tenants;
mod transactions;

pub use self::{
    make::Absent,
    operations::{OperationKind, OperationOutcome, Operations},
    rpcs::{RpcTable, RpcTimer, Rpcs},
    server::{Books, Database, Deliveries, Events, Jobs, Jwks, Lanes},
    tenants::Tenants,
    transactions::{Ending, TransactionTimer, Transactions},
};

use std::sync::{Arc, OnceLock};

use prometheus::{IntGauge, Registry, TextEncoder};

use self::{
    allocator::Allocator,
    make::{gauge, gauge_of},
};

/// The format of the page of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Text,
    /// The text format of OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Returns the content type of a page in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The figures of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The calls of clients.
    pub rpcs: Rpcs,
    /// The operations that lanes decide, and the batches.
    pub operations: Operations,
    /// The queues of the lanes.
    pub lanes: Lanes,
    /// The named transactions, by outcome.
    pub transactions: Arc<Transactions>,
    /// The database, and the rows that the books have.
    pub database: Database,
    /// The log of events.
    pub events: Events,
    /// The deliveries to webhooks.
    pub deliveries: Deliveries,
    /// The runs of jobs.
    pub jobs: Jobs,
    /// The verification of the books.
    pub books: Books,
    /// The keys of the identity provider.
    pub jwks: Jwks,
    /// Number of watchers at present.
    pub watchers: IntGauge,
    /// When the certificate of TLS expires, as unix time in seconds. Unknown without TLS.
    pub tls_expiry: Absent,
    allocator: Allocator,
    tenants: OnceLock<Tenants>,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let build =
            gauge_of(&registry, "tope_build_info", "The version of the program; always 1.", &["version"]);
        build.with_label_values(&[env!("TOPE_VERSION")]).set(1.0);
        collect_process(&registry);
        Self {
            rpcs: Rpcs::new(&registry),
            operations: Operations::new(&registry),
            lanes: Lanes::new(&registry),
            transactions: Arc::new(Transactions::new(&registry)),
            database: Database::new(&registry),
            events: Events::new(&registry),
            deliveries: Deliveries::new(&registry),
            jobs: Jobs::new(&registry),
            books: Books::new(&registry),
            jwks: Jwks::new(&registry),
            watchers: gauge(&registry, "tope_watchers", "WatchUsage calls that are open."),
            tls_expiry: Absent::new(
                &registry,
                "tope_tls_certificate_expiry_timestamp_seconds",
                "When the certificate of TLS that new connections use expires, as unix time.",
            ),
            allocator: Allocator::new(&registry),
            tenants: OnceLock::new(),
            registry,
        }
    }
}

impl Metrics {
    /// Shows the operations of this number of tenants, those that are the busiest. 0: of no tenant, which is the
    /// default. Only the first call has an effect.
    pub fn follow_tenants(&self, shown: usize) {
        if shown > 0 {
            self.tenants.get_or_init(|| Tenants::new(&self.registry, shown));
        }
    }

    /// Returns the figures of the busiest tenants. `None`: nobody asks for them.
    pub fn tenants(&self) -> Option<&Tenants> {
        self.tenants.get()
    }

    /// Writes all figures as a page. A metric that has no value yet is left out.
    ///
    /// # Errors
    ///
    /// The text of an error of the encoder, which is a defect.
    pub fn render(&self, format: Format) -> Result<String, String> {
        self.allocator.measure();
        let families = self.registry.gather();
        match format {
            Format::Text => TextEncoder::new().encode_to_string(&families).map_err(|error| error.to_string()),
            Format::OpenMetrics => openmetrics::encode(&families).map_err(|error| error.to_string()),
        }
    }
}

/// Adds the metrics `process_…`, which have the same names in all programs: memory, CPU time, open files, start time.
#[cfg(target_os = "linux")]
fn collect_process(registry: &Registry) {
    let collector = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(collector)).expect("each metric is registered once");
}

/// Does nothing: only Linux has these figures in /proc.
#[cfg(not(target_os = "linux"))]
fn collect_process(_: &Registry) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_have_separate_figures() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.events.written.inc_by(3);
        let line = |metrics: &Metrics| {
            let page = metrics.render(Format::Text).expect("a page");
            page.lines().find(|line| line.starts_with("tope_events_written_total ")).map(str::to_owned)
        };
        assert_eq!(line(&one).as_deref(), Some("tope_events_written_total 3"));
        assert_eq!(line(&other).as_deref(), Some("tope_events_written_total 0"));
    }

    #[test]
    fn the_ids_of_limits_are_bounded() {
        let metrics = Metrics::default();
        for number in 0..10_000 {
            metrics.operations.refuse(Some(&format!("limit \"{number}\"\n")));
        }
        metrics.operations.refuse(None);
        let page = metrics.render(Format::Text).expect("a page");
        let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("tope_refusals_total{")).collect();
        assert_eq!(lines.len(), operations::LIMITS_MAX + 2, "the known limits, all others, and no limit");
        assert!(lines.contains(&"tope_refusals_total{limit=\"(none)\"} 1"), "{lines:?}");
        assert!(lines.contains(&"tope_refusals_total{limit=\"(other)\"} 9800"), "{lines:?}");
        assert!(lines.contains(&r#"tope_refusals_total{limit="limit \"7\"\n"} 1"#), "{lines:?}");
    }

    #[test]
    fn unknown_rpcs_share_one_label() {
        let metrics = Metrics::default();
        let table = Arc::new(metrics.rpcs.table(["/a.S/Known".to_owned()].into_iter()));
        for number in 0..1_000 {
            table.begin(&format!("/a.S/Unknown{number}")).end(12);
        }
        table.begin("/a.S/Known").end(0);
        drop(table.begin("/a.S/Known"));
        let page = metrics.render(Format::Text).expect("a page");
        let mut counts: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("tope_rpc_duration_seconds_count")).collect();
        counts.sort_unstable();
        let expected = [
            "{code=\"CANCELLED\",method=\"a.S/Known\"} 1",
            "{code=\"OK\",method=\"a.S/Known\"} 1",
            "{code=\"UNIMPLEMENTED\",method=\"(unknown)\"} 1000",
        ];
        assert_eq!(counts, expected);
        assert!(page.contains("\ntope_rpcs_in_flight 0\n"), "{page}");
    }
}
