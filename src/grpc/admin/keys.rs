//! Keys of callers: the rpcs, and messages ⇄ arguments of the store.

use std::collections::BTreeSet;

use tonic::{Response, Status};

use super::{
    convert::{self, Mask, display_name_fault, required},
    lists::{List, NO_FILTER},
    parts::{Admin, of_error, of_refusal},
};
use crate::{
    access::{NewText, new_key},
    domain::{
        access::{Key, KeyState, Role},
        audit::Author,
        bounds::KEY_NAMES_MAX,
        faults::Faults,
        id::name_fault,
        refusal::Refusal,
        san::san_fault,
        time::Time,
    },
    grpc::{faults::instant, v1, wire::timestamp},
    store::{KeyChange, NewKey},
};

impl Admin {
    pub(super) async fn make_key(
        &self,
        request: v1::CreateKeyRequest,
        author: &Author,
    ) -> Result<Response<v1::Key>, Status> {
        let NewText { id, hash, text } = new_key();
        let new = new_key_of(request.key, id, hash).map_err(of_refusal)?;
        let made = self.store()?.create_key(self.by(author), &new).await.map_err(of_error)?;
        // Nobody learns the secret of a key for which a certificate stands.
        let text = if new.certificate_san.is_none() { text } else { String::new() };
        Ok(Response::new(v1::Key { text, ..message(made) }))
    }

    pub(super) async fn find_key(&self, id: String) -> Result<Response<v1::Key>, Status> {
        let id = convert::id(id).map_err(of_refusal)?;
        let found =
            self.read("get key").await?.find_key(&id).await.map_err(|error| of_error(error.into()))?;
        let found = found.ok_or_else(|| of_refusal(Refusal::KeyNotFound(id)))?;
        Ok(Response::new(message(found)))
    }

    pub(super) async fn page_of_keys(
        &self,
        request: v1::ListKeysRequest,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let list = List::read("ListKeys", NO_FILTER, request.page_size, &request.page_token)?;
        let page = self.read("list keys").await?.list_keys(list.after(), list.size).await;
        let page = page.map_err(|error| of_error(error.into()))?;
        let next_page_token = list.next(page.more, page.items.last().map(|last| &*last.id));
        let keys = page.items.into_iter().map(message).collect();
        Ok(Response::new(v1::ListKeysResponse { keys, next_page_token }))
    }

    pub(super) async fn change_key(
        &self,
        request: v1::UpdateKeyRequest,
        author: &Author,
    ) -> Result<Response<v1::Key>, Status> {
        let (id, change) = key_change(request).map_err(of_refusal)?;
        let changed = self.store()?.update_key(self.by(author), &id, &change).await.map_err(of_error)?;
        Ok(Response::new(message(changed)))
    }

    pub(super) async fn remove_key(
        &self,
        request: v1::DeleteKeyRequest,
        author: &Author,
    ) -> Result<Response<()>, Status> {
        let id = convert::id(request.id).map_err(of_refusal)?;
        self.store()?.delete_key(self.by(author), &id, &request.etag).await.map_err(of_error)?;
        Ok(Response::new(()))
    }
}

fn new_key_of(message: Option<v1::Key>, id: String, hash: [u8; 32]) -> Result<NewKey, Refusal> {
    let mut faults = Faults::default();
    let message = required("key", message)?;
    if !message.id.is_empty() || !message.text.is_empty() {
        faults.add("key.id", "must be empty, and key.text too: the server makes both");
    }
    let role = match v1::Role::try_from(message.role).ok().and_then(Option::<Role>::from) {
        Some(role) => role,
        None => {
            faults.add("key.role", "must be ROLE_ADMIN, ROLE_OPERATOR, ROLE_VIEWER or ROLE_SPENDER");
            Role::Viewer
        }
    };
    let tenants = names(&mut faults, "key.tenants", message.tenants);
    let agents = names(&mut faults, "key.agents", message.agents);
    if !agents.is_empty() && role != Role::Spender {
        faults.add("key.agents", "must be empty unless the role is ROLE_SPENDER");
    }
    faults.check("key.display_name", display_name_fault(&message.display_name));
    if state(&mut faults, message.state) == Some(KeyState::Revoked) {
        faults.add("key.state", "must be KEY_STATE_ACTIVE at creation");
    }
    let expires_at = expiry(&mut faults, message.expire_time);
    let certificate_san = Some(message.certificate_san).filter(|san| !san.is_empty());
    faults.check("key.certificate_san", certificate_san.as_deref().and_then(san_fault));
    faults.into_result(NewKey {
        id,
        hash,
        certificate_san,
        role,
        tenants,
        agents,
        display_name: message.display_name,
        expires_at,
    })
}

/// Parses an update: the id of the key, and the changes.
fn key_change(request: v1::UpdateKeyRequest) -> Result<(String, KeyChange), Refusal> {
    let mut faults = Faults::default();
    let message = required("key", request.key)?;
    faults.check("key.id", name_fault(&message.id));
    let fixed =
        ["id", "role", "tenants", "agents", "certificate_san"].map(|name| (name, "is fixed at creation"));
    let mask =
        Mask::read(&mut faults, request.update_mask, &["display_name", "state", "expire_time"], &fixed);
    let display_name = mask.take("display_name", message.display_name, String::is_empty);
    faults.check("key.display_name", display_name.as_deref().and_then(display_name_fault));
    let given = mask.take("state", message.state, |state| *state == 0);
    let state = given.and_then(|given| state(&mut faults, given));
    let given = mask.take("expire_time", message.expire_time, Option::is_none);
    let expires_at = given.map(|given| expiry(&mut faults, given));
    faults.into_result((message.id, KeyChange { display_name, state, expires_at, etag: message.etag }))
}

/// Parses the names of tenants or agents. A repeated name counts once.
fn names(faults: &mut Faults, field: &str, names: Vec<String>) -> BTreeSet<String> {
    if faults.is_within(field, names.len(), KEY_NAMES_MAX) {
        for (place, name) in names.iter().enumerate() {
            faults.check(format!("{field}[{place}]"), name_fault(name));
        }
    }
    names.into_iter().collect()
}

fn expiry(faults: &mut Faults, given: Option<prost_types::Timestamp>) -> Option<Time> {
    let instant = instant(faults, "key.expire_time", given)?;
    if !(Time::EPOCH..Time::NEVER).contains(&instant) {
        faults.add("key.expire_time", "must be an instant after 1970");
    }
    Some(instant)
}

fn state(faults: &mut Faults, state: i32) -> Option<KeyState> {
    match v1::KeyState::try_from(state) {
        Ok(given) => given.into(),
        Err(_) => {
            faults.add("key.state", "must be KEY_STATE_ACTIVE or KEY_STATE_REVOKED");
            None
        }
    }
}

/// Returns the message of a key, without its text.
pub(super) fn message(key: Key) -> v1::Key {
    v1::Key {
        etag: key.etag(),
        id: key.id,
        role: v1::Role::from(key.role).into(),
        tenants: key.tenants.into_iter().collect(),
        agents: key.agents.into_iter().collect(),
        display_name: key.display_name,
        state: v1::KeyState::from(key.state).into(),
        expire_time: key.expires_at.map(timestamp),
        last_used_time: key.last_used_at.map(timestamp),
        create_time: Some(timestamp(key.created_at)),
        update_time: Some(timestamp(key.updated_at)),
        text: String::new(),
        certificate_san: key.certificate_san.unwrap_or_default(),
    }
}
