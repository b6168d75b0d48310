//! QuotaService: its rpcs, on the engine and the feed.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    abridge,
    parse::{self, Unfit},
    reply, watch,
};
use crate::{
    access::Access,
    domain::{
        access::Permit,
        audit::Author,
        bounds::BATCH_MAX,
        counter::CounterKey,
        faults::Faults,
        id::{ReservationId, name_fault, optional_name_fault},
        plan::Policy,
        refusal::{Fault, Refusal},
        reservation::ReservationState,
        shape::PerDimension,
        time::Span,
    },
    engine::{self, Engine, Failure, Outcome, Reader, ReservationQuery, UsagePlace, UsageQuery},
    events::Feed,
    grpc::{
        access::{self, Admitted, Door, Origin, check_found},
        faults::{check_resources, choices, labels_of},
        http2::{Deadline, Share, promise_snapshot},
        status,
        token::{self, Token},
        v1::{self, operation_result::Result as Answered, quota_service_server::QuotaService},
        wire,
    },
    policy::PolicyCache,
    traces::CallTrace,
};

/// A closure that takes the reply of one rpc out of the enum of all replies. `None` for another rpc's reply.
macro_rules! only {
    ($rpc:ident) => {
        |answered| match answered {
            Answered::$rpc(reply) => Some(reply),
            _ => None,
        }
    };
}

/// QuotaService on an engine, a reader and a feed.
#[derive(Debug)]
pub struct Quota {
    engine: Arc<Engine>,
    reader: Arc<Reader>,
    policies: Arc<PolicyCache>,
    feed: Arc<Feed>,
    door: Door,
}

impl Quota {
    /// Makes the service, on these parts of the server.
    pub fn new(
        engine: Arc<Engine>,
        reader: Arc<Reader>,
        policies: Arc<PolicyCache>,
        feed: Arc<Feed>,
        access: Access,
    ) -> Self {
        Self { engine, reader, policies, feed, door: Door::new(access) }
    }

    /// Submits one operation to the engine, and takes its reply out of the enum of all replies.
    async fn submit<T>(
        &self,
        (extensions, permit): (tonic::Extensions, Permit),
        author: Option<Box<Author>>,
        request: Result<engine::Request, Unfit>,
        take: impl FnOnce(Answered) -> Option<T>,
    ) -> Result<Response<T>, Status> {
        let request = match request {
            Ok(request) => engine::Request { permit, author, trace: extensions.get().cloned(), ..request },
            Err(unfit) => {
                // Boxed, because few calls come here.
                Box::pin(self.door.confirm(&permit)).await?;
                let policy = self.policy_for(&[&unfit]).await;
                return Err(status::of_refusal(&unfit.into_refusal(policy.as_deref()), None));
            }
        };
        let deadline = extensions.get::<Deadline>().map(|deadline| deadline.0);
        let mut outcome = self.engine.submit(request, deadline).await;
        if matches!(outcome, Err(Failure::KeysChanged(_))) {
            // Boxed, because few calls come here.
            Box::pin(self.door.renew(&self.engine, std::slice::from_mut(&mut outcome), deadline)).await;
        }
        match outcome {
            Ok(answer) => taken(reply::of(&answer), take).map(Response::new),
            Err(failure) => Err(status::of_failure(&failure)),
        }
    }

    /// Returns the current policy, if one of these requests needs it and the database answers.
    async fn policy_for(&self, unfit: &[&Unfit]) -> Option<Arc<Policy>> {
        if !unfit.iter().any(|unfit| unfit.is_open()) {
            return None;
        }
        // Boxed, because few requests have faults. Without the box, the future of every call would be larger.
        Box::pin(self.reader.policy()).await.ok()
    }
}

#[tonic::async_trait]
impl QuotaService for Quota {
    type WatchUsageStream = watch::Updates;

    async fn watch_usage(
        &self,
        request: Request<v1::WatchUsageRequest>,
    ) -> Result<Response<watch::Updates>, Status> {
        let Admitted { message, extensions, .. } = self.door.admit(request).await?;
        let share = extensions.get::<Arc<Share>>().cloned();
        let query = watch::watch_query(message).map_err(|refusal| status::of_refusal(&refusal, None))?;
        let mut snapshot = match share {
            Some(share) if query.snapshot => Some(promise_snapshot(&share).await?),
            _ => None,
        };
        let watch = self.feed.watch(query).await.map_err(|end| status::of_watch_end(&end))?;
        if let Some(snapshot) = &mut snapshot {
            snapshot.fit(watch.balances_ahead());
        }
        Ok(Response::new(watch::updates(watch, snapshot)))
    }

