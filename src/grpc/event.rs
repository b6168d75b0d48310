//! The message of an event.

use super::{v1, wire};
use crate::domain::event::{ChangePart, LoggedEvent};

/// Returns the message of an event.
pub(super) fn event(logged: &LoggedEvent) -> v1::Event {
    let event = &logged.event;
    let parts = event.fact.parts();
    let (key, tenant) = (event.tenant_key, &event.tenant);
    let name = |resource| event.resource_id(resource);
    v1::Event {
        sequence: logged.sequence,
        tenant: event.tenant.to_string(),
        tenant_sequence: logged.number,
        kind: i32::from(event.kind().code()),
        occur_time: Some(wire::timestamp(event.occurred_at)),
        balances: parts.figures.iter().map(|figures| wire::figures(figures, event)).collect(),
        percent: parts.percent.unwrap_or_default(),
        generation: parts.generation.unwrap_or_default(),
        requested: parts.requested.unwrap_or_default(),
        reservation: parts.reservation.map(|reservation| wire::reservation(reservation, key, tenant, name)),
        adjusted: parts.adjusted.unwrap_or_default(),
        reason: parts.reason.unwrap_or_default().to_owned(),
        operator: parts.operator.unwrap_or_default().to_owned(),
        change: parts.change.map(change),
        caller: parts.caller.unwrap_or_default().to_owned(),
        webhook: parts.webhook.map(|webhook| webhook.id.to_owned()).unwrap_or_default(),
        faults: parts.faults.unwrap_or_default(),
    }
}

/// The kinds and the actions have the same codes in the domain as in the protos.
fn change(change: ChangePart<'_>) -> v1::PolicyChange {
    let ChangePart { kind, id, action, fields } = change;
    let (subject, action) = (kind.code(), action.code());
    v1::PolicyChange { subject, id: id.to_owned(), action, fields: fields.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::{ChangeAction, ChangedKind},
        event_kind::EventKind,
    };

    #[test]
    fn the_kinds_of_events_are_those_of_the_protos() {
        for kind in EventKind::ALL {
            let wire = v1::EventKind::try_from(i32::from(kind.code())).expect("it is in the contract");
            assert_eq!(wire.as_str_name(), format!("EVENT_KIND_{}", kind.name()));
        }
        let next = EventKind::ALL.iter().map(|kind| kind.code()).max().unwrap_or(0) + 1;
        assert!(v1::EventKind::try_from(i32::from(next)).is_err(), "the contract has more");
    }

    #[test]
    fn the_values_of_a_change_are_those_of_the_protos() {
        use v1::policy_change::{Action, Subject};
        for kind in ChangedKind::ALL {
            let wire = Subject::try_from(kind.code()).expect("it is in the contract");
            assert_eq!(wire.as_str_name(), format!("SUBJECT_{}", kind.name()));
        }
        for action in ChangeAction::ALL {
            let wire = Action::try_from(action.code()).expect("it is in the contract");
            assert_eq!(wire.as_str_name(), format!("ACTION_{}", action.name()));
        }
    }
}
