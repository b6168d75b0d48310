//! Enums and messages that both services have: instants, balances and reservations.

use std::collections::HashMap;

use super::v1;
use crate::domain::{
    access::{KeyState, Role},
    agent::AgentState,
    amendment::Amendment,
    counter::{Balance, Counter, CounterKey},
    event::{Event, Figures, SourceFigures},
    hint::wait_seconds,
    id::{ReservationName, ResourceKey, TenantKey},
    overrides::OverrideState,
    plan::{Enforcement, Policy, Uncovered},
    refusal::{Retry, Violation},
    reservation::{OnExpiry, Reservation, ReservationState},
    shape::{Dimension, PerDimension},
    tenant::TenantState,
    time::Time,
    webhook::{DeliveryState, WebhookState},
    window::Period,
};

/// Implements the conversions between enums of the domain and enums of the same names in the protos, in both
/// directions, from one table. If only one of the two enums has a value, the code does not compile. For a value that
/// only the domain has, the table can name a value of the proto (`as`).
macro_rules! enum_conversions {
    ($($enum:ident: $($value:ident)+ $(, $own:ident as $wire:ident)?;)+) => {$(
        impl From<$enum> for v1::$enum {
            fn from(value: $enum) -> Self {
                match value {
                    $($enum::$value => v1::$enum::$value,)+
                    $($enum::$own => v1::$enum::$wire,)?
                }
            }
        }

        impl From<v1::$enum> for Option<$enum> {
            /// Converts a value of the enum in the protos. `None`: the field was not set.
            fn from(value: v1::$enum) -> Self {
                match value {
                    v1::$enum::Unspecified => None,
                    $(v1::$enum::$value => Some($enum::$value),)+
                }
            }
        }
    )+};
}

enum_conversions! {
    AgentState: Active Suspended;
    DeliveryState: Pending Delivered Failed;
    Dimension: Agent User Model;
    Enforcement: Hard Soft Observe;
    KeyState: Active Revoked;
    OnExpiry: Release Charge;
    OverrideState: Scheduled Active Ended Inert;
    Period: Minute Hour Day Week Month Year Lifetime Rolling, Meter as Lifetime;
    ReservationState: Reserved Committed Released Expired;
    Role: Admin Operator Viewer Spender;
    TenantState: Active Suspended;
    Uncovered: Meter Refuse;
    WebhookState: Active Disabled Gone Failed;
}

/// Returns the message of an instant.
pub(super) fn timestamp(Time(millis): Time) -> prost_types::Timestamp {
    let nanos = millis.rem_euclid(1_000) * 1_000_000;
    prost_types::Timestamp { seconds: millis.div_euclid(1_000), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// Returns the time after which no violation is left, in whole seconds, rounded up. `None` if waiting never helps, or
/// if there is no violation.
pub(super) fn retry_delay(violations: &[Violation], now: Time) -> Option<i64> {
    let mut latest = None;
    for violation in violations {
        match violation.retry {
            Retry::Never => return None,
            Retry::At(at) => latest = latest.max(Some(at)),
        }
    }
    latest.map(|at| wait_seconds(at, now))
}

/// Returns the message of a reservation of the tenant with this key and id. `name` returns the ids of resources.
pub(super) fn reservation<'a>(
    reservation: &Reservation,
    tenant_key: TenantKey,
    tenant: &str,
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
    let on_expiry = if reservation.record { v1::OnExpiry::Unspecified } else { reservation.on_expiry.into() };
    v1::Reservation {
        name: ReservationName { tenant: tenant_key, id: reservation.id }.to_string(),
        tenant: tenant.to_owned(),
        agent: reservation.subject.agent.clone(),
        user: reservation.subject.user.clone(),
        model: reservation.subject.model.clone(),
        state: v1::ReservationState::from(reservation.state).into(),
        amounts,
        create_time: Some(timestamp(reservation.created_at)),
        expire_time: (!reservation.record).then(|| timestamp(reservation.deadline)),
        settle_time: reservation.settled_at.map(timestamp),
        on_expiry: on_expiry.into(),
        late: reservation.late,
        labels: reservation.subject.labels.iter().cloned().collect::<HashMap<_, _>>(),
        request_id: reservation.request_id.clone(),
        amendments: Vec::new(),
        occurred_time: reservation.occurred_at.map(timestamp),
        served: reservation.served.as_deref().cloned().map(|served| {
            let PerDimension { agent, user, model } = served;
            v1::Served { agent, user, model }
        }),
    }
}

/// Returns the message of a correction by Amend. `name` returns the ids of resources.
pub(super) fn amendment<'a>(amendment: &Amendment, name: impl Fn(ResourceKey) -> &'a str) -> v1::Amendment {
    let amounts = amendment.changes.iter().map(|change| v1::AmendedAmount {
        resource: name(change.resource).to_owned(),
        before: change.before,
        after: change.after,
    });
    let mut amounts: Vec<v1::AmendedAmount> = amounts.collect();
    amounts.sort_unstable_by(|a, b| a.resource.cmp(&b.resource));
    v1::Amendment {
        amend_time: Some(timestamp(amendment.at)),
        operator: amendment.operator.clone(),
        reason: amendment.reason.clone(),
        amounts,
    }
}

