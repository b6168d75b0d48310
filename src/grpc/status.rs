//! Maps all errors: refusals and failures become a google.rpc.Status with details (AIP-193).

use std::collections::HashMap;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, PreconditionViolation, QuotaViolation, StatusExt};

use super::{cursor::cursor, wire::retry_delay};
use crate::{
    domain::{
        access::BadKey,
        bounds::FAULTS_MAX_BYTES,
        event::SourceFigures,
        refusal::{Fault, Refusal, Violation},
        time::Time,
    },
    engine::{Failure, Frame},
    events::WatchEnd,
    jobs::NotRun,
};

/// The `domain` of every ErrorInfo.
pub(super) const ERROR_DOMAIN: &str = "tope";

/// Maximum size of the violations in one status, for the same reason as [`FAULTS_MAX_BYTES`].
const VIOLATIONS_MAX_BYTES: usize = FAULTS_MAX_BYTES;

/// Maximum size of a status message, for the same reason as [`FAULTS_MAX_BYTES`].
const MESSAGE_MAX_BYTES: usize = 1_000;

/// The delay in the RetryInfo of UNAVAILABLE, in seconds.
const UNAVAILABLE_RETRY_SECONDS: u64 = 1;

/// Makes the status of an operation that the engine refused or could not carry out.
pub(super) fn of_failure(failure: &Failure) -> Status {
    match failure {
        Failure::Refused { refusal, frame } => of_refusal(refusal, frame.as_deref()),
        Failure::Overloaded => unavailable("OVERLOADED", "the queue is full; repeat the call later"),
        Failure::Draining => unavailable("DRAINING", "the server is shutting down; repeat the call"),
        Failure::DatabaseUnavailable => {
            unavailable("DATABASE_UNAVAILABLE", "the database is unavailable; repeat the call later")
        }
        Failure::KeysChanged(_) => unavailable("KEYS_CHANGED", "keys are being changed; repeat the call"),
        Failure::DeadlineExceeded => out_of_time("the call's time ran out before the decision"),
        Failure::Internal => with_reason(
            Code::Internal,
            "INTERNAL",
            "internal error; the server's log says more",
            [],
            ErrorDetails::new(),
        ),
    }
}

/// Makes the status of a call whose answer has the wrong type, which is a defect.
pub(super) fn of_mismatch(wanted: &str) -> Status {
    tracing::error!(
        reply.wanted = wanted,
        "the engine answered an operation with a reply of the wrong type, which is a defect"
    );
    of_failure(&Failure::Internal)
}

/// Makes the status of a job that was not run.
pub(super) fn of_not_run(reason: &NotRun) -> Status {
    let text = reason.to_string();
    match reason {
        NotRun::Unknown(name) => not_found("JOB_NOT_FOUND", "job", name, &text),
        NotRun::Running(name) => precondition("JOB_RUNNING", name, &text, [("job", (*name).to_owned())]),
        NotRun::Draining => of_failure(&Failure::Draining),
        NotRun::DatabaseUnavailable => of_failure(&Failure::DatabaseUnavailable),
        NotRun::Broken => of_failure(&Failure::Internal),
    }
}

/// Makes the status that ends a watch.
pub(super) fn of_watch_end(end: &WatchEnd) -> Status {
    match end {
        WatchEnd::Expired { oldest } => {
            let text = "events after the cursor are no longer kept; begin again from oldest_cursor, or with a snapshot";
            let metadata = [("oldest_cursor", cursor(*oldest))];
            with_reason(Code::OutOfRange, "CURSOR_EXPIRED", text, metadata, ErrorDetails::new())
        }
        WatchEnd::Draining => {
            unavailable("DRAINING", "the server is shutting down; resume with the last cursor")
        }
        WatchEnd::Crowded => unavailable(
            "OVERLOADED",
            "there are too many watchers or snapshots; resume with the last cursor later",
        ),
        WatchEnd::Refused(refusal) => of_refusal(refusal, None),
        WatchEnd::Failed(failure) => of_failure(failure),
    }
}

/// Makes the status UNAVAILABLE, with a RetryInfo and a reason. A client may repeat the call later.
pub(super) fn unavailable(reason: &'static str, text: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(std::time::Duration::from_secs(UNAVAILABLE_RETRY_SECONDS)));
    with_reason(Code::Unavailable, reason, text, [], details)
}

