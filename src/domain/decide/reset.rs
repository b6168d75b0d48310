//! ResetUsage: sets `committed` of running windows to zero, each by an adjustment (R4.18).

use std::{collections::HashSet, sync::Arc};

use super::{
    super::{
        audit::{COUNTERS_MAX, Note, ResetCounter},
        books::{Adjustment, Books, FORGIVEN_REASON, Method, Request},
        bounds::RESET_COUNTERS_MAX,
        counter::{Balance, Counter, CounterKey},
        event::{Fact, Figures},
        faults::Faults,
        id::{ReservationId, ResourceKey},
        operation::{DimensionFilter, Reset},
        plan::Policy,
        refusal::Refusal,
        shape::Labels,
        terms::Terms,
        timing::TenantCalendar,
        window::Period,
    },
    audited,
    reply::Reply,
    stop::{Context, Stop, find_replay},
    touch::{counter_of_line, require},
};

/// Resets the chosen counters. All counters that may match must be in the books, even if no limit reads them.
pub(super) fn reset(
    books: &mut Books,
    context: &mut Context<'_>,
    reset: &Reset,
    id: ReservationId,
) -> Result<Reply, Stop> {
    let replayed = find_replay(books, reset.request.as_ref(), Method::Reset)?.map(|first| first.reservation);
    let made = books.find_adjustments(replayed.unwrap_or(id));
    if replayed.is_some() || !made.is_empty() {
        return repeat(books, context, &made);
    }
    let choice = Choice::of(context.policy, books, reset)?;
    let running = |key: &&CounterKey| {
        let counter = books.find_counter(key);
        counter.is_some_and(|counter| counter.committed != 0 && counter.window.contains(context.now))
    };
    let chosen = books.counter_keys().filter(|key| choice.contains(key));
    let mut keys: Vec<CounterKey> = chosen.filter(running).cloned().collect();
    if keys.len() > RESET_COUNTERS_MAX {
        return Err(Refusal::TooManyCounters(RESET_COUNTERS_MAX).into());
    }
    keys.sort_unstable();
    let count = keys.len();
    let mut counters = Vec::new();
    let mut balances = Vec::new();
    let mut adjusted = Vec::new();
    for (number, key) in (0..).zip(keys) {
        let counter = counter_of_line(books, context.calendar, &key, context.now);
        let delta = counter.committed.saturating_neg();
        let of_row = books.forgive(&key, context.now, counter);
        // `delta` also subtracts the charges of due holds that are not yet swept. No reservation contains these charges
        // yet, so a correction adds them again. When the sweep enters such a charge in its reservation, it subtracts
        // the charge by another correction.
        books.correct(&key, of_row - delta, FORGIVEN_REASON);
        books.insert_adjustment(Adjustment {
            id: id.part(number),
            key: key.clone(),
            delta,
            reason: reset.reason.clone(),
            operator: reset.operator.clone(),
        });
        let of_counter = books.balances_of(&key, counter);
        books.note(Fact::Reset {
            delta,
            reason: reset.reason.clone(),
            operator: reset.operator.clone(),
            caller: context.author.map(|author| author.caller.clone()).unwrap_or_default(),
            figures: of_counter.iter().cloned().map(Figures::from).collect(),
        });
        if context.author.is_some() && counters.len() < COUNTERS_MAX {
            counters.push(reset_counter(context.policy, &key, &counter, &of_counter));
        }
        balances.extend(of_counter);
        adjusted.resize(balances.len(), delta);
    }
    let note = Note { reason: reset.reason.clone(), operator: reset.operator.clone() };
    audited::usage(books, context, id, counters, count, note);
    if let Some(request) = &reset.request {
        let made = Request {
            fingerprint: request.fingerprint,
            method: Method::Reset,
            reservation: id,
            answer: None,
        };
        books.insert_request(request.id.clone(), made);
    }
    Ok(Reply::Reset { balances, adjusted })
}

/// Describes a counter for the audit. `counter` is the counter before the reset.
fn reset_counter(policy: &Policy, key: &CounterKey, counter: &Counter, after: &[Balance]) -> ResetCounter {
    let limits = after.iter().filter_map(|balance| Some(balance.limit.as_ref()?.id.clone()));
    ResetCounter {
        resource: policy.resource_id(key.resource()).to_owned(),
        key: key.clone(),
        window: counter.window,
        limits: limits.collect(),
        before: counter.committed,
        after: after.first().map_or(0, |balance| balance.counter.committed),
    }
}

