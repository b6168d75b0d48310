//! An attacker's afternoon: the owner of a key tries everything that the protos allow to see or change what belongs to
//! others.

use tonic::{Code, Request};

use super::{create, key, need_keys, reserve_as, with_key};
use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::{operation::Operation as Wire, operation_result::Result as Answered, *},
    *,
};

/// A key, and a client that uses it.
struct Caller<'a> {
    clients: &'a Clients,
    text: &'a str,
}

impl Caller<'_> {
    fn quota(&self) -> quota_service_client::QuotaServiceClient<tonic::transport::Channel> {
        quota_service_client::QuotaServiceClient::new(self.clients.channel.clone())
    }

    fn ask<T>(&self, message: T) -> Request<T> {
        with_key(self.text, message)
    }
}

fn refused<T: std::fmt::Debug>(answer: Answer<T>) -> String {
    let no = answer.expect_err("it belongs to another");
    no.is(Code::PermissionDenied, "NOT_PERMITTED");
    no.message
}

/// Sends a Batch of five tenants, of which the key has one.
async fn a_batch_is_judged_by_operation(caller: &Caller<'_>, theirs: &str) {
    let reserve = |tenant: &str| Operation {
        operation: Some(Wire::Reserve(ReserveRequest {
            tenant: tenant.into(),
            amounts: vec![ReserveAmount {
                resource: "tokens".into(),
                quantity: 1,
                ..ReserveAmount::default()
            }],
            ..ReserveRequest::default()
        })),
    };
    let commit = Operation {
        operation: Some(Wire::Commit(CommitRequest {
            reservation: theirs.into(),
            ..CommitRequest::default()
        })),
    };
    let operations =
        vec![reserve("globex"), reserve("acme"), reserve("x"), commit, reserve("acme"), reserve("")];
    let batch = done(caller.quota().batch(caller.ask(BatchRequest { operations })).await)
        .expect("each is judged by itself");
    let outcomes: Vec<bool> =
        batch.results.iter().map(|result| matches!(result.result, Some(Answered::Reserve(_)))).collect();
    assert_eq!(outcomes, [false, true, false, false, true, false]);
    for place in [0, 2, 3, 5] {
        let Some(Answered::Error(error)) = &batch.results[place].result else { panic!("{batch:?}") };
        assert_eq!(error.code, i32::from(Code::PermissionDenied), "{place}: {error:?}");
    }
}

