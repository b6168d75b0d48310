//! Check: decides what a Reserve would get now. A Check reserves nothing, and counts no refusal.

use super::{
    super::{books::Books, operation::Check, plan::Enforcement, refusal::Refusal, tenant::TenantState},
    reply::{Checked, Outcome, Verdict},
    reserve::grants,
    stop::{Context, Stop},
    touch::{Applied, TouchedOrFaults, refusal_of_new_counters, require},
};

pub(super) fn check(
    books: &mut Books,
    context: &Context<'_>,
    check: &Check,
    touched: TouchedOrFaults<'_>,
) -> Result<Checked, Stop> {
    let touched = touched?;
    require(books, touched.iter().flat_map(|t| t.applied.iter().map(|applied| &applied.key)))?;
    let agent = check.subject.agent.as_str();
    let suspended = books.tenant.state == TenantState::Suspended || books.terms.is_suspended(agent);
    let (granted, violations) =
        match grants(books, agent, touched, check.amounts.iter().map(|ask| (ask.quantity, ask.minimum))) {
            Ok(grants) => (grants.granted, Vec::new()),
            Err(Refusal::QuotaExceeded(violations)) => (Vec::new(), violations),
            Err(other) => return Err(other.into()),
        };
    let mut verdicts = Vec::new();
    for (touched, ask) in touched.iter().zip(&check.amounts) {
        for applied in touched.applied.iter().filter(|applied| applied.limit.is_some()) {
            verdicts.push(verdict(books, applied, ask.quantity, ask.minimum));
        }
        if let Some(meter) = touched.refused_meter(&books.terms, agent).filter(|_| ask.quantity != 0) {
            let balance = books.balance(&meter.key, None, meter.fresh);
            verdicts.push(Verdict { requested: ask.quantity, outcome: Outcome::Refuse, balance });
        }
    }
    let too_many_counters = refusal_of_new_counters(books, context, touched)?.is_some();
    let granted = if suspended || too_many_counters { Vec::new() } else { granted };
    let granted =
        touched.iter().zip(granted).map(|(touched, quantity)| (touched.resource, quantity)).collect();
    Ok(Checked { verdicts, granted, violations, suspended, too_many_counters })
}

fn verdict(books: &Books, applied: &Applied, quantity: i64, minimum: i64) -> Verdict {
    let balance = books.balance(&applied.key, applied.limit.as_ref(), applied.fresh);
    let remaining = balance.remaining().unwrap_or(i64::MAX);
    let hard = applied.limit.as_ref().is_some_and(|limit| limit.enforcement == Enforcement::Hard);
    let outcome = match (hard, remaining) {
        (_, remaining) if remaining >= quantity || quantity == 0 => Outcome::Pass,
        (false, _) => Outcome::Exceed,
        (true, remaining) if remaining >= minimum => Outcome::Partial,
        (true, _) => Outcome::Refuse,
    };
    Verdict { requested: quantity, outcome, balance }
}
