//! What the schema m20261127_000020 was the first to have stays after a migration: keys in each state, with the tenants
//! and agents that they may name.

use tonic::{Code, Request};
use tope::config::{Auth, Config};

use super::books::Books;
use crate::harness::{clients::done, v1::*, world::settings, *};

/// The texts of the keys: of an admin; of a spender of the tenants `dunder` and `saber`, and the agent `clerk`; of a
/// viewer of the tenant `acme`; of an operator, revoked; of a spender, expired; of a spender, deleted.
const SQLITE: [&str; 6] = [
    "tope_TDr3DpDK0w57_8miP9aeWPP3qm4RJLrl2c1TP1HFVoZPzA7duryNyzeo",
    "tope_73vmkio7njOs_0bk3LRlv33g7bLXDlYvJ0ZFoHVp5Vy0gRw8PWgycZeS",
    "tope_XiqVQ206JNTR_2WtlSafLt3I0z7rSwRT5Vi5omeM4d8ySBctnnAw29Lh",
    "tope_laNz4NsZSERJ_TRv0T8HfXHBLQfXZezNksS6gYNjMojBFh7HQKbTO0Gy",
    "tope_Xb7BV0Lb0dFR_hbNUCBVaO5329YvlKbwCUmiC4gH9J0ukcfjx65fPavu",
    "tope_9NbJORzPhsgp_V7mgcjTj9vIoN6Qkb5nhakQqJUmWunZEMqszBvqXBjv",
];
const POSTGRES: [&str; 6] = [
    "tope_PRhjIcenZwHV_WikYjxxj7nPnLVYQA55hLUabu0QzNhfohnaaX1zzzhW",
    "tope_cDDJkuJZcCQm_l1EwE3rptL8Spj5WXYfUEOEbTuZL6YB251vz27FSEqO",
    "tope_Qaa7ZvnHHOpM_f7Qe696oQoGNCiXLmUoPrqsZ71rO6NYWu1MmTUZlaqF",
    "tope_Kt8V8ZGTxFOS_I8t8ob0sJVnIYmAL1fRKnvu0UlLW7qoWg2Ria9TpVAo",
    "tope_r3ItoegLO7LM_O5bqb7mpd6Oicl65cgskHnVCRYhBTBPr7zpPDfSk5ZR",
    "tope_qWyeUZnm3Enr_24aF2TxPVMyn2zqBzgraaapIvi1fva9Tay3rvlJnCLm",
];

/// Makes a request with a key.
fn with_key<T>(text: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {text}").parse().expect("letters"));
    request
}

on_both! {
    async fn keys_in_a_migrated_database_stay_as_they_were(kind: Kind) {
        let mut world = Books::of("m20261127_000020").world(kind).await;
        let config = Config { auth: Auth::Keys, ..settings(world.database.url()) };
        world.restart_with(config).await;
        let [admin, spender, viewer, revoked, expired, deleted] = match kind {
            Kind::Sqlite => SQLITE,
            Kind::Postgres => POSTGRES,
        };
        let mut client = world.admin.clone();
        let listed = done(client.list_keys(with_key(admin, ListKeysRequest::default())).await).expect("a page").keys;
        let mut names: Vec<_> = listed.iter().map(|key| (key.display_name.as_str(), key.role(), key.state())).collect();
        names.sort_unstable();
        let expected = [
            ("a trial", Role::Spender, KeyState::Active),
            ("acme", Role::Viewer, KeyState::Active),
            ("lost", Role::Operator, KeyState::Revoked),
            ("the clerk", Role::Spender, KeyState::Active),
            ("the first key", Role::Admin, KeyState::Active),
        ];
        assert_eq!(names, expected);
        let used: Vec<_> = listed.iter().filter(|key| key.last_used_time.is_some()).map(|key| key.role()).collect();
        assert_eq!(used.len(), 2, "{used:?}");

        let mut quota = quota_service_client::QuotaServiceClient::new(world.channel.clone());
        let usage = |tenant: &str, agent: &str| GetUsageRequest {
            tenant: tenant.into(),
            agent: Some(agent.into()),
            ..GetUsageRequest::default()
        };
        done(quota.get_usage(with_key(spender, usage("dunder", "clerk"))).await).expect("both are of the key");
        for (tenant, agent) in [("dunder", "temp"), ("acme", "clerk")] {
            let no = done(quota.get_usage(with_key(spender, usage(tenant, agent))).await);
            no.expect_err("one is not of the key").is(Code::PermissionDenied, "NOT_PERMITTED");
        }
        let get = |id: &str| GetTenantRequest { id: id.into() };
        done(client.get_tenant(with_key(viewer, get("acme"))).await).expect("it is of the key");
        let no = done(client.get_tenant(with_key(viewer, get("globex"))).await);
        no.expect_err("it is not of the key").is(Code::PermissionDenied, "NOT_PERMITTED");
        for (text, reason) in [(revoked, "KEY_REVOKED"), (expired, "KEY_EXPIRED"), (deleted, "KEY_UNKNOWN")] {
            let no = done(client.get_tenant(with_key(text, get("acme"))).await);
            no.expect_err("the key is not valid").is(Code::Unauthenticated, reason);
        }
        world.end().await;
    }

    /// The audit begins with the migration: what was changed before has no rows, and what is changed now has one.
    async fn the_audit_of_a_migrated_database_begins_empty(kind: Kind) {
        let world = Books::of("m20261127_000020").world(kind).await;
        let list = async || {
            let request = ListChangesRequest::default();
            done(world.admin.clone().list_changes(request).await).expect("a page").changes
        };
        assert_eq!(list().await, []);
        world.set_state("acme", TenantState::Suspended).await;
        let found = list().await;
        assert_eq!((found.len(), &*found[0].rpc, &*found[0].thing), (1, "UpdateTenant", "acme"));
        let events = done(world.admin.clone().list_events(ListEventsRequest { page_size: 1_000, ..Default::default() }).await);
        let events = events.expect("the log is there").events;
        assert!(events.iter().take(78).all(|event| event.caller.is_empty()), "they were written before");
        world.end().await;
    }
}
