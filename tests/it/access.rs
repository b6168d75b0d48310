//! R7: keys, JWTs, roles, and the tenants and agents that a caller may name.

mod broken;
mod callers;
mod certificates;
mod jwks;
mod jwt;
mod keys;
mod matrix;
mod metrics_key;
mod others;
mod revoked;

use tonic::{Request, metadata::AsciiMetadataValue};
use tope::config::{Auth, Config};

use crate::harness::{call::Answer, clients::done, v1::*, world::settings, *};

/// Creates a key, and returns its message with the text.
async fn create(clients: &Clients, key: Key) -> Key {
    let made = done(clients.admin.clone().create_key(CreateKeyRequest { key: Some(key) }).await);
    made.expect("the key is right")
}

/// Returns the message of a key to create.
fn key(role: Role, tenants: &[&str], agents: &[&str]) -> Key {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Key { role: role.into(), tenants: names(tenants), agents: names(agents), ..Key::default() }
}

/// Restarts the server of a world, which then needs keys.
async fn need_keys(world: &mut World) {
    let config = Config { auth: Auth::Keys, ..settings(world.database.url()) };
    world.restart_with(config).await;
}

/// Returns a request with the metadata of a key or a JWT.
fn with_key<T>(text: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value: AsciiMetadataValue = format!("Bearer {text}").parse().expect("letters");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Reserves one token with a key or a JWT.
async fn reserve_as(clients: &Clients, text: &str, tenant: &str, agent: &str) -> Answer<ReserveResponse> {
    let amounts = vec![ReserveAmount { resource: "tokens".into(), quantity: 1, ..ReserveAmount::default() }];
    let request =
        ReserveRequest { tenant: tenant.into(), agent: agent.into(), amounts, ..ReserveRequest::default() };
    let mut client = quota_service_client::QuotaServiceClient::new(clients.channel.clone());
    done(client.reserve(with_key(text, request)).await)
}
