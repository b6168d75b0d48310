//! Lists in requests: the bound of a list comes first, and then each element at fault is named.

use crate::domain::{
    bounds::{CHOICES_MAX, RESOURCES_MAX},
    faults::Faults,
    id::name_fault,
};

/// Looks at a list of names.
pub(super) fn check_names(faults: &mut Faults, field: &str, names: &[String], most: usize) {
    if faults.is_within(field, names.len(), most) {
        for (place, name) in names.iter().enumerate() {
            faults.check(format_args!("{field}[{place}]"), name_fault(name));
        }
    }
}

/// Looks at the resources that a request names to choose by them.
pub(super) fn check_resources(faults: &mut Faults, names: &[String]) {
    check_names(faults, "resources", names, RESOURCES_MAX);
}

/// The values of a list of an enumeration, each once, in the order in which they came first.
pub(super) fn choices<T: PartialEq>(
    faults: &mut Faults,
    (field, wanted): (&str, &str),
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
