//! How a reservation lies in its row: as a protobuf message of the store's own. New fields may be added; numbers
//! never change their meaning.

use prost::Message;

use super::StoreError;
use crate::domain::{
    counter::CounterKey,
    id::{ReservationId, ResourceKey},
    plan::Subject,
    reservation::{HoldAnswer, Line, OnExpiry, Reservation, ReservationState, ReservedAmount},
};

#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(string, tag = "1")]
    agent: String,
    #[prost(string, tag = "2")]
    user: String,
    #[prost(string, tag = "3")]
    model: String,
    #[prost(int64, tag = "4")]
    created_at: i64,
    #[prost(int64, tag = "5")]
    deadline: i64,
    #[prost(int64, tag = "6")]
    settled_at: i64,
    #[prost(int32, tag = "7")]
    state: i32,
    #[prost(bool, tag = "8")]
    late: bool,
    #[prost(bool, tag = "9")]
    record: bool,
    #[prost(bool, tag = "10")]
    charge_on_expiry: bool,
    #[prost(message, repeated, tag = "11")]
    amounts: Vec<AmountBody>,
    #[prost(message, repeated, tag = "12")]
    lines: Vec<LineBody>,
    #[prost(message, repeated, tag = "13")]
    labels: Vec<LabelBody>,
    #[prost(string, tag = "14")]
    request_id: String,
    #[prost(message, optional, tag = "15")]
    first: Option<AnswerBody>,
}

#[derive(Clone, PartialEq, Message)]
struct AmountBody {
    #[prost(int32, tag = "1")]
    resource: i32,
    #[prost(int64, tag = "2")]
    reserved: i64,
    #[prost(sint64, tag = "3")]
    committed: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LineBody {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "2")]
    held: i64,
    #[prost(sint64, tag = "3")]
    charged: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LabelBody {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct AnswerBody {
    #[prost(message, repeated, tag = "1")]
    granted: Vec<AmountBody>,
    #[prost(int64, tag = "2")]
    deadline: i64,
}

/// The number of a state in rows.
pub(super) fn state_code(state: ReservationState) -> i16 {
    match state {
        ReservationState::Reserved => 1,
        ReservationState::Committed => 2,
        ReservationState::Released => 3,
        ReservationState::Expired => 4,
    }
}

/// The row's body of a reservation.
pub(super) fn encode_reservation(reservation: &Reservation) -> Vec<u8> {
    let body = Body {
        agent: reservation.subject.agent.clone(),
        user: reservation.subject.user.clone(),
        model: reservation.subject.model.clone(),
        created_at: reservation.created_at,
        deadline: reservation.deadline,
        settled_at: reservation.settled_at,
        state: i32::from(state_code(reservation.state)),
        late: reservation.late,
        record: reservation.record,
        charge_on_expiry: reservation.on_expiry == OnExpiry::Charge,
        amounts: reservation.amounts.iter().map(encode_amount).collect(),
        lines: reservation
            .lines
            .iter()
            .map(|line| LineBody {
                key: line.key.as_bytes().to_vec(),
                held: line.held,
                charged: line.charged,
            })
            .collect(),
        labels: reservation
            .labels
            .iter()
            .map(|(key, value)| LabelBody { key: key.clone(), value: value.clone() })
            .collect(),
        request_id: reservation.request_id.clone(),
        first: reservation.first.as_ref().map(answer_body),
    };
    body.encode_to_vec()
}

/// The reservation of a row.
pub(super) fn decode_reservation(id: ReservationId, bytes: &[u8]) -> Result<Reservation, StoreError> {
    let body = Body::decode(bytes).map_err(|_| StoreError::Corrupt("a reservation's body".to_owned()))?;
    let state = match body.state {
        1 => ReservationState::Reserved,
        2 => ReservationState::Committed,
        3 => ReservationState::Released,
        4 => ReservationState::Expired,
        _ => return Err(StoreError::Corrupt("a reservation's state".to_owned())),
    };
    let lines = body.lines.into_iter().map(|line| {
        let key = CounterKey::from_bytes(&line.key)
            .ok_or_else(|| StoreError::Corrupt("a counter's key".to_owned()))?;
        Ok(Line { key, held: line.held, charged: line.charged })
    });
    Ok(Reservation {
        id,
        subject: Subject { agent: body.agent, user: body.user, model: body.model },
        state,
        late: body.late,
        record: body.record,
        on_expiry: if body.charge_on_expiry { OnExpiry::Charge } else { OnExpiry::Release },
        created_at: body.created_at,
        deadline: body.deadline,
        settled_at: body.settled_at,
        amounts: body.amounts.iter().map(decode_amount).collect(),
        lines: lines.collect::<Result<_, StoreError>>()?,
        labels: body.labels.into_iter().map(|label| (label.key, label.value)).collect(),
        request_id: body.request_id,
        first: body.first.map(hold_answer),
    })
}

/// What Extend answered, for the row of its request_id.
pub(super) fn encode_answer(answer: &HoldAnswer) -> Vec<u8> {
    answer_body(answer).encode_to_vec()
}

/// What Extend answered.
pub(super) fn decode_answer(bytes: &[u8]) -> Result<HoldAnswer, StoreError> {
    AnswerBody::decode(bytes)
        .map(hold_answer)
        .map_err(|_| StoreError::Corrupt("a request's reply".to_owned()))
}

fn encode_amount(amount: &ReservedAmount) -> AmountBody {
    AmountBody { resource: amount.resource.0, reserved: amount.reserved, committed: amount.committed }
}

fn decode_amount(body: &AmountBody) -> ReservedAmount {
    ReservedAmount {
        resource: ResourceKey(body.resource),
        reserved: body.reserved,
        committed: body.committed,
    }
}

fn answer_body(answer: &HoldAnswer) -> AnswerBody {
    let amount = |&(resource, reserved): &(ResourceKey, i64)| AmountBody {
        resource: resource.0,
        reserved,
        committed: 0,
    };
    AnswerBody { granted: answer.granted.iter().map(amount).collect(), deadline: answer.deadline }
}

fn hold_answer(body: AnswerBody) -> HoldAnswer {
    let granted = body.granted.iter().map(|amount| (ResourceKey(amount.resource), amount.reserved)).collect();
    HoldAnswer { granted, deadline: body.deadline }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_comes_back_as_it_was_stored() {
        let key = CounterKey::of_meter(ResourceKey(3), 0);
        let reservation = Reservation {
            id: ReservationId([7; 16]),
            subject: Subject { agent: "planner".into(), user: "ü".into(), model: String::new() },
            state: ReservationState::Committed,
            late: true,
            record: false,
            on_expiry: OnExpiry::Charge,
            created_at: 1,
            deadline: 2,
            settled_at: 3,
            amounts: vec![ReservedAmount { resource: ResourceKey(3), reserved: 5, committed: -6 }],
            lines: vec![Line { key, held: 5, charged: -6 }],
            labels: vec![("a".into(), "b".into())],
            request_id: "r".into(),
            first: Some(HoldAnswer { granted: vec![(ResourceKey(3), 4)], deadline: 9 }),
        };
        let bytes = encode_reservation(&reservation);
        assert_eq!(decode_reservation(reservation.id, &bytes).expect("it was encoded"), reservation);
    }

    #[test]
    fn bytes_that_are_no_reservation_are_an_error() {
        assert!(decode_reservation(ReservationId([0; 16]), b"\xff\xff").is_err());
        assert!(decode_reservation(ReservationId([0; 16]), b"").is_err());
    }
}
