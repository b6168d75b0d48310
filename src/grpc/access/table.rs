//! The table of rules: for each rpc the roles that may call it, and the tenant and the agent that it names.

use crate::{
    domain::access::Role::{self, Admin, Operator, Spender, Viewer},
    grpc::v1,
};

/// What a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::grpc) enum Named<'a> {
    /// Nothing that belongs to a tenant, and nothing secret.
    Anything,
    /// Something that belongs to no tenant, or to all.
    AllTenants,
    /// A tenant. `agent`: the agent that the request names, or the empty text; `None` if it cannot name one.
    Tenant { tenant: &'a str, agent: Option<&'a str> },
    /// A reservation by its name, or a tenant with the `request_id` of the reservation.
    Reservation { tenant: &'a str, agent: Option<&'a str> },
}

/// The rule of a request.
pub(in crate::grpc) trait Ruled {
    /// The name of the rpc.
    const RPC: &'static str;
    /// The roles that may call.
    const ROLES: &'static [Role];
    /// Whether the batch compares the revision of the keys, so that remembered keys suffice (R7.4).
    const IN_BATCH: bool;
    /// Whether the tenant may be left out, which stands for all tenants.
    const MAY_LEAVE_TENANT_OUT: bool;

    /// Returns what the request names.
    fn named(&self) -> Named<'_>;

    /// Returns the paths of the `update_mask`, if an OPERATOR may change only the state.
    fn changed_paths(&self) -> Option<&[String]> {
        None
    }
}

/// Declares the rules. `batch` marks operations of the engine, `all` requests whose tenant may be left out.
macro_rules! rules {
    ($($service:ident {$(
        $rpc:ident($request:ident) [$($role:ident)+] $($batch:ident)? => |$message:ident| $named:expr
        $(, state $paths:expr)?;
    )+})+) => {
        $($(
            impl Ruled for v1::$request {
                const RPC: &'static str = stringify!($rpc);
                const ROLES: &'static [Role] = &[$($role),+];
                const IN_BATCH: bool = rules!(@batch $($batch)?);
                const MAY_LEAVE_TENANT_OUT: bool = rules!(@all $($batch)?);

                fn named(&self) -> Named<'_> {
                    let $message = self;
                    $named
                }

                $(fn changed_paths(&self) -> Option<&[String]> {
                    let $message = self;
                    Some($paths)
                })?
            }
        )+)+

        /// The paths of all rpcs that have a rule, with the roles that may call them.
        #[cfg(test)]
        const ROWS: &[(&str, &[Role])] = &[$($(
            (concat!("tope.v1.", stringify!($service), "/", stringify!($rpc)), &[$($role),+]),
        )+)+];
    };
    (@batch batch) => { true };
    (@batch $($other:ident)?) => { false };
    (@all all) => { true };
    (@all $($other:ident)?) => { false };
}

