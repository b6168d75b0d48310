//! Balances: the counters of the chosen limits and meters of a tenant, in pages.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    super::{
        ask::{Failure, TenantRef},
        batch::charged_keys,
    },
    CHUNK, Page, Reader, SCAN_ROWS_MAX, View, failed, refused,
};
use crate::{
    domain::{
        books::Books,
        calendar::Calendar,
        counter::{Balance, Counter, CounterKey, HEAD_START, NOT_LOADED},
        faults::Faults,
        id::ResourceKey,
        operation::{DimensionFilter, Fingerprinter},
        plan::{Limit, Policy},
        refusal::{Fault, Refusal},
        shape::Labels,
        terms::Terms,
        timing::{METER, Timing},
        window::{Cycle, Period, WindowOfCycle},
    },
    store::{StoreError, StoredCounter},
};

/// Chooses balances, and a page of them.
#[derive(Clone, Debug, Default)]
pub struct UsageQuery {
    /// The id of the tenant.
    pub tenant: String,
    /// The values that a counter must have. A counter that counts all values of a dimension together passes, whatever
    /// the value.
    pub filter: DimensionFilter,
    /// The values that the labels of a counter must have. A counter that counts all values of a label together passes.
    pub labels: Labels,
    /// The ids of the resources. Empty: all resources.
    pub resources: Vec<String>,
    /// The place at which the previous page ended.
    pub after: Option<UsagePlace>,
    /// Maximum number of balances on the page.
    pub limit: usize,
}

/// A place in the list of balances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsagePlace {
    /// A fingerprint of the list: what is counted, and in which windows. In a list with another fingerprint the place
    /// has no meaning.
    pub list: [u8; 8],
    /// Position among the chosen limits of the plan and, after them, the meters of the chosen resources.
    pub position: usize,
    /// The last counter that was read for this position. `None`: no counter was read yet.
    pub key: Option<CounterKey>,
}

/// The subject of a balance: a limit or, without a limit, a meter.
struct Counted {
    limit: Option<Arc<Limit>>,
    resource: ResourceKey,
    /// Whether the limit is of a plan that agents have, and the counters of all of these agents are meant.
    of_agents: bool,
}

impl Counted {
    /// Returns a key that stands for the shape in this window. For a shape that does not have many counters, it is the
    /// key of its only counter. Of different shapes with the same key, only one has many counters.
    fn key_of_shape(&self, window: WindowOfCycle) -> CounterKey {
        match &self.limit {
            Some(limit) => CounterKey::of_shape(&limit.shape, window, &limit.shape.selected()),
            None => CounterKey::of_meter(self.resource),
        }
    }

    /// Returns whether there can be several counters.
    fn has_many_counters(&self) -> bool {
        self.of_agents || self.limit.as_ref().is_some_and(|limit| limit.shape.has_many_counters())
    }

    /// Returns the limit that reads the counter, if the counter is meant.
    fn limit_of<'a>(&'a self, view: &'a View, key: &'a CounterKey) -> Option<&'a Arc<Limit>> {
        let limit = self.limit.as_ref()?;
        if !self.of_agents {
            return limit.shape.counts(key, &view.tenant.calendars).then_some(limit);
        }
        let is_same = |of_agent: &&Arc<Limit>| {
            of_agent.source.agent.is_some()
                && (&of_agent.id, &of_agent.source.plan) == (&limit.id, &limit.source.plan)
        };
        view.terms.limits_of(key, &view.tenant.calendars).find(is_same)
    }

    fn timing(&self) -> &Timing {
        self.limit.as_ref().map_or(&METER, |limit| &limit.shape.timing)
    }
}

/// The counter of a balance.
struct FoundCounter {
    key: CounterKey,
    /// `None`: the counter does not exist yet.
    stored: Option<StoredCounter>,
    /// The counter or, if it does not exist yet, a counter without usage.
    counter: Counter,
}

