//! The load: Reserve and Commit of one resource, with limits that are never reached: of the day and the month, or five
//! limits of which one counts a label.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::{TryStreamExt, stream};
use prost_types::Timestamp;

use crate::{
    console::{
        client::{Connection, created, run_id},
        error::CliError,
    },
    grpc::v1::{
        Amount, Balance, CommitRequest, CommitResponse, CreateOverrideRequest, CreatePlanRequest,
        CreateResourceRequest, CreateTenantRequest, Enforcement, Limit, Override, Period, Plan, Reservation,
        ReservationAmount, ReservationState, ReserveAmount, ReserveRequest, ReserveResponse, Resource,
        Tenant, admin_service_client::AdminServiceClient, quota_service_client::QuotaServiceClient,
    },
};

/// Id of the resource that is spent.
pub const RESOURCE: &str = "tokens";
const PLAN: &str = "bench";
/// The plan with five limits, and the override of its daily limit that each tenant then has.
const PLAN_OF_FIVE: &str = "bench-contract";
/// The label that one of the five limits counts, and how many values it has.
const LABEL: &str = "run";
const LABEL_VALUES: u64 = 1_000;
/// Units per window of each limit: more than the bench ever spends.
pub const LIMIT_QUANTITY: i64 = 1_000_000_000_000_000;
const RESERVED: i64 = 1_000;
const COMMITTED: i64 = 800;
/// Maximum number of tenants that are created at the same time.
const CREATE_IN_FLIGHT: usize = 64;

/// Makes the requests of one run. All senders share one workload.
#[derive(Debug)]
pub struct Workload {
    run: String,
    tenants: Vec<String>,
    /// Whether the plan has five limits, calls have a label, and tenants have overrides.
    contract: bool,
    next: AtomicU64,
}

/// One reply to each rpc of the load.
#[derive(Debug, Clone)]
pub struct Replies {
    /// The reply to a Reserve.
    pub reserve: ReserveResponse,
    /// The reply to a Commit.
    pub commit: CommitResponse,
}

impl Workload {
    /// Makes a workload over `tenants` tenants, with request_ids that no other run has. With `contract`, the plan has
    /// five limits, calls have a label, and tenants have overrides.
    pub fn new(tenants: u32, contract: bool) -> Self {
        let plan = if contract { PLAN_OF_FIVE } else { PLAN };
        let tenants = (0..tenants).map(|number| format!("{plan}-{number:05}")).collect();
        Self { run: run_id(), tenants, contract, next: AtomicU64::new(0) }
    }

    /// Makes a Reserve for the next tenant, in a fixed order that spreads the load evenly.
    pub fn reserve(&self) -> ReserveRequest {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let label = (LABEL.to_owned(), (number % LABEL_VALUES).to_string());
        ReserveRequest {
            labels: self.contract.then_some(label).into_iter().collect(),
            request_id: format!("{}-{number:08}", self.run),
            tenant: self.tenants[spread(number, self.tenants.len())].clone(),
            amounts: vec![ReserveAmount { resource: RESOURCE.to_owned(), quantity: RESERVED, minimum: 0 }],
            ..ReserveRequest::default()
        }
    }

    /// Makes the Commit of a reservation.
    pub fn commit(&self, reservation: String) -> CommitRequest {
        let amounts = vec![Amount { resource: RESOURCE.to_owned(), quantity: COMMITTED }];
        CommitRequest { reservation, amounts, ..CommitRequest::default() }
    }