both! {
    /// R7.5: what belongs to another tenant can be neither seen nor changed, and the refusal does not tell whether it
    /// exists.
    async fn a_spender_of_one_tenant_reaches_nothing_of_another(world: World) {
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &[day("tokens", 100).named(tenant)]).await;
        }
        let theirs = world.reserve("globex").tokens(10).with(|r| r.request_id = "r1".into()).await.expect("it fits");
        let mine = create(world.clients(), key(Role::Spender, &["acme"], &[])).await;
        need_keys(world).await;
        let caller = Caller { clients: world.clients(), text: &mine.text };
        let own = reserve_as(world.clients(), &mine.text, "acme", "").await.expect("it is the own tenant");
        let mut quota = caller.quota();

        refused(reserve_as(world.clients(), &mine.text, "globex", "").await);
        refused(reserve_as(world.clients(), &mine.text, "no-such-tenant", "").await);
        // The name of a reservation that exists, one that never existed, and one of the own tenant's key.
        let genuine = theirs.name().to_owned();
        let mut forged = genuine.clone();
        forged.replace_range(forged.len() - 4.., "AAAA");
        let mut unknown_tenant = genuine.clone();
        unknown_tenant.replace_range(..8, "AAAAAAAA");
        let mut messages = Vec::new();
        for name in [genuine, forged, unknown_tenant] {
            let commit = CommitRequest { reservation: name.clone(), ..CommitRequest::default() };
            messages.push(refused(done(quota.commit(caller.ask(commit)).await)));
            let release = ReleaseRequest { reservation: name.clone(), ..ReleaseRequest::default() };
            messages.push(refused(done(quota.release(caller.ask(release)).await)));
            let extend = ExtendRequest {
                reservation: name.clone(),
                ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
                ..ExtendRequest::default()
            };
            messages.push(refused(done(quota.extend(caller.ask(extend)).await)));
            let get = GetReservationRequest { reservation: name.clone(), ..GetReservationRequest::default() };
            messages.push(refused(done(quota.get_reservation(caller.ask(get)).await)));
        }
        messages.dedup();
        assert_eq!(messages.len(), 1, "each refusal is the same: {messages:?}");
        let by_request = CommitRequest { tenant: "globex".into(), reserve_request_id: "r1".into(), ..CommitRequest::default() };
        refused(done(quota.commit(caller.ask(by_request)).await));
        let amend = AmendRequest { reservation: own.name().into(), ..AmendRequest::default() };
        refused(done(quota.amend(caller.ask(amend)).await));

        let usage = |tenant: &str, page_token: String| GetUsageRequest { tenant: tenant.into(), page_token, ..GetUsageRequest::default() };
        refused(done(quota.get_usage(caller.ask(usage("globex", String::new()))).await));
        refused(done(quota.get_usage(caller.ask(usage("", String::new()))).await));
        let list = ListReservationsRequest { tenant: "globex".into(), ..ListReservationsRequest::default() };
        refused(done(quota.list_reservations(caller.ask(list)).await));
        for tenant in ["", "globex"] {
            let watch = WatchUsageRequest { tenant: tenant.into(), ..WatchUsageRequest::default() };
            refused(done(quota.watch_usage(caller.ask(watch)).await).map(drop));
        }

        a_batch_is_judged_by_operation(&caller, theirs.name()).await;
        let keyed = done(world.admin.clone().list_events(caller.ask(ListEventsRequest::default())).await);
        refused(keyed);
        world.restart().await;
        let after = world.usage("globex").await;
        assert_eq!(after.figures("globex"), (0, 10), "nothing of globex has changed");
    }

    /// R7.6: a key of few agents names one of them in each call, and reaches no reservation of another agent.
    async fn a_spender_of_one_agent_reaches_nothing_of_another(world: World) {
        let limits = [day("tokens", 100), day("tokens", 50).per(&[Dimension::Agent]).named("each")];
        world.tenant_with("acme", &limits).await;
        let theirs = world.reserve("acme").agent("other").tokens(10).with(|r| r.request_id = "r1".into()).await.expect("it fits");
        let mine = create(world.clients(), key(Role::Spender, &["acme"], &["planner"])).await;
        need_keys(world).await;
        let caller = Caller { clients: world.clients(), text: &mine.text };
        let mut quota = caller.quota();
        let own = reserve_as(world.clients(), &mine.text, "acme", "planner").await.expect("it is the own agent");
        for agent in ["", "other", "Planner"] {
            refused(reserve_as(world.clients(), &mine.text, "acme", agent).await);
        }
        let missing = format!("{}AAAA", &theirs.name()[..theirs.name().len() - 4]);
        for name in [theirs.name(), missing.as_str()] {
            let commit = CommitRequest { reservation: name.into(), ..CommitRequest::default() };
            refused(done(quota.commit(caller.ask(commit)).await));
            let get = GetReservationRequest { reservation: name.into(), ..GetReservationRequest::default() };
            refused(done(quota.get_reservation(caller.ask(get)).await));
        }
        for id in ["r1", "never"] {
            let release = ReleaseRequest { tenant: "acme".into(), reserve_request_id: id.into(), ..ReleaseRequest::default() };
            refused(done(quota.release(caller.ask(release)).await));
        }
        // The usage may not be moved to another agent.
        let moved = CommitRequest { reservation: own.name().into(), agent: Some("other".into()), ..CommitRequest::default() };
        refused(done(quota.commit(caller.ask(moved)).await));
        for agent in [None, Some("other".to_owned())] {
            let usage = GetUsageRequest { tenant: "acme".into(), agent: agent.clone(), ..GetUsageRequest::default() };
            refused(done(quota.get_usage(caller.ask(usage)).await));
            let list = ListReservationsRequest { tenant: "acme".into(), agent, ..ListReservationsRequest::default() };
            refused(done(quota.list_reservations(caller.ask(list)).await));
        }
        let list = ListReservationsRequest { tenant: "acme".into(), agent: Some("planner".into()), ..ListReservationsRequest::default() };
        let listed = done(quota.list_reservations(caller.ask(list)).await).expect("its own");
        assert_eq!(listed.reservations.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), [own.name()]);
        let commit = CommitRequest { reservation: own.name().into(), ..CommitRequest::default() };
        done(quota.commit(caller.ask(commit)).await).expect("its own");
    }

    /// An OPERATOR suspends tenants and agents, and changes nothing else of them.
    async fn an_operator_may_change_only_the_state(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let agent = Agent { tenant: "acme".into(), id: "planner".into(), ..Agent::default() };
        done(world.admin.clone().create_agent(CreateAgentRequest { agent: Some(agent.clone()) }).await).expect("it is new");
        let operator = create(world.clients(), key(Role::Operator, &[], &[])).await;
        need_keys(world).await;
        let mut admin = world.admin.clone();
        let suspended = Tenant { id: "acme".into(), state: TenantState::Suspended.into(), ..Tenant::default() };
        let agent = Agent { state: AgentState::Suspended.into(), ..agent };
        for (paths, passes) in [(&["state"][..], true), (&[], false), (&["display_name"], false), (&["state", "plan"], false)] {
            let update_mask = Some(mask(paths));
            let request = UpdateTenantRequest { tenant: Some(suspended.clone()), update_mask: update_mask.clone() };
            let answer = done(admin.update_tenant(with_key(&operator.text, request)).await);
            let request = UpdateAgentRequest { agent: Some(agent.clone()), update_mask };
            let of_agent = done(admin.update_agent(with_key(&operator.text, request)).await);
            if passes {
                assert_eq!(answer.expect("it may suspend").state(), TenantState::Suspended);
                assert_eq!(of_agent.expect("it may suspend").state(), AgentState::Suspended);
            } else {
                assert!(refused(answer).contains("only the state"));
                refused(of_agent);
            }
        }
    }

    /// A call of a VIEWER never creates a tenant, although the policy has a default plan.
    async fn a_viewer_creates_no_tenant(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let settings = PolicySettings { default_plan: "acme".into(), ..PolicySettings::default() };
        let request = UpdatePolicySettingsRequest { settings: Some(settings), update_mask: None };
        done(world.admin.clone().update_policy_settings(request).await).expect("the plan exists");
        let viewer = create(world.clients(), key(Role::Viewer, &[], &[])).await;
        let spender = create(world.clients(), key(Role::Spender, &["fresh"], &[])).await;
        need_keys(world).await;
        let caller = Caller { clients: world.clients(), text: &viewer.text };
        let check = CheckRequest {
            tenant: "fresh".into(),
            amounts: vec![ReserveAmount { resource: "tokens".into(), quantity: 1, ..ReserveAmount::default() }],
            ..CheckRequest::default()
        };
        let no = done(caller.quota().check(caller.ask(check)).await).expect_err("it does not exist");
        no.is(Code::NotFound, "TENANT_NOT_FOUND");
        reserve_as(world.clients(), &spender.text, "fresh", "").await.expect("a SPENDER may create it");
    }
}
