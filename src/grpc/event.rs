//! The message of an event.

use super::{v1, wire};
use crate::domain::event::{ChangeAction, ChangedKind, Fact, LoggedEvent};

/// Returns the message of an event.
pub(super) fn event(logged: &LoggedEvent) -> v1::Event {
    let event = &logged.event;
    let mut message = v1::Event {
        sequence: logged.sequence,
        tenant: event.tenant.to_string(),
        tenant_sequence: logged.number,
        kind: i32::from(event.kind().code()),
        occur_time: Some(wire::timestamp(event.occurred_at)),
        balances: event.figures().iter().map(|figures| wire::figures(figures, event)).collect(),
        ..v1::Event::default()
    };
    match &event.fact {
        Fact::Reached { percent, generation, .. } | Fact::Cleared { percent, generation, .. } => {
            (message.percent, message.generation) = (*percent, *generation);
        }
        Fact::Refused { requested, .. } => message.requested = *requested,
        Fact::Expired(settlement) | Fact::Late(settlement) => {
            let tenant = (event.tenant_key, &*event.tenant);
            let name = |resource| event.resource_id(resource);
            message.reservation = Some(wire::reservation(&settlement.reservation, tenant, name));
        }
        Fact::Closed(_) => {}
        Fact::Reset { delta, reason, operator, .. } => {
            (message.adjusted, message.reason, message.operator) = (*delta, reason.clone(), operator.clone());
        }
        Fact::Changed { kind, id, action } => message.change = Some(change(*kind, id, *action)),
        Fact::WebhookDisabled { id, .. } => message.webhook.clone_from(id),
        Fact::BooksDisagree { faults } => message.faults = *faults,
        Fact::Unknown { .. } => {}
    }
    message
}

fn change(kind: ChangedKind, id: &str, action: ChangeAction) -> v1::PolicyChange {
    use v1::policy_change::{Action, Subject};
    v1::PolicyChange {
        subject: match kind {
            ChangedKind::Resource => Subject::Resource,
            ChangedKind::Plan => Subject::Plan,
            ChangedKind::Tenant => Subject::Tenant,
        }
        .into(),
        id: id.to_owned(),
        action: match action {
            ChangeAction::Created => Action::Created,
            ChangeAction::Updated => Action::Updated,
            ChangeAction::Deleted => Action::Deleted,
        }
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event_kind::EventKind;

    #[test]
    fn the_kinds_of_events_are_those_of_the_protos() {
        for kind in EventKind::ALL {
            let wire = v1::EventKind::try_from(i32::from(kind.code())).expect("it is in the contract");
            assert_eq!(wire.as_str_name(), format!("EVENT_KIND_{}", kind.name()));
        }
        let next = EventKind::ALL.iter().map(|kind| kind.code()).max().unwrap_or(0) + 1;
        assert!(v1::EventKind::try_from(i32::from(next)).is_err(), "the contract has more");
    }
}