/// Returns the messages of balances, with the names of their resources.
pub(super) fn balances(balances: &[Balance], policy: &Policy) -> Vec<v1::Balance> {
    balances.iter().map(|balance| self::balance(balance, policy)).collect()
}

/// Returns the message of a balance, with the name of its resource.
pub(super) fn balance(balance: &Balance, policy: &Policy) -> v1::Balance {
    let limit = balance.limit.as_deref().map(|limit| WireLimit {
        id: &limit.id,
        quantity: limit.quantity,
        allowance: balance.allowance().unwrap_or(limit.quantity),
        carried: balance.carried,
        enforcement: limit.enforcement,
        source: SourceFigures::from(&limit.source),
    });
    let resource = policy.resource_id(balance.key.resource());
    wire_balance(resource, &balance.key, limit, &balance.counter, balance.refused)
}

/// Returns the message of a balance in an event.
pub(super) fn figures(figures: &Figures, event: &Event) -> v1::Balance {
    let limit = figures.limit.as_ref().map(|limit| WireLimit {
        id: &limit.id,
        quantity: limit.quantity,
        allowance: limit.allowance,
        carried: limit.carried,
        enforcement: limit.enforcement,
        source: limit.source.clone(),
    });
    let resource = event.resource_id(figures.key.resource());
    wire_balance(resource, &figures.key, limit, &figures.counter, figures.refused)
}

/// What the message of a balance says about its limit.
struct WireLimit<'a> {
    id: &'a str,
    quantity: i64,
    allowance: i64,
    carried: i64,
    enforcement: Enforcement,
    source: SourceFigures,
}

/// Returns the message of the source of a limit.
fn source(source: SourceFigures) -> v1::LimitSource {
    v1::LimitSource {
        plan: source.plan,
        agent: source.agent,
        r#override: source.override_id,
        override_end_time: source.override_end.map(timestamp),
    }
}

/// Returns the message of a balance.
fn wire_balance(
    resource: &str,
    key: &CounterKey,
    limit: Option<WireLimit<'_>>,
    counter: &Counter,
    refused: i64,
) -> v1::Balance {
    let window = Some(counter.window).filter(|window| window.has_bounds());
    let PerDimension { agent, user, model } = key.dimensions().map(|value| value.map(str::to_owned));
    let allowance = limit.as_ref().map(|limit| limit.allowance);
    let used = counter.committed.saturating_add(counter.reserved);
    let remaining = allowance.map(|allowance| allowance.saturating_sub(used));
    v1::Balance {
        resource: resource.to_owned(),
        limit_id: limit.as_ref().map(|limit| limit.id.to_owned()).unwrap_or_default(),
        quantity: limit.as_ref().map(|limit| limit.quantity),
        allowance,
        committed: counter.committed,
        reserved: counter.reserved,
        remaining: remaining.map(|remaining| remaining.max(0)),
        window_start: window.map(|window| timestamp(window.start)),
        window_end: window.map(|window| timestamp(window.end)),
        counted_since: Some(timestamp(counter.counted_since.at)),
        enforcement: limit
            .as_ref()
            .map_or(v1::Enforcement::Unspecified, |limit| limit.enforcement.into())
            .into(),
        agent,
        user,
        model,
        exceeded: remaining.is_some_and(|remaining| remaining < 0),
        period: v1::Period::from(key.period()).into(),
        refused,
        labels: key.labels().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        carried: limit.as_ref().map_or(0, |limit| limit.carried),
        source: limit.map(|limit| source(limit.source)),
    }
}