/// Makes the status DEADLINE_EXCEEDED, for a call or a request that took too long.
pub(super) fn out_of_time(text: &str) -> Status {
    with_reason(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", text, [], ErrorDetails::new())
}

/// Makes the status of a refusal. `frame` has the names of the resources and of the tenant, for quota violations and
/// for TOO_MANY_COUNTERS. Without `frame` these have no names.
pub(super) fn of_refusal(refusal: &Refusal, frame: Option<&Frame>) -> Status {
    let details = ErrorDetails::new();
    let text = refusal.to_string();
    let tenant = frame.map(|frame| frame.tenant.to_string()).unwrap_or_default();
    match refusal {
        Refusal::Invalid(faults) => invalid(faults, details),
        Refusal::TenantNotFound(id) => not_found("TENANT_NOT_FOUND", "tenant", id, &text),
        Refusal::ReservationNotFound(name) => {
            not_found("RESERVATION_NOT_FOUND", "reservation", &name.to_string(), &text)
        }
        Refusal::ReservationNameMalformed(name) => {
            not_found("RESERVATION_NOT_FOUND", "reservation", name, &text)
        }
        Refusal::RequestNotFound(id) => {
            let metadata = [("reserve_request_id", id.clone())];
            about(Code::NotFound, "RESERVATION_NOT_FOUND", ("reservation", ""), &text, metadata)
        }
        Refusal::ResourceNotFound(id) => not_found("RESOURCE_NOT_FOUND", "resource", id, &text),
        Refusal::PlanNotFound(id) => not_found("PLAN_NOT_FOUND", "plan", id, &text),
        Refusal::WebhookNotFound(id) => not_found("WEBHOOK_NOT_FOUND", "webhook", id, &text),
        Refusal::DeliveryNotFound { webhook, sequence } => delivery_not_found(webhook, *sequence, &text),
        Refusal::TenantSuspended(id) => {
            with_reason(Code::PermissionDenied, "TENANT_SUSPENDED", &text, [("tenant", id.clone())], details)
        }
        Refusal::AgentSuspended { tenant, agent } => {
            let metadata = [("tenant", tenant.clone()), ("agent", agent.clone())];
            with_reason(Code::PermissionDenied, "AGENT_SUSPENDED", &text, metadata, details)
        }
        Refusal::KeyNotFound(id) => not_found("KEY_NOT_FOUND", "key", id, &text),
        Refusal::TooManyKeys(most) => too_many("TOO_MANY_KEYS", "keys_max", *most, &text),
        Refusal::Unauthenticated(bad) => unauthenticated(*bad, &text),
        Refusal::NotPermitted(_) => with_reason(Code::PermissionDenied, "NOT_PERMITTED", &text, [], details),
        Refusal::AgentNotFound(id) => not_found("AGENT_NOT_FOUND", "agent", id, &text),
        Refusal::OverrideNotFound(id) => not_found("OVERRIDE_NOT_FOUND", "override", id, &text),
        Refusal::TooManyAgents(most) => too_many("TOO_MANY_AGENTS", "agents_max", *most, &text),
        Refusal::TooManyOverrides(most) => too_many("TOO_MANY_OVERRIDES", "overrides_max", *most, &text),
        Refusal::RequestIdReused(id) => {
            let metadata = [("request_id", id.clone())];
            about(Code::AlreadyExists, "REQUEST_ID_REUSED", ("request", id), &text, metadata)
        }
        Refusal::NameTaken { kind, id } => {
            about(Code::AlreadyExists, "NAME_TAKEN", (kind, id), &text, [(*kind, id.clone())])
        }
        Refusal::EtagMismatch { kind, id } => {
            let metadata = [("what", (*kind).to_owned()), ("id", id.clone())];
            about(Code::Aborted, "ETAG_MISMATCH", (kind, id), &text, metadata)
        }
        Refusal::ReservationSettled(state) => in_state("RESERVATION_SETTLED", state.name(), &text),
        Refusal::ReservationNotCharged(state) => in_state("RESERVATION_NOT_CHARGED", state.name(), &text),
        Refusal::ReservationExpired => in_state("RESERVATION_EXPIRED", "EXPIRED", &text),
        Refusal::ResourceInUse { id, plan } => {
            let metadata = [("resource", id.clone()), ("plan", plan.clone())];
            precondition("RESOURCE_IN_USE", id, &text, metadata)
        }
        Refusal::PlanInUse { id, .. } | Refusal::PlanOfAgents { id, .. } | Refusal::PlanIsDefault(id) => {
            precondition("PLAN_IN_USE", id, &text, users_of_plan(refusal))
        }
        Refusal::TenantHasHolds { id, holds } => {
            let metadata = [("tenant", id.clone()), ("holds", holds.to_string())];
            precondition("TENANT_HAS_HOLDS", id, &text, metadata)
        }
        Refusal::TooManyCounters(most) => {
            precondition("TOO_MANY_COUNTERS", &tenant, &text, [("counters_max", most.to_string())])
        }
        Refusal::TenantHasTooManyCounters { tenant, most } => {
            let metadata = [("tenant", tenant.clone()), ("counters_max", most.to_string())];
            precondition("TOO_MANY_COUNTERS", tenant, &text, metadata)
        }
        Refusal::TooManyWebhooks(most) => too_many("TOO_MANY_WEBHOOKS", "webhooks_max", *most, &text),
        Refusal::QuotaExceeded(violations) => quota(violations, &tenant, &text, frame, details),
    }
}

/// Converts a status to a google.rpc.Status, for a result of Batch.
pub(super) fn to_rpc(status: &Status) -> tonic_types::pb::Status {
    // The details of our statuses are an encoded google.rpc.Status.
    tonic_types::pb::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::pb::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

fn unauthenticated(bad: BadKey, text: &str) -> Status {
    if bad == BadKey::JwksMissing {
        return unavailable(bad.reason(), text);
    }
    with_reason(Code::Unauthenticated, bad.reason(), text, [], ErrorDetails::new())
}

fn invalid(faults: &[Fault], mut details: ErrorDetails) -> Status {
    for fault in faults {
        details.add_bad_request_violation(fault.field.as_str(), fault.description.as_str());
    }
    let texts = faults.iter().map(|fault| format!("{} {}", fault.field, fault.description));
    let text = texts.collect::<Vec<_>>().join("; ");
    with_reason(Code::InvalidArgument, "INVALID_ARGUMENT", &text, [], details)
}

/// Makes a status that names the thing that it is about: its kind and its id.
fn about<const N: usize>(
    code: Code,
    reason: &'static str,
    (kind, id): (&str, &str),
    text: &str,
    metadata: [(&str, String); N],
) -> Status {
    let mut details = ErrorDetails::new();
    details.set_resource_info(kind, id, "", text);
    with_reason(code, reason, text, metadata, details)
}

fn not_found(reason: &'static str, kind: &'static str, id: &str, text: &str) -> Status {
    about(Code::NotFound, reason, (kind, id), text, [(kind, id.to_owned())])
}

fn delivery_not_found(webhook: &str, sequence: i64, text: &str) -> Status {
    let id = sequence.to_string();
    let metadata = [("webhook", webhook.to_owned()), ("sequence", id.clone())];
    about(Code::NotFound, "DELIVERY_NOT_FOUND", ("delivery", &id), text, metadata)
}

/// Makes the status for a reservation whose state forbids the call.
fn in_state(reason: &'static str, state: &str, text: &str) -> Status {
    precondition(reason, "reservation", text, [("state", state.to_owned())])
}

/// Returns the metadata of PLAN_IN_USE: the plan, and who uses it.
fn users_of_plan(refusal: &Refusal) -> Vec<(&'static str, String)> {
    let mut users = Vec::new();
    if let Refusal::PlanInUse { id, tenant, tenants } = refusal {
        users.extend([("plan", id.clone()), ("tenant", tenant.clone()), ("tenants", tenants.to_string())]);
    }
    if let Refusal::PlanOfAgents { id, tenant, agent, agents } = refusal {
        users.extend([("plan", id.clone()), ("tenant", tenant.clone())]);
        users.extend([("agent", agent.clone()), ("agents", agents.to_string())]);
    }
    if let Refusal::PlanIsDefault(id) = refusal {
        users.extend([("plan", id.clone()), ("default_plan", id.clone())]);
    }
    users
}

/// Makes the status for a number that has reached its bound. `name` is the key of the bound in the metadata.
fn too_many(reason: &'static str, name: &str, most: u64, text: &str) -> Status {
    precondition(reason, "", text, [(name, most.to_string())])
}

fn precondition<'a>(
    reason: &'static str,
    subject: &str,
    text: &str,
    metadata: impl IntoIterator<Item = (&'a str, String)>,
) -> Status {
    let mut details = ErrorDetails::new();
    details.set_precondition_failure(vec![PreconditionViolation::new(reason, subject, text)]);
    with_reason(Code::FailedPrecondition, reason, text, metadata, details)
}

fn quota(
    violations: &[Violation],
    tenant: &str,
    text: &str,
    frame: Option<&Frame>,
    mut details: ErrorDetails,
) -> Status {
    let mut room = VIOLATIONS_MAX_BYTES;
    let shown =
        violations.iter().map(|violation| quota_violation(violation, tenant, frame)).take_while(|shown| {
            let dimensions = shown.quota_dimensions.iter().map(|(name, value)| name.len() + value.len() + 6);
            let size = shown.subject.len() + shown.description.len() + dimensions.sum::<usize>() + 40;
            let fits = room >= size || room == VIOLATIONS_MAX_BYTES;
            room = room.saturating_sub(size);
            fits
        });
    details.set_quota_failure(shown.collect::<Vec<_>>());
    if let Some(seconds) = frame.and_then(|frame| retry_delay(violations, frame.now)) {
        details.set_retry_info(Some(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0))));
    }
    with_reason(Code::ResourceExhausted, "QUOTA_EXCEEDED", text, [("tenant", tenant.to_owned())], details)
}

