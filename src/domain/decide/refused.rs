//! Which refusals are counted (R5.6). To count a refusal, its counter must exist. So refusals must not make counters
//! without a bound.

use super::{
    super::{books::Books, counter::CounterKey, refusal::Violation},
    stop::Stop,
    touch::{key_of_window_before, require},
};

/// Returns the violations that are counted. A new subject has no counter in the running window, and none in the window
/// before. Its refusals by a limit with windows shorter than an hour are not counted, because the counters of such
/// windows do not count towards the tenant's bound (R4.48).
pub(super) fn counted<'a>(books: &Books, violations: &'a [Violation]) -> Result<Vec<&'a Violation>, Stop> {
    let before: Vec<Option<CounterKey>> =
        violations.iter().map(|violation| unbounded(books, violation)).collect();
    require(books, before.iter().flatten())?;
    let is_known = |before: &Option<CounterKey>| before.as_ref().is_none_or(|key| books.has_counter(key));
    Ok(violations
        .iter()
        .zip(&before)
        .filter(|(_, before)| is_known(before))
        .map(|(found, _)| found)
        .collect())
}

/// Returns the counter of the window before, if to count the refusal makes a counter of one subject that does not count
/// towards the tenant's bound. `None`: it makes no such counter. With the period ROLLING, a refusal that makes a row
/// makes a head, which counts towards the bound.
fn unbounded(books: &Books, violation: &Violation) -> Option<CounterKey> {
    let balance = &violation.balance;
    let limit = balance.limit.as_ref()?;
    let (key, window) = (&balance.key, balance.counter.window);
    let makes = key.is_of_one_subject() && !key.is_rolling() && !books.has_counter(key);
    (makes && !window.is_bounded()).then(|| key_of_window_before(books, limit, key))
}