/// The counters found for one limit or meter.
#[derive(Default)]
struct Found {
    counters: Vec<FoundCounter>,
    /// The counters from which the limit carries over to a counter that does not exist yet.
    sources: Vec<(CounterKey, Option<StoredCounter>)>,
    /// The last key that was read. `None`: there are no more counters.
    last_key: Option<CounterKey>,
    scanned: usize,
}

impl Reader {
    /// Reads a page of the balances of a tenant.
    pub async fn usage(&self, query: &UsageQuery) -> Result<Page<Balance, UsagePlace>, Failure> {
        self.open("usage", &TenantRef::Id(query.tenant.clone()), None).await?.usage(query).await
    }
}

impl View {
    /// Reads a page of the balances of the tenant.
    pub(super) async fn usage(&self, query: &UsageQuery) -> Result<Page<Balance, UsagePlace>, Failure> {
        let frame = self.frame();
        let chosen = chosen(&self.policy, &query.resources).map_err(|refusal| refused(refusal, &frame))?;
        let mut books = self.books();
        self.load_due(&mut books).await.map_err(failed)?;
        let all = counted(&self.policy, &self.terms, &chosen, query);
        let mut calendar = Calendar::default();
        let list = self.fingerprint(&all, &mut calendar);
        let mut place = query.after.clone().unwrap_or(UsagePlace { list, position: 0, key: None });
        if place.list != list {
            let text = "must be left out to start again, since limits or windows have changed meanwhile";
            return Err(refused(Refusal::Invalid(vec![Fault::new("page_token", text)]), &frame));
        }
        let mut page = Page { entries: Vec::new(), next: None, frame };
        let mut scanned = 0;
        while let Some(counted) = all.get(place.position) {
            let room = query.limit - page.entries.len();
            let found =
                self.counters_of(counted, &books, &mut calendar, &place, query).await.map_err(failed)?;
            scanned += found.scanned;
            found.sources.into_iter().for_each(|(key, stored)| books.load_counter(key, stored));
            for FoundCounter { key, stored, counter } in found.counters.into_iter().take(room) {
                books.load_counter(key.clone(), stored);
                let limit = counted.limit_of(self, &key).map(|limit| self.terms.at(limit, &key, self.now));
                page.entries.push(books.balance(&key, limit, counter));
                // Counters of ROLLING are listed by their heads.
                place.key = Some(if key.is_rolling() { key.head() } else { key });
            }
            if found.last_key.is_none() && page.entries.len() < query.limit {
                place = UsagePlace { list, position: place.position + 1, key: None };
                if scanned >= SCAN_ROWS_MAX && place.position < all.len() {
                    page.next = Some(place);
                    return Ok(page);
                }
                continue;
            }
            if page.entries.len() >= query.limit || scanned >= SCAN_ROWS_MAX {
                page.next = Some(place);
                return Ok(page);
            }
            place.key = found.last_key;
        }
        Ok(page)
    }

    /// Returns a fingerprint of the list of balances: limits, shapes and windows, in their order. Quantities are not
    /// part of it.
    fn fingerprint(&self, counted: &[Counted], calendar: &mut Calendar) -> [u8; 8] {
        let print = Fingerprinter::new("balances").number(self.tenant.key.0);
        let print = counted.iter().fold(print, |print, counted| {
            let window = calendar.window(&self.tenant.calendars, counted.timing(), self.now);
            let id = counted.limit.as_ref().map_or("", |limit| limit.id.as_str());
            let many = i64::from(counted.has_many_counters()) + i64::from(counted.of_agents);
            print.text(id).number(many).bytes(counted.key_of_shape(window).as_bytes())
        });
        let mut list = [0; 8];
        list.copy_from_slice(&print.finish()[..8]);
        list
    }

    fn books(&self) -> Books {
        Books::open(self.tenant.clone(), Arc::clone(&self.terms), self.now, None)
    }

