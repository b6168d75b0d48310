//! Messages that both services have: instants, balances and reservations.

use std::collections::HashMap;

use super::v1;
use crate::domain::{
    counter::{Balance, Counter, CounterKey},
    event::{Event, Figures},
    hint::wait_seconds,
    id::{ResourceKey, TenantKey, reservation_name},
    plan::{Enforcement, Policy},
    refusal::{Retry, Violation},
    reservation::{OnExpiry, Reservation, ReservationState},
    window::{Millis, Period, WINDOW_END_NONE},
};

/// The message of an instant.
pub(super) fn timestamp(millis: Millis) -> prost_types::Timestamp {
    let nanos = millis.rem_euclid(1_000) * 1_000_000;
    prost_types::Timestamp { seconds: millis.div_euclid(1_000), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// How long to wait until no violation is left, in whole seconds, rounded up. `None` if waiting never helps, or if
/// there is no violation.
pub(super) fn retry_delay(violations: &[Violation], now: Millis) -> Option<i64> {
    let mut latest = None;
    for violation in violations {
        match violation.retry {
            Retry::Never => return None,
            Retry::At(at) => latest = latest.max(Some(at)),
        }
    }
    latest.map(|at| wait_seconds(at, now))
}

/// The message of a reservation, with its tenant's key and id. `name` gives the ids of resources.
pub(super) fn reservation<'a>(
    reservation: &Reservation,
    (tenant_key, tenant): (TenantKey, &str),
    name: impl Fn(ResourceKey) -> &'a str,
) -> v1::Reservation {
    let mut amounts: Vec<v1::ReservationAmount> = reservation
        .amounts
        .iter()
        .map(|amount| v1::ReservationAmount {
            resource: name(amount.resource).to_owned(),
            reserved: amount.reserved,
            committed: amount.committed,
            overrun: if reservation.record { 0 } else { amount.overrun() },
        })
        .collect();
    amounts.sort_unstable_by(|a, b| a.resource.cmp(&b.resource));
    let held = reservation.state == ReservationState::Reserved;
    v1::Reservation {
        name: reservation_name(tenant_key, reservation.id),
        tenant: tenant.to_owned(),
        agent: reservation.subject.agent.clone(),
        user: reservation.subject.user.clone(),
        model: reservation.subject.model.clone(),
        state: state(reservation.state).into(),
        amounts,
        create_time: Some(timestamp(reservation.created_at)),
        expire_time: (!reservation.record).then(|| timestamp(reservation.deadline)),
        settle_time: (!held).then(|| timestamp(reservation.settled_at)),
        on_expiry: match reservation.on_expiry {
            _ if reservation.record => v1::OnExpiry::Unspecified,
            OnExpiry::Release => v1::OnExpiry::Release,
            OnExpiry::Charge => v1::OnExpiry::Charge,
        }
        .into(),
        late: reservation.late,
        labels: reservation.labels.iter().cloned().collect::<HashMap<_, _>>(),
        request_id: reservation.request_id.clone(),
    }
}

fn state(state: ReservationState) -> v1::ReservationState {
    match state {
        ReservationState::Reserved => v1::ReservationState::Reserved,
        ReservationState::Committed => v1::ReservationState::Committed,
        ReservationState::Released => v1::ReservationState::Released,
        ReservationState::Expired => v1::ReservationState::Expired,
    }
}

/// The messages of balances, with the names of their resources.
pub(super) fn balances(balances: &[Balance], policy: &Policy) -> Vec<v1::Balance> {
    balances.iter().map(|balance| self::balance(balance, policy)).collect()
}

/// The message of a balance, with the name of its resource.
pub(super) fn balance(balance: &Balance, policy: &Policy) -> v1::Balance {
    let limit = balance.limit.as_deref();
    let limit = limit.map(|limit| (limit.id.as_str(), limit.quantity, limit.quantity, limit.enforcement));
    let resource = policy.resource_id(balance.key.resource());
    wire_balance(resource, &balance.key, limit, &balance.counter, balance.refused)
}

/// The message of a balance in an event.
pub(super) fn figures(figures: &Figures, event: &Event) -> v1::Balance {
    let limit = figures.limit.as_ref();
    let limit = limit.map(|limit| (limit.id.as_str(), limit.quantity, limit.allowance, limit.enforcement));
    let resource = event.resource_id(figures.key.resource());
    wire_balance(resource, &figures.key, limit, &figures.counter, figures.refused)
}

/// The message of a balance. `limit` is id, quantity, allowance and enforcement.
fn wire_balance(
    resource: &str,
    key: &CounterKey,
    limit: Option<(&str, i64, i64, Enforcement)>,
    counter: &Counter,
    refused: i64,
) -> v1::Balance {
    let endless = counter.window.end == WINDOW_END_NONE;
    let [agent, user, model] = key.dimensions().map(|value| value.map(str::to_owned));
    let allowance = limit.map(|(_, _, allowance, _)| allowance);
    let used = counter.committed.saturating_add(counter.reserved);
    let remaining = allowance.map(|allowance| allowance.saturating_sub(used));
    v1::Balance {
        resource: resource.to_owned(),
        limit_id: limit.map(|(id, ..)| id.to_owned()).unwrap_or_default(),
        quantity: limit.map(|(_, quantity, ..)| quantity),
        allowance,
        committed: counter.committed,
        reserved: counter.reserved,
        remaining: remaining.map(|remaining| remaining.max(0)),
        window_start: (!endless).then(|| timestamp(counter.window.start)),
        window_end: (!endless).then(|| timestamp(counter.window.end)),
        counted_since: Some(timestamp(counter.counted_since.at)),
        enforcement: match limit.map(|(.., enforcement)| enforcement) {
            None => v1::Enforcement::Unspecified,
            Some(Enforcement::Hard) => v1::Enforcement::Hard,
            Some(Enforcement::Soft) => v1::Enforcement::Soft,
            Some(Enforcement::Observe) => v1::Enforcement::Observe,
        }
        .into(),
        agent,
        user,
        model,
        exceeded: remaining.is_some_and(|remaining| remaining < 0),
        period: match key.period() {
            Period::Day => v1::Period::Day,
            Period::Month => v1::Period::Month,
            Period::Lifetime | Period::Meter => v1::Period::Lifetime,
        }
        .into(),
        refused,
    }
}
