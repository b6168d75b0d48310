//! Checks the bounds of repeated fields before a request is decoded.
//!
//! An empty element takes two bytes on the wire, but a hundred times as much in memory. So a request of 4 MiB could
//! take half a gigabyte of memory before its first field is checked. This module counts the elements in the encoded
//! request, without decoding them.

use std::{collections::HashMap, sync::LazyLock};

use prost::{
    Name,
    encoding::{WireType, decode_key, decode_varint},
};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tonic::Status;

use super::{descriptors, status};
use crate::domain::{
    bounds::{
        AMOUNTS_MAX, BATCH_MAX, CHOICES_MAX, DIMENSIONS_MAX, KEY_NAMES_MAX, LABELS_MAX, LIMIT_LABELS_MAX,
        LIMITS_MAX, MASK_PATHS_MAX, REDELIVER_MAX, RESOURCES_MAX, THRESHOLDS_MAX, WARNINGS_MAX,
        WEBHOOK_TENANTS_MAX,
    },
    faults::Faults,
};

/// Requests up to this size are decoded without counting their elements: the decoded elements take less than one MiB.
const UNCOUNTED_MAX_BYTES: usize = 8 * 1024;

/// The repeated fields that a request can contain, by full name, with the maximum number of elements of each.
const BOUNDS: [(&str, usize); 37] = [
    ("tope.v1.BatchRequest.operations", BATCH_MAX),
    ("tope.v1.ReserveRequest.amounts", AMOUNTS_MAX),
    ("tope.v1.ReserveRequest.labels", LABELS_MAX),
    ("tope.v1.CommitRequest.amounts", AMOUNTS_MAX),
    ("tope.v1.ExtendRequest.amounts", AMOUNTS_MAX),
    ("tope.v1.RecordRequest.amounts", AMOUNTS_MAX),
    ("tope.v1.RecordRequest.labels", LABELS_MAX),
    ("tope.v1.AmendRequest.amounts", AMOUNTS_MAX),
    ("tope.v1.CheckRequest.amounts", AMOUNTS_MAX),
    ("tope.v1.CheckRequest.labels", LABELS_MAX),
    ("tope.v1.GetUsageRequest.resources", RESOURCES_MAX),
    ("tope.v1.GetUsageRequest.labels", LABELS_MAX),
    ("tope.v1.ListReservationsRequest.states", CHOICES_MAX),
    ("tope.v1.WatchUsageRequest.resources", RESOURCES_MAX),
    ("tope.v1.WatchUsageRequest.kinds", CHOICES_MAX),
    ("tope.v1.ResetUsageRequest.resources", RESOURCES_MAX),
    ("tope.v1.ResetUsageRequest.labels", LABELS_MAX),
    ("tope.v1.ResetUsageRequest.limit_ids", LIMITS_MAX),
    ("tope.v1.ListEventsRequest.kinds", CHOICES_MAX),
    ("tope.v1.ListDeliveriesRequest.states", CHOICES_MAX),
    ("tope.v1.RedeliverRequest.sequences", REDELIVER_MAX),
    ("tope.v1.Plan.limits", LIMITS_MAX),
    ("tope.v1.Limit.per", DIMENSIONS_MAX),
    ("tope.v1.Limit.thresholds", THRESHOLDS_MAX),
    ("tope.v1.Limit.labels", LIMIT_LABELS_MAX),
    ("tope.v1.Limit.per_labels", LIMIT_LABELS_MAX),
    ("tope.v1.Plan.warnings", WARNINGS_MAX),
    ("tope.v1.Tenant.warnings", WARNINGS_MAX),
    ("tope.v1.Agent.warnings", WARNINGS_MAX),
    ("tope.v1.Override.warnings", WARNINGS_MAX),
    ("tope.v1.Override.labels", LIMIT_LABELS_MAX),
    ("tope.v1.Thresholds.percents", THRESHOLDS_MAX),
    ("tope.v1.Webhook.tenants", WEBHOOK_TENANTS_MAX),
    ("tope.v1.Webhook.kinds", CHOICES_MAX),
    ("tope.v1.Key.tenants", KEY_NAMES_MAX),
    ("tope.v1.Key.agents", KEY_NAMES_MAX),
    ("google.protobuf.FieldMask.paths", MASK_PATHS_MAX),
];