rules! {
    QuotaService {
        Reserve(ReserveRequest) [Admin Spender] batch => |m| tenant(&m.tenant, Some(&m.agent));
        Commit(CommitRequest) [Admin Spender] batch => |m| reservation(&m.tenant, m.agent.as_deref());
        Release(ReleaseRequest) [Admin Operator Spender] batch => |m| reservation(&m.tenant, None);
        Extend(ExtendRequest) [Admin Spender] batch => |m| reservation(&m.tenant, None);
        Record(RecordRequest) [Admin Spender] batch => |m| tenant(&m.tenant, Some(&m.agent));
        Amend(AmendRequest) [Admin Operator] batch => |m| reservation(&m.tenant, None);
        Check(CheckRequest) [Admin Operator Viewer Spender] batch => |m| tenant(&m.tenant, Some(&m.agent));
        GetUsage(GetUsageRequest) [Admin Operator Viewer Spender] => |m| tenant(&m.tenant, filter(&m.agent));
        GetReservation(GetReservationRequest) [Admin Operator Viewer Spender] => |m| reservation(&m.tenant, None);
        ListReservations(ListReservationsRequest) [Admin Operator Viewer Spender] =>
            |m| tenant(&m.tenant, filter(&m.agent));
        // The handler compares each operation with its own rule.
        Batch(BatchRequest) [Admin Operator Viewer Spender] batch => |_m| Named::Anything;
        WatchUsage(WatchUsageRequest) [Admin Operator Viewer Spender] all => |m| tenant(&m.tenant, filter(&m.agent));
    }
    AdminService {
        CreateResource(CreateResourceRequest) [Admin] => |_m| Named::AllTenants;
        GetResource(GetResourceRequest) [Admin Operator Viewer Spender] => |_m| Named::Anything;
        ListResources(ListResourcesRequest) [Admin Operator Viewer Spender] => |_m| Named::Anything;
        UpdateResource(UpdateResourceRequest) [Admin] => |_m| Named::AllTenants;
        DeleteResource(DeleteResourceRequest) [Admin] => |_m| Named::AllTenants;
        CreatePlan(CreatePlanRequest) [Admin] => |_m| Named::AllTenants;
        GetPlan(GetPlanRequest) [Admin Operator Viewer] => |_m| Named::AllTenants;
        ListPlans(ListPlansRequest) [Admin Operator Viewer] => |_m| Named::AllTenants;
        UpdatePlan(UpdatePlanRequest) [Admin] => |_m| Named::AllTenants;
        DeletePlan(DeletePlanRequest) [Admin] => |_m| Named::AllTenants;
        GetPolicySettings(GetPolicySettingsRequest) [Admin Operator Viewer] => |_m| Named::AllTenants;
        UpdatePolicySettings(UpdatePolicySettingsRequest) [Admin] => |_m| Named::AllTenants;
        CreateTenant(CreateTenantRequest) [Admin] => |m| tenant(given(m.tenant.as_ref(), |given| &given.id), None);
        GetTenant(GetTenantRequest) [Admin Operator Viewer] => |m| tenant(&m.id, None);
        ListTenants(ListTenantsRequest) [Admin Operator Viewer] => |_m| Named::AllTenants;
        UpdateTenant(UpdateTenantRequest) [Admin Operator] =>
            |m| tenant(given(m.tenant.as_ref(), |given| &given.id), None), state paths(&m.update_mask);
        DeleteTenant(DeleteTenantRequest) [Admin] => |m| tenant(&m.id, None);
        CreateAgent(CreateAgentRequest) [Admin] => |m| tenant(given(m.agent.as_ref(), |given| &given.tenant), None);
        GetAgent(GetAgentRequest) [Admin Operator Viewer] => |m| tenant(&m.tenant, None);
        ListAgents(ListAgentsRequest) [Admin Operator Viewer] => |m| tenant(&m.tenant, None);
        UpdateAgent(UpdateAgentRequest) [Admin Operator] =>
            |m| tenant(given(m.agent.as_ref(), |given| &given.tenant), None), state paths(&m.update_mask);
        DeleteAgent(DeleteAgentRequest) [Admin] => |m| tenant(&m.tenant, None);
        CreateOverride(CreateOverrideRequest) [Admin] =>
            |m| tenant(given(m.r#override.as_ref(), |given| &given.tenant), None);
        GetOverride(GetOverrideRequest) [Admin Operator Viewer] => |m| tenant(&m.tenant, None);
        ListOverrides(ListOverridesRequest) [Admin Operator Viewer] => |m| tenant(&m.tenant, None);
        UpdateOverride(UpdateOverrideRequest) [Admin] =>
            |m| tenant(given(m.r#override.as_ref(), |given| &given.tenant), None);
        DeleteOverride(DeleteOverrideRequest) [Admin] => |m| tenant(&m.tenant, None);
        ResetUsage(ResetUsageRequest) [Admin Operator] batch => |m| tenant(&m.tenant, None);
        ListChanges(ListChangesRequest) [Admin Operator Viewer] all => |m| tenant(&m.tenant, None);
        ListEvents(ListEventsRequest) [Admin Operator Viewer] all => |m| tenant(&m.tenant, None);
        CreateWebhook(CreateWebhookRequest) [Admin] => |_m| Named::AllTenants;
        GetWebhook(GetWebhookRequest) [Admin Operator Viewer] => |_m| Named::AllTenants;
        ListWebhooks(ListWebhooksRequest) [Admin Operator Viewer] => |_m| Named::AllTenants;
        UpdateWebhook(UpdateWebhookRequest) [Admin] => |_m| Named::AllTenants;
        DeleteWebhook(DeleteWebhookRequest) [Admin] => |_m| Named::AllTenants;
        TestWebhook(TestWebhookRequest) [Admin Operator] => |_m| Named::AllTenants;
        RotateWebhookSecret(RotateWebhookSecretRequest) [Admin] => |_m| Named::AllTenants;
        ListDeliveries(ListDeliveriesRequest) [Admin Operator Viewer] => |_m| Named::AllTenants;
        Redeliver(RedeliverRequest) [Admin Operator] => |_m| Named::AllTenants;
        CreateKey(CreateKeyRequest) [Admin] => |_m| Named::AllTenants;
        GetKey(GetKeyRequest) [Admin] => |_m| Named::AllTenants;
        ListKeys(ListKeysRequest) [Admin] => |_m| Named::AllTenants;
        UpdateKey(UpdateKeyRequest) [Admin] => |_m| Named::AllTenants;
        DeleteKey(DeleteKeyRequest) [Admin] => |_m| Named::AllTenants;
        ListJobs(ListJobsRequest) [Admin Operator Viewer] => |_m| Named::AllTenants;
        RunJob(RunJobRequest) [Admin Operator] => |_m| Named::AllTenants;
    }
}

fn tenant<'a>(tenant: &'a str, agent: Option<&'a str>) -> Named<'a> {
    Named::Tenant { tenant, agent }
}

fn reservation<'a>(tenant: &'a str, agent: Option<&'a str>) -> Named<'a> {
    Named::Reservation { tenant, agent }
}

/// A filter that is absent stands for all agents, which only a key of all agents permits.
#[expect(clippy::ref_option, reason = "the field of a message")]
fn filter(agent: &Option<String>) -> Option<&str> {
    Some(agent.as_deref().unwrap_or_default())
}

/// Returns a name in a message within the request. The call fails later if the message is missing.
fn given<T>(message: Option<&T>, name: impl Fn(&T) -> &String) -> &str {
    message.map_or("", |message| name(message).as_str())
}

#[expect(clippy::ref_option, reason = "the field of a message")]
fn paths(mask: &Option<prost_types::FieldMask>) -> &[String] {
    mask.as_ref().map_or(&[], |mask| &mask.paths)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::grpc::descriptors;

    #[test]
    fn each_rpc_of_the_protos_has_a_rule_and_an_admin_may_call_each() {
        let mut rpcs = BTreeSet::new();
        for file in descriptors().file.iter().filter(|file| file.package() == "tope.v1") {
            for service in &file.service {
                rpcs.extend(
                    service.method.iter().map(|rpc| format!("tope.v1.{}/{}", service.name(), rpc.name())),
                );
            }
        }
        let ruled: BTreeSet<String> = ROWS.iter().map(|(rpc, _)| (*rpc).to_owned()).collect();
        assert_eq!(ruled, rpcs);
        assert!(ROWS.iter().all(|(_, roles)| roles.contains(&Admin)));
    }
}
