//! The control plane: AdminService and its lists by id.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    admin_convert as convert, event, jobs,
    layer::Deadline,
    reply, status,
    token::{self, Token},
    v1::{self, admin_service_server::AdminService},
    webhooks,
};
use crate::{
    clock::Clock,
    domain::{
        decide::Reply,
        faults::Faults,
        id::{name_fault, optional_name_fault},
        operation::Operation,
        plan::Policy,
        refusal::Refusal,
    },
    engine::{self, Engine, Failure, TenantRef},
    events::Feed,
    jobs::Clockwork,
    policy::PolicyCache,
    seldom::Seldom,
    store::{AdminError, Store, Transaction},
};

/// AdminService on a store. What changes counters goes through the engine.
#[derive(Debug)]
pub struct Admin {
    store: Store,
    policies: Arc<PolicyCache>,
    pub(super) clock: Clock,
    engine: Arc<Engine>,
    pub(super) feed: Arc<Feed>,
    pub(super) clockwork: Arc<Clockwork>,
}

impl Admin {
    /// The service, on these parts of the server.
    pub fn new(
        store: Store,
        policies: Arc<PolicyCache>,
        clock: Clock,
        engine: Arc<Engine>,
        feed: Arc<Feed>,
        clockwork: Arc<Clockwork>,
    ) -> Self {
        Self { store, policies, clock, engine, feed, clockwork }
    }

    /// The store, or UNAVAILABLE if the database is known to be unavailable.
    pub(super) fn store(&self) -> Result<&Store, Status> {
        if self.store.is_available() {
            Ok(&self.store)
        } else {
            Err(status::of_failure(&Failure::DatabaseUnavailable))
        }
    }

    pub(super) async fn read(&self, name: &'static str) -> Result<Transaction, Status> {
        self.store()?.begin_read(name).await.map_err(|error| of_error(error.into()))
    }

    /// The policy at the revision that the transaction sees.
    async fn policy_in(&self, transaction: &Transaction) -> Result<Arc<Policy>, AdminError> {
        let revision = transaction.read_revision().await?;
        Ok(self.policies.get(transaction, revision).await?)
    }

