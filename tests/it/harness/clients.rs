//! The clients of a server, and what they say in few words.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    call::{Answer, Call, Quota},
    no::No,
    v1::{admin_service_client::AdminServiceClient, *},
    wait::eventually,
};

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
    pub async fn resource(&self, id: &str) -> Answer<Resource> {
        let resource = Resource { id: id.into(), ..Resource::default() };
        let request = CreateResourceRequest { resource: Some(resource) };
        done(self.admin.clone().create_resource(request).await)
    }

    /// Makes a plan.
    pub async fn plan(&self, id: &str, limits: &[Limit]) -> Answer<Plan> {
        let plan = Plan { id: id.into(), limits: limits.to_vec(), ..Plan::default() };
        done(self.admin.clone().create_plan(CreatePlanRequest { plan: Some(plan) }).await)
    }

    /// Replaces the limits of a plan.
    pub async fn change_plan(&self, id: &str, limits: &[Limit]) -> Answer<Plan> {
        let plan = Plan { id: id.into(), limits: limits.to_vec(), ..Plan::default() };
        let update_mask = Some(mask(&["limits"]));
        done(self.admin.clone().update_plan(UpdatePlanRequest { plan: Some(plan), update_mask }).await)
    }

    /// Makes a tenant.
    pub async fn tenant(&self, id: &str, plan: &str, zone: &str) -> Answer<Tenant> {
        let tenant = Tenant { id: id.into(), plan: plan.into(), zone: zone.into(), ..Tenant::default() };
        done(self.admin.clone().create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await)
    }

    /// Makes a tenant with a plan of its own, which has its name, and declares the resources that are limited.
    pub async fn tenant_with(&self, id: &str, limits: &[Limit]) {
        self.tenant_in(id, "", limits).await;
    }

    /// The same, in a time zone.
    pub async fn tenant_in(&self, id: &str, zone: &str, limits: &[Limit]) {
        for resource in limits.iter().map(|limit| limit.resource.as_str()) {
            self.declare(resource).await;
        }
        self.plan(id, limits).await.expect("the plan is new");
        self.tenant(id, id, zone).await.expect("the tenant is new");
    }

    /// Declares a resource unless it is declared.
    pub async fn declare(&self, id: &str) {
        match self.resource(id).await {
            Ok(_) => {}
            Err(no) => assert_eq!(no.reason, "NAME_TAKEN", "{no:?}"),
        }
    }

    /// Suspends a tenant, or makes it active again.
    pub async fn set_state(&self, id: &str, state: TenantState) {
        let tenant = Tenant { id: id.into(), state: state.into(), ..Tenant::default() };
        let update_mask = Some(mask(&["state"]));
        let request = UpdateTenantRequest { tenant: Some(tenant), update_mask };
        done(self.admin.clone().update_tenant(request).await).expect("the tenant is there");
    }

    /// Gives a tenant another plan.
    pub async fn set_plan(&self, id: &str, plan: &str) {
        let tenant = Tenant { id: id.into(), plan: plan.into(), ..Tenant::default() };
        let update_mask = Some(mask(&["plan"]));
        let request = UpdateTenantRequest { tenant: Some(tenant), update_mask };
        done(self.admin.clone().update_tenant(request).await).expect("the tenant and the plan are there");
    }

    /// Sets what a tenant spent to zero.
    pub async fn reset(&self, tenant: &str, resources: &[&str]) -> Answer<ResetUsageResponse> {
        let request = ResetUsageRequest {
            tenant: tenant.into(),
            resources: resources.iter().map(|&resource| resource.into()).collect(),
            reason: "a test".into(),
            operator: "tests".into(),
            ..ResetUsageRequest::default()
        };
        done(self.admin.clone().reset_usage(request).await)
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
    pub async fn batch(&self, operations: Vec<Operation>) -> Answer<Vec<OperationResult>> {
        done(self.quota.clone().batch(BatchRequest { operations }).await).map(|reply| reply.results)
    }

    /// All that is left, whatever the number of pages.
    pub async fn usage(&self, tenant: &str) -> Vec<Balance> {
        usage(&self.quota, tenant).await
    }

    /// Committed and reserved of the one balance of a limit.
    pub async fn figures(&self, tenant: &str, limit: &str) -> (i64, i64) {
        super::Balances::figures(&self.usage(tenant).await, limit)
    }

    /// All reservations of a tenant in all states, whatever the number of pages.
    pub async fn reservations(&self, tenant: &str) -> Vec<Reservation> {
        reservations(&self.quota, tenant, &ALL_STATES).await
    }

    /// All that a client can read of a tenant: equal before and after means that nothing changed.
    pub async fn books(&self, tenant: &str) -> (Vec<Balance>, Vec<Reservation>) {
        (self.usage(tenant).await, self.reservations(tenant).await)
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
pub async fn usage(quota: &Quota, tenant: &str) -> Vec<Balance> {
    let request = GetUsageRequest { tenant: tenant.into(), page_size: 1_000, ..GetUsageRequest::default() };
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

/// Every reservation of a tenant in these states.
pub async fn reservations(quota: &Quota, tenant: &str, states: &[ReservationState]) -> Vec<Reservation> {
    let request = ListReservationsRequest { tenant: tenant.into(), page_size: 1_000, ..Default::default() };
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

/// A reply, or the refusal, decoded.
pub fn done<T>(result: Result<tonic::Response<T>, tonic::Status>) -> Answer<T> {
    result.map(tonic::Response::into_inner).map_err(No::from)
}

/// The paths of an update.
pub fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|&path| path.into()).collect() }
}

/// A connection; the server may still be starting.
pub async fn connect(target: &str) -> Channel {
    let endpoint = Endpoint::from_shared(target.to_owned())
        .expect("an address")
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5));
    eventually("the server accepts connections", async || endpoint.connect().await.ok()).await
}

/// Waits until the server says that it serves.
pub async fn serving(channel: &Channel) {
    let health = HealthClient::new(channel.clone());
    eventually("health is SERVING", async || {
        (status(&health, "").await == Some(ServingStatus::Serving)).then_some(())
    })
    .await;
}

/// What health says of a service now; `None` when it does not know it, or cannot be reached.
pub async fn status(health: &HealthClient<Channel>, service: &str) -> Option<ServingStatus> {
    let request = HealthCheckRequest { service: service.into() };
    health.clone().check(request).await.ok().map(|reply| reply.into_inner().status())
}
