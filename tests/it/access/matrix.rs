//! Each rpc, called by each role, for an own tenant, a foreign tenant and no tenant.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use prost::{
    Message,
    encoding::{bytes, string},
};
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use serde_json::json;
use tonic::{Code, Status};

use super::{
    create,
    jwt::{claims, trust},
    key, need_keys,
};
use crate::harness::{
    no::No,
    provider::Provider,
    raw::{self, Raw},
    v1::{Role::*, *},
    *,
};

/// Which tenants a call may be about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// Nothing that a key of few tenants must not see.
    Anything,
    /// All tenants, or no tenant.
    All,
    /// One tenant, which must be given.
    Tenant,
    /// One tenant, or all.
    TenantOrAll,
    /// A tenant with the `request_id` of a reservation, or a reservation.
    Reservation,
}

/// What the specification says about each rpc: the roles that may call it, by their first letters (admin, operator,
/// viewer, spender), and what the call is about.
const SPECIFICATION: [(&str, &str, About); 59] = {
    use About::{All, Anything, Reservation, Tenant, TenantOrAll};
    [
        ("Reserve", "as", Tenant),
        ("Commit", "as", Reservation),
        ("Release", "aos", Reservation),
        ("Extend", "as", Reservation),
        ("Record", "as", Tenant),
        ("Amend", "ao", Reservation),
        ("Check", "aovs", Tenant),
        ("GetUsage", "aovs", Tenant),
        ("GetReservation", "aovs", Reservation),
        ("ListReservations", "aovs", Tenant),
        ("Batch", "aovs", Anything),
        ("WatchUsage", "aovs", TenantOrAll),
        ("CreateResource", "a", All),
        ("GetResource", "aovs", Anything),
        ("ListResources", "aovs", Anything),
        ("UpdateResource", "a", All),
        ("DeleteResource", "a", All),
        ("CreatePlan", "a", All),
        ("GetPlan", "aov", All),
        ("ListPlans", "aov", All),
        ("UpdatePlan", "a", All),
        ("DeletePlan", "a", All),
        ("GetPolicySettings", "aov", All),
        ("UpdatePolicySettings", "a", All),
        ("CreateTenant", "a", Tenant),
        ("GetTenant", "aov", Tenant),
        ("ListTenants", "aov", All),
        // An OPERATOR may only change the state, which another test shows.
        ("UpdateTenant", "a", Tenant),
        ("DeleteTenant", "a", Tenant),
        ("CreateAgent", "a", Tenant),
        ("GetAgent", "aov", Tenant),
        ("ListAgents", "aov", Tenant),
        ("UpdateAgent", "a", Tenant),
        ("DeleteAgent", "a", Tenant),
        ("CreateOverride", "a", Tenant),
        ("GetOverride", "aov", Tenant),
        ("ListOverrides", "aov", Tenant),
        ("UpdateOverride", "a", Tenant),
        ("DeleteOverride", "a", Tenant),
        ("ResetUsage", "ao", Tenant),
        ("ListEvents", "aov", TenantOrAll),
        ("ListChanges", "aov", TenantOrAll),
        ("CreateWebhook", "a", All),
        ("GetWebhook", "aov", All),
        ("ListWebhooks", "aov", All),
        ("UpdateWebhook", "a", All),
        ("DeleteWebhook", "a", All),
        ("TestWebhook", "ao", All),
        ("RotateWebhookSecret", "a", All),
        ("ListDeliveries", "aov", All),
        ("Redeliver", "ao", All),
        ("CreateKey", "a", All),
        ("GetKey", "a", All),
        ("ListKeys", "a", All),
        ("UpdateKey", "a", All),
        ("DeleteKey", "a", All),
        ("ListJobs", "aov", All),
        ("RunJob", "ao", All),
        ("", "", Anything),
    ]
};

/// Whether a key of these tenants may make the call.
fn permitted(about: About, few: bool, tenant: &str) -> bool {
    match about {
        About::Anything => true,
        About::All => !few,
        About::Tenant => !few || tenant == "own",
        About::TenantOrAll => !few || tenant == "own",
        About::Reservation => !few || tenant != "foreign",
    }
}

/// All rpcs of the services, from the descriptors that reflection serves.
fn rpcs() -> BTreeMap<String, (String, MethodDescriptorProto)> {
    let set =
        FileDescriptorSet::decode(&include_bytes!(concat!(env!("OUT_DIR"), "/tope_descriptor.bin"))[..]);
    let mut rpcs = BTreeMap::new();
    for file in set.expect("descriptors").file.iter().filter(|file| file.package() == "tope.v1") {
        for service in &file.service {
            for rpc in &service.method {
                let path = format!("/tope.v1.{}/{}", service.name(), rpc.name());
                rpcs.insert(rpc.name().to_owned(), (path, rpc.clone()));
            }
        }
    }
    rpcs
}