    async fn load_due(&self, books: &mut Books) -> Result<(), StoreError> {
        if self.tenant.next_due > self.now {
            return Ok(());
        }
        let mut after = None;
        loop {
            let page =
                self.transaction.list_holds_by_deadline(self.tenant.key, after, self.now, CHUNK).await?;
            let charged: HashSet<_> = charged_keys(&page).map(|key| (self.tenant.key, key.clone())).collect();
            let charged: Vec<_> = charged.into_iter().collect();
            for (_, (key, counter)) in self.transaction.find_counters(&charged).await? {
                books.load_counter(key, Some(counter));
            }
            page.iter().for_each(|hold| books.load_due(hold));
            match page.last() {
                Some(last) => after = Some((last.deadline, last.id)),
                None => return Ok(()),
            }
        }
    }

    /// Lists the counters of a limit or meter in its running window, from a place on.
    async fn counters_of(
        &self,
        counted: &Counted,
        books: &Books,
        calendar: &mut Calendar,
        place: &UsagePlace,
        query: &UsageQuery,
    ) -> Result<Found, StoreError> {
        let window = calendar.window(&self.tenant.calendars, counted.timing(), self.now);
        if window.cycle.period() == Period::Rolling {
            return self.rolling_counters(counted, window.cycle, place, query).await;
        }
        let tenant = self.tenant.key;
        if !counted.has_many_counters() {
            // Such a limit or meter has at most one counter.
            return if place.key.is_some() {
                Ok(Found::default())
            } else {
                self.single_counter(counted, books, window, query).await
            };
        }
        let prefix = CounterKey::prefix(counted.resource, window.cycle, window.window.start);
        let rows = self.transaction.list_counters(tenant, &prefix, place.key.as_ref(), CHUNK).await?;
        // A statement that finds nothing costs something, too.
        let scanned = rows.len().max(1);
        let last_key = (rows.len() == CHUNK).then(|| rows.last().map(|(key, _)| key.clone())).flatten();
        let of_limit = |key: &CounterKey| passes(query, key) && counted.limit_of(self, key).is_some();
        let counters = rows.into_iter().filter(|(key, _)| of_limit(key));
        let counters = counters
            .map(|(key, stored)| FoundCounter { key, counter: stored.0, stored: Some(stored) })
            .collect();
        Ok(Found { counters, sources: Vec::new(), last_key, scanned })
    }

    /// Lists the counters of a limit of ROLLING: of all subjects that have a running window. If the limit has only one
    /// counter, lists the head as long as no window is running.
    async fn rolling_counters(
        &self,
        counted: &Counted,
        cycle: Cycle,
        place: &UsagePlace,
        query: &UsageQuery,
    ) -> Result<Found, StoreError> {
        let tenant = self.tenant.key;
        let many = counted.has_many_counters();
        let head = counted.key_of_shape(WindowOfCycle { window: NOT_LOADED, cycle });
        let heads = if many {
            let prefix = CounterKey::prefix(counted.resource, cycle, HEAD_START);
            self.transaction.list_counters(tenant, &prefix, place.key.as_ref(), CHUNK).await?
        } else if place.key.is_some() {
            return Ok(Found::default());
        } else {
            let found = self.transaction.find_counters(&[(tenant, head.clone())]).await?;
            found.into_iter().map(|(_, head)| head).collect()
        };
        let last_key = (heads.len() == CHUNK).then(|| heads.last().map(|(key, _)| key.clone())).flatten();
        let of_limit = |key: &CounterKey| passes(query, key) && counted.limit_of(self, key).is_some();
        let running = heads.iter().filter(|(key, (head, _))| head.window.end > self.now && of_limit(key));
        let running: Vec<_> = running
            .filter_map(|(key, (head, _))| Some((tenant, key.newest_of_head(head.window.end)?)))
            .collect();
        let found = self.transaction.find_counters(&running).await?;
        let mut counters: Vec<_> = found
            .into_iter()
            .map(|(_, (key, stored))| FoundCounter { key, counter: stored.0, stored: Some(stored) })
            .collect();
        // In the order of the heads, which pages continue.
        counters.sort_unstable_by_key(|found| found.key.head());
        let scanned = heads.len() + running.len() + 1;
        if !many && counters.is_empty() && of_limit(&head) {
            let stored = heads.into_iter().next().map(|(_, stored)| stored);
            counters.push(FoundCounter { key: head, stored, counter: Counter::not_begun(self.now) });
        }
        Ok(Found { counters, sources: Vec::new(), last_key, scanned })
    }

