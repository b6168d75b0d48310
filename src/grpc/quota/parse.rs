//! Requests of the data plane → operations. Parsing collects every wrong field.

use std::collections::HashMap;

use crate::{
    domain::{
        bounds::{AMOUNTS_MAX, TTL_DEFAULT, TTL_MAX},
        decide,
        faults::Faults,
        id::{ReservationName, name_fault, optional_name_fault},
        operation::{
            Amend, Ask, Check, Commit, Extend, Fingerprinter, Operation, Record, Reserve, Target, Units,
        },
        plan::Policy,
        refusal::{Fault, Refusal},
        reservation::OnExpiry,
        shape::{PerDimension, Subject},
        time::Span,
    },
    engine::{Request, TenantRef},
    grpc::{
        faults::{check_reason, instant, labels_of, request_key},
        v1,
    },
    policy::PolicyCache,
};

/// A request that cannot be decided.
#[derive(Debug)]
pub(super) enum Unfit {
    /// Some fields are wrong.
    Faults {
        /// The faults of all fields, except resources that are not declared.
        faults: Faults,
        /// Resources that the remembered policy does not have, with their places. That policy may be outdated or empty.
        unknown: Vec<(usize, String)>,
    },
    /// The request is refused, whatever the policy is.
    Refused(Refusal),
}

impl Unfit {
    /// Returns whether the current policy is needed to name all faults.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Faults { unknown, .. } if !unknown.is_empty())
    }

    /// Makes the refusal that the client receives. Without a policy, it does not report undeclared resources.
    pub(super) fn into_refusal(self, policy: Option<&Policy>) -> Refusal {
        let (mut faults, unknown) = match self {
            Self::Faults { faults, unknown } => (faults, unknown),
            Self::Refused(refusal) => return refusal,
        };
        let undeclared = |name: &str| policy.is_some_and(|policy| policy.find_resource(name).is_none());
        for (place, name) in unknown.iter().filter(|(_, name)| undeclared(name)) {
            decide::undeclared(&mut faults, *place, name);
        }
        faults.into_refusal()
    }
}