    async fn reserve(
        &self,
        request: Request<v1::ReserveRequest>,
    ) -> Result<Response<v1::ReserveResponse>, Status> {
        let Admitted { message, extensions, permit } = self.door.admit(request).await?;
        self.submit((extensions, permit), None, parse::reserve(message, &self.policies), only!(Reserve)).await
    }

    async fn commit(
        &self,
        request: Request<v1::CommitRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let Admitted { message, extensions, permit } = self.door.admit(request).await?;
        self.submit((extensions, permit), None, parse::commit(message, &self.policies), only!(Commit)).await
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let origin = Origin::of(&request);
        let Admitted { message, extensions, permit } = self.door.admit(request).await?;
        let author = permit.corrects().then(|| Box::new(origin.author::<v1::ReleaseRequest>(&permit)));
        self.submit((extensions, permit), author, parse::release(message), only!(Release)).await
    }

    async fn extend(
        &self,
        request: Request<v1::ExtendRequest>,
    ) -> Result<Response<v1::ExtendResponse>, Status> {
        let Admitted { message, extensions, permit } = self.door.admit(request).await?;
        self.submit((extensions, permit), None, parse::extend(message, &self.policies), only!(Extend)).await
    }

    async fn record(
        &self,
        request: Request<v1::RecordRequest>,
    ) -> Result<Response<v1::RecordResponse>, Status> {
        let Admitted { message, extensions, permit } = self.door.admit(request).await?;
        self.submit((extensions, permit), None, parse::record(message, &self.policies), only!(Record)).await
    }

    async fn amend(&self, request: Request<v1::AmendRequest>) -> Result<Response<v1::AmendResponse>, Status> {
        let (Admitted { message, extensions, permit }, author) = self.door.admit_change(request).await?;
        let author = Some(Box::new(author));
        self.submit((extensions, permit), author, parse::amend(message, &self.policies), only!(Amend)).await
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        let Admitted { message, extensions, permit } = self.door.admit(request).await?;
        self.submit((extensions, permit), None, parse::check(message, &self.policies), only!(Check)).await
    }