/// Returns the reply to a retry: the adjustments of the first call, and the present balances.
fn repeat(books: &Books, context: &mut Context<'_>, made: &[Adjustment]) -> Result<Reply, Stop> {
    require(books, made.iter().map(|adjustment| &adjustment.key))?;
    let mut balances = Vec::new();
    let mut adjusted = Vec::new();
    for Adjustment { key, delta, .. } in made {
        let counter = counter_of_line(books, context.calendar, key, context.now);
        balances.extend(books.balances_of(key, counter));
        adjusted.resize(balances.len(), *delta);
    }
    Ok(Reply::Reset { balances, adjusted })
}

/// The limits that a ResetUsage names.
#[derive(Debug)]
struct NamedLimits<'a> {
    ids: HashSet<&'a str>,
    /// The resources of these limits.
    resources: HashSet<ResourceKey>,
    terms: Arc<Terms>,
    /// The calendars of the tenant, by which the limits have their windows.
    calendars: Vec<TenantCalendar>,
}

/// The counters that a ResetUsage chooses, in any window.
#[derive(Debug)]
pub struct Choice<'a> {
    /// `None`: all resources are chosen, but no meters.
    resources: Option<HashSet<ResourceKey>>,
    /// The limits whose counters are chosen. `None`: all counters are chosen, except those of LIFETIME limits.
    limits: Option<NamedLimits<'a>>,
    filter: &'a DimensionFilter,
    labels: &'a Labels,
}

impl NamedLimits<'_> {
    /// Returns whether one of the limits reads the counter.
    fn contain(&self, key: &CounterKey) -> bool {
        self.terms.limits_of(key, &self.calendars).any(|limit| self.ids.contains(limit.id.as_str()))
    }
}

impl<'a> Choice<'a> {
    /// Makes the choice of a ResetUsage. Refused if a resource is not declared, or if neither the tenant's
    /// plan nor an agent's plan has a limit.
    pub fn of(policy: &Policy, books: &Books, reset: &'a Reset) -> Result<Self, Refusal> {
        let mut resources = HashSet::new();
        let mut faults = Faults::default();
        for (place, name) in reset.resources.iter().enumerate() {
            match policy.find_resource(name) {
                Some(resource) => {
                    resources.insert(resource);
                }
                None => faults.add(
                    format_args!("resources[{place}]"),
                    format_args!("must be a declared resource; {name:?} is not"),
                ),
            }
        }
        let mut limits = NamedLimits {
            ids: HashSet::new(),
            resources: HashSet::new(),
            terms: Arc::clone(&books.terms),
            calendars: books.tenant.calendars.clone(),
        };
        for (place, id) in reset.limits.iter().enumerate() {
            limits.ids.insert(id);
            limits.resources.extend(books.terms.limits_named(id).map(|limit| limit.shape.resource));
            if books.terms.limits_named(id).next().is_none() {
                let plan = &books.terms.plan.id;
                faults.add(
                    format_args!("limit_ids[{place}]"),
                    format_args!(
                        "must be the id of a limit of plan {plan:?}, or of an agent's plan; {id:?} is not"
                    ),
                );
            }
        }
        let resources = (!reset.resources.is_empty()).then_some(resources);
        let limits = (!reset.limits.is_empty()).then_some(limits);
        faults.into_result(Self { resources, limits, filter: &reset.filter, labels: &reset.labels })
    }

    /// Returns whether some counters of this resource and period may be chosen. If not, none of them is chosen.
    pub fn may_contain(&self, resource: ResourceKey, period: Period) -> bool {
        self.resources.as_ref().is_none_or(|resources| resources.contains(&resource))
            && match &self.limits {
                Some(limits) => limits.resources.contains(&resource),
                // What counts for ever is reset only if it is named.
                None => match period {
                    Period::Lifetime => false,
                    Period::Meter => self.resources.is_some(),
                    _ => true,
                },
            }
    }

    /// Returns whether this counter is chosen.
    pub fn contains(&self, key: &CounterKey) -> bool {
        let values = key.dimensions();
        let mut filter = self.filter.iter();
        let has = |key: &CounterKey, (label, wanted): &(String, String)| {
            key.labels().any(|(own, value)| own == label && value == wanted)
        };
        filter.all(|(dimension, wanted)| wanted.is_none() || wanted.as_deref() == values[dimension])
            && self.labels.iter().all(|label| has(key, label))
            && self.may_contain(key.resource(), key.period())
            && self.limits.as_ref().is_none_or(|named| named.contain(key))
    }
}
