//! The clients of a server, and what they say in few words.
//!
//! What they answer is a future in a box, so that it is compiled once, and not with each test that awaits it.

use std::{collections::HashMap, time::Duration};

use futures::future::{BoxFuture, FutureExt, LocalBoxFuture};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    call::{Answer, Call, Quota},
    v1::{admin_service_client::AdminServiceClient, *},
    wait::eventually,
};

/// How long a call may wait for its answer, or for the first message of its stream, before its test fails.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// The client of the control plane.
pub type Admin = AdminServiceClient<Channel>;

/// Clients of one server.
#[derive(Clone)]
pub struct Clients {
    /// The data plane.
    pub quota: Quota,
    /// The control plane.
    pub admin: Admin,
    /// Under both.
    pub channel: Channel,
}

impl Clients {
    /// On this connection.
    pub fn of(channel: Channel) -> Self {
        Self { quota: Quota::new(channel.clone()), admin: Admin::new(channel.clone()), channel }
    }

    /// Declares a resource.
    pub fn resource<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Answer<Resource>> {
        async move {
            let resource = Resource { id: id.into(), ..Resource::default() };
            let request = CreateResourceRequest { resource: Some(resource) };
            done(self.admin.clone().create_resource(request).await)
        }
        .boxed()
    }

    /// Makes a plan.
    pub fn plan<'a>(&'a self, id: &'a str, limits: &'a [Limit]) -> BoxFuture<'a, Answer<Plan>> {
        async move {
            let plan = Plan { id: id.into(), limits: limits.to_vec(), ..Plan::default() };
            done(self.admin.clone().create_plan(CreatePlanRequest { plan: Some(plan) }).await)
        }
        .boxed()
    }

    /// Replaces the limits of a plan.
    pub fn change_plan<'a>(&'a self, id: &'a str, limits: &'a [Limit]) -> BoxFuture<'a, Answer<Plan>> {
        async move {
            let plan = Plan { id: id.into(), limits: limits.to_vec(), ..Plan::default() };
            let update_mask = Some(mask(&["limits"]));
            done(self.admin.clone().update_plan(UpdatePlanRequest { plan: Some(plan), update_mask }).await)
        }
        .boxed()
    }

    /// Makes a tenant.
    pub fn tenant<'a>(&'a self, id: &'a str, plan: &'a str, zone: &'a str) -> BoxFuture<'a, Answer<Tenant>> {
        async move {
            let tenant = Tenant { id: id.into(), plan: plan.into(), zone: zone.into(), ..Tenant::default() };
            done(self.admin.clone().create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await)
        }
        .boxed()
    }

    /// Makes a tenant with a plan of its own, which has its name, and declares the resources that are limited.
    pub fn tenant_with<'a>(&'a self, id: &'a str, limits: &'a [Limit]) -> BoxFuture<'a, ()> {
        async move {
            self.tenant_in(id, "", limits).await;
        }
        .boxed()
    }

    /// The same, in a time zone.
    pub fn tenant_in<'a>(&'a self, id: &'a str, zone: &'a str, limits: &'a [Limit]) -> BoxFuture<'a, ()> {
        async move {
            for resource in limits.iter().map(|limit| limit.resource.as_str()) {
                self.declare(resource).await;
            }
            self.plan(id, limits).await.expect("the plan is new");
            self.tenant(id, id, zone).await.expect("the tenant is new");
        }
        .boxed()
    }

    /// Declares a resource unless it is declared.
    pub fn declare<'a>(&'a self, id: &'a str) -> BoxFuture<'a, ()> {
        async move {
            match self.resource(id).await {
                Ok(_) => {}
                Err(no) => assert_eq!(no.reason, "NAME_TAKEN", "{no:?}"),
            }
        }
        .boxed()
    }

    /// Suspends a tenant, or makes it active again.
    pub fn set_state<'a>(&'a self, id: &'a str, state: TenantState) -> BoxFuture<'a, ()> {
        async move {
            let tenant = Tenant { id: id.into(), state: state.into(), ..Tenant::default() };
            let update_mask = Some(mask(&["state"]));
            let request = UpdateTenantRequest { tenant: Some(tenant), update_mask };
            done(self.admin.clone().update_tenant(request).await).expect("the tenant is there");
        }
        .boxed()
    }

    /// Gives a tenant another plan.
    pub fn set_plan<'a>(&'a self, id: &'a str, plan: &'a str) -> BoxFuture<'a, ()> {
        async move {
            let tenant = Tenant { id: id.into(), plan: plan.into(), ..Tenant::default() };
            let update_mask = Some(mask(&["plan"]));
            let request = UpdateTenantRequest { tenant: Some(tenant), update_mask };
            done(self.admin.clone().update_tenant(request).await).expect("the tenant and the plan are there");
        }
        .boxed()
    }

    /// Sets what a tenant spent to zero.
    pub fn reset<'a>(
        &'a self,
        tenant: &'a str,
        resources: &'a [&'a str],
    ) -> BoxFuture<'a, Answer<ResetUsageResponse>> {
        async move {
            let request = ResetUsageRequest {
                tenant: tenant.into(),
                resources: resources.iter().map(|&resource| resource.into()).collect(),
                reason: "a test".into(),
                operator: "tests".into(),
                ..ResetUsageRequest::default()
            };
            done(self.admin.clone().reset_usage(request).await)
        }
        .boxed()
    }

    /// Runs a job of the server, which must succeed, and answers what it counted.
    pub fn job<'a>(&'a self, name: &'a str) -> BoxFuture<'a, HashMap<String, i64>> {
        async move {
            let run = self.run_job(name).await.expect("the job is there, and runs once");
            assert_eq!(run.outcome(), JobOutcome::Succeeded, "{name}: {run:?}");
            run.figures.into_iter().map(|figure| (figure.name, figure.value)).collect()
        }
        .boxed()
    }

    /// Runs a job of the server.
    pub fn run_job<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<JobRun>> {
        async move { done(self.admin.clone().run_job(RunJobRequest { name: name.into() }).await) }.boxed()
    }

    /// The jobs of the server.
    pub fn jobs(&self) -> BoxFuture<'_, Vec<Job>> {
        async move { done(self.admin.clone().list_jobs(ListJobsRequest {}).await).expect("it has some").jobs }
            .boxed()
    }

    /// Holds.
    pub fn reserve(&self, tenant: &str) -> Call<ReserveRequest> {
        Call::new(&self.quota, ReserveRequest { tenant: tenant.into(), ..ReserveRequest::default() })
    }

    /// Settles.
    pub fn commit(&self, reservation: &str) -> Call<CommitRequest> {
        let request = CommitRequest { reservation: reservation.into(), ..CommitRequest::default() };
        Call::new(&self.quota, request)
    }

    /// Gives back.
    pub fn release(&self, reservation: &str) -> Call<ReleaseRequest> {
        let request = ReleaseRequest { reservation: reservation.into(), ..ReleaseRequest::default() };
        Call::new(&self.quota, request)
    }

    /// Adds.
    pub fn extend(&self, reservation: &str) -> Call<ExtendRequest> {
        let request = ExtendRequest { reservation: reservation.into(), ..ExtendRequest::default() };
        Call::new(&self.quota, request)
    }

    /// Charges.
    pub fn record(&self, tenant: &str) -> Call<RecordRequest> {
        Call::new(&self.quota, RecordRequest { tenant: tenant.into(), ..RecordRequest::default() })
    }

    /// Asks.
    pub fn check(&self, tenant: &str) -> Call<CheckRequest> {
        Call::new(&self.quota, CheckRequest { tenant: tenant.into(), ..CheckRequest::default() })
    }

    /// One page of what is left.
    pub fn get_usage(&self, tenant: &str) -> Call<GetUsageRequest> {
        Call::new(&self.quota, GetUsageRequest { tenant: tenant.into(), ..GetUsageRequest::default() })
    }

    /// One reservation.
    pub fn get(&self, reservation: &str) -> Call<GetReservationRequest> {
        let request =
            GetReservationRequest { reservation: reservation.into(), ..GetReservationRequest::default() };
        Call::new(&self.quota, request)
    }

    /// One page of reservations.
    pub fn list(&self, tenant: &str) -> Call<ListReservationsRequest> {
        let request = ListReservationsRequest { tenant: tenant.into(), ..ListReservationsRequest::default() };
        Call::new(&self.quota, request)
    }

    /// Many at once.
    pub fn batch<'a>(&'a self, operations: Vec<Operation>) -> BoxFuture<'a, Answer<Vec<OperationResult>>> {
        async move {
        done(self.quota.clone().batch(BatchRequest { operations }).await).map(|reply| reply.results)
        }
        .boxed()
    }

    /// All that is left, whatever the number of pages.
    pub fn usage<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Vec<Balance>> {
        async move { usage(&self.quota, tenant).await }.boxed()
    }

    /// Committed and reserved of the one balance of a limit.
    pub fn figures<'a>(&'a self, tenant: &'a str, limit: &'a str) -> BoxFuture<'a, (i64, i64)> {
        async move { super::Balances::figures(&self.usage(tenant).await, limit) }.boxed()
    }

    /// All reservations of a tenant in all states, whatever the number of pages.
    pub fn reservations<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Vec<Reservation>> {
        async move { reservations(&self.quota, tenant, &ALL_STATES).await }.boxed()
    }

    /// All that a client can read of a tenant, counts of refusals aside: equal before and after means that nothing changed.
    pub fn books<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, (Vec<Balance>, Vec<Reservation>)> {
        async move {
            let mut balances = self.usage(tenant).await;
            balances.iter_mut().for_each(|balance| balance.refused = 0);
            (balances, self.reservations(tenant).await)
        }
        .boxed()
    }
}

