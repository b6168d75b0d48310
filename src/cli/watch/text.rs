//! Messages as lines of text, for people.

use chrono::{DateTime, SecondsFormat};
use prost_types::Timestamp;

use crate::grpc::v1::{
    Balance, Enforcement, Event, EventKind, PolicyChange, Reservation, ReservationState, WatchUsageResponse,
    policy_change::{Action, Subject},
    watch_usage_response::Update,
};

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BLUE: &str = "\x1b[34m";
const PLAIN: &str = "\x1b[0m";

/// Renders a message as lines. A heartbeat has no lines.
pub(super) fn lines(message: &WatchUsageResponse, colour: bool) -> Vec<String> {
    match &message.update {
        Some(Update::Event(event)) => vec![line(event, colour)],
        Some(Update::Snapshot(snapshot)) => snapshot.balances.iter().map(of_snapshot).collect(),
        Some(Update::Heartbeat(_)) | None => Vec::new(),
    }
}

fn line(event: &Event, colour: bool) -> String {
    // A newer server may send kinds that this client does not know.
    let name = match event.kind() {
        EventKind::Unspecified => "UNKNOWN",
        kind => kind.as_str_name().trim_start_matches("EVENT_KIND_"),
    };
    let (begin, end) = if colour { (paint(event.kind()), PLAIN) } else { ("", "") };
    let tenant = if event.tenant.is_empty() { "-" } else { &event.tenant };
    format!("{}  {tenant}  {begin}{name}{end}  {}", time(event.occur_time.as_ref()), details(event))
}

fn paint(kind: EventKind) -> &'static str {
    match kind {
        EventKind::LimitReached | EventKind::ReserveRefused => RED,
        EventKind::ThresholdReached | EventKind::ReservationExpired | EventKind::CommittedLate => YELLOW,
        EventKind::ThresholdCleared => GREEN,
        _ => BLUE,
    }
}

fn details(event: &Event) -> String {
    let balances = |text: fn(&Balance) -> String| -> String {
        event.balances.iter().map(text).collect::<Vec<_>>().join("; ")
    };
    match event.kind() {
        EventKind::ThresholdReached => format!("{} % of {}", event.percent, balances(spent)),
        EventKind::ThresholdCleared => format!("below {} % of {}", event.percent, balances(spent)),
        EventKind::LimitReached => balances(spent),
        EventKind::ReserveRefused => format!("{} requested from {}", event.requested, balances(asked)),
        EventKind::ReservationExpired | EventKind::CommittedLate => {
            event.reservation.as_ref().map(reservation).unwrap_or_default()
        }
        EventKind::WindowClosed => balances(closed),
        EventKind::UsageReset => {
            let by = by(event);
            format!("{} by {}{by}: {}; {}", event.adjusted, event.operator, event.reason, balances(spent))
        }
        EventKind::PolicyChanged => {
            let change = event.change.as_ref().map(change).unwrap_or_default();
            format!("{change}{}", by(event))
        }
        EventKind::WebhookDisabled => format!("webhook {}", event.webhook),
        EventKind::BooksDisagree => format!("{} row(s) of the books are wrong", event.faults),
        EventKind::Unspecified => format!("kind {}", event.kind),
    }
}

/// Names the caller who made a change, if it is known.
fn by(event: &Event) -> String {
    if event.caller.is_empty() { String::new() } else { format!(" (caller {})", event.caller) }
}

/// Names a limit and the subject of its counter: `day[agent planner]`.
fn limit(balance: &Balance) -> String {
    let id = if balance.limit_id.is_empty() { "no limit" } else { &balance.limit_id };
    let values: Vec<String> =
        values_of(balance).into_iter().map(|(name, value)| format!("{name} {value}")).collect();
    if values.is_empty() { id.to_owned() } else { format!("{id}[{}]", values.join(", ")) }
}

/// Returns the names and values of the dimensions and labels that the balance's counter counts separately.
pub(in crate::cli) fn values_of(balance: &Balance) -> Vec<(&str, &str)> {
    let dimensions = [("agent", &balance.agent), ("user", &balance.user), ("model", &balance.model)];
    let dimensions = dimensions.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let mut labels: Vec<(&str, &str)> =
        balance.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    labels.sort_unstable();
    dimensions.chain(labels).collect()
}

fn spent(balance: &Balance) -> String {
    let of = balance.allowance.map(|allowance| format!(" of {allowance}")).unwrap_or_default();
    let carried = match balance.carried {
        0 => String::new(),
        carried => format!(" ({carried} carried over)"),
    };
    format!("{}: {}{of} {} spent{carried}", limit(balance), balance.committed, balance.resource)
}

