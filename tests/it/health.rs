//! Health and reflection, which load balancers and grpcurl use.

use futures::{StreamExt, stream};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1 as reflection, v1alpha as old_reflection};

use crate::harness::{
    clients::{Admin, done, serving, status},
    postgres::{self, Cluster},
    v1::*,
    *,
};

const SERVICES: [&str; 2] = ["tope.v1.QuotaService", "tope.v1.AdminService"];

both! {
    async fn each_service_is_serving(world: World) {
        let health = HealthClient::new(world.channel.clone());
        for service in ["", SERVICES[0], SERVICES[1]] {
            assert_eq!(status(&health, service).await, Some(ServingStatus::Serving), "{service:?}");
        }
        let unknown = HealthCheckRequest { service: "tope.v1.Nobody".into() };
        let no = health.clone().check(unknown).await.expect_err("there is none");
        assert_eq!(no.code(), Code::NotFound);
    }

    async fn reflection_lists_the_services_in_both_versions(world: World) {
        let mut wanted: Vec<&str> = SERVICES.to_vec();
        wanted.push("grpc.health.v1.Health");
        let new = services(world.channel.clone()).await;
        let old = old_services(world.channel.clone()).await;
        for service in wanted {
            assert!(new.iter().any(|name| name == service), "v1: {service} in {new:?}");
            assert!(old.iter().any(|name| name == service), "v1alpha: {service} in {old:?}");
        }
    }
}

async fn services(channel: Channel) -> Vec<String> {
    use reflection::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let mut client = ServerReflectionClient::new(channel);
    let replies = client.server_reflection_info(stream::iter([request])).await.expect("it is registered");
    let reply = replies.into_inner().next().await.expect("one answer").expect("an answer");
    match reply.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|s| s.name).collect()
        }
        other => panic!("{other:?}"),
    }
}

async fn old_services(channel: Channel) -> Vec<String> {
    use old_reflection::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let mut client = ServerReflectionClient::new(channel);
    let replies = client.server_reflection_info(stream::iter([request])).await.expect("it is registered");
    let reply = replies.into_inner().next().await.expect("one answer").expect("an answer");
    match reply.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|s| s.name).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// At first PostgreSQL does not run. Then it starts, stops and starts again. The server is never restarted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_waits_for_a_missing_database() {
    let folder = database::scratch_folder();
    let port = postgres::free_port();
    let url = postgres::url(port, "postgres");
    let process = Process::start(&url, folder.path(), &[]);
    let channel = process.connect().await;
    let health = HealthClient::new(channel.clone());
    not_serving(&health).await;
    unavailable(&channel).await;
    eventually("the log says what is missing", async || {
        process.log().contains(&port.to_string()).then_some(())
    })
    .await;
    assert!(!process.log().contains("panicked"), "{}", process.log());

    let mut cluster = Cluster::start(port);
    serving(&channel).await;
    let resource = Resource { id: "tokens".into(), ..Resource::default() };
    let request = CreateResourceRequest { resource: Some(resource) };
    Admin::new(channel.clone()).create_resource(request).await.expect("it serves");

    cluster.stop();
    not_serving(&health).await;
    unavailable(&channel).await;
    cluster.resume();
    serving(&channel).await;
    let request = GetResourceRequest { id: "tokens".into() };
    Admin::new(channel.clone()).get_resource(request).await.expect("it was acknowledged");
    process.stop().await;
}

async fn not_serving(health: &HealthClient<Channel>) {
    eventually("health is NOT_SERVING", async || {
        let all =
            [status(health, "").await, status(health, SERVICES[0]).await, status(health, SERVICES[1]).await];
        (all == [Some(ServingStatus::NotServing); 3]).then_some(())
    })
    .await;
}

async fn unavailable(channel: &Channel) {
    let request = GetTenantRequest { id: "acme".into() };
    let no = done(Admin::new(channel.clone()).get_tenant(request).await).expect_err("it is away");
    no.is(Code::Unavailable, "DATABASE_UNAVAILABLE");
    assert!(no.retry.is_some(), "{no:?}");
    let request = ReserveRequest {
        tenant: "acme".into(),
        amounts: vec![ReserveAmount { resource: "tokens".into(), quantity: 1, minimum: 0 }],
        ..ReserveRequest::default()
    };
    let mut quota = call::Quota::new(channel.clone());
    let no = done(quota.reserve(request).await).expect_err("it is away");
    no.is(Code::Unavailable, "DATABASE_UNAVAILABLE");
    assert!(no.retry.is_some(), "{no:?}");
}
