//! Makes metrics and registers them. Each name is registered once, so registering never fails.

use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector,
};

fn registered<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let made = made.expect("the name and the labels of a metric are constants that Prometheus accepts");
    registry.register(Box::new(made.clone())).expect("each metric is registered once");
    made
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

pub(super) fn counter_of(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help))
}

pub(super) fn gauge_of(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    registered(registry, GaugeVec::new(Opts::new(name, help), labels))
}

pub(super) fn histogram_of(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> HistogramVec {
    registered(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
}

/// A gauge that is left out of the page while its value is unknown. An old value would look as if it were true.
#[derive(Debug)]
pub struct Absent(GaugeVec);

impl Absent {
    pub(super) fn new(registry: &Registry, name: &str, help: &str) -> Self {
        Self(gauge_of(registry, name, help, &[]))
    }

    /// Sets the value. `None`: the value is unknown.
    pub fn set(&self, value: Option<f64>) {
        match value {
            Some(value) => self.gauge().set(value),
            None => self.0.reset(),
        }
    }

    fn gauge(&self) -> Gauge {
        self.0.with_label_values::<&str>(&[])
    }
}