fn quota_violation(violation: &Violation, tenant: &str, frame: Option<&Frame>) -> QuotaViolation {
    let (balance, requested) = (&violation.balance, violation.requested);
    let resource = frame.map_or("", |frame| frame.policy.resource_id(balance.key.resource()));
    let mut dimensions = HashMap::from([("requested".to_owned(), requested.to_string())]);
    let allowance = balance.allowance().unwrap_or(0);
    let (limit, description) = match &balance.limit {
        Some(limit) => {
            let source = SourceFigures::from(&limit.source);
            let (limit, remaining) = (limit.id.as_str(), balance.remaining().unwrap_or(0).max(0));
            dimensions.insert("remaining".to_owned(), remaining.to_string());
            dimensions.insert("allowance".to_owned(), allowance.to_string());
            insert_source(&mut dimensions, source);
            let of = format!("limit {limit:?} of {resource:?} has {remaining} of {allowance} left");
            (limit, format!("{of}, and {requested} were requested"))
        }
        None => {
            ("", format!("no limit of the plan covers {resource:?}, of which {requested} were requested"))
        }
    };
    if balance.counter.window.has_bounds() {
        dimensions.insert("window_end".to_owned(), rfc3339(balance.counter.window.end));
    }
    let mut subject = format!("tenant:{tenant}");
    for (dimension, value) in balance.key.dimensions() {
        if let Some(value) = value {
            dimensions.insert(dimension.name().to_owned(), value.to_owned());
            subject.push_str(&format!(",{}:{value}", dimension.name()));
        }
    }
    for (key, value) in balance.key.labels() {
        // Labels may be long, so they are not repeated in the subject.
        dimensions.insert(format!("labels.{key}"), value.to_owned());
    }
    QuotaViolation {
        subject,
        description,
        api_service: ERROR_DOMAIN.to_owned(),
        quota_metric: resource.to_owned(),
        quota_id: limit.to_owned(),
        quota_dimensions: dimensions,
        quota_value: allowance,
        futura_quota_value: None,
    }
}