/// Encodes a request that names this tenant in each place where the request can name a tenant.
fn request(rpc: &str, tenant: &str) -> Vec<u8> {
    let set =
        FileDescriptorSet::decode(&include_bytes!(concat!(env!("OUT_DIR"), "/tope_descriptor.bin"))[..]);
    let set = set.expect("descriptors");
    let mut encoded = Vec::new();
    let name = format!("{rpc}Request");
    let message = set.file.iter().flat_map(|file| &file.message_type).find(|message| message.name() == name);
    for field in &message.expect("each rpc has a request of its name").field {
        let tag = u32::try_from(field.number()).expect("a tag");
        match (field.name(), field.type_name()) {
            ("tenant", ".tope.v1.Tenant") => {
                let inner = Tenant { id: tenant.into(), ..Tenant::default() };
                bytes::encode(tag, &inner.encode_to_vec(), &mut encoded);
            }
            ("agent", ".tope.v1.Agent") => {
                let inner = Agent { tenant: tenant.into(), id: "a".into(), ..Agent::default() };
                bytes::encode(tag, &inner.encode_to_vec(), &mut encoded);
            }
            ("override", _) => {
                let inner = Override { tenant: tenant.into(), id: "o".into(), ..Override::default() };
                bytes::encode(tag, &inner.encode_to_vec(), &mut encoded);
            }
            ("tenant", _) => string::encode(tag, &tenant.to_owned(), &mut encoded),
            ("id", _) if matches!(rpc, "GetTenant" | "DeleteTenant") => {
                string::encode(tag, &tenant.to_owned(), &mut encoded);
            }
            ("id", _) => string::encode(tag, &"missing".to_owned(), &mut encoded),
            ("name", _) => string::encode(tag, &"missing".to_owned(), &mut encoded),
            _ => {}
        }
    }
    encoded
}

/// Makes a call, and returns its refusal. A call that answers with a stream is not read.
async fn call(raw: &Raw, path: &str, streams: bool, text: &str, message: &[u8]) -> Option<No> {
    let value = format!("Bearer {text}");
    let body = Body::from(raw::frame(message));
    if !streams {
        return raw.post(path, &[("authorization", &value)], body).await.expect("a whole answer");
    }
    let response = raw.open(path, &[("authorization", &value)], body).await.expect("an answer");
    let status = Status::from_header_map(response.headers());
    status.filter(|status| status.code() != Code::Ok).map(Into::into)
}

/// Makes each call as each of these callers, and compares the answers with the specification. Each caller has the
/// letter of its role, whether it may name only the tenant `own`, and a key or a JWT.
async fn each_call_is_judged(world: &World, callers: &[(char, bool, String)]) {
    let rpcs = rpcs();
    let named: BTreeSet<String> =
        SPECIFICATION.iter().map(|(rpc, ..)| (*rpc).to_owned()).filter(|rpc| !rpc.is_empty()).collect();
    assert_eq!(named, rpcs.keys().cloned().collect(), "the table of this test has each rpc");
    let raw = Raw::connect(world.address()).await;
    for (rpc, allowed, about) in SPECIFICATION.iter().filter(|(rpc, ..)| !rpc.is_empty()) {
        let (path, descriptor) = &rpcs[*rpc];
        for tenant in ["own", "foreign", ""] {
            let message = request(rpc, tenant);
            for (letter, few, text) in callers {
                // Nothing may be created or deleted before the last call.
                let passes = allowed.contains(*letter) && permitted(*about, *few, tenant);
                if passes && matches!(*rpc, "DeleteTenant" | "RunJob") {
                    continue;
                }
                let refused = call(&raw, path, descriptor.server_streaming(), text, &message).await;
                let context = format!("{rpc} of {tenant:?} by {letter}, few tenants: {few}: {refused:?}");
                let forbidden = refused.as_ref().is_some_and(|no| no.reason == "NOT_PERMITTED");
                assert_eq!(forbidden, !passes, "{context}");
                if forbidden {
                    refused.as_ref().expect(&context).is(Code::PermissionDenied, "NOT_PERMITTED");
                } else {
                    assert!(refused.is_none_or(|no| no.code != Code::Unauthenticated), "{context}");
                }
            }
        }
        for wrong in ["", "tope_AAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "a.b.c"] {
            let refused = call(&raw, path, descriptor.server_streaming(), wrong, &request(rpc, "own")).await;
            assert_eq!(refused.expect("it needs a key").code, Code::Unauthenticated, "{rpc}");
        }
    }
}

const ROLES: [(Role, char); 4] = [(Admin, 'a'), (Operator, 'o'), (Viewer, 'v'), (Spender, 's')];

async fn make_tenants(world: &World) {
    for tenant in ["own", "foreign"] {
        world.tenant_with(tenant, &[day("tokens", 10).named(tenant)]).await;
    }
}

both! {
    /// R7.5: of the roles, only those of the table may call; a key of few tenants is refused for others, and for all.
    async fn each_rpc_lets_in_the_roles_and_the_tenants_of_its_rule(world: World) {
        make_tenants(world).await;
        let mut callers = Vec::new();
        for (role, letter) in ROLES {
            for tenants in [&[][..], &["own"]] {
                let made = create(world.clients(), key(role, tenants, &[])).await;
                callers.push((letter, !tenants.is_empty(), made.text));
            }
        }
        need_keys(world).await;
        each_call_is_judged(world, &callers).await;
    }

    /// R7.7: the claims of a JWT permit what a key with this role and these tenants permits.
    async fn each_rpc_lets_in_the_roles_and_the_tenants_of_the_claims(world: World) {
        make_tenants(world).await;
        let provider = Provider::new();
        trust(world, &provider).await;
        let mut callers = Vec::new();
        for (role, letter) in ROLES {
            for tenants in [json!("*"), json!(["own"])] {
                let role = role.as_str_name().strip_prefix("ROLE_").expect("the name of a role");
                let claims = claims(json!({"tope_role": role, "tope_tenants": tenants}));
                callers.push((letter, tenants != "*", provider.keys()[1].sign(&claims)));
            }
        }
        each_call_is_judged(world, &callers).await;
    }
}
