//! The clients of a server, with a short method for each rpc that the tests need.
//!
//! The methods return boxed futures. So each future is compiled once, but not again in each test that awaits it.

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

/// Maximum time that a call waits for its answer, or for the first message of its stream. After that its test fails.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// The client of AdminService.
pub type Admin = AdminServiceClient<Channel>;

/// The clients of one server.
#[derive(Clone)]
pub struct Clients {
    /// The client of QuotaService.
    pub quota: Quota,
    /// The client of AdminService.
    pub admin: Admin,
    /// The connection that both clients use.
    pub channel: Channel,
}

impl Clients {
    /// Makes clients on this connection.
    pub fn of(channel: Channel) -> Self {
        Self { quota: Quota::new(channel.clone()), admin: Admin::new(channel.clone()), channel }
    }

    /// Declares a new resource.
    pub fn resource<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Answer<Resource>> {
        async move {
            let resource = Resource { id: id.into(), ..Resource::default() };
            let request = CreateResourceRequest { resource: Some(resource) };
            done(self.admin.clone().create_resource(request).await)
        }
        .boxed()
    }

    /// Creates a plan with these limits.
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

    /// Creates a tenant with a plan and a time zone.
    pub fn tenant<'a>(&'a self, id: &'a str, plan: &'a str, zone: &'a str) -> BoxFuture<'a, Answer<Tenant>> {
        async move {
            let tenant = Tenant { id: id.into(), plan: plan.into(), zone: zone.into(), ..Tenant::default() };
            done(self.admin.clone().create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await)
        }
        .boxed()
    }

