//! A refusal, decoded as a client decodes it.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{QuotaViolation, StatusExt};

/// A status with its details. If a detail is absent, its fields are empty.
#[derive(Clone, Debug)]
pub struct No {
    /// The canonical gRPC code.
    pub code: Code,
    /// The message, for people.
    pub message: String,
    /// The reason of ErrorInfo.
    pub reason: String,
    /// The domain of ErrorInfo.
    pub domain: String,
    /// The metadata of ErrorInfo.
    pub metadata: HashMap<String, String>,
    /// From BadRequest: the paths of the wrong fields, sorted.
    pub fields: Vec<String>,
    /// From BadRequest: path and description of each fault.
    pub faults: Vec<(String, String)>,
    /// The violations of QuotaFailure.
    pub violations: Vec<QuotaViolation>,
    /// The delay of RetryInfo.
    pub retry: Option<Duration>,
    /// From ResourceInfo: type and name.
    pub resource: Option<(String, String)>,
}

impl No {
    /// Fails unless code and reason are these, and the domain is `tope`.
    pub fn is(&self, code: Code, reason: &str) -> &Self {
        assert_eq!((self.code, self.reason.as_str()), (code, reason), "{self:?}");
        assert_eq!(self.domain, "tope", "{self:?}");
        assert!(!self.message.is_empty(), "{self:?}");
        self
    }

    /// Fails unless this is INVALID_ARGUMENT with exactly these wrong fields.
    pub fn names(&self, fields: &[&str]) -> &Self {
        self.is(Code::InvalidArgument, "INVALID_ARGUMENT");
        let mut wanted = fields.to_vec();
        wanted.sort_unstable();
        assert_eq!(self.fields, wanted, "{self:?}");
        assert!(self.faults.iter().all(|(_, description)| !description.is_empty()), "{self:?}");
        self
    }

    /// Fails unless this is QUOTA_EXCEEDED with violations of exactly these limits.
    pub fn is_quota(&self, limits: &[&str]) -> &Self {
        self.is(Code::ResourceExhausted, "QUOTA_EXCEEDED");
        let mut refused: Vec<&str> = self.violations.iter().map(|v| v.quota_id.as_str()).collect();
        refused.sort_unstable();
        let mut wanted = limits.to_vec();
        wanted.sort_unstable();
        assert_eq!(refused, wanted, "{self:?}");
        self
    }
}

impl From<Status> for No {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let faults: Vec<(String, String)> = details
            .bad_request()
            .map(|bad| {
                bad.field_violations.iter().map(|f| (f.field.clone(), f.description.clone())).collect()
            })
            .unwrap_or_default();
        let mut fields: Vec<String> = faults.iter().map(|(field, _)| field.clone()).collect();
        fields.sort_unstable();
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            domain: info.map(|info| info.domain.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            fields,
            faults,
            violations: details.quota_failure().map(|failure| failure.violations.clone()).unwrap_or_default(),
            retry: details.retry_info().and_then(|info| info.retry_delay),
            resource: details
                .resource_info()
                .map(|info| (info.resource_type.clone(), info.resource_name.clone())),
        }
    }
}

/// Converts the error of one operation of a Batch.
impl From<tonic_types::Status> for No {
    fn from(status: tonic_types::Status) -> Self {
        let details = prost::Message::encode_to_vec(&status);
        Status::with_details(Code::from_i32(status.code), status.message, details.into()).into()
    }
}