    async fn get_usage(
        &self,
        request: Request<v1::GetUsageRequest>,
    ) -> Result<Response<v1::GetUsageResponse>, Status> {
        let Admitted { message, .. } = self.door.admit(request).await?;
        let (query, list) = usage_query(message).map_err(|refusal| status::of_refusal(&refusal, None))?;
        let page = self.reader.usage(&query).await.map_err(|failure| status::of_failure(&failure))?;
        let next_page_token = page.next.as_ref().map(|place| token::encode(&list, &place_bytes(place)));
        Ok(Response::new(v1::GetUsageResponse {
            balances: wire::balances(&page.entries, &page.frame.policy),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    async fn get_reservation(
        &self,
        request: Request<v1::GetReservationRequest>,
    ) -> Result<Response<v1::Reservation>, Status> {
        let Admitted { message, permit, .. } = self.door.admit(request).await?;
        let own_tenant = !message.tenant.is_empty();
        let mut faults = Faults::default();
        let target =
            parse::target(&mut faults, message.reservation, message.tenant, message.reserve_request_id);
        let target = faults.into_result(()).and(target);
        let (tenant, target) = target.map_err(|refusal| status::of_refusal(&refusal, None))?;
        match self.reader.get_reservation(&tenant, &target).await {
            Ok((reservation, frame)) => {
                check_found(&permit, Some((&*frame.tenant, &*reservation.subject.agent)), own_tenant)?;
                Ok(Response::new(reply::reservation_in_full(&reservation, &frame)))
            }
            Err(Failure::Refused { refusal, frame }) => {
                let known = frame.as_ref().is_some_and(|frame| permit.allows_tenant(&frame.tenant));
                check_found(&permit, None, own_tenant || known)?;
                Err(status::of_refusal(&refusal, frame.as_deref()))
            }
            Err(failure) => Err(status::of_failure(&failure)),
        }
    }

    async fn list_reservations(
        &self,
        request: Request<v1::ListReservationsRequest>,
    ) -> Result<Response<v1::ListReservationsResponse>, Status> {
        let Admitted { message, .. } = self.door.admit(request).await?;
        let (query, list) =
            reservation_query(message).map_err(|refusal| status::of_refusal(&refusal, None))?;
        let page =
            self.reader.list_reservations(&query).await.map_err(|failure| status::of_failure(&failure))?;
        let next_page_token = page.next.map(|id| token::encode(&list, &id.0));
        Ok(Response::new(v1::ListReservationsResponse {
            reservations: page.entries.iter().map(|found| reply::reservation(found, &page.frame)).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    async fn batch(&self, request: Request<v1::BatchRequest>) -> Result<Response<v1::BatchResponse>, Status> {
        let origin = Origin::of(&request);
        let Admitted { message, extensions, permit } = self.door.admit(request).await?;
        let count = message.operations.len();
        if count == 0 || count > BATCH_MAX {
            let fault = Fault::new("operations", format!("must be 1 to {BATCH_MAX}; there are {count}"));
            return Err(status::of_refusal(&Refusal::Invalid(vec![fault]), None));
        }
        let deadline = extensions.get::<Deadline>().map(|deadline| deadline.0);
        let trace: Option<Arc<CallTrace>> = extensions.get().cloned();
        let mut requests = Vec::with_capacity(count);
        let parse = |operation| {
            check_operation(&permit, &operation).map_err(Unparsed::Forbidden)?;
            let author = author_of(&origin, &permit, &operation);
            let request = parse::operation(operation, &self.policies).map_err(Unparsed::Unfit)?;
            requests.push(engine::Request {
                permit: permit.clone(),
                author,
                trace: trace.clone(),
                ..request
            });
            Ok(())
        };
        let parsed: Vec<Result<(), Unparsed>> = message.operations.into_iter().map(parse).collect();
        if requests.is_empty() {
            self.door.confirm(&permit).await?;
        }
        let unfit: Vec<&Unfit> = parsed.iter().filter_map(|parsed| parsed.as_ref().err()?.unfit()).collect();
        let policy = self.policy_for(&unfit).await;
        let mut outcomes = self.engine.submit_all(requests, deadline).await;
        self.door.renew(&self.engine, &mut outcomes, deadline).await;
        let mut outcomes = outcomes.into_iter();
        let results = parsed.into_iter().map(|parsed| match parsed {
            Ok(()) => result(outcomes.next()),
            Err(Unparsed::Forbidden(status)) => error_result(&status),
            Err(Unparsed::Unfit(unfit)) => {
                error_result(&status::of_refusal(&unfit.into_refusal(policy.as_deref()), None))
            }
        });
        Ok(Response::new(abridge::batch(results.collect())))
    }
}

/// Why an operation of a Batch is not submitted.
enum Unparsed {
    /// The key does not permit the operation.
    Forbidden(Status),
    /// The operation has faults.
    Unfit(Unfit),
}

impl Unparsed {
    fn unfit(&self) -> Option<&Unfit> {
        match self {
            Unparsed::Forbidden(_) => None,
            Unparsed::Unfit(unfit) => Some(unfit),
        }
    }
}

/// Compares one operation of a Batch with the rule of its rpc.
fn check_operation(permit: &Permit, operation: &v1::Operation) -> Result<(), Status> {
    use v1::operation::Operation as Wire;
    match &operation.operation {
        Some(Wire::Reserve(message)) => access::check(permit, message),
        Some(Wire::Commit(message)) => access::check(permit, message),
        Some(Wire::Release(message)) => access::check(permit, message),
        Some(Wire::Extend(message)) => access::check(permit, message),
        Some(Wire::Record(message)) => access::check(permit, message),
        Some(Wire::Amend(message)) => access::check(permit, message),
        Some(Wire::Check(message)) => access::check(permit, message),
        // The parser reports the operation that is missing.
        None => Ok(()),
    }
}

/// Returns the author of an operation of a Batch, if the audit has to show the operation.
fn author_of(origin: &Origin, permit: &Permit, operation: &v1::Operation) -> Option<Box<Author>> {
    use v1::operation::Operation as Wire;
    match &operation.operation {
        Some(Wire::Amend(_)) => Some(Box::new(origin.author::<v1::AmendRequest>(permit))),
        Some(Wire::Release(_)) if permit.corrects() => {
            Some(Box::new(origin.author::<v1::ReleaseRequest>(permit)))
        }
        _ => None,
    }
}

/// Returns the reply of an rpc. Another rpc's reply is a defect, and INTERNAL.
fn taken<T>(answered: Option<Answered>, take: impl FnOnce(Answered) -> Option<T>) -> Result<T, Status> {
    answered.and_then(take).ok_or_else(|| status::of_mismatch(std::any::type_name::<T>()))
}

/// Returns the result of one operation of a Batch. An operation without an outcome is a defect, and INTERNAL.
fn result(outcome: Option<Outcome>) -> v1::OperationResult {
    let answered = match outcome {
        Some(Ok(answer)) => taken(reply::of(&answer), Some),
        Some(Err(failure)) => Err(status::of_failure(&failure)),
        None => Err(status::of_mismatch("an outcome")),
    };
    match answered {
        Ok(answered) => v1::OperationResult { result: Some(answered) },
        Err(status) => error_result(&status),
    }
}

fn error_result(status: &Status) -> v1::OperationResult {
    v1::OperationResult { result: Some(v1::operation_result::Result::Error(status::to_rpc(status))) }
}

fn usage_query(request: v1::GetUsageRequest) -> Result<(UsageQuery, Token), Refusal> {
    let mut faults = Faults::default();
    faults.check("tenant", name_fault(&request.tenant));
    for (field, value) in [("agent", &request.agent), ("user", &request.user), ("model", &request.model)] {
        faults.check(field, value.as_deref().and_then(optional_name_fault));
    }
    check_resources(&mut faults, &request.resources);
    let labels = labels_of(&mut faults, "labels", request.labels);
    let list = Token::new("GetUsage")
        .text(&request.tenant)
        .optional(request.agent.as_deref())
        .optional(request.user.as_deref())
        .optional(request.model.as_deref())
        .texts(&request.resources)
        .texts(&labels.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect::<Vec<_>>());
    let limit = token::page_size(&mut faults, request.page_size);
    let after = token::decode(&mut faults, &list, &request.page_token, parse_place);
    let query = UsageQuery {
        tenant: request.tenant,
        filter: PerDimension { agent: request.agent, user: request.user, model: request.model },
        labels,
        resources: request.resources,
        after,
        limit,
    };
    faults.into_result((query, list))
}

fn reservation_query(request: v1::ListReservationsRequest) -> Result<(ReservationQuery, Token), Refusal> {
    let mut faults = Faults::default();
    faults.check("tenant", name_fault(&request.tenant));
    faults.check("agent", request.agent.as_deref().and_then(optional_name_fault));
    let wanted = "must be a ReservationState, such as RESERVATION_STATE_RESERVED";
    let mut states: Vec<ReservationState> = choices(&mut faults, "states", wanted, &request.states, |code| {
        v1::ReservationState::try_from(code).ok()?.into()
    });
    let names: Vec<String> = states.iter().map(|state| state.name().to_owned()).collect();
    if states.is_empty() {
        states.push(ReservationState::Reserved);
    }
    let age = request.min_age.unwrap_or_default();
    if age.seconds < 0 || age.nanos < 0 {
        faults.add("min_age", "must be 0 or more");
    }
    let min_age = age.seconds.saturating_mul(1_000).saturating_add(i64::from(age.nanos) / 1_000_000);
    let list = Token::new("ListReservations")
        .text(&request.tenant)
        .texts(&names)
        .optional(request.agent.as_deref())
        .text(&min_age.to_string());
    let limit = token::page_size(&mut faults, request.page_size);
    let before = token::decode(&mut faults, &list, &request.page_token, |bytes| {
        bytes.try_into().ok().map(ReservationId)
    });
    let query = ReservationQuery {
        tenant: request.tenant,
        states,
        agent: request.agent,
        min_age: Span(min_age),
        before,
        limit,
    };
    faults.into_result((query, list))
}

fn place_bytes(place: &UsagePlace) -> Vec<u8> {
    let position = u32::try_from(place.position).unwrap_or(u32::MAX).to_be_bytes();
    [&place.list[..], &position, place.key.as_ref().map_or(&[][..], CounterKey::as_bytes)].concat()
}

fn parse_place(bytes: &[u8]) -> Option<UsagePlace> {
    let (list, rest) = bytes.split_first_chunk()?;
    let (position, key) = rest.split_first_chunk::<4>()?;
    let position = usize::try_from(u32::from_be_bytes(*position)).ok()?;
    let key = if key.is_empty() { None } else { Some(CounterKey::from_bytes(key)?) };
    Some(UsagePlace { list: *list, position, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_of_another_rpc_is_an_internal_error() {
        let answered = || Some(Answered::Check(v1::CheckResponse { allowed: true, ..Default::default() }));
        assert!(taken(answered(), only!(Check)).is_ok_and(|reply| reply.allowed));
        for no in [taken(answered(), only!(Reserve)).err(), taken(None, only!(Reserve)).err()] {
            assert_eq!(no.map(|status| status.code()), Some(tonic::Code::Internal));
        }
    }

    #[test]
    fn an_operation_without_an_outcome_is_an_internal_error() {
        match result(None).result {
            Some(Answered::Error(status)) => assert_eq!(status.code, i32::from(tonic::Code::Internal)),
            other => panic!("{other:?}"),
        }
    }
}
