//! AdminService: its rpcs, of which those about webhooks are in `webhooks`.

use tonic::{Request, Response, Status};

use super::{
    convert, events, jobs,
    lists::{List, NO_FILTER},
    parts::{Admin, of_error, of_refusal},
    webhooks,
};
use crate::{
    domain::{decide::Reply, faults::Faults, id::name_fault, operation::Operation},
    engine::{self, TenantRef},
    grpc::{
        access::Admitted,
        event,
        http2::Deadline,
        status, token,
        v1::{self, admin_service_server::AdminService},
        wire,
    },
};

#[tonic::async_trait]
impl AdminService for Admin {
    async fn create_resource(
        &self,
        request: Request<v1::CreateResourceRequest>,
    ) -> Result<Response<v1::Resource>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        let new = convert::new_resource(message.resource).map_err(of_refusal)?;
        let made = self.store()?.create_resource(self.by(&author), &new).await.map_err(of_error)?;
        Ok(Response::new(convert::resource(made)))
    }

    async fn get_resource(
        &self,
        request: Request<v1::GetResourceRequest>,
    ) -> Result<Response<v1::Resource>, Status> {
        let message = self.door.admit(request).await?.message;
        let id = convert::id(message.id).map_err(of_refusal)?;
        let found = self.read("get resource").await?.get_resource(&id).await.map_err(of_error)?;
        Ok(Response::new(convert::resource(found)))
    }

    async fn list_resources(
        &self,
        request: Request<v1::ListResourcesRequest>,
    ) -> Result<Response<v1::ListResourcesResponse>, Status> {
        let message = self.door.admit(request).await?.message;
        let list = List::read("ListResources", NO_FILTER, message.page_size, &message.page_token)?;
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
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        let (id, change) = convert::resource_change(message).map_err(of_refusal)?;
        let changed =
            self.store()?.update_resource(self.by(&author), &id, &change).await.map_err(of_error)?;
        Ok(Response::new(convert::resource(changed)))
    }

    async fn delete_resource(
        &self,
        request: Request<v1::DeleteResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        let id = convert::id(message.id).map_err(of_refusal)?;
        self.store()?.delete_resource(self.by(&author), &id, &message.etag).await.map_err(of_error)?;
        Ok(Response::new(()))
    }

    async fn create_plan(
        &self,
        request: Request<v1::CreatePlanRequest>,
    ) -> Result<Response<v1::Plan>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        let policy = self.policy().await?;
        let new = convert::new_plan(message.plan, &policy).map_err(of_refusal)?;
        let made = self.store()?.create_plan(self.by(&author), &new).await.map_err(of_error)?;
        let warnings = self.warnings_of_plan(&made).await;
        Ok(Response::new(v1::Plan { warnings, ..convert::plan(&made, &policy) }))
    }

    async fn get_plan(&self, request: Request<v1::GetPlanRequest>) -> Result<Response<v1::Plan>, Status> {
        let message = self.door.admit(request).await?.message;
        let id = convert::id(message.id).map_err(of_refusal)?;
        let transaction = self.read("get plan").await?;
        let found = transaction.get_plan(&id).await.map_err(of_error)?;
        let policy = self.policy_in(&transaction).await.map_err(of_error)?;
        Ok(Response::new(convert::plan(&found, &policy)))
    }

    async fn list_plans(
        &self,
        request: Request<v1::ListPlansRequest>,
    ) -> Result<Response<v1::ListPlansResponse>, Status> {
        let message = self.door.admit(request).await?.message;
        let list = List::read("ListPlans", NO_FILTER, message.page_size, &message.page_token)?;
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
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        let policy = self.policy().await?;
        let (id, change) = convert::plan_change(message, &policy).map_err(of_refusal)?;
        let changed = self.store()?.update_plan(self.by(&author), &id, &change).await.map_err(of_error)?;
        // Limits that the update does not change may be of resources that were declared since.
        let policy = self.policy().await?;
        let warnings = self.warnings_of_plan(&changed).await;
        Ok(Response::new(v1::Plan { warnings, ..convert::plan(&changed, &policy) }))
    }

    async fn delete_plan(&self, request: Request<v1::DeletePlanRequest>) -> Result<Response<()>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        let id = convert::id(message.id).map_err(of_refusal)?;
        self.store()?.delete_plan(self.by(&author), &id, &message.etag).await.map_err(of_error)?;
        Ok(Response::new(()))
    }

    async fn get_policy_settings(
        &self,
        request: Request<v1::GetPolicySettingsRequest>,
    ) -> Result<Response<v1::PolicySettings>, Status> {
        self.door.admit(request).await?;
        Ok(Response::new(convert::settings(&*self.policy().await?)))
    }

    async fn update_policy_settings(
        &self,
        request: Request<v1::UpdatePolicySettingsRequest>,
    ) -> Result<Response<v1::PolicySettings>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        let change = convert::settings_change(message).map_err(of_refusal)?;
        let changed = self.store()?.update_settings(self.by(&author), &change).await.map_err(of_error)?;
        Ok(Response::new(convert::settings(&changed)))
    }

    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::Tenant>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        let new = convert::new_tenant(message.tenant).map_err(of_refusal)?;
        let made = self.store()?.create_tenant(self.by(&author), &new).await.map_err(of_error)?;
        Ok(Response::new(convert::tenant(made)))
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Result<Response<v1::Tenant>, Status> {
        let message = self.door.admit(request).await?.message;
        let id = convert::id(message.id).map_err(of_refusal)?;
        let found =
            self.read("get tenant").await?.get_tenant(self.clock.now(), &id).await.map_err(of_error)?;
        Ok(Response::new(convert::tenant(found)))
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let message = self.door.admit(request).await?.message;
        let list =
            List::read("ListTenants", ("plan", &message.plan), message.page_size, &message.page_token)?;
        let plan = Some(message.plan.as_str()).filter(|plan| !plan.is_empty());
        let transaction = self.read("list tenants").await?;
        let page = transaction
            .list_tenants(self.clock.now(), plan, list.after(), list.size)
            .await
            .map_err(of_error)?;
        let next_page_token = list.next(page.more, page.items.last().map(|last| &*last.tenant.id));
        let tenants = page.items.into_iter().map(convert::tenant).collect();
        Ok(Response::new(v1::ListTenantsResponse { tenants, next_page_token }))
    }

    async fn update_tenant(
        &self,
        request: Request<v1::UpdateTenantRequest>,
    ) -> Result<Response<v1::Tenant>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        let (id, change) = convert::tenant_change(message).map_err(of_refusal)?;
        let changed = self.store()?.update_tenant(self.by(&author), &id, &change).await.map_err(of_error)?;
        let warnings = self.warnings_of_tenant(&id).await;
        Ok(Response::new(v1::Tenant { warnings, ..convert::tenant(changed) }))
    }

    async fn delete_tenant(&self, request: Request<v1::DeleteTenantRequest>) -> Result<Response<()>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        let id = convert::id(message.id).map_err(of_refusal)?;
        let deleted = self.store()?.delete_tenant(self.by(&author), &id, message.force, &message.etag).await;
        deleted.map_err(of_error)?;
        Ok(Response::new(()))
    }

    async fn create_agent(
        &self,
        request: Request<v1::CreateAgentRequest>,
    ) -> Result<Response<v1::Agent>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.make_agent(message, &author).await
    }

    async fn get_agent(&self, request: Request<v1::GetAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        self.find_agent(self.door.admit(request).await?.message).await
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        self.page_of_agents(self.door.admit(request).await?.message).await
    }

    async fn update_agent(
        &self,
        request: Request<v1::UpdateAgentRequest>,
    ) -> Result<Response<v1::Agent>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.change_agent(message, &author).await
    }

    async fn delete_agent(&self, request: Request<v1::DeleteAgentRequest>) -> Result<Response<()>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.remove_agent(message, &author).await
    }

    async fn create_override(
        &self,
        request: Request<v1::CreateOverrideRequest>,
    ) -> Result<Response<v1::Override>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.make_override(message, &author).await
    }

    async fn get_override(
        &self,
        request: Request<v1::GetOverrideRequest>,
    ) -> Result<Response<v1::Override>, Status> {
        self.find_override(self.door.admit(request).await?.message).await
    }

    async fn list_overrides(
        &self,
        request: Request<v1::ListOverridesRequest>,
    ) -> Result<Response<v1::ListOverridesResponse>, Status> {
        self.page_of_overrides(self.door.admit(request).await?.message).await
    }

    async fn update_override(
        &self,
        request: Request<v1::UpdateOverrideRequest>,
    ) -> Result<Response<v1::Override>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.change_override(message, &author).await
    }

    async fn delete_override(
        &self,
        request: Request<v1::DeleteOverrideRequest>,
    ) -> Result<Response<()>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.remove_override(message, &author).await
    }

    async fn reset_usage(
        &self,
        request: Request<v1::ResetUsageRequest>,
    ) -> Result<Response<v1::ResetUsageResponse>, Status> {
        let (Admitted { message, extensions, permit }, mut author) = self.door.admit_change(request).await?;
        let (tenant, reset) = convert::reset(message).map_err(of_refusal)?;
        if let Some(key) = &reset.request {
            author.request_id.clone_from(&key.id);
        }
        let deadline = extensions.get::<Deadline>().map(|deadline| deadline.0);
        let operation = Operation::Reset(Box::new(reset));
        let (author, trace) = (Some(Box::new(author)), extensions.get().cloned());
        let request = engine::Request::new(TenantRef::Id(tenant), operation);
        let request = engine::Request { permit, author, trace, ..request };
        let mut answer = self.engine.submit(request, deadline).await;
        self.door.renew(&self.engine, std::slice::from_mut(&mut answer), deadline).await;
        let answer = answer.map_err(|failure| status::of_failure(&failure))?;
        let Reply::Reset { balances, adjusted } = answer.reply else {
            return Err(status::of_mismatch("ResetUsageResponse"));
        };
        let balances = wire::balances(&balances, &answer.frame.policy);
        Ok(Response::new(v1::ResetUsageResponse { balances, adjusted }))
    }

    async fn create_webhook(
        &self,
        request: Request<v1::CreateWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.make_webhook(message, &author).await
    }

    async fn get_webhook(
        &self,
        request: Request<v1::GetWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        let message = self.door.admit(request).await?.message;
        Ok(Response::new(webhooks::webhook(self.find_webhook(message.id).await?)))
    }

    async fn list_webhooks(
        &self,
        request: Request<v1::ListWebhooksRequest>,
    ) -> Result<Response<v1::ListWebhooksResponse>, Status> {
        self.page_of_webhooks(self.door.admit(request).await?.message).await
    }

    async fn update_webhook(
        &self,
        request: Request<v1::UpdateWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.change_webhook(message, &author).await
    }

    async fn delete_webhook(
        &self,
        request: Request<v1::DeleteWebhookRequest>,
    ) -> Result<Response<()>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.remove_webhook(message, &author).await
    }

    async fn test_webhook(
        &self,
        request: Request<v1::TestWebhookRequest>,
    ) -> Result<Response<v1::TestWebhookResponse>, Status> {
        self.try_webhook(self.door.admit(request).await?.message.id).await
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<v1::RotateWebhookSecretRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.rotate_secret(message, &author).await
    }

    async fn list_deliveries(
        &self,
        request: Request<v1::ListDeliveriesRequest>,
    ) -> Result<Response<v1::ListDeliveriesResponse>, Status> {
        self.page_of_deliveries(self.door.admit(request).await?.message).await
    }

    async fn redeliver(
        &self,
        request: Request<v1::RedeliverRequest>,
    ) -> Result<Response<v1::RedeliverResponse>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.send_again(message, &author).await
    }

    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Result<Response<v1::Key>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.make_key(message, &author).await
    }

    async fn get_key(&self, request: Request<v1::GetKeyRequest>) -> Result<Response<v1::Key>, Status> {
        self.find_key(self.door.admit(request).await?.message.id).await
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        self.page_of_keys(self.door.admit(request).await?.message).await
    }

    async fn update_key(&self, request: Request<v1::UpdateKeyRequest>) -> Result<Response<v1::Key>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.change_key(message, &author).await
    }

    async fn delete_key(&self, request: Request<v1::DeleteKeyRequest>) -> Result<Response<()>, Status> {
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        self.remove_key(message, &author).await
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        self.door.admit(request).await?;
        let jobs = self.clockwork.list().await.into_iter().map(jobs::job).collect();
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn run_job(&self, request: Request<v1::RunJobRequest>) -> Result<Response<v1::JobRun>, Status> {
        let mut faults = Faults::default();
        let (Admitted { message, .. }, author) = self.door.admit_change(request).await?;
        faults.check("name", name_fault(&message.name));
        faults.into_result(()).map_err(of_refusal)?;
        self.run_now(message.name, author).await
    }

    async fn list_changes(
        &self,
        request: Request<v1::ListChangesRequest>,
    ) -> Result<Response<v1::ListChangesResponse>, Status> {
        let Admitted { message, permit, .. } = self.door.admit(request).await?;
        self.page_of_changes(message, &permit).await
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let message = self.door.admit(request).await?.message;
        let (query, list) = events::event_query(message).map_err(of_refusal)?;
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
