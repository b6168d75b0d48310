//! Creates the resource, the plan and the tenant that a replay needs, if they are missing.

use prost_types::FieldMask;
use tonic::{Code, Status};

use super::RESOURCE;
use crate::{
    console::{
        client::{Connection, created},
        error::CliError,
    },
    grpc::v1::{
        CreatePlanRequest, CreateResourceRequest, CreateTenantRequest, Enforcement, GetTenantRequest, Limit,
        Period, Plan, Resource, Tenant, UpdateTenantRequest, admin_service_client::AdminServiceClient,
    },
};

/// Creates the resource, and the tenant with its plan, if they are missing. An existing tenant keeps its plan, except
/// if an earlier replay has created the plan.
///
/// # Errors
///
/// When the server refuses a call, or when the tenant exists with a plan to which `limit` does not apply.
pub async fn create_missing(channel: &Connection, tenant: &str, limit: Option<i64>) -> Result<(), CliError> {
    let mut admin = AdminServiceClient::new(channel.clone());
    let resource = Resource { id: RESOURCE.to_owned(), unit: "token".to_owned(), ..Resource::default() };
    let reply = admin.create_resource(CreateResourceRequest { resource: Some(resource) }).await;
    created("CreateResource", reply)?;
    let plan = plan(tenant, limit);
    if let Some(found) = find_tenant(&mut admin, tenant).await? {
        return match change_of_plan(&found, &plan, limit)? {
            None => Ok(()),
            Some(changed) => {
                created("CreatePlan", admin.create_plan(CreatePlanRequest { plan: Some(plan) }).await)?;
                let update_mask = Some(FieldMask { paths: vec!["plan".to_owned()] });
                let request = UpdateTenantRequest { tenant: Some(changed), update_mask };
                let reply = admin.update_tenant(request).await;
                reply.map(drop).map_err(|status| CliError::refused("UpdateTenant", &status))
            }
        };
    }
    let plan_id = plan.id.clone();
    created("CreatePlan", admin.create_plan(CreatePlanRequest { plan: Some(plan) }).await)?;
    let tenant = Tenant { id: tenant.to_owned(), plan: plan_id, ..Tenant::default() };
    created("CreateTenant", admin.create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await)?;
    Ok(())
}

async fn find_tenant(
    admin: &mut AdminServiceClient<Connection>,
    id: &str,
) -> Result<Option<Tenant>, CliError> {
    let failed = |status: &Status| CliError::refused("GetTenant", status);
    match admin.get_tenant(GetTenantRequest { id: id.to_owned() }).await {
        Ok(reply) => Ok(Some(reply.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(failed(&status)),
    }
}

/// Returns the tenant with its new plan, or `None` if the tenant keeps its plan. Only the plan of an earlier replay is
/// replaced. With another plan and a `limit` the replay would not measure the limit, so the call fails.
fn change_of_plan(tenant: &Tenant, wanted: &Plan, limit: Option<i64>) -> Result<Option<Tenant>, CliError> {
    let of_replay = tenant.plan.starts_with(&format!("replay-{}-", tenant.id));
    if tenant.plan == wanted.id || (limit.is_none() && !of_replay) {
        return Ok(None);
    }
    if of_replay {
        return Ok(Some(Tenant { id: tenant.id.clone(), plan: wanted.id.clone(), ..Tenant::default() }));
    }
    Err(CliError::new(format!(
        "the tenant {:?} has the plan {:?}, which no replay made, so --limit would have no effect; omit --limit, or \
         name another tenant with --tenant",
        tenant.id, tenant.plan
    )))
}

/// Makes the plan. Its id names the tenant and the limit, so that two replays never share a plan by accident.
fn plan(tenant: &str, limit: Option<i64>) -> Plan {
    let Some(quantity) = limit else {
        return Plan { id: format!("replay-{tenant}-unlimited"), ..Plan::default() };
    };
    let lifetime = Limit {
        id: "lifetime".to_owned(),
        resource: RESOURCE.to_owned(),
        quantity,
        period: Period::Lifetime.into(),
        enforcement: Enforcement::Hard.into(),
        ..Limit::default()
    };
    Plan { id: format!("replay-{tenant}-{quantity}"), limits: vec![lifetime], ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_named_after_tenant_and_limit_and_has_one_limit_or_none() {
        let limited = plan("acme", Some(13_000_000));
        assert_eq!((limited.id.as_str(), limited.limits.len()), ("replay-acme-13000000", 1));
        assert_eq!(limited.limits[0].period(), Period::Lifetime);
        let unlimited = plan("acme", None);
        assert_eq!((unlimited.id.as_str(), unlimited.limits.len()), ("replay-acme-unlimited", 0));
    }

    #[test]
    fn a_limit_that_would_not_apply_is_an_error() {
        let tenant =
            |plan: &str| Tenant { id: "acme".to_owned(), plan: plan.to_owned(), ..Tenant::default() };
        let change = |had: &str, limit| {
            change_of_plan(&tenant(had), &plan("acme", limit), limit)
                .map(|changed| changed.map(|tenant| tenant.plan))
        };
        assert!(change("free", Some(5)).is_err());
        assert_eq!(change("replay-acme-5", Some(5)), Ok(None));
        assert_eq!(change("free", None), Ok(None));
        assert_eq!(change("replay-acme-unlimited", Some(5)), Ok(Some("replay-acme-5".to_owned())));
        assert_eq!(change("replay-acme-5", None), Ok(Some("replay-acme-unlimited".to_owned())));
    }
}
