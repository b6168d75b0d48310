//! Lets a call in by its key, its JWT or its certificate: finds the caller, and compares the call with the table of
//! rules.
//!
//! Every handler begins with [`Door::admit`]. `table.rs` has a row for each rpc.

mod table;

use std::sync::Arc;

use tonic::{
    Extensions, Request, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
};

pub(super) use self::table::{Named, Ruled};
use super::{http2::Peer, status};
use crate::{
    access::{Access, Credential, Denied, Keyring, PeerNames},
    domain::{
        access::{Forbidden, Permit, Role},
        audit::{Author, REQUEST_ID_MAX_BYTES},
        refusal::Refusal,
    },
    engine::{self, Engine, Failure, Outcome},
    seldom::Seldom,
};

/// The metadata that contains the key or the JWT of a call.
const AUTHORIZATION: &str = "authorization";

/// How often an operation is submitted again because keys were changed meanwhile.
const RENEWALS_MAX: u32 = 32;

/// A call that was let in.
pub(super) struct Admitted<T> {
    pub(super) message: T,
    pub(super) extensions: Extensions,
    pub(super) permit: Permit,
}

/// The metadata that contains the id which the caller gave its request.
const X_REQUEST_ID: &str = "x-request-id";

/// From where a call came, and the id that its caller gave it.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    peer: Option<Peer>,
    request_id: Option<AsciiMetadataValue>,
}

impl Origin {
    /// Reads the origin of a call. A request id that is too long or not printable is left out.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let fits = |value: &&AsciiMetadataValue| {
            !value.is_empty() && value.as_bytes().len() <= REQUEST_ID_MAX_BYTES && value.to_str().is_ok()
        };
        let request_id = request.metadata().get(X_REQUEST_ID).filter(fits).cloned();
        Self { peer: request.extensions().get::<Peer>().copied(), request_id }
    }

    /// Makes the author of a change by this kind of request.
    pub(super) fn author<T: Ruled>(&self, permit: &Permit) -> Author {
        let request_id = self.request_id.as_ref().and_then(|value| value.to_str().ok());
        Author {
            caller: permit.caller(),
            address: self.peer.map(|Peer(address)| address.to_string()).unwrap_or_default(),
            rpc: T::RPC,
            request_id: request_id.unwrap_or_default().to_owned(),
        }
    }
}

/// The place that every call of a service passes.
#[derive(Clone, Debug)]
pub(super) struct Door {
    access: Access,
}

impl Door {
    /// Makes the door of a server.
    pub(super) fn new(access: Access) -> Self {
        Self { access }
    }

    /// Finds the caller, and compares the call with its rule. The tenant of a reservation's name is compared later, in
    /// the batch or by [`check_found`].
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED without a valid key, PERMISSION_DENIED if the key does not permit the call, UNAVAILABLE if the
    /// keys cannot be loaded.
    pub(super) async fn admit<T: Ruled>(&self, request: Request<T>) -> Result<Admitted<T>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let permit = match &self.access {
            Access::Off => Permit::default(),
            Access::Keys(keyring) => {
                let permit = authenticate(keyring, &metadata, &extensions, T::IN_BATCH).await?;
                if let Err(status) = check(&permit, &message) {
                    self.confirm(&permit).await?;
                    return Err(status);
                }
                permit
            }
        };
        Ok(Admitted { message, extensions, permit })
    }

    /// Lets a call in that changes something, like [`Door::admit`]. Also returns its author, for the audit.
    ///
    /// # Errors
    ///
    /// As [`Door::admit`].
    pub(super) async fn admit_change<T: Ruled>(
        &self,
        request: Request<T>,
    ) -> Result<(Admitted<T>, Author), Status> {
        let origin = Origin::of(&request);
        let admitted = self.admit(request).await?;
        let author = origin.author::<T>(&admitted.permit);
        Ok((admitted, author))
    }

    /// Compares the keys of outcomes again whose keys were changed since, and submits their operations again.
    pub(super) async fn renew(
        &self,
        engine: &Engine,
        outcomes: &mut [Outcome],
        deadline: Option<tokio::time::Instant>,
    ) {
        let Access::Keys(keyring) = &self.access else { return };
        for _ in 0..RENEWALS_MAX {
            let (mut places, mut requests) = (Vec::new(), Vec::new());
            // All operations of a call have the same key.
            let mut renewed = None;
            for (place, outcome) in outcomes.iter_mut().enumerate() {
                let Err(Failure::KeysChanged(request)) = outcome else { continue };
                if renewed.is_none() {
                    renewed = Some(keyring.renew(&request.permit).await);
                }
                match &renewed {
                    Some(Ok(permit)) => {
                        places.push(place);
                        requests.push(engine::Request { permit: permit.clone(), ..(**request).clone() });
                    }
                    Some(Err(denied)) => *outcome = Err(failure(denied)),
                    None => {}
                }
            }
            if requests.is_empty() {
                return;
            }
            for (place, outcome) in places.into_iter().zip(engine.submit_all(requests, deadline).await) {
                outcomes[place] = outcome;
            }
        }
    }

    /// Compares the key of a call with the present keys, before an answer that no batch has decided (R7.4).
    ///
    /// # Errors
    ///
    /// The key is no longer valid, or the keys cannot be loaded.
    pub(super) async fn confirm(&self, permit: &Permit) -> Result<(), Status> {
        match &self.access {
            Access::Off => Ok(()),
            Access::Keys(keyring) => match keyring.renew(permit).await {
                Ok(_) => Ok(()),
                Err(denied) => Err(status::of_failure(&failure(&denied))),
            },
        }
    }

    /// Checks that a call has a valid key of any role. For the services of health and reflection.
    ///
    /// # Errors
    ///
    /// As [`Door::admit`].
    pub(super) async fn check_any_key(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<(), Status> {
        match &self.access {
            Access::Off => Ok(()),
            Access::Keys(keyring) => authenticate(keyring, metadata, extensions, false).await.map(drop),
        }
    }
}

