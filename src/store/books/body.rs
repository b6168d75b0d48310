//! Encodes a reservation for its row, as a protobuf message that only the store uses. Fields may be added; tags never
//! change their meaning.

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, int64, message, sint64},
};

use super::amendment_body::AmendedBody;
use crate::{
    domain::{
        counter::CounterKey,
        id::{ReservationId, ResourceKey},
        reservation::{HoldAnswer, Line, OnExpiry, Reservation, ReservationState, ReservedAmount, Share},
        shape::{PerDimension, Subject},
        time::Time,
    },
    store::StoreError,
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
    #[prost(message, optional, tag = "16")]
    amended: Option<AmendedBody>,
    #[prost(message, optional, tag = "17")]
    served: Option<ServedBody>,
    #[prost(int64, tag = "18")]
    occurred_at: i64,
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
    #[prost(sint64, tag = "4")]
    forgiven: i64,
    #[prost(int64, tag = "5")]
    seen: i64,
    #[prost(int32, tag = "6")]
    share: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ServedBody {
    #[prost(string, tag = "1")]
    agent: String,
    #[prost(string, tag = "2")]
    user: String,
    #[prost(string, tag = "3")]
    model: String,
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

/// Encodes the body of a reservation's row. The bytes are those of an encoded [`Body`], but no [`Body`] is filled,
/// which saves copies.
pub(in crate::store) fn encode_reservation(reservation: &Reservation) -> Vec<u8> {
    let mut body = Vec::with_capacity(192);
    let subject = &reservation.subject;
    for (tag, text) in [(1, &subject.agent), (2, &subject.user), (3, &subject.model)] {
        put_bytes(tag, text.as_bytes(), &mut body);
    }
    put_number(4, reservation.created_at.0, &mut body);
    put_number(5, reservation.deadline.0, &mut body);
    put_number(6, reservation.settled_at.map_or(0, |at| at.0), &mut body);
    put_number(7, i64::from(reservation.state.code()), &mut body);
    put_number(8, i64::from(reservation.late), &mut body);
    put_number(9, i64::from(reservation.record), &mut body);
    put_number(10, i64::from(reservation.on_expiry == OnExpiry::Charge), &mut body);
    for amount in &reservation.amounts {
        message::encode(11, &encode_amount(amount), &mut body);
    }
    let mut part = Vec::with_capacity(48);
    for line in &reservation.lines {
        part.clear();
        put_bytes(1, line.key.as_bytes(), &mut part);
        put_number(2, line.held, &mut part);
        put_signed(3, line.charged, &mut part);
        put_signed(4, line.forgiven, &mut part);
        put_number(5, line.seen.0, &mut part);
        put_number(6, line.share.code().into(), &mut part);
        put_message(12, &part, &mut body);
    }
    for (key, value) in &subject.labels {
        part.clear();
        put_bytes(1, key.as_bytes(), &mut part);
        put_bytes(2, value.as_bytes(), &mut part);
        put_message(13, &part, &mut body);
    }
    put_bytes(14, reservation.request_id.as_bytes(), &mut body);
    if let Some(first) = &reservation.first {
        message::encode(15, &answer_body(first), &mut body);
    }
    if let Some(amended) = &reservation.amended {
        message::encode(16, &AmendedBody::of(amended), &mut body);
    }
    if let Some(PerDimension { agent, user, model }) = reservation.served.as_deref().cloned() {
        message::encode(17, &ServedBody { agent, user, model }, &mut body);
    }
    put_number(18, reservation.occurred_at.map_or(0, |at| at.0), &mut body);
    body
}

fn put_bytes(tag: u32, bytes: &[u8], body: &mut Vec<u8>) {
    if !bytes.is_empty() {
        put_message(tag, bytes, body);
    }
}

fn put_message(tag: u32, bytes: &[u8], body: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, body);
    encode_varint(bytes.len() as u64, body);
    body.extend_from_slice(bytes);
}

fn put_number(tag: u32, number: i64, body: &mut Vec<u8>) {
    if number != 0 {
        int64::encode(tag, &number, body);
    }
}

fn put_signed(tag: u32, number: i64, body: &mut Vec<u8>) {
    if number != 0 {
        sint64::encode(tag, &number, body);
    }
}

/// Reads the reservation of a row.
pub(in crate::store) fn decode_reservation(
    id: ReservationId,
    bytes: &[u8],
) -> Result<Reservation, StoreError> {
    let body = Body::decode(bytes).map_err(|_| StoreError::Corrupt("a reservation's body".to_owned()))?;
    let state = i16::try_from(body.state).ok().and_then(ReservationState::from_code);
    let state = state.ok_or_else(|| StoreError::Corrupt("a reservation's state".to_owned()))?;
    let lines = body.lines.into_iter().map(|line| {
        let key = CounterKey::from_bytes(&line.key)
            .ok_or_else(|| StoreError::Corrupt("a counter's key".to_owned()))?;
        let share = Share::from_code(line.share)
            .ok_or_else(|| StoreError::Corrupt("the share of a reservation's line".to_owned()))?;
        let LineBody { held, charged, forgiven, seen, .. } = line;
        Ok(Line { key, held, charged, forgiven, seen: Time(seen), share })
    });
    Ok(Reservation {
        id,
        subject: Subject {
            agent: body.agent,
            user: body.user,
            model: body.model,
            labels: body.labels.into_iter().map(|label| (label.key, label.value)).collect(),
        },
        state,
        late: body.late,
        record: body.record,
        on_expiry: if body.charge_on_expiry { OnExpiry::Charge } else { OnExpiry::Release },
        created_at: Time(body.created_at),
        // The usage of a Record is never as old as 1970.
        occurred_at: (body.occurred_at != 0).then_some(Time(body.occurred_at)),
        deadline: Time(body.deadline),
        settled_at: (state != ReservationState::Reserved).then_some(Time(body.settled_at)),
        amounts: body.amounts.iter().map(decode_amount).collect(),
        lines: lines.collect::<Result<_, StoreError>>()?,
        request_id: body.request_id,
        first: body.first.map(hold_answer),
        served: body.served.map(|served| Box::new([served.agent, served.user, served.model].into())),
        amended: body.amended.map(|amended| Box::new(amended.into_amended())),
    })
}

/// Encodes the reply of an Extend, for the row of its `request_id`.
pub(super) fn encode_answer(answer: &HoldAnswer) -> Vec<u8> {
    answer_body(answer).encode_to_vec()
}

/// Reads the reply of an Extend.
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
    AnswerBody { granted: answer.granted.iter().map(amount).collect(), deadline: answer.deadline.0 }
}