impl From<Refusal> for Unfit {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Refuses the request if there are faults. Resources that seem undeclared are reported with the other faults, so that
/// the client gets all faults at once. If there are no other faults, the decision reports undeclared resources, because
/// it has read the valid policy.
fn end<'a>(
    faults: Faults,
    policies: &PolicyCache,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Unfit> {
    if faults.is_empty() {
        return Ok(());
    }
    let policy = policies.latest();
    let unknown = names
        .enumerate()
        .filter(|(_, name)| name_fault(name).is_none() && policy.find_resource(name).is_none())
        .map(|(place, name)| (place, name.to_owned()));
    Err(Unfit::Faults { unknown: unknown.collect(), faults })
}

pub(super) fn reserve(request: v1::ReserveRequest, policies: &PolicyCache) -> Result<Request, Unfit> {
    let mut faults = Faults::default();
    let tenant = tenant(&mut faults, request.tenant);
    let subject = subject(&mut faults, request.agent, request.user, request.model, request.labels);
    let amounts = asks(&mut faults, request.amounts, request.allow_partial);
    let ttl = match request.ttl {
        Some(ttl) => duration(&mut faults, "ttl", ttl),
        None => TTL_DEFAULT,
    };
    let on_expiry = match v1::OnExpiry::try_from(request.on_expiry) {
        Ok(given) => Option::from(given).unwrap_or(OnExpiry::Release),
        Err(_) => {
            faults.add("on_expiry", "must be ON_EXPIRY_RELEASE or ON_EXPIRY_CHARGE");
            OnExpiry::Release
        }
    };
    let key = request_key(&mut faults, request.request_id, || {
        Fingerprinter::new("Reserve")
            .subject(&subject)
            .asks(&amounts)
            .number(ttl.0)
            .number(i64::from(request.allow_partial))
            .number(i64::from(on_expiry == OnExpiry::Charge))
            .labels(&subject.labels)
    });
    let allow_partial = request.allow_partial;
    end(faults, policies, amounts.iter().map(|ask| ask.resource.as_str()))?;
    let reserve = Reserve { request: key, subject, amounts, ttl, allow_partial, on_expiry };
    Ok(Request::new(tenant, Operation::Reserve(reserve)))
}

pub(super) fn commit(request: v1::CommitRequest, policies: &PolicyCache) -> Result<Request, Unfit> {
    let mut faults = Faults::default();
    let target = target(&mut faults, request.reservation, request.tenant, request.reserve_request_id);
    let amounts =
        units(&mut faults, request.amounts, |quantity| (quantity < 0).then_some("must be 0 or more"));
    let served = PerDimension { agent: request.agent, user: request.user, model: request.model };
    for (dimension, given) in served.iter() {
        faults.check(dimension.name(), given.as_deref().and_then(optional_name_fault));
    }
    // Wrong fields come first: the client must correct them, whether or not the reservation exists.
    end(faults, policies, amounts.iter().map(|units| units.resource.as_str()))?;
    let (tenant, target) = target?;
    Ok(Request::new(tenant, Operation::Commit(Commit { target, amounts, served })))
}

pub(super) fn release(request: v1::ReleaseRequest) -> Result<Request, Unfit> {
    let mut faults = Faults::default();
    let target = target(&mut faults, request.reservation, request.tenant, request.reserve_request_id);
    faults.into_result(())?;
    let (tenant, target) = target?;
    Ok(Request::new(tenant, Operation::Release(target)))
}

pub(super) fn extend(request: v1::ExtendRequest, policies: &PolicyCache) -> Result<Request, Unfit> {
    let mut faults = Faults::default();
    if request.ttl.is_none() && request.amounts.is_empty() {
        faults.add("ttl", "must be given unless amounts are given");
    }
    let target = target(&mut faults, request.reservation, request.tenant, request.reserve_request_id);
    let ttl = request.ttl.map(|ttl| duration(&mut faults, "ttl", ttl));
    let amounts =
        units(&mut faults, request.amounts, |quantity| (quantity < 0).then_some("must be 0 or more"));
    // The fingerprint leaves the hold out, because a hold can be named in two ways. The decision compares it.
    let key = request_key(&mut faults, request.request_id, || {
        Fingerprinter::new("Extend").number(ttl.unwrap_or_default().0).units(&amounts)
    });
    end(faults, policies, amounts.iter().map(|units| units.resource.as_str()))?;
    let (tenant, target) = target?;
    Ok(Request::new(tenant, Operation::Extend(Extend { target, request: key, ttl, amounts })))
}

pub(super) fn record(request: v1::RecordRequest, policies: &PolicyCache) -> Result<Request, Unfit> {
    let mut faults = Faults::default();
    let tenant = tenant(&mut faults, request.tenant);
    let subject = subject(&mut faults, request.agent, request.user, request.model, request.labels);
    if request.amounts.is_empty() {
        faults.add("amounts", "must not be empty");
    }
    let amounts = units(&mut faults, request.amounts, |_| None);
    let occurred_at = instant(&mut faults, "occurred_time", request.occurred_time);
    let key = request_key(&mut faults, request.request_id, || {
        let print = Fingerprinter::new("Record").subject(&subject).units(&amounts).labels(&subject.labels);
        // Without an instant, a retry has the fingerprint that the previous release computes.
        occurred_at.map_or(print.clone(), |at| print.number(at.0))
    });
    end(faults, policies, amounts.iter().map(|units| units.resource.as_str()))?;
    let record = Record { request: key, subject, amounts, occurred_at };
    Ok(Request::new(tenant, Operation::Record(record)))
}

pub(super) fn amend(request: v1::AmendRequest, policies: &PolicyCache) -> Result<Request, Unfit> {
    let mut faults = Faults::default();
    let target = target(&mut faults, request.reservation, request.tenant, request.reserve_request_id);
    if request.amounts.is_empty() {
        faults.add("amounts", "must not be empty");
    }
    let amounts =
        units(&mut faults, request.amounts, |quantity| (quantity < 0).then_some("must be 0 or more"));
    check_reason(&mut faults, &request.reason, &request.operator);
    end(faults, policies, amounts.iter().map(|units| units.resource.as_str()))?;
    let (tenant, target) = target?;
    let amend = Amend { target, amounts, reason: request.reason, operator: request.operator };
    Ok(Request::new(tenant, Operation::Amend(Box::new(amend))))
}

pub(super) fn check(request: v1::CheckRequest, policies: &PolicyCache) -> Result<Request, Unfit> {
    let mut faults = Faults::default();
    let tenant = tenant(&mut faults, request.tenant);
    let subject = subject(&mut faults, request.agent, request.user, request.model, request.labels);
    let amounts = asks(&mut faults, request.amounts, request.allow_partial);
    end(faults, policies, amounts.iter().map(|ask| ask.resource.as_str()))?;
    let check = Check { subject, amounts, allow_partial: request.allow_partial };
    Ok(Request::new(tenant, Operation::Check(check)))
}

/// Parses one operation of a Batch.
pub(super) fn operation(operation: v1::Operation, policies: &PolicyCache) -> Result<Request, Unfit> {
    use v1::operation::Operation as Kind;
    match operation.operation {
        Some(Kind::Reserve(request)) => reserve(request, policies),
        Some(Kind::Commit(request)) => commit(request, policies),
        Some(Kind::Release(request)) => release(request),
        Some(Kind::Extend(request)) => extend(request, policies),
        Some(Kind::Record(request)) => record(request, policies),
        Some(Kind::Amend(request)) => amend(request, policies),
        Some(Kind::Check(request)) => check(request, policies),
        None => Err(Refusal::Invalid(vec![Fault::new("operation", "must be given")]).into()),
    }
}

/// Parses the reservation that a request names: by its name, or by its tenant and the request_id that made it.
pub(super) fn target(
    faults: &mut Faults,
    reservation: String,
    tenant: String,
    request_id: String,
) -> Result<(TenantRef, Target), Refusal> {
    if reservation.is_empty() && tenant.is_empty() && request_id.is_empty() {
        faults.add("reservation", "must be given, or tenant and reserve_request_id instead");
    } else if reservation.is_empty() {
        faults.check("tenant", name_fault(&tenant));
        faults.check("reserve_request_id", name_fault(&request_id));
    } else if !tenant.is_empty() || !request_id.is_empty() {
        faults.add("reservation", "must not be given together with tenant or reserve_request_id");
    } else {
        return match ReservationName::parse(&reservation) {
            Some(name) => Ok((TenantRef::Key(name.tenant), Target::Id(name.id))),
            None => Err(Refusal::ReservationNameMalformed(reservation)),
        };
    }
    Ok((TenantRef::Id(tenant), Target::Request(request_id)))
}

/// Parses a duration of 1 millisecond to 24 hours, in whole milliseconds, rounded down.
fn duration(faults: &mut Faults, field: &str, duration: prost_types::Duration) -> Span {
    let nanos = i64::from(duration.nanos);
    let valid =
        (0..1_000_000_000).contains(&nanos) || (duration.seconds <= 0 && nanos < 0 && nanos > -1_000_000_000);
    let span = Span(duration.seconds.saturating_mul(1_000).saturating_add(nanos.div_euclid(1_000_000)));
    if !valid {
        faults.add(field, "must be a valid duration");
    } else if span < Span::MILLISECOND {
        faults.add(field, "must be 1 millisecond or more");
    } else if span > TTL_MAX {
        faults.add(field, "must be at most 24 hours");
    }
    span
}

fn tenant(faults: &mut Faults, tenant: String) -> TenantRef {
    faults.check("tenant", name_fault(&tenant));
    TenantRef::Id(tenant)
}

fn subject(
    faults: &mut Faults,
    agent: String,
    user: String,
    model: String,
    labels: HashMap<String, String>,
) -> Subject {
    faults.check("agent", optional_name_fault(&agent));
    faults.check("user", optional_name_fault(&user));
    faults.check("model", optional_name_fault(&model));
    Subject { agent, user, model, labels: labels_of(faults, "labels", labels) }
}

fn asks(faults: &mut Faults, amounts: Vec<v1::ReserveAmount>, allow_partial: bool) -> Vec<Ask> {
    if amounts.is_empty() {
        faults.add("amounts", "must not be empty");
    }
    if !faults.is_within("amounts", amounts.len(), AMOUNTS_MAX) {
        return Vec::new();
    }
    resources(faults, amounts.iter().map(|amount| amount.resource.as_str()));
    let mut asks = Vec::with_capacity(amounts.len());
    for (place, amount) in amounts.into_iter().enumerate() {
        if amount.quantity < 0 {
            faults.add(format_args!("amounts[{place}].quantity"), "must be 0 or more");
        }
        if amount.minimum != 0 && !allow_partial {
            faults.add(format_args!("amounts[{place}].minimum"), "must not be given without allow_partial");
        } else if amount.minimum < 0 {
            faults.add(format_args!("amounts[{place}].minimum"), "must be 0 or more");
        } else if amount.minimum > amount.quantity.max(0) {
            faults.add(format_args!("amounts[{place}].minimum"), "must be at most quantity");
        }
        let minimum =
            if allow_partial { amount.minimum.max(1).min(amount.quantity) } else { amount.quantity };
        asks.push(Ask { resource: amount.resource, quantity: amount.quantity, minimum });
    }
    asks
}

fn units(
    faults: &mut Faults,
    amounts: Vec<v1::Amount>,
    fault: impl Fn(i64) -> Option<&'static str>,
) -> Vec<Units> {
    if !faults.is_within("amounts", amounts.len(), AMOUNTS_MAX) {
        return Vec::new();
    }
    resources(faults, amounts.iter().map(|amount| amount.resource.as_str()));
    for (place, amount) in amounts.iter().enumerate() {
        if let Some(description) = fault(amount.quantity) {
            faults.add(format_args!("amounts[{place}].quantity"), description);
        }
    }
    amounts.into_iter().map(|amount| Units { resource: amount.resource, quantity: amount.quantity }).collect()
}

fn resources<'a>(faults: &mut Faults, names: impl Iterator<Item = &'a str> + Clone) {
    for (place, name) in names.clone().enumerate() {
        if let Some(description) = name_fault(name) {
            faults.add(format_args!("amounts[{place}].resource"), description);
        } else if names.clone().take(place).any(|earlier| earlier == name) {
            faults.add(format_args!("amounts[{place}].resource"), "must not be given twice");
        }
    }
}