    /// The policy of now. It contains all resources that were ever declared, also deleted ones.
    async fn policy(&self) -> Result<Arc<Policy>, Status> {
        let transaction = self.read("read policy").await?;
        self.policy_in(&transaction).await.map_err(of_error)
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn create_resource(
        &self,
        request: Request<v1::CreateResourceRequest>,
    ) -> Result<Response<v1::Resource>, Status> {
        let new = convert::new_resource(request.into_inner().resource).map_err(of_refusal)?;
        let made = self.store()?.create_resource(self.clock.now(), &new).await.map_err(of_error)?;
        Ok(Response::new(convert::resource(made)))
    }

    async fn get_resource(
        &self,
        request: Request<v1::GetResourceRequest>,
    ) -> Result<Response<v1::Resource>, Status> {
        let id = convert::id(request.into_inner().id).map_err(of_refusal)?;
        let found = self.read("get resource").await?.get_resource(&id).await.map_err(of_error)?;
        Ok(Response::new(convert::resource(found)))
    }

    async fn list_resources(
        &self,
        request: Request<v1::ListResourcesRequest>,
    ) -> Result<Response<v1::ListResourcesResponse>, Status> {
        let message = request.into_inner();
        let list = List::read("ListResources", "", message.page_size, &message.page_token)?;
        let transaction = self.read("list resources").await?;
        let page = transaction.list_resources(list.after(), list.size).await;
        let page = page.map_err(|error| of_error(error.into()))?;
        let next_page_token = list.next(page.more, page.items.last().map(|last| &*last.id));
        let resources = page.items.into_iter().map(convert::resource).collect();
        Ok(Response::new(v1::ListResourcesResponse { resources, next_page_token }))
    }

    async fn update_resource(
        &self,
        request: Request<v1::UpdateResourceRequest>,
    ) -> Result<Response<v1::Resource>, Status> {
        let (id, change) = convert::resource_change(request.into_inner()).map_err(of_refusal)?;
        let changed =
            self.store()?.update_resource(self.clock.now(), &id, &change).await.map_err(of_error)?;
        Ok(Response::new(convert::resource(changed)))
    }

    async fn delete_resource(
        &self,
        request: Request<v1::DeleteResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let id = convert::id(request.into_inner().id).map_err(of_refusal)?;
        self.store()?.delete_resource(self.clock.now(), &id).await.map_err(of_error)?;
        Ok(Response::new(()))
    }

    async fn create_plan(
        &self,
        request: Request<v1::CreatePlanRequest>,
    ) -> Result<Response<v1::Plan>, Status> {
        let policy = self.policy().await?;
        let new = convert::new_plan(request.into_inner().plan, &policy).map_err(of_refusal)?;
        let made = self.store()?.create_plan(self.clock.now(), &new).await.map_err(of_error)?;
        Ok(Response::new(convert::plan(&made, &policy)))
    }

    async fn get_plan(&self, request: Request<v1::GetPlanRequest>) -> Result<Response<v1::Plan>, Status> {
        let id = convert::id(request.into_inner().id).map_err(of_refusal)?;
        let transaction = self.read("get plan").await?;
        let found = transaction.get_plan(&id).await.map_err(of_error)?;
        let policy = self.policy_in(&transaction).await.map_err(of_error)?;
        Ok(Response::new(convert::plan(&found, &policy)))
    }

    async fn list_plans(
        &self,
        request: Request<v1::ListPlansRequest>,
    ) -> Result<Response<v1::ListPlansResponse>, Status> {
        let message = request.into_inner();
        let list = List::read("ListPlans", "", message.page_size, &message.page_token)?;
        let transaction = self.read("list plans").await?;
        let page = transaction.list_plans(list.after(), list.size).await;
        let page = page.map_err(|error| of_error(error.into()))?;
        let policy = self.policy_in(&transaction).await.map_err(of_error)?;
        let next_page_token = list.next(page.more, page.items.last().map(|last| &*last.id));
        let plans = page.items.iter().map(|plan| convert::plan(plan, &policy)).collect();
        Ok(Response::new(v1::ListPlansResponse { plans, next_page_token }))
    }

    async fn update_plan(
        &self,
        request: Request<v1::UpdatePlanRequest>,
    ) -> Result<Response<v1::Plan>, Status> {
        let policy = self.policy().await?;
        let (id, change) = convert::plan_change(request.into_inner(), &policy).map_err(of_refusal)?;
        let changed = self.store()?.update_plan(self.clock.now(), &id, &change).await.map_err(of_error)?;
        // Limits that the update does not change may be of resources that were declared since.
        let policy = self.policy().await?;
        Ok(Response::new(convert::plan(&changed, &policy)))
    }

    async fn delete_plan(&self, request: Request<v1::DeletePlanRequest>) -> Result<Response<()>, Status> {
        let id = convert::id(request.into_inner().id).map_err(of_refusal)?;
        self.store()?.delete_plan(self.clock.now(), &id).await.map_err(of_error)?;
        Ok(Response::new(()))
    }

    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::Tenant>, Status> {
        let new = convert::new_tenant(request.into_inner().tenant).map_err(of_refusal)?;
        let made = self.store()?.create_tenant(self.clock.now(), &new).await.map_err(of_error)?;
        Ok(Response::new(convert::tenant(made)))
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Result<Response<v1::Tenant>, Status> {
        let id = convert::id(request.into_inner().id).map_err(of_refusal)?;
        let found = self.read("get tenant").await?.get_tenant(&id).await.map_err(of_error)?;
        Ok(Response::new(convert::tenant(found)))
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let message = request.into_inner();
        let list = List::read("ListTenants", &message.plan, message.page_size, &message.page_token)?;
        let plan = Some(message.plan.as_str()).filter(|plan| !plan.is_empty());
        let transaction = self.read("list tenants").await?;
        let page = transaction.list_tenants(plan, list.after(), list.size).await.map_err(of_error)?;
        let next_page_token = list.next(page.more, page.items.last().map(|last| &*last.tenant.id));
        let tenants = page.items.into_iter().map(convert::tenant).collect();
        Ok(Response::new(v1::ListTenantsResponse { tenants, next_page_token }))
    }

    async fn update_tenant(
        &self,
        request: Request<v1::UpdateTenantRequest>,
    ) -> Result<Response<v1::Tenant>, Status> {
        let (id, change) = convert::tenant_change(request.into_inner()).map_err(of_refusal)?;
        let changed = self.store()?.update_tenant(self.clock.now(), &id, &change).await.map_err(of_error)?;
        Ok(Response::new(convert::tenant(changed)))
    }

    async fn delete_tenant(&self, request: Request<v1::DeleteTenantRequest>) -> Result<Response<()>, Status> {
        let message = request.into_inner();
        let id = convert::id(message.id).map_err(of_refusal)?;
        self.store()?.delete_tenant(self.clock.now(), &id, message.force).await.map_err(of_error)?;
        Ok(Response::new(()))
    }

    async fn reset_usage(
        &self,
        request: Request<v1::ResetUsageRequest>,
    ) -> Result<Response<v1::ResetUsageResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let (tenant, reset) = convert::reset(message).map_err(of_refusal)?;
        let deadline = extensions.get::<Deadline>().map(|deadline| deadline.0);
        let request = engine::Request { tenant: TenantRef::Id(tenant), operation: Operation::Reset(reset) };
        let answer = self.engine.submit(request, deadline).await;
        let answer = answer.map_err(|failure| status::of_failure(&failure))?;
        let Reply::Reset { balances, adjusted } = answer.reply else {
            return Err(status::of_mismatch("ResetUsageResponse"));
        };
        let balances = reply::balances(&balances, &answer.frame.policy);
        Ok(Response::new(v1::ResetUsageResponse { balances, adjusted }))
    }

    async fn create_webhook(
        &self,
        request: Request<v1::CreateWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        self.make_webhook(request.into_inner()).await
    }

    async fn get_webhook(
        &self,
        request: Request<v1::GetWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        Ok(Response::new(webhooks::webhook(self.find_webhook(request.into_inner().id).await?)))
    }

    async fn list_webhooks(
        &self,
        request: Request<v1::ListWebhooksRequest>,
    ) -> Result<Response<v1::ListWebhooksResponse>, Status> {
        self.page_of_webhooks(request.into_inner()).await
    }

    async fn update_webhook(
        &self,
        request: Request<v1::UpdateWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        self.change_webhook(request.into_inner()).await
    }

    async fn delete_webhook(
        &self,
        request: Request<v1::DeleteWebhookRequest>,
    ) -> Result<Response<()>, Status> {
        self.remove_webhook(request.into_inner().id).await
    }

    async fn test_webhook(
        &self,
        request: Request<v1::TestWebhookRequest>,
    ) -> Result<Response<v1::TestWebhookResponse>, Status> {
        self.try_webhook(request.into_inner().id).await
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<v1::RotateWebhookSecretRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        self.rotate_secret(request.into_inner()).await
    }

    async fn list_deliveries(
        &self,
        request: Request<v1::ListDeliveriesRequest>,
    ) -> Result<Response<v1::ListDeliveriesResponse>, Status> {
        self.page_of_deliveries(request.into_inner()).await
    }

    async fn redeliver(
        &self,
        request: Request<v1::RedeliverRequest>,
    ) -> Result<Response<v1::RedeliverResponse>, Status> {
        self.send_again(request.into_inner()).await
    }

    async fn list_jobs(
        &self,
        _request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let jobs = self.clockwork.list().await.into_iter().map(jobs::job).collect();
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn run_job(&self, request: Request<v1::RunJobRequest>) -> Result<Response<v1::JobRun>, Status> {
        let mut faults = Faults::default();
        let name = request.into_inner().name;
        faults.check("name", name_fault(&name));
        faults.into_result(()).map_err(of_refusal)?;
        let run = self.clockwork.run(&name).await.map_err(|reason| status::of_not_run(&reason))?;
        Ok(Response::new(jobs::run(run)))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let (query, list) = event::event_query(request.into_inner()).map_err(of_refusal)?;
        self.store()?;
        let page = self.feed.list(&query).await.map_err(of_error)?;
        let next_page_token = page.next.map(|place| token::encode(&list, &place.to_be_bytes()));
        Ok(Response::new(v1::ListEventsResponse {
            events: page.events.iter().map(event::event).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
            last_sequence: page.last_sequence,
        }))
    }
}

/// A request for one page of a list that is sorted by id.
pub(super) struct List {
    token: Token,
    after: Option<String>,
    pub(super) size: usize,
}

impl List {
    /// Reads the page that a request of the rpc `method` asks for. `plan` is the list's only filter, and may be empty.
    pub(super) fn read(method: &str, plan: &str, page_size: i32, page_token: &str) -> Result<Self, Status> {
        let mut faults = Faults::default();
        faults.check("plan", optional_name_fault(plan));
        let token = Token::new(method).text(plan);
        let size = token::page_size(&mut faults, page_size);
        let last_id = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let after = token::decode(&mut faults, &token, page_token, last_id);
        faults.into_result(Self { token, after, size }).map_err(of_refusal)
    }

    /// The last id of the page before; `None` on the first page.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The token of the next page; empty on the last page.
    pub(super) fn next(&self, more: bool, last_id: Option<&str>) -> String {
        match last_id {
            Some(last_id) if more => token::encode(&self.token, last_id.as_bytes()),
            Some(_) | None => String::new(),
        }
    }
}

pub(super) fn of_refusal(refusal: Refusal) -> Status {
    status::of_refusal(&refusal, None)
}

pub(super) fn of_error(error: AdminError) -> Status {
    match error {
        AdminError::Refused(refusal) => of_refusal(refusal),
        AdminError::Store(error) => {
            static FAILED: Seldom<&str> = Seldom::new();
            if let Some(left_out) = FAILED.due(error.kind()) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    log.left_out = left_out,
                    "an administrative call failed"
                );
            }
            status::of_failure(&Failure::from(&error))
        }
    }
}
