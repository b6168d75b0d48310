//! The errors of commands, and their exit codes.

use std::{error::Error, fmt};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The error of a command: one text for a person, and the exit code of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    text: String,
    exit: Exit,
}

/// The exit code of a command that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// An error without an exit code of its own.
    Error = 1,
    /// An argument or a setting is wrong.
    Usage = 2,
    /// The command worked, but the quota does not suffice.
    QuotaExceeded = 3,
    /// The server or the database cannot be reached.
    Unreachable = 4,
}

impl CliError {
    /// Makes an error with this text and exit code 1.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), exit: Exit::Error }
    }

    /// Makes the error of an invalid argument or setting.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(text).with_exit(Exit::Usage)
    }

    /// Returns the same error with another exit code.
    pub fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Appends a semicolon and a text to the error.
    pub fn with(self, more: impl fmt::Display) -> Self {
        Self { text: format!("{}; {more}", self.text), ..self }
    }

    /// Returns the exit code of the process.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Makes an error. Its text contains what the command tried to do, `error`, and all sources of `error`, each text
    /// once.
    pub fn caused(tried: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        let mut text = tried.to_string();
        let mut cause = Some(error);
        while let Some(error) = cause {
            let said = error.to_string();
            // Many errors end with the text of their source. This text must not appear twice.
            if !text.ends_with(&said) {
                text = format!("{text}: {said}");
            }
            cause = error.source();
        }
        Self::new(text)
    }

    /// Makes an error from what the command tried to do and the status that the server replied. The code decides the
    /// exit code.
    pub fn refused(tried: impl fmt::Display, status: &Status) -> Self {
        let mut text = format!("{tried}: {}", status.message());
        if let Some(bad) = status.get_details_bad_request() {
            for violation in bad.field_violations {
                let fault = format!("{}: {}", violation.field, violation.description);
                // The message already names the first wrong field.
                if !violation.field.is_empty() && !text.contains(&fault) {
                    text = format!("{text}; {fault}");
                }
            }
        }
        let text = match status.get_details_error_info() {
            Some(info) => format!("{text} ({:?}, {})", status.code(), info.reason),
            None => format!("{text} ({:?})", status.code()),
        };
        let exit = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
            Code::ResourceExhausted => Exit::QuotaExceeded,
            Code::Unavailable => Exit::Unreachable,
            _ => Exit::Error,
        };
        Self::new(text).with_exit(exit)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for CliError {}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, io};

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn each_cause_appears_once_in_the_text() {
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