fn asked(balance: &Balance) -> String {
    let passes =
        if balance.enforcement() == Enforcement::Observe { " (OBSERVE, so the call passed)" } else { "" };
    format!("{} and {} held{passes}", spent(balance), balance.reserved)
}

fn closed(balance: &Balance) -> String {
    let (start, end) = (time(balance.window_start.as_ref()), time(balance.window_end.as_ref()));
    format!("{}, {} refused, {start} to {end}", spent(balance), balance.refused)
}

fn of_snapshot(balance: &Balance) -> String {
    let end = balance.window_end.as_ref();
    let until = end.map(|end| format!(" until {}", time(Some(end)))).unwrap_or_default();
    format!("{}, {} held, {} refused{until}", spent(balance), balance.reserved, balance.refused)
}

fn reservation(reservation: &Reservation) -> String {
    let amounts = reservation
        .amounts
        .iter()
        .map(|amount| format!("{} of {} {} charged", amount.committed, amount.reserved, amount.resource));
    let amounts: Vec<String> = amounts.collect();
    let released = reservation.state() == ReservationState::Released;
    let outcome = if released { ", released" } else { "" };
    let late = if reservation.late { ", late" } else { "" };
    let agent =
        if reservation.agent.is_empty() { String::new() } else { format!(" of {}", reservation.agent) };
    format!("{}{agent}: {}{outcome}{late}", reservation.name, amounts.join(", "))
}

fn change(change: &PolicyChange) -> String {
    let subject = match change.subject() {
        Subject::Resource => "resource",
        Subject::Plan => "plan",
        Subject::Tenant => "tenant",
        Subject::Agent => "agent",
        Subject::Override => "override",
        Subject::Settings => "settings",
        Subject::Key => "key",
        Subject::Unspecified => "unknown object",
    };
    let action = match change.action() {
        Action::Created => "created",
        Action::Updated => "changed",
        Action::Deleted => "deleted",
        Action::Unspecified => "changed in an unknown way",
    };
    let fields = change.fields.join(", ");
    let fields = if fields.is_empty() { fields } else { format!(": {fields}") };
    format!("{subject} {} {action}{fields}", change.id)
}

/// Formats an instant in UTC (RFC 3339). The text is empty if the instant is absent.
pub(in crate::cli) fn time(at: Option<&Timestamp>) -> String {
    let at = at.and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).unwrap_or(0)));
    at.map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance() -> Balance {
        Balance {
            resource: "tokens".into(),
            limit_id: "day".into(),
            allowance: Some(1_000),
            committed: 800,
            agent: Some("planner".into()),
            ..Balance::default()
        }
    }

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            tenant: "acme".into(),
            kind: EventKind::ThresholdReached.into(),
            percent: 80,
            occur_time: Some(Timestamp { seconds: 1_773_662_400, nanos: 0 }),
            balances: vec![balance()],
            ..Event::default()
        };
        let plain = "2026-03-16T12:00:00Z  acme  THRESHOLD_REACHED  80 % of day[agent planner]: 800 of 1000 tokens spent";
        assert_eq!(line(&event, false), plain);
        assert!(line(&event, true).contains("\x1b[33mTHRESHOLD_REACHED\x1b[0m"));
        let carried = vec![Balance { carried: 200, ..balance() }];
        let carried = line(&Event { balances: carried, ..event }, false);
        assert_eq!(carried, format!("{plain} (200 carried over)"));
        let fields = vec!["display_name".into(), "limits".into()];
        let change = PolicyChange { subject: Subject::Plan.into(), id: "free".into(), action: 2, fields };
        let kind = EventKind::PolicyChanged.into();
        let event = Event { kind, change: Some(change), ..Event::default() };
        assert_eq!(line(&event, false), "  -  POLICY_CHANGED  plan free changed: display_name, limits");
        let event = Event { caller: "key:k".into(), ..event };
        assert!(line(&event, false).ends_with("display_name, limits (caller key:k)"));
        let kind = EventKind::WebhookDisabled.into();
        let event = Event { kind, webhook: "wh_1".into(), ..Event::default() };
        assert_eq!(line(&event, false), "  -  WEBHOOK_DISABLED  webhook wh_1");
        let event = Event { kind: EventKind::BooksDisagree.into(), faults: 3, ..Event::default() };
        assert_eq!(line(&event, false), "  -  BOOKS_DISAGREE  3 row(s) of the books are wrong");
        assert_eq!(line(&Event { kind: 99, ..Event::default() }, false), "  -  UNKNOWN  kind 99");
    }
}