    /// Creates the resource, the plan and the tenants that are missing. Then tries one Reserve and one Commit, and
    /// returns their replies.
    ///
    /// # Errors
    ///
    /// When the server refuses any of these calls.
    pub async fn prepare(&self, channel: &Connection) -> Result<Replies, CliError> {
        let admin = AdminServiceClient::new(channel.clone());
        let resource = Resource { id: RESOURCE.to_owned(), ..Resource::default() };
        let request = CreateResourceRequest { resource: Some(resource) };
        created("CreateResource", admin.clone().create_resource(request).await)?;
        created(
            "CreatePlan",
            admin.clone().create_plan(CreatePlanRequest { plan: Some(self.plan()) }).await,
        )?;
        let tenants: Vec<Result<&String, CliError>> = self.tenants.iter().map(Ok).collect();
        let plan = if self.contract { PLAN_OF_FIVE } else { PLAN };
        let create = |tenant: &String| {
            let (mut admin, tenant) = (admin.clone(), tenant.clone());
            async move {
                let created_tenant =
                    Tenant { id: tenant.clone(), plan: plan.to_owned(), ..Tenant::default() };
                let request = CreateTenantRequest { tenant: Some(created_tenant) };
                created("CreateTenant", admin.create_tenant(request).await)?;
                if !self.contract {
                    return Ok(());
                }
                let request = CreateOverrideRequest { r#override: Some(override_of(tenant)) };
                created("CreateOverride", admin.create_override(request).await).map(|_| ())
            }
        };
        stream::iter(tenants).try_for_each_concurrent(CREATE_IN_FLIGHT, create).await?;
        self.try_once(channel).await
    }

    fn plan(&self) -> Plan {
        let limit = |id: &str, period: Period| Limit {
            id: id.to_owned(),
            resource: RESOURCE.to_owned(),
            quantity: LIMIT_QUANTITY,
            period: period.into(),
            enforcement: Enforcement::Hard.into(),
            thresholds: vec![80, 100],
            ..Limit::default()
        };
        let mut limits = vec![limit("day", Period::Day), limit("month", Period::Month)];
        if !self.contract {
            return Plan { id: PLAN.to_owned(), limits, ..Plan::default() };
        }
        let per_run = vec![LABEL.to_owned()];
        let five_hours = prost_types::Duration { seconds: 5 * 60 * 60, nanos: 0 };
        limits.push(limit("week", Period::Week));
        limits.push(Limit { per_labels: per_run, ..limit("run", Period::Lifetime) });
        limits.push(Limit { duration: Some(five_hours), ..limit("five-hours", Period::Rolling) });
        Plan { id: PLAN_OF_FIVE.to_owned(), limits, ..Plan::default() }
    }

    async fn try_once(&self, channel: &Connection) -> Result<Replies, CliError> {
        let mut client = QuotaServiceClient::new(channel.clone());
        let reply = client.reserve(self.reserve()).await;
        let reserve = reply.map_err(|status| CliError::refused("Reserve", &status))?.into_inner();
        let name = name_of(reserve.reservation.as_ref());
        let reply = client.commit(self.commit(name)).await;
        let commit = reply.map_err(|status| CliError::refused("Commit", &status))?.into_inner();
        Ok(Replies { reserve, commit })
    }
}

impl Replies {
    /// Makes replies like those of the real service to this workload.
    pub fn typical() -> Self {
        let instant = Some(Timestamp { seconds: 1_790_000_000, nanos: 123_000_000 });
        let balance = |limit: &str, period: Period| Balance {
            resource: RESOURCE.to_owned(),
            limit_id: limit.to_owned(),
            quantity: Some(LIMIT_QUANTITY),
            allowance: Some(LIMIT_QUANTITY),
            committed: 800_000,
            reserved: 5_000,
            remaining: Some(LIMIT_QUANTITY - 805_000),
            window_start: instant,
            window_end: instant,
            counted_since: instant,
            enforcement: Enforcement::Hard.into(),
            period: period.into(),
            ..Balance::default()
        };
        let balances = vec![balance("day", Period::Day), balance("month", Period::Month)];
        let amount = |committed| ReservationAmount {
            resource: RESOURCE.to_owned(),
            reserved: RESERVED,
            committed,
            overrun: 0,
        };
        let reserved = Reservation {
            name: "0123456789abcdefghjkmnpqrs".to_owned(),
            tenant: "bench-00000".to_owned(),
            state: ReservationState::Reserved.into(),
            amounts: vec![amount(0)],
            create_time: instant,
            expire_time: instant,
            on_expiry: 1,
            request_id: "0123456789abcdef-00000000".to_owned(),
            ..Reservation::default()
        };
        let committed = Reservation {
            state: ReservationState::Committed.into(),
            amounts: vec![amount(COMMITTED)],
            settle_time: instant,
            ..reserved.clone()
        };
        Self {
            reserve: ReserveResponse { reservation: Some(reserved), balances: balances.clone() },
            commit: CommitResponse { reservation: Some(committed), balances },
        }
    }
}

/// Returns the name of the reservation in a reply; empty if there is none.
pub fn name_of(reservation: Option<&Reservation>) -> String {
    reservation.map(|reservation| reservation.name.clone()).unwrap_or_default()
}

/// Makes an override that doubles the daily limit of a tenant.
fn override_of(tenant: String) -> Override {
    Override {
        tenant,
        id: "double".to_owned(),
        limit_id: "day".to_owned(),
        quantity: Some(2 * LIMIT_QUANTITY),
        ..Override::default()
    }
}

/// Returns an index below `length` that looks random but is the same in each run (the finalizer of SplitMix64).
fn spread(number: u64, length: usize) -> usize {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    usize::try_from(z % length as u64).expect("the index is smaller than a usize")
}
