//! ResetUsage: what was committed in the running windows becomes zero, and an adjustment says so.

use std::collections::HashSet;

use super::{
    super::{
        books::{Adjustment, Books, Method, Request},
        bounds::RESET_COUNTERS_MAX,
        counter::CounterKey,
        event::{Fact, Figures},
        faults::Faults,
        id::{ReservationId, ResourceKey},
        operation::Reset,
        refusal::Refusal,
        window::Period,
    },
    Context, Reply, Stop, find_replay,
    touch::{fresh_of_line, require},
};

/// The counters that the operation may be about must be in the books: those of the running windows that the plan reads, and
/// meters.
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
    let mut chosen = HashSet::new();
    let mut faults = Faults::default();
    for (place, name) in reset.resources.iter().enumerate() {
        match context.policy.find_resource(name) {
            Some(resource) => {
                chosen.insert(resource);
            }
            None => faults.add(
                format_args!("resources[{place}]"),
                format_args!("must be a declared resource; {name:?} is not"),
            ),
        }
    }
    faults.into_result(())?;
    let mut keys: Vec<CounterKey> =
        books.counter_keys().filter(|key| matches(books, context, reset, &chosen, key)).cloned().collect();
    if keys.len() > RESET_COUNTERS_MAX {
        return Err(Refusal::TooManyCounters(RESET_COUNTERS_MAX).into());
    }
    keys.sort_unstable();
    let mut balances = Vec::new();
    let mut adjusted = Vec::new();
    for (number, key) in (0..).zip(keys) {
        let counter = fresh_of_line(books, context.calendar, &key, context.now);
        let delta = counter.committed.saturating_neg();
        books.add(&key, delta, 0, counter);
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
            figures: of_counter.iter().cloned().map(Figures::from).collect(),
        });
        balances.extend(of_counter);
        adjusted.resize(balances.len(), delta);
    }
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

/// It took effect before: what it did then, with the balances of now.
fn repeat(books: &Books, context: &mut Context<'_>, made: &[Adjustment]) -> Result<Reply, Stop> {
    require(books, made.iter().map(|adjustment| &adjustment.key))?;
    let mut balances = Vec::new();
    let mut adjusted = Vec::new();
    for Adjustment { key, delta, .. } in made {
        let counter = fresh_of_line(books, context.calendar, key, context.now);
        balances.extend(books.balances_of(key, counter));
        adjusted.resize(balances.len(), *delta);
    }
    Ok(Reply::Reset { balances, adjusted })
}

/// Whether the counter is one to be reset: of the chosen resources and subjects, running, not at zero, and one that the
/// plan reads, or a meter. Of those that no limit reads some may be in the books by chance.
fn matches(
    books: &Books,
    context: &Context<'_>,
    reset: &Reset,
    chosen: &HashSet<ResourceKey>,
    key: &CounterKey,
) -> bool {
    let subject = reset.filter.iter().zip(key.dimensions());
    let mut values =
        subject.map(|(wanted, value)| wanted.as_deref().is_none_or(|wanted| value == Some(wanted)));
    let used = |key| {
        books
            .find_counter(key)
            .is_some_and(|counter| counter.committed != 0 && counter.window.contains(context.now))
    };
    let counted =
        key.period() == Period::Meter || books.plan.limits.iter().any(|limit| limit.shape.counts(key));
    counted && (chosen.is_empty() || chosen.contains(&key.resource())) && values.all(|fits| fits) && used(key)
}
