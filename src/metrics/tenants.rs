//! The busiest tenants, with a series each. A server has these series only if an operator asks for them.
//!
//! Some more tenants are followed than are shown. If a new tenant has no place, it takes the place of the tenant with
//! the lowest score, and gets that score (the algorithm "space-saving"). So a tenant that is busy gets a place and keeps
//! it, and tenants that come once leave again. Scores are halved from time to time, so that they say who is busy now.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{
    IntCounterVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::operations::OperationOutcome;

/// Number of tenants that are followed for each tenant that is shown.
const FOLLOWED_TIMES: usize = 4;

/// Minimum number of tenants that are followed.
const FOLLOWED_MIN: usize = 100;

/// Time after which all scores are halved.
const HALF_LIFE: Duration = Duration::from_secs(300);

/// Number of outcomes of operations.
const OUTCOMES: usize = OperationOutcome::LABELS.len();

/// The operations of the busiest tenants. Cheap to clone; all clones share their figures.
#[derive(Clone, Debug)]
pub struct Tenants {
    busiest: Arc<Mutex<Busiest>>,
    /// An empty vector, for its description.
    empty: IntCounterVec,
}

#[derive(Debug)]
struct Busiest {
    shown: usize,
    followed_max: usize,
    tenants: HashMap<Arc<str>, Followed>,
    /// The tenants with their scores, lowest first.
    ranks: BTreeSet<(u64, Arc<str>)>,
    halved_at: Instant,
}

/// A tenant that has a place.
#[derive(Debug)]
struct Followed {
    /// About the number of operations lately, and at least the real number.
    score: u64,
    /// The exact number of operations of each outcome since the tenant got its place.
    counts: [u64; OUTCOMES],
}

impl Tenants {
    /// Registers the metric, which shows this number of tenants.
    pub(super) fn new(registry: &Registry, shown: usize) -> Self {
        let tenants = Self { busiest: Arc::new(Mutex::new(Busiest::new(shown))), empty: vector() };
        registry.register(Box::new(tenants.clone())).expect("each metric is registered once");
        tenants
    }

    /// Counts an operation of a tenant that exists.
    pub fn count(&self, tenant: &Arc<str>, outcome: OperationOutcome) {
        self.lock().count(tenant, outcome as usize);
    }

    fn lock(&self) -> MutexGuard<'_, Busiest> {
        self.busiest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn vector() -> IntCounterVec {
    let help = "Operations of the busiest tenants since the server began to count them, by outcome.";
    let opts = Opts::new("tope_tenant_operations_total", help);
    let made = IntCounterVec::new(opts, &["tenant", "outcome"]);
    made.expect("the name and the labels of a metric are constants that Prometheus accepts")
}

impl Collector for Tenants {
    fn desc(&self) -> Vec<&Desc> {
        self.empty.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut busiest = self.lock();
        busiest.halve_at(Instant::now());
        let counters = vector();
        for (_, tenant) in busiest.ranks.iter().rev().take(busiest.shown) {
            let counts = busiest.tenants.get(tenant).map(|followed| followed.counts).unwrap_or_default();
            for (outcome, count) in
                OperationOutcome::LABELS.iter().zip(counts).filter(|(_, count)| *count > 0)
            {
                counters.with_label_values(&[&**tenant, *outcome]).inc_by(count);
            }
        }
        counters.collect()
    }
}

impl Busiest {
    fn new(shown: usize) -> Self {
        let followed_max = (shown * FOLLOWED_TIMES).max(FOLLOWED_MIN);
        let (tenants, ranks) = (HashMap::new(), BTreeSet::new());
        Self { shown, followed_max, tenants, ranks, halved_at: Instant::now() }
    }

    fn count(&mut self, tenant: &Arc<str>, outcome: usize) {
        let mut followed = match self.tenants.remove_entry(tenant) {
            Some((name, followed)) => {
                let rank = (followed.score, name);
                self.ranks.remove(&rank);
                followed
            }
            None => Followed { score: self.make_room(), counts: [0; OUTCOMES] },
        };
        followed.score += 1;
        followed.counts[outcome] += 1;
        self.ranks.insert((followed.score, Arc::clone(tenant)));
        self.tenants.insert(Arc::clone(tenant), followed);
    }

    /// Returns the score with which a new tenant begins. If there is no room, the tenant with the lowest score leaves.
    fn make_room(&mut self) -> u64 {
        if self.tenants.len() < self.followed_max {
            return 0;
        }
        let Some((score, leaving)) = self.ranks.pop_first() else { return 0 };
        self.tenants.remove(&leaving);
        score
    }

    /// Halves all scores if the time has come.
    fn halve_at(&mut self, now: Instant) {
        if now.saturating_duration_since(self.halved_at) < HALF_LIFE {
            return;
        }
        self.halved_at = now;
        self.ranks.clear();
        for (tenant, followed) in &mut self.tenants {
            followed.score /= 2;
            self.ranks.insert((followed.score, Arc::clone(tenant)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: usize = OperationOutcome::Ok as usize;

    fn count(busiest: &mut Busiest, tenant: &str, times: usize) {
        for _ in 0..times {
            busiest.count(&Arc::from(tenant), OK);
        }
    }

    fn first(busiest: &Busiest, count: usize) -> Vec<&str> {
        busiest.ranks.iter().rev().take(count).map(|(_, tenant)| &**tenant).collect()
    }

    #[test]
    fn busy_tenants_keep_their_places_among_many_that_come_once() {
        let mut busiest = Busiest::new(2);
        for round in 0..100 {
            for number in 0..50 {
                count(&mut busiest, &format!("once-{round}-{number}"), 1);
            }
            count(&mut busiest, "busy", 20);
            count(&mut busiest, "busier", 30);
        }
        assert_eq!(first(&busiest, 2), ["busier", "busy"]);
        assert_eq!(busiest.tenants["busier"].counts[OK], 3_000, "the count of a busy tenant is exact");
        assert_eq!((busiest.tenants.len(), busiest.ranks.len()), (FOLLOWED_MIN, FOLLOWED_MIN));
    }

    #[test]
    fn a_tenant_that_is_busy_now_comes_before_a_tenant_that_was_busy_once() {
        let mut busiest = Busiest::new(1);
        count(&mut busiest, "formerly", 1_000);
        count(&mut busiest, "now", 200);
        assert_eq!(first(&busiest, 1), ["formerly"]);
        let began = busiest.halved_at;
        busiest.halve_at(began + HALF_LIFE / 2);
        assert_eq!(busiest.tenants["formerly"].score, 1_000);
        for time in 1..=3 {
            busiest.halve_at(began + HALF_LIFE * time);
            count(&mut busiest, "now", 200);
        }
        assert_eq!(first(&busiest, 1), ["now"]);
        assert_eq!(busiest.tenants["now"].counts[OK], 800, "counts are never halved");
    }

    #[test]
    fn at_most_the_wanted_number_of_tenants_is_shown() {
        let registry = Registry::new();
        let tenants = Tenants::new(&registry, 2);
        assert!(registry.gather().is_empty(), "there are no tenants yet");
        for (tenant, times) in [("a", 3), ("b", 1), ("c", 2)] {
            for _ in 0..times {
                tenants.count(&Arc::from(tenant), OperationOutcome::QuotaExceeded);
            }
        }
        let families = registry.gather();
        let shown: Vec<_> = families[0]
            .get_metric()
            .iter()
            .map(|metric| (metric.get_label()[1].value().to_owned(), metric.get_counter().get_value()))
            .collect();
        assert_eq!(shown, [("a".to_owned(), 3.0), ("c".to_owned(), 2.0)]);
    }
}