/// Compares a message with its rule.
///
/// # Errors
///
/// PERMISSION_DENIED.
pub(super) fn check<T: Ruled>(permit: &Permit, message: &T) -> Result<(), Status> {
    judge(permit, message).map_err(|forbidden| status::of_refusal(&forbidden.into(), None))
}

fn judge<T: Ruled>(permit: &Permit, message: &T) -> Result<(), Forbidden> {
    let Some(rights) = permit.rights() else { return Ok(()) };
    if !T::ROLES.contains(&rights.role) {
        return Err(Forbidden::Role(rights.role));
    }
    if rights.role == Role::Operator && message.changed_paths().is_some_and(|paths| paths != ["state"]) {
        return Err(Forbidden::OnlyState(rights.role));
    }
    match message.named() {
        Named::Anything => Ok(()),
        Named::AllTenants if permit.has_tenants() => Err(Forbidden::AllTenants),
        Named::AllTenants => Ok(()),
        Named::Tenant { tenant: "", .. } if T::MAY_LEAVE_TENANT_OUT && permit.has_tenants() => {
            Err(Forbidden::AllTenants)
        }
        Named::Tenant { tenant, agent } => permit.check(tenant, agent),
        // Without a tenant, the name of the reservation says whose it is, and the engine finds that out.
        Named::Reservation { tenant: "", agent: Some(agent) } if !permit.allows_agent(agent) => {
            Err(Forbidden::Agent)
        }
        Named::Reservation { tenant: "", .. } => Ok(()),
        Named::Reservation { tenant, agent } => permit.check(tenant, agent),
    }
}

/// Makes the status of a read that found no reservation, or found one. A caller with few tenants or agents does not
/// learn whether a reservation that is not its own exists.
pub(super) fn check_found(
    permit: &Permit,
    found: Option<(&str, &str)>,
    own_tenant: bool,
) -> Result<(), Status> {
    let outcome = match found {
        Some((tenant, agent)) => permit.check(tenant, Some(agent)),
        None if permit.has_tenants() && !own_tenant => Err(Forbidden::Tenant),
        None if permit.has_agents() => Err(Forbidden::Agent),
        None => Ok(()),
    };
    outcome.map_err(|forbidden| status::of_refusal(&forbidden.into(), None))
}

async fn authenticate(
    keyring: &Keyring,
    metadata: &MetadataMap,
    extensions: &Extensions,
    in_batch: bool,
) -> Result<Permit, Status> {
    let values = metadata.get_all(AUTHORIZATION).iter().map(AsciiMetadataValue::as_bytes);
    let peer = extensions.get::<Arc<PeerNames>>().map(Arc::as_ref);
    let credential = Credential::read(values, peer);
    let credential = credential.map_err(|bad| status::of_refusal(&Refusal::Unauthenticated(bad), None))?;
    if in_batch && let Some(permit) = keyring.find(&credential) {
        return Ok(permit);
    }
    // Boxed, because few calls come here. Without the box, the future of every call would be larger.
    Box::pin(keyring.authenticate(&credential)).await.map_err(|denied| status::of_failure(&failure(&denied)))
}

fn failure(denied: &Denied) -> Failure {
    match denied {
        Denied::Key(bad) => Failure::Refused { refusal: Refusal::Unauthenticated(*bad), frame: None },
        Denied::Unavailable => Failure::DatabaseUnavailable,
        Denied::Store(error) => {
            static FAILED: Seldom<&str> = Seldom::new();
            if let Some(left_out) = FAILED.due(error.kind()) {
                tracing::error!(
                    error = error as &dyn std::error::Error,
                    log.left_out = left_out,
                    "the keys cannot be loaded"
                );
            }
            Failure::from(error)
        }
    }
}