    async fn single_counter(
        &self,
        counted: &Counted,
        books: &Books,
        window: WindowOfCycle,
        query: &UsageQuery,
    ) -> Result<Found, StoreError> {
        let key = counted.key_of_shape(window);
        if !passes(query, &key) {
            return Ok(Found::default());
        }
        let sources = books.sources_of(&key);
        let keys: Vec<_> = sources.iter().chain([&key]).map(|key| (self.tenant.key, key.clone())).collect();
        let rows = self.transaction.find_counters(&keys).await?;
        let mut rows: HashMap<CounterKey, StoredCounter> = rows.into_iter().map(|(_, row)| row).collect();
        let stored = rows.remove(&key);
        let since = counted
            .limit
            .as_ref()
            .map(|limit| self.tenant.new_counter_since(&key, self.tenant.counts_since(limit, &key)));
        // A limit is shown even if its counter does not exist yet. A meter is shown only if its counter exists.
        let fresh = since.map(|since| Counter::fresh(window.window, since));
        let counter = stored.as_ref().map(|(counter, _)| *counter).or(fresh);
        let counters = counter.map(|counter| FoundCounter { key, stored, counter }).into_iter().collect();
        let sources = sources.into_iter().map(|source| (source.clone(), rows.remove(&source))).collect();
        Ok(Found { counters, sources, last_key: None, scanned: keys.len() })
    }
}

/// Returns the keys of the named resources. `None`: all resources.
pub(super) fn chosen(policy: &Policy, names: &[String]) -> Result<Option<Vec<ResourceKey>>, Refusal> {
    let mut faults = Faults::default();
    let mut keys = Vec::with_capacity(names.len());
    for (place, name) in names.iter().enumerate() {
        match policy.find_resource(name) {
            Some(key) => keys.push(key),
            None => faults.add(
                format_args!("resources[{place}]"),
                format_args!("must be a declared resource; {name:?} is not"),
            ),
        }
    }
    faults.into_result((!names.is_empty()).then_some(keys))
}

/// Lists the limits and meters whose counters can match the query: the limits of the tenant's plan, those of the plan
/// of the agent that the query names, and meters. If the query names no agent, the counters of all agents' plans are
/// listed that were used.
fn counted(
    policy: &Policy,
    terms: &Terms,
    chosen: &Option<Vec<ResourceKey>>,
    query: &UsageQuery,
) -> Vec<Counted> {
    let limit = |limit: &Arc<Limit>, of_agents| Counted {
        resource: limit.shape.resource,
        limit: Some(Arc::clone(limit)),
        of_agents,
    };
    let mut all: Vec<Counted> = terms.plan.limits.iter().map(|found| limit(found, false)).collect();
    match &query.filter.agent {
        Some(agent) => all.extend(terms.limits_of_agent(agent).iter().map(|found| limit(found, false))),
        None => {
            let plans = terms.agents_plans().flat_map(|plan| &plan.limits);
            all.extend(plans.map(|found| limit(found, true)));
        }
    }
    let declared = policy.resources.values().filter(|resource| !resource.deleted);
    all.extend(declared.map(|resource| Counted { limit: None, resource: resource.key, of_agents: false }));
    all.retain(|counted| chosen.as_ref().is_none_or(|chosen| chosen.contains(&counted.resource)));
    all
}

fn passes(query: &UsageQuery, key: &CounterKey) -> bool {
    let values = key.dimensions();
    let mut labels = key.labels();
    let wanted = |label: &str| query.labels.iter().find(|(key, _)| key == label).map(|(_, value)| value);
    labels.all(|(label, value)| wanted(label).is_none_or(|wanted| wanted == value))
        && query.filter.iter().all(|(dimension, wanted)| match (wanted, values[dimension]) {
            (Some(wanted), Some(value)) => wanted == value,
            (None, _) | (_, None) => true,
        })
}