/// Every state that a reservation can be in.
pub const ALL_STATES: [ReservationState; 4] = [
    ReservationState::Reserved,
    ReservationState::Committed,
    ReservationState::Released,
    ReservationState::Expired,
];

/// Every balance of a tenant.
pub fn usage<'a>(quota: &'a Quota, tenant: &'a str) -> BoxFuture<'a, Vec<Balance>> {
    async move {
        let request =
            GetUsageRequest { tenant: tenant.into(), page_size: 1_000, ..GetUsageRequest::default() };
        let mut balances = Vec::new();
        let mut call = Call::new(quota, request);
        loop {
            let page = call.clone().await.expect("the tenant is there");
            balances.extend(page.balances);
            if page.next_page_token.is_empty() {
                return balances;
            }
            call.request.page_token = page.next_page_token;
        }
    }
    .boxed()
}

/// Every reservation of a tenant in these states.
pub fn reservations<'a>(
    quota: &'a Quota,
    tenant: &'a str,
    states: &'a [ReservationState],
) -> BoxFuture<'a, Vec<Reservation>> {
    async move {
        let request =
            ListReservationsRequest { tenant: tenant.into(), page_size: 1_000, ..Default::default() };
        let mut found = Vec::new();
        let mut call = Call::new(quota, request).states(states);
        loop {
            let page = call.clone().await.expect("the tenant is there");
            found.extend(page.reservations);
            if page.next_page_token.is_empty() {
                return found;
            }
            call.request.page_token = page.next_page_token;
        }
    }
    .boxed()
}

