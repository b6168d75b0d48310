//! Translates the model's operations into requests of the proto, and sends them to the server.

use std::collections::{BTreeMap, HashMap};

use tonic_types::QuotaViolation;

use super::{
    books,
    limit::{self, Anchors},
    steps::{Hold, LABELS, NAMES, Names, Units, Who},
    window::Span,
};
use crate::harness::{
    v1::{operation::Operation as Asked, operation_result::Result as Answered, *},
    *,
};

/// The answer to an operation: a result or a refusal.
pub type Answer = call::Answer<Answered>;

/// Returns the names of agent, user and model.
pub fn names_of(who: Who) -> [String; 3] {
    [0, 1, 2].map(|dimension| NAMES[who[dimension]].to_owned())
}

/// Returns the labels of a call. A label with the empty value is left out.
pub fn labels_of(who: Who) -> HashMap<String, String> {
    let labels = LABELS.into_iter().zip(&who[3..]).filter(|(_, name)| **name != 0);
    labels.map(|(label, name)| (label.to_owned(), NAMES[*name].to_owned())).collect()
}

/// Returns the labels that are chosen, also those with the empty value.
pub fn labels_chosen(names: &Names) -> HashMap<String, String> {
    let labels = LABELS.into_iter().zip(&names[3..]);
    labels.filter_map(|(label, name)| Some((label.to_owned(), NAMES[(*name)?].to_owned()))).collect()
}

/// Returns agent, user and model if they are chosen.
pub fn names_chosen(names: &[Option<usize>]) -> [Option<String>; 3] {
    [0, 1, 2].map(|dimension| names[dimension].map(|name| NAMES[name].to_owned()))
}

/// Returns the amounts that a hold asks for.
pub fn asks(hold: &Hold) -> Vec<ReserveAmount> {
    let amounts = hold.amounts.iter().map(|&(resource, quantity, minimum)| ReserveAmount {
        resource: books::Books::resource(resource).into(),
        quantity,
        minimum: if hold.partial { minimum.min(quantity) } else { 0 },
    });
    amounts.collect()
}

/// Returns the amounts of a Commit, an Extend or a Record.
pub fn amounts(units: &[Units]) -> Vec<Amount> {
    let amounts = units
        .iter()
        .map(|&(resource, quantity)| Amount { resource: books::Books::resource(resource).into(), quantity });
    amounts.collect()
}

/// Translates a limit of the model into the proto.
pub fn contract(limit: &limit::Limit) -> Limit {
    let name = |dimension: usize| limit.selectors[dimension].map_or("", |index| NAMES[index]).to_owned();
    let dimensions = [Dimension::Agent, Dimension::User, Dimension::Model].into_iter().zip(limit.per);
    let minute_of = |minute: u32| i32::try_from(minute).expect("a minute of the day");
    let (period, anchor_day, anchor_minute) = match limit.anchors {
        Anchors::Own(Span::Day(minute)) => (Period::Day, 0, minute_of(minute)),
        Anchors::Own(Span::Month(day, minute)) => {
            (Period::Month, i32::try_from(day).expect("a day of the month"), minute_of(minute))
        }
        Anchors::Own(Span::Lifetime) => (Period::Lifetime, 0, 0),
        Anchors::Own(Span::Meter) => (Period::Unspecified, 0, 0),
        Anchors::Tenant => (Period::Month, 0, 0),
    };
    let anchor = if limit.anchors == Anchors::Tenant { Anchor::Tenant } else { Anchor::Limit };
    let separate = LABELS.into_iter().zip(&limit.per[3..]).filter(|(_, apart)| **apart);
    Limit {
        id: limit.id.into(),
        resource: books::Books::resource(limit.resource).into(),
        quantity: limit.quantity,
        period: period.into(),
        anchor_day,
        anchor_minute,
        anchor: anchor.into(),
        agent: name(0),
        user: name(1),
        model: name(2),
        per: dimensions.filter(|(_, apart)| *apart).map(|(dimension, _)| dimension.into()).collect(),
        labels: labels_chosen(&limit.selectors),
        per_labels: separate.map(|(label, _)| label.to_owned()).collect(),
        enforcement: i32::try_from(limit.enforcement).expect("one of three"),
        thresholds: vec![],
        ..Limit::default()
    }
}

/// Sends one operation, by its own rpc.
pub async fn send(world: &World, asked: Asked) -> Answer {
    let quota = &world.quota;
    match asked {
        Asked::Reserve(request) => Call::new(quota, request).await.map(Answered::Reserve),
        Asked::Commit(request) => Call::new(quota, request).await.map(Answered::Commit),
        Asked::Release(request) => Call::new(quota, request).await.map(Answered::Release),
        Asked::Extend(request) => Call::new(quota, request).await.map(Answered::Extend),
        Asked::Record(request) => Call::new(quota, request).await.map(Answered::Record),
        Asked::Amend(request) => Call::new(quota, request).await.map(Answered::Amend),
        Asked::Check(request) => Call::new(quota, request).await.map(Answered::Check),
    }
}

/// Returns the answer to one operation of a Batch.
pub fn answered(result: OperationResult) -> Answer {
    match result.result.expect("every operation has its answer") {
        Answered::Error(status) => Err(Box::new(status.into())),
        answer => Ok(answer),
    }
}

/// Converts a message to text. Equal messages have equal texts: labels are sorted.
pub fn text(message: &impl std::fmt::Debug) -> String {
    let text = format!("{message:?}");
    let mut parts = text.split("labels: {");
    let mut sorted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (labels, rest) = part.split_once('}').expect("a list has an end");
        let mut labels: Vec<&str> = labels.split(", ").collect();
        labels.sort_unstable();
        sorted += &format!("labels: {{{}}}{rest}", labels.join(", "));
    }
    sorted
}

/// Converts an answer to text. Equal answers have equal texts.
pub fn text_of_answer(answer: &Answer) -> String {
    let no = match answer {
        Ok(yes) => return text(yes),
        Err(no) => no,
    };
    let sorted = |map: &HashMap<String, String>| map.clone().into_iter().collect::<BTreeMap<_, _>>();
    let violation = |v: &QuotaViolation| {
        (
            v.subject.clone(),
            v.quota_metric.clone(),
            v.quota_id.clone(),
            v.description.clone(),
            sorted(&v.quota_dimensions),
        )
    };
    let violations: Vec<_> = no.violations.iter().map(violation).collect();
    let No { code, message, metadata, faults, retry, resource, .. } = &**no;
    format!("{code:?} {message} {:?} {faults:?} {violations:?} {retry:?} {resource:?}", sorted(metadata))
}

/// Changes the payload of a request, and keeps its request_id.
pub fn spoiled(mut asked: Asked) -> Asked {
    match &mut asked {
        Asked::Reserve(request) => request.amounts[0].quantity += 1,
        Asked::Extend(request) => match request.amounts.first_mut() {
            Some(amount) => amount.quantity += 1,
            // No step of a life has this ttl.
            None => request.ttl = Some(call::span(7 * MINUTE)),
        },
        Asked::Record(request) => {
            let amount = &mut request.amounts[0];
            amount.quantity += if amount.quantity < 0 { -1 } else { 1 };
        }
        Asked::Commit(_) | Asked::Release(_) | Asked::Amend(_) | Asked::Check(_) => {
            unreachable!("they bring no request_id")
        }
    }
    asked
}