    /// Creates a tenant with a plan of the same name, and declares the resources of the limits.
    pub fn tenant_with<'a>(&'a self, id: &'a str, limits: &'a [Limit]) -> BoxFuture<'a, ()> {
        async move {
            self.tenant_in(id, "", limits).await;
        }
        .boxed()
    }

    /// Does the same as `tenant_with`, for a tenant in a time zone.
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

    /// Declares a resource unless it is declared already.
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

    /// Updates the fields of a tenant that `paths` names.
    pub fn change_tenant<'a>(
        &'a self,
        tenant: Tenant,
        paths: &'a [&'a str],
    ) -> BoxFuture<'a, Answer<Tenant>> {
        async move {
            let request = UpdateTenantRequest { tenant: Some(tenant), update_mask: Some(mask(paths)) };
            done(self.admin.clone().update_tenant(request).await)
        }
        .boxed()
    }

    /// Gives a tenant another time zone.
    pub fn move_to<'a>(&'a self, id: &'a str, zone: &'a str) -> BoxFuture<'a, Answer<Tenant>> {
        let tenant = Tenant { id: id.into(), zone: zone.into(), ..Tenant::default() };
        self.change_tenant(tenant, &["zone"])
    }

    /// Resets the usage of a tenant to zero (ResetUsage).
    pub fn reset<'a>(
        &'a self,
        tenant: &'a str,
        resources: &'a [&'a str],
    ) -> BoxFuture<'a, Answer<ResetUsageResponse>> {
        self.reset_only(tenant, resources, &[])
    }

    /// Resets the usage of these resources and limits of a tenant's plan to zero (ResetUsage).
    pub fn reset_only<'a>(
        &'a self,
        tenant: &'a str,
        resources: &'a [&'a str],
        limits: &'a [&'a str],
    ) -> BoxFuture<'a, Answer<ResetUsageResponse>> {
        async move {
            let request = ResetUsageRequest {
                tenant: tenant.into(),
                resources: resources.iter().map(|&resource| resource.into()).collect(),
                limit_ids: limits.iter().map(|&limit| limit.into()).collect(),
                reason: "a test".into(),
                operator: "tests".into(),
                ..ResetUsageRequest::default()
            };
            done(self.admin.clone().reset_usage(request).await)
        }
        .boxed()
    }

    /// Runs a job of the server, checks that it succeeds, and returns its figures.
    pub fn job<'a>(&'a self, name: &'a str) -> BoxFuture<'a, HashMap<String, i64>> {
        async move {
            let run = self.run_job(name).await.expect("the job is there, and runs once");
            assert_eq!(run.outcome(), JobOutcome::Succeeded, "{name}: {run:?}");
            run.figures.into_iter().map(|figure| (figure.name, figure.value)).collect()
        }
        .boxed()
    }

    /// Runs a job of the server, and returns the run.
    pub fn run_job<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<JobRun>> {
        async move { done(self.admin.clone().run_job(RunJobRequest { name: name.into() }).await) }.boxed()
    }

    /// Lists the jobs of the server.
    pub fn jobs(&self) -> BoxFuture<'_, Vec<Job>> {
        async move {
            done(self.admin.clone().list_jobs(ListJobsRequest {}).await)
                .expect("the server lists its jobs")
                .jobs
        }
        .boxed()
    }

    /// Makes a Reserve call.
    pub fn reserve(&self, tenant: &str) -> Call<ReserveRequest> {
        Call::new(&self.quota, ReserveRequest { tenant: tenant.into(), ..ReserveRequest::default() })
    }

    /// Makes a Commit call.
    pub fn commit(&self, reservation: &str) -> Call<CommitRequest> {
        let request = CommitRequest { reservation: reservation.into(), ..CommitRequest::default() };
        Call::new(&self.quota, request)
    }

    /// Makes a Release call.
    pub fn release(&self, reservation: &str) -> Call<ReleaseRequest> {
        let request = ReleaseRequest { reservation: reservation.into(), ..ReleaseRequest::default() };
        Call::new(&self.quota, request)
    }

    /// Makes an Extend call.
    pub fn extend(&self, reservation: &str) -> Call<ExtendRequest> {
        let request = ExtendRequest { reservation: reservation.into(), ..ExtendRequest::default() };
        Call::new(&self.quota, request)
    }

    /// Makes a Record call.
    pub fn record(&self, tenant: &str) -> Call<RecordRequest> {
        Call::new(&self.quota, RecordRequest { tenant: tenant.into(), ..RecordRequest::default() })
    }

    /// Makes an Amend call, with a reason and an operator.
    pub fn amend(&self, reservation: &str) -> Call<AmendRequest> {
        let request = AmendRequest {
            reservation: reservation.into(),
            reason: "ticket 7".into(),
            operator: "ops@example.com".into(),
            ..AmendRequest::default()
        };
        Call::new(&self.quota, request)
    }

    /// Makes a Check call.
    pub fn check(&self, tenant: &str) -> Call<CheckRequest> {
        Call::new(&self.quota, CheckRequest { tenant: tenant.into(), ..CheckRequest::default() })
    }

    /// Makes a GetUsage call, for one page of balances.
    pub fn get_usage(&self, tenant: &str) -> Call<GetUsageRequest> {
        Call::new(&self.quota, GetUsageRequest { tenant: tenant.into(), ..GetUsageRequest::default() })
    }

    /// Makes a GetReservation call.
    pub fn get(&self, reservation: &str) -> Call<GetReservationRequest> {
        let request =
            GetReservationRequest { reservation: reservation.into(), ..GetReservationRequest::default() };
        Call::new(&self.quota, request)
    }

    /// Makes a ListReservations call, for one page.
    pub fn list(&self, tenant: &str) -> Call<ListReservationsRequest> {
        let request = ListReservationsRequest { tenant: tenant.into(), ..ListReservationsRequest::default() };
        Call::new(&self.quota, request)
    }

    /// Sends a Batch of operations.
    pub fn batch<'a>(&'a self, operations: Vec<Operation>) -> BoxFuture<'a, Answer<Vec<OperationResult>>> {
        async move {
        done(self.quota.clone().batch(BatchRequest { operations }).await).map(|reply| reply.results)
        }
        .boxed()
    }

    /// Returns all balances of a tenant, from all pages.
    pub fn usage<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Vec<Balance>> {
        async move { usage(&self.quota, tenant).await }.boxed()
    }

    /// Returns committed and reserved of a limit, which must have exactly one balance.
    pub fn figures<'a>(&'a self, tenant: &'a str, limit: &'a str) -> BoxFuture<'a, (i64, i64)> {
        async move { super::Balances::figures(&self.usage(tenant).await, limit) }.boxed()
    }

    /// Returns all reservations of a tenant in all states, from all pages.
    pub fn reservations<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Vec<Reservation>> {
        async move { reservations(&self.quota, tenant, &ALL_STATES).await }.boxed()
    }

    /// Returns everything that a client can read of a tenant's books, except counts of refusals. If two results are
    /// equal, the books have not changed in the meantime.
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

/// Returns every balance of a tenant.
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

/// Returns every reservation of a tenant in these states.
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

/// Returns the reply, or the decoded refusal.
pub fn done<T>(result: Result<tonic::Response<T>, tonic::Status>) -> Answer<T> {
    result.map(tonic::Response::into_inner).map_err(|status| Box::new(status.into()))
}

/// Makes the field mask of an update.
pub fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|&path| path.into()).collect() }
}

/// Connects to a server, which may still be starting.
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

/// Waits until the server reports SERVING.
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

/// Waits until the server reports NOT_SERVING.
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

/// Returns the health of a service. `None` if the server does not know the service or cannot be reached.
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