fn hold_answer(body: AnswerBody) -> HoldAnswer {
    let granted = body.granted.iter().map(|amount| (ResourceKey(amount.resource), amount.reserved)).collect();
    HoldAnswer { granted, deadline: Time(body.deadline) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::amendment::{Amended, AmendedAmount, Amendment, FirstCharge};

    #[test]
    fn a_reservation_is_decoded_as_it_was_encoded() {
        let key = CounterKey::of_meter(ResourceKey(3));
        let reservation = Reservation {
            id: ReservationId([7; 16]),
            subject: Subject {
                agent: "planner".into(),
                user: "ü".into(),
                model: String::new(),
                labels: vec![("a".into(), String::new()), ("b".into(), "c".into())],
            },
            state: ReservationState::Committed,
            late: true,
            record: false,
            on_expiry: OnExpiry::Charge,
            created_at: Time(1),
            occurred_at: Some(Time(11)),
            deadline: Time(2),
            settled_at: Some(Time(3)),
            amounts: vec![ReservedAmount { resource: ResourceKey(3), reserved: 5, committed: -6 }],
            lines: vec![Line {
                charged: -6,
                forgiven: -7,
                seen: Time(8),
                share: Share::Whole,
                ..Line::new(key, 5)
            }],
            request_id: "r".into(),
            first: Some(HoldAnswer { granted: vec![(ResourceKey(3), 4)], deadline: Time(9) }),
            served: Some(Box::new(["a".into(), String::new(), "m".into()].into())),
            amended: Some(Box::new(Amended {
                first: Some(FirstCharge { committed: vec![-5, 0], charged: vec![0, -4] }),
                latest: vec![Amendment {
                    at: Time(10),
                    operator: "ops".into(),
                    reason: "a refund".into(),
                    changes: vec![AmendedAmount { resource: ResourceKey(3), before: -5, after: 6 }],
                }],
            })),
        };
        let bytes = encode_reservation(&reservation);
        let body = Body::decode(bytes.as_slice()).expect("it is a body");
        assert_eq!(body.encode_to_vec(), bytes, "as prost encodes it");
        assert_eq!(decode_reservation(reservation.id, &bytes).expect("it was encoded"), reservation);
    }

    #[test]
    fn bytes_that_are_no_reservation_are_an_error() {
        assert!(decode_reservation(ReservationId([0; 16]), b"\xff\xff").is_err());
        assert!(decode_reservation(ReservationId([0; 16]), b"").is_err());
    }
}
