//! Checks fields that requests of both services have. The length of a list is checked first, and then each element.

use std::collections::HashMap;

use crate::domain::{
    bounds::{
        CHOICES_MAX, LABEL_KEY_MAX_BYTES, LABEL_VALUE_MAX_BYTES, LABELS_MAX, RESOURCES_MAX,
        TEXT_LENGTH_MAX_BYTES,
    },
    event_kind::EventKind,
    faults::Faults,
    id::{name_fault, optional_name_fault, text_fault},
    operation::{Fingerprinter, RequestKey},
    shape::Labels,
    time::Time,
};

/// Checks a list of names, which may have at most `max` elements.
pub(super) fn check_names(faults: &mut Faults, field: &str, names: &[String], max: usize) {
    if faults.is_within(field, names.len(), max) {
        for (place, name) in names.iter().enumerate() {
            faults.check(format_args!("{field}[{place}]"), name_fault(name));
        }
    }
}

/// Checks the resources by which a request filters.
pub(super) fn check_resources(faults: &mut Faults, names: &[String]) {
    check_names(faults, "resources", names, RESOURCES_MAX);
}

/// Parses a list of enum values. Returns each value once, in the order of the first occurrences. `wanted` is the text
/// of the fault for a value that does not exist, in the form "must be …".
pub(super) fn choices<T: PartialEq>(
    faults: &mut Faults,
    field: &str,
    wanted: &str,
    codes: &[i32],
    parse: impl Fn(i32) -> Option<T>,
) -> Vec<T> {
    let mut values = Vec::new();
    if faults.is_within(field, codes.len(), CHOICES_MAX) {
        for (place, &code) in codes.iter().enumerate() {
            match parse(code) {
                Some(value) if values.contains(&value) => {}
                Some(value) => values.push(value),
                None => faults.add(format_args!("{field}[{place}]"), wanted),
            }
        }
    }
    values
}

/// Parses the kinds of events in a field. Returns each kind once.
pub(super) fn kinds(faults: &mut Faults, field: &str, codes: &[i32]) -> Vec<EventKind> {
    let kind = |code| i16::try_from(code).ok().and_then(EventKind::from_code);
    choices(faults, field, "must be a kind of event, such as EVENT_KIND_LIMIT_REACHED", codes, kind)
}

/// Returns the request_id with the fingerprint of the payload. `None` if the request has no request_id.
pub(super) fn request_key(
    faults: &mut Faults,
    id: String,
    print: impl FnOnce() -> Fingerprinter,
) -> Option<RequestKey> {
    faults.check("request_id", optional_name_fault(&id));
    (!id.is_empty()).then(|| RequestKey { id, fingerprint: print().finish() })
}

/// Checks the reason and the operator of a correction.
pub(super) fn check_reason(faults: &mut Faults, reason: &str, operator: &str) {
    let fault = if reason.is_empty() {
        Some("must not be empty")
    } else if reason.len() > TEXT_LENGTH_MAX_BYTES {
        Some("must be at most 256 bytes")
    } else {
        text_fault(reason)
    };
    faults.check("reason", fault);
    faults.check("operator", name_fault(operator));
}

/// Parses an instant, which is rounded down to milliseconds. `None` if it is unset.
pub(super) fn instant(
    faults: &mut Faults,
    field: &str,
    given: Option<prost_types::Timestamp>,
) -> Option<Time> {
    let given = given?;
    if !(0..1_000_000_000).contains(&given.nanos) {
        faults.add(field, "must have nanos of 0 to 999,999,999");
    }
    Some(Time(given.seconds.saturating_mul(1_000).saturating_add(i64::from(given.nanos) / 1_000_000)))
}

/// Parses labels, and sorts them by their keys. `field` is the path of the field that has them.
pub(super) fn labels_of(faults: &mut Faults, field: &str, labels: HashMap<String, String>) -> Labels {
    if !faults.is_within(field, labels.len(), LABELS_MAX) {
        return Labels::new();
    }
    let mut labels: Labels = labels.into_iter().collect();
    labels.sort_unstable();
    for (key, value) in &labels {
        let path = format!("{field}[{key:?}]");
        faults.check(&path, label_key_fault(key));
        if value.len() > LABEL_VALUE_MAX_BYTES {
            faults.add(&path, "must be at most 256 bytes");
        }
        faults.check(&path, text_fault(value));
    }
    labels
}

/// Returns what is wrong with the key of a label.
pub(super) fn label_key_fault(key: &str) -> Option<&'static str> {
    if key.is_empty() || key.len() > LABEL_KEY_MAX_BYTES {
        Some("must have a key of 1 to 64 bytes")
    } else {
        text_fault(key)
    }
}
