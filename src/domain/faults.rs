//! The field faults of one request, at most as many as a refusal can carry.

use std::fmt::Display;

use super::{
    bounds::FAULTS_MAX_BYTES,
    refusal::{Fault, Refusal},
};

/// Collects field faults. Faults beyond [`FAULTS_MAX_BYTES`] are only counted.
#[derive(Debug, Default)]
pub struct Faults {
    kept: Vec<Fault>,
    kept_bytes: usize,
    /// The number of faults for which there was no room.
    beyond: usize,
}

impl Faults {
    /// Adds a fault. A fault without room is counted and not formatted, since requests can cause millions.
    pub fn add(&mut self, field: impl Display, description: impl Display) {
        if self.beyond > 0 {
            self.beyond += 1;
            return;
        }
        let fault = Fault::new(field.to_string(), description.to_string());
        self.kept_bytes += fault.field.len() + fault.description.len() + 1;
        if self.kept_bytes > FAULTS_MAX_BYTES {
            self.beyond = 1;
        } else {
            self.kept.push(fault);
        }
    }

    /// Adds a fault if `fault` is the description of a fault.
    pub fn check(&mut self, field: impl Display, fault: Option<impl Display>) {
        if let Some(description) = fault {
            self.add(field, description);
        }
    }

    /// Adds a fault if a list is longer than its bound. Returns whether the list is within its bound. If it is not, the
    /// caller must not check its elements (R4.24).
    pub fn is_within(&mut self, field: impl Display, length: usize, most: usize) -> bool {
        if length > most {
            self.add(field, format_args!("must have at most {most} elements"));
        }
        length <= most
    }

    /// Returns whether no fault was added.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.beyond == 0
    }

    /// Returns the collected faults. If there was no room for some faults, a last fault without a field gives their
    /// number.
    pub fn into_list(mut self) -> Vec<Fault> {
        if self.beyond > 0 {
            self.kept.push(Fault::new("", format!("{} more wrong field(s) are not listed", self.beyond)));
        }
        self.kept
    }

    /// Makes the refusal INVALID_ARGUMENT with these faults.
    pub fn into_refusal(self) -> Refusal {
        Refusal::Invalid(self.into_list())
    }

    /// Returns the value if there are no faults, and the refusal otherwise.
    pub fn into_result<T>(self, value: T) -> Result<T, Refusal> {
        if self.is_empty() { Ok(value) } else { Err(self.into_refusal()) }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fmt};

    use super::*;

    /// Counts how often it is formatted.
    struct Counted<'a>(&'a Cell<usize>);

    impl Display for Counted<'_> {
        fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.set(self.0.get() + 1);
            to.write_str("must be written down")
        }
    }

    #[test]
    fn faults_without_room_are_counted_and_not_formatted() {
        let (mut faults, written) = (Faults::default(), Cell::new(0));
        for place in 0..1_000_000 {
            faults.add(format_args!("amounts[{place}]"), Counted(&written));
        }
        let Err(Refusal::Invalid(kept)) = faults.into_result(()) else { panic!("there are faults") };
        let (last, kept) = kept.split_last().expect("there are faults");
        assert_eq!(written.get(), kept.len() + 1, "the one that did not fit, and none after it");
        assert_eq!(
            last.description,
            format!("{} more wrong field(s) are not listed", 1_000_000 - kept.len())
        );
        let bytes: usize = kept.iter().map(|fault| fault.field.len() + fault.description.len() + 1).sum();
        assert!((FAULTS_MAX_BYTES - 40..=FAULTS_MAX_BYTES).contains(&bytes), "{bytes}");
    }
}