/// The requests of our services, by the full names of their messages.
static REQUESTS: LazyLock<HashMap<String, Request>> = LazyLock::new(|| requests(&descriptors()));

/// Refuses a request of type `T` in which a repeated field has too many elements.
///
/// If a repeated field is within another repeated field, its elements are counted over the whole request. For example,
/// the amounts of all operations of a Batch are counted together. If only one operation has too many amounts, the
/// result of this operation reports the fault.
pub(super) fn check<T: Name>(encoded: &[u8]) -> Result<(), Status> {
    if encoded.len() <= UNCOUNTED_MAX_BYTES {
        return Ok(());
    }
    let Some(request) = REQUESTS.get(&T::full_name()) else { return Ok(()) };
    match request.find_excess(encoded) {
        Some(excess) => Err(excess.status()),
        None => Ok(()),
    }
}

/// The repeated fields of a request, at any depth.
#[derive(Debug, Default)]
struct Request {
    message: Message,
    lists: Vec<List>,
}

/// One repeated field of a request.
#[derive(Debug)]
struct List {
    /// The path of the field in the request, as in a field mask.
    path: String,
    /// Maximum number of elements of this field in one message.
    max: usize,
    /// Maximum number of elements of this field in the whole request.
    max_in_request: usize,
}

/// The fields of a message that are repeated or contain repeated fields, by tag.
#[derive(Debug, Default)]
struct Message(Vec<(u32, Field)>);

#[derive(Debug)]
struct Field {
    /// The index of the field's list in `Request::lists`. `None` if the field is not repeated.
    list: Option<usize>,
    /// Whether the field is a number. Several numbers may be packed into one piece.
    packs: bool,
    message: Message,
}

impl Request {
    /// Finds a list that is too long. Returns `None` if there is none, or if the bytes are no message. In that case the
    /// decoder reports the error.
    fn find_excess(&self, encoded: &[u8]) -> Option<&List> {
        let mut counts = vec![0; self.lists.len()];
        self.count(&self.message, encoded, &mut counts).err().flatten()
    }

    /// Counts the elements of each list. Fails with the list that is too long, or with `None` if the bytes are no
    /// message.
    fn count<'a>(
        &'a self,
        message: &Message,
        mut encoded: &[u8],
        counts: &mut [usize],
    ) -> Result<(), Option<&'a List>> {
        let mut groups = 0_usize;
        while !encoded.is_empty() {
            let (tag, kind) = decode_key(&mut encoded).map_err(|_| None)?;
            let length = match kind {
                WireType::Varint => decode_varint(&mut encoded).map(|_| 0).map_err(|_| None)?,
                WireType::SixtyFourBit => 8,
                WireType::ThirtyTwoBit => 4,
                WireType::LengthDelimited => decode_varint(&mut encoded).map_err(|_| None)?,
                // No known field is a group, so the decoder skips everything in a group.
                WireType::StartGroup => {
                    groups += 1;
                    continue;
                }
                WireType::EndGroup => {
                    groups = groups.checked_sub(1).ok_or(None)?;
                    continue;
                }
            };
            let length = usize::try_from(length).map_err(|_| None)?;
            let (value, rest) = encoded.split_at_checked(length).ok_or(None)?;
            encoded = rest;
            let known = message.0.iter().find(|(known, _)| *known == tag).filter(|_| groups == 0);
            let Some((_, field)) = known else { continue };
            if let Some(list) = field.list {
                let packed = field.packs && kind == WireType::LengthDelimited;
                // A varint ends with its only byte below 128.
                counts[list] += if packed { value.iter().filter(|byte| **byte < 0x80).count() } else { 1 };
                if counts[list] > self.lists[list].max_in_request {
                    return Err(self.lists.get(list));
                }
            }
            if kind == WireType::LengthDelimited && !field.message.0.is_empty() {
                self.count(&field.message, value, counts)?;
            }
        }
        Ok(())
    }
}

impl List {
    fn status(&self) -> Status {
        let mut faults = Faults::default();
        let each = if self.max_in_request > self.max { " in each list" } else { "" };
        faults.add(&self.path, format_args!("must have at most {} elements{each}", self.max));
        status::of_refusal(&faults.into_refusal(), None)
    }
}

