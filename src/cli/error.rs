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
            for violation in bad.field_violations {
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