/// A reply, or the refusal, decoded.
pub fn done<T>(result: Result<tonic::Response<T>, tonic::Status>) -> Answer<T> {
    result.map(tonic::Response::into_inner).map_err(|status| Box::new(status.into()))
}

/// The paths of an update.
pub fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|&path| path.into()).collect() }
}

/// A connection; the server may still be starting.
pub fn connect<'a>(target: &'a str) -> LocalBoxFuture<'a, Channel> {
    async move {
        let endpoint = Endpoint::from_shared(target.to_owned())
            .expect("an address")
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(5))
            .timeout(CALL_TIMEOUT);
        eventually("the server accepts connections", async || endpoint.connect().await.ok()).await
    }
    .boxed_local()
}

/// Waits until the server says that it serves.
pub fn serving<'a>(channel: &'a Channel) -> LocalBoxFuture<'a, ()> {
    async move {
        let health = HealthClient::new(channel.clone());
        eventually("health is SERVING", async || {
            (status(&health, "").await == Some(ServingStatus::Serving)).then_some(())
        })
        .await;
    }
    .boxed_local()
}

/// Waits until the server says that it does not serve.
pub fn not_serving<'a>(channel: &'a Channel) -> LocalBoxFuture<'a, ()> {
    async move {
        let health = HealthClient::new(channel.clone());
        eventually("health is NOT_SERVING", async || {
            (status(&health, "").await == Some(ServingStatus::NotServing)).then_some(())
        })
        .await;
    }
    .boxed_local()
}

/// What health says of a service now; `None` when it does not know it, or cannot be reached.
pub fn status<'a>(
    health: &'a HealthClient<Channel>,
    service: &'a str,
) -> BoxFuture<'a, Option<ServingStatus>> {
    async move {
        let request = HealthCheckRequest { service: service.into() };
        health.clone().check(request).await.ok().map(|reply| reply.into_inner().status())
    }
    .boxed()
}
