//! Why a command ended without success.

use std::{error::Error, fmt};

use tonic::Status;
use tonic_types::StatusExt;

/// A command failed: one clear text for a person. The process ends with exit code 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError(String);

impl CliError {
    /// An error that says all there is to say.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What was tried, and the error with all of its sources, each said once.
    pub fn caused(tried: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        let mut text = tried.to_string();
        let mut cause = Some(error);
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.ends_with(&said) {
                text = format!("{text}: {said}");
            }
            cause = error.source();
        }
        Self(text)
    }

    /// What was tried, and what the server said to it.
    pub fn refused(tried: impl fmt::Display, status: &Status) -> Self {
        let mut text = format!("{tried}: {}", status.message());
        if let Some(bad) = status.get_details_bad_request() {
            // A violation without a field is of the request as a whole: the message has said it.
            for violation in bad.field_violations.iter().filter(|violation| !violation.field.is_empty()) {
                text = format!("{text}; {}: {}", violation.field, violation.description);
            }
        }
        match status.get_details_error_info() {
            Some(info) => Self(format!("{text} ({:?}, {})", status.code(), info.reason)),
            None => Self(format!("{text} ({:?})", status.code())),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for CliError {}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, io};

    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn each_cause_is_said_once() {
        let inner = io::Error::other("connection refused");
        let error = CliError::caused("cannot connect to x", &io::Error::other(inner));
        assert_eq!(error.to_string(), "cannot connect to x: connection refused");
    }

    #[test]
    fn a_refusal_names_its_fields_and_its_reason() {
        let mut details = ErrorDetails::with_error_info("INVALID_ARGUMENT", "tope", HashMap::new());
        details.add_bad_request_violation("plan.id", "is empty");
        details.add_bad_request_violation("", "the request is not valid");
        let status = Status::with_error_details(Code::InvalidArgument, "the request is not valid", details);
        assert_eq!(
            CliError::refused("CreatePlan", &status).to_string(),
            "CreatePlan: the request is not valid; plan.id: is empty (InvalidArgument, INVALID_ARGUMENT)"
        );
        assert_eq!(
            CliError::refused("Commit", &Status::not_found("gone")).to_string(),
            "Commit: gone (NotFound)"
        );
    }
}