/// Adds where the limit of a violation comes from.
fn insert_source(dimensions: &mut HashMap<String, String>, source: SourceFigures) {
    let fields = [
        ("plan", source.plan),
        ("plan_agent", source.agent),
        ("override", source.override_id),
        ("override_end", source.override_end.map(rfc3339).unwrap_or_default()),
    ];
    let given = fields.into_iter().filter(|(_, text)| !text.is_empty());
    dimensions.extend(given.map(|(name, text)| (name.to_owned(), text)));
}

/// Formats an instant for people, as in RFC 3339: 2026-12-01T00:00:00Z.
fn rfc3339(time: Time) -> String {
    chrono::DateTime::from_timestamp_millis(time.0)
        .map(|instant| instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        .unwrap_or_default()
}

fn with_reason<'a>(
    code: Code,
    reason: &'static str,
    text: &str,
    metadata: impl IntoIterator<Item = (&'a str, String)>,
    mut details: ErrorDetails,
) -> Status {
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    details.set_error_info(reason, ERROR_DOMAIN, metadata);
    let end =
        text.char_indices().map(|(place, _)| place).take_while(|place| *place <= MESSAGE_MAX_BYTES).last();
    let shown = if text.len() > MESSAGE_MAX_BYTES { &text[..end.unwrap_or(0)] } else { text };
    Status::with_error_details(code, shown, details)
}
