//! The parts of the server on which AdminService works, and the statuses of its errors.

use std::{ops::Deref, sync::Arc};

use tonic::Status;

use crate::{
    access::Access,
    clock::Clock,
    domain::{plan::Policy, refusal::Refusal, terms::Terms, time::Time},
    engine::{Engine, Failure, Reader},
    events::Feed,
    grpc::{access::Door, status},
    jobs::Clockwork,
    policy::PolicyCache,
    seldom::Seldom,
    store::{AdminError, Reading, Store, Transaction},
};

/// AdminService on a store. Calls that change counters go through the engine.
#[derive(Debug)]
pub struct Admin {
    store: Store,
    policies: Arc<PolicyCache>,
    pub(super) clock: Clock,
    pub(super) engine: Arc<Engine>,
    pub(super) feed: Arc<Feed>,
    pub(super) clockwork: Arc<Clockwork>,
    pub(super) door: Door,
}

impl Admin {
    /// Makes the service, on these parts of the server.
    pub fn new(
        store: Store,
        policies: Arc<PolicyCache>,
        clock: Clock,
        engine: Arc<Engine>,
        feed: Arc<Feed>,
        clockwork: Arc<Clockwork>,
        access: Access,
    ) -> Self {
        Self { store, policies, clock, engine, feed, clockwork, door: Door::new(access) }
    }

    /// Returns the store, or UNAVAILABLE if the database is known to be unavailable.
    pub(super) fn store(&self) -> Result<&Store, Status> {
        if self.store.is_available() {
            Ok(&self.store)
        } else {
            Err(status::of_failure(&Failure::DatabaseUnavailable))
        }
    }

    /// Returns a reader of balances.
    pub(super) fn reader(&self) -> Reader {
        Reader::new(self.store.clone(), Arc::clone(&self.policies), self.clock.clone())
    }

    /// Begins a transaction that reads.
    pub(super) async fn read(&self, name: &'static str) -> Result<Transaction<Reading>, Status> {
        self.store()?.begin_read(name).await.map_err(|error| of_error(error.into()))
    }

    /// Returns the policy at the revision that the transaction sees.
    pub(super) async fn policy_in(
        &self,
        transaction: &Transaction<Reading>,
    ) -> Result<Arc<Policy>, AdminError> {
        let revision = transaction.read_revision().await?;
        Ok(self.policies.get(transaction, revision).await?)
    }

    /// Returns the present terms of a tenant.
    pub(super) async fn terms_of(&self, tenant: &str) -> Result<PresentTerms, Status> {
        let transaction = self.read("read terms").await?;
        self.terms_in(&transaction, tenant).await.map_err(of_error)
    }

    async fn terms_in(
        &self,
        transaction: &Transaction<Reading>,
        tenant: &str,
    ) -> Result<PresentTerms, AdminError> {
        let found = transaction.find_tenant(Some(tenant), None).await?;
        let mut found = found.ok_or_else(|| Refusal::TenantNotFound(tenant.to_owned()))?;
        let now = transaction.now(self.clock.now()).await?.max(found.decided_at);
        let policy = self.policy_in(transaction).await?;
        found.change_plan_if_due(&policy, now);
        let terms = self.policies.terms_of(transaction, &policy, &found).await?;
        Ok(PresentTerms { terms, policy, now })
    }

    /// Returns the present policy. It contains all resources that were ever declared, also deleted resources.
    pub(super) async fn policy(&self) -> Result<Arc<Policy>, Status> {
        let transaction = self.read("read policy").await?;
        self.policy_in(&transaction).await.map_err(of_error)
    }
}

/// The terms of a tenant at an instant.
pub(super) struct PresentTerms {
    terms: Arc<Terms>,
    pub(super) policy: Arc<Policy>,
    pub(super) now: Time,
}

impl Deref for PresentTerms {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

/// Makes the status of a request that is refused.
pub(super) fn of_refusal(refusal: Refusal) -> Status {
    status::of_refusal(&refusal, None)
}

/// Makes the status of a call that the store refused or could not carry out. Failures of the database are logged.
pub(super) fn of_error(error: AdminError) -> Status {
    match error {
        AdminError::Refused(refusal) => of_refusal(refusal),
        AdminError::Store(error) => {
            static FAILED: Seldom<&str> = Seldom::new();
            if let Some(left_out) = FAILED.due(error.kind()) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    log.left_out = left_out,
                    "an administrative call failed"
                );
            }
            status::of_failure(&Failure::from(&error))
        }
    }
}