/// Collects the requests of our services from the descriptors.
fn requests(descriptors: &FileDescriptorSet) -> HashMap<String, Request> {
    let mut messages = HashMap::new();
    for file in &descriptors.file {
        insert_messages(&mut messages, &format!(".{}", file.package()), &file.message_type);
    }
    let ours = descriptors.file.iter().filter(|file| file.package() == "tope.v1");
    let methods = ours.flat_map(|file| &file.service).flat_map(|service| &service.method);
    let mut requests = HashMap::new();
    for method in methods {
        let mut request = Request::default();
        request.message = message(&messages, &mut request.lists, method.input_type(), "", 1);
        requests.insert(method.input_type().trim_start_matches('.').to_owned(), request);
    }
    requests
}

/// Adds the messages of a file or of a message to the map. Their full names, which begin with a dot, are the keys.
fn insert_messages<'a>(
    messages: &mut HashMap<String, &'a DescriptorProto>,
    package: &str,
    found: &'a [DescriptorProto],
) {
    for message in found {
        let name = format!("{package}.{}", message.name());
        insert_messages(messages, &name, &message.nested_type);
        messages.insert(name, message);
    }
}

/// Collects the repeated fields of a message at `path`. The request may contain `times` messages at this path.
fn message(
    messages: &HashMap<String, &DescriptorProto>,
    lists: &mut Vec<List>,
    name: &str,
    path: &str,
    times: usize,
) -> Message {
    let descriptor = messages.get(name).copied();
    let mut fields = Vec::new();
    for field in descriptor.iter().flat_map(|descriptor| &descriptor.field) {
        let path = if path.is_empty() { field.name().to_owned() } else { format!("{path}.{}", field.name()) };
        let (mut list, mut times) = (None, times);
        if field.label() == Label::Repeated {
            let max = bound(name, field).unwrap_or(0);
            times *= max;
            list = Some(lists.len());
            lists.push(List { path: path.clone(), max, max_in_request: times });
        }
        let inner = message(messages, lists, field.type_name(), &path, times);
        if list.is_some() || !inner.0.is_empty() {
            let packs = !matches!(field.r#type(), Type::Message | Type::String | Type::Bytes);
            let tag = u32::try_from(field.number()).unwrap_or(0);
            fields.push((tag, Field { list, packs, message: inner }));
        }
    }
    Message(fields)
}

fn bound(message: &str, field: &FieldDescriptorProto) -> Option<usize> {
    let name = format!("{}.{}", message.trim_start_matches('.'), field.name());
    BOUNDS.iter().find(|(known, _)| *known == name).map(|(_, max)| *max)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;
    use crate::grpc::v1;

    fn excess<T: Name>(encoded: &[u8]) -> Option<(String, String)> {
        let list = REQUESTS[&T::full_name()].find_excess(encoded)?;
        let details = tonic_types::StatusExt::get_error_details(&list.status());
        let fault = details.bad_request()?.field_violations.first()?.clone();
        Some((fault.field, fault.description))
    }

    /// Returns the comment of each field in the protos, by the field's full name.
    fn comments() -> HashMap<String, String> {
        let mut comments = HashMap::new();
        for file in descriptors().file {
            for location in file.source_code_info.iter().flat_map(|info| &info.location) {
                // In a descriptor's path, 4 is a message of the file, and 2 is a field of the message.
                let [4, message, 2, field] = location.path[..] else { continue };
                let place = |number: i32| usize::try_from(number).expect("a place");
                let message = &file.message_type[place(message)];
                let field = message.field[place(field)].name();
                let name = format!("{}.{}.{field}", file.package(), message.name());
                comments.insert(name, location.leading_comments().to_owned());
            }
        }
        comments
    }

    #[test]
    fn every_repeated_field_of_a_request_has_a_bound_that_the_protos_state() {
        let lists = REQUESTS.values().flat_map(|request| &request.lists);
        let unbound: Vec<&str> = lists.filter(|list| list.max == 0).map(|list| list.path.as_str()).collect();
        assert_eq!(unbound, Vec::<&str>::new(), "BOUNDS has no row for these");
        let of_requests: usize = REQUESTS.values().map(|request| request.lists.len()).sum();
        assert!(of_requests >= BOUNDS.len(), "some are of no request");
        let comments = comments();
        for (name, max) in BOUNDS.iter().filter(|(name, _)| name.starts_with("tope.")) {
            let comment = comments[*name].replace(',', "");
            let states_bound =
                comment.split(|c: char| !c.is_ascii_digit()).any(|word| word == max.to_string());
            assert!(states_bound, "the comment of {name} does not say {max}: {comment}");
        }
        let names: BTreeSet<&str> = BOUNDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), BOUNDS.len(), "each is there once");
    }

    #[test]
    fn lists_within_their_bounds_pass() {
        let amounts = vec![v1::ReserveAmount { resource: "tokens".into(), quantity: 1, minimum: 0 }; 16];
        let labels = (0..16).map(|number| (number.to_string(), String::new())).collect();
        let reserve = v1::ReserveRequest { amounts, labels, ..v1::ReserveRequest::default() };
        assert_eq!(excess::<v1::ReserveRequest>(&reserve.encode_to_vec()), None);
        let operation = v1::Operation { operation: Some(v1::operation::Operation::Reserve(reserve)) };
        let batch = v1::BatchRequest { operations: vec![operation; 1_000] };
        assert_eq!(excess::<v1::BatchRequest>(&batch.encode_to_vec()), None);
        let list = v1::ListEventsRequest { kinds: vec![i32::MAX; 32], ..v1::ListEventsRequest::default() };
        assert_eq!(excess::<v1::ListEventsRequest>(&list.encode_to_vec()), None, "packed");
    }

    #[test]
    fn bytes_after_the_bound_are_not_read() {
        let fault = |field: &str, text: &str| Some((field.to_owned(), text.to_owned()));
        let amounts = [&[0x32, 0].repeat(17)[..], &[0xff; 32]].concat();
        assert_eq!(excess::<v1::ReserveRequest>(&amounts), fault("amounts", "must have at most 16 elements"));
        assert_eq!(excess::<v1::ReserveRequest>(&[0xff; 32]), None, "it is no message");
        let states = [0x10, 1].repeat(33);
        assert_eq!(
            excess::<v1::ListReservationsRequest>(&states),
            fault("states", "must have at most 32 elements")
        );
        let packed = [&[0x12, 66][..], &[0x81, 0].repeat(33)].concat();
        assert_eq!(
            excess::<v1::ListReservationsRequest>(&packed),
            fault("states", "must have at most 32 elements")
        );
    }

    #[test]
    fn elements_of_nested_lists_are_counted_over_the_whole_request() {
        let commit = v1::CommitRequest { amounts: vec![v1::Amount::default(); 17], ..Default::default() };
        let operation = v1::Operation { operation: Some(v1::operation::Operation::Commit(commit)) };
        let batch = v1::BatchRequest { operations: vec![operation; 941] };
        assert_eq!(excess::<v1::BatchRequest>(&batch.encode_to_vec()[..9_000]), None, "one may be at fault");
        let fault = Some((
            "operations.commit.amounts".to_owned(),
            "must have at most 16 elements in each list".to_owned(),
        ));
        let batch = v1::BatchRequest { operations: [&batch.operations[..], &batch.operations[..1]].concat() };
        assert_eq!(excess::<v1::BatchRequest>(&batch.encode_to_vec()), fault);
    }

    #[test]
    fn a_group_does_not_hide_a_list_that_is_too_long() {
        let amounts = [0x32, 0].repeat(17);
        let within = [&[0x7b][..], &amounts, &[0x7c]].concat();
        assert_eq!(excess::<v1::ReserveRequest>(&within), None, "an unknown field is skipped");
        let behind = [&within[..], &amounts].concat();
        assert!(excess::<v1::ReserveRequest>(&behind).is_some());
        assert_eq!(excess::<v1::ReserveRequest>(&[&[0x7c][..], &amounts].concat()), None, "it is no message");
        v1::ReserveRequest::decode(&[&[0x7c][..], &amounts].concat()[..]).expect_err("nor for the decoder");
    }
}
