//! Creates the tenants that operations name and that do not exist, if the policy has a default plan (R4.38).
//!
//! A batch answers such an operation with TENANT_NOT_FOUND. Instead of passing this answer on, the lane takes the
//! operation out of the batch, a task creates the tenant, and the operation comes first in a later batch. So operations
//! of tenants that exist never wait for this. The operations of one tenant keep their order.

use std::{collections::VecDeque, future::pending, sync::Arc};

use foldhash::{HashMap, HashSet};
use futures::FutureExt;
use tokio::task::{JoinError, JoinHandle};

use super::{
    super::{
        ask::{Failure, TenantRef},
        batch::Newcomer,
    },
    QUEUE_OPERATIONS_MAX,
    callers::{Batch, Waiting},
};
use crate::{
    clock::{Clock, random},
    domain::id::{TenantKey, new_id_fault},
    policy::PolicyCache,
    store::{AdminError, Store},
};

/// Maximum number of operations that wait for new tenants in one lane. Operations above this number are refused with
/// UNAVAILABLE.
const WAITING_OPERATIONS_MAX: usize = QUEUE_OPERATIONS_MAX;

/// Maximum number of tenants that one transaction creates. Other changes of the policy wait for it.
const CREATED_MAX: usize = 100;

/// The operations of one lane that wait for their tenants to be created.
pub(super) struct Newcomers {
    store: Store,
    policies: Arc<PolicyCache>,
    clock: Clock,
    /// The operations whose tenants are created by the running task, or by the next task.
    waiting: VecDeque<Waiting>,
    /// Operations whose tenants exist now.
    ready: VecDeque<Waiting>,
    /// The running task, which returns the outcome for each tenant that it was to create.
    task: Option<JoinHandle<Created>>,
}

/// For each id: `Ok` if a tenant with this id exists now, or why its operations fail. `None` in the error: the
/// operations keep their answer, TENANT_NOT_FOUND.
type Created = HashMap<String, Result<(), Option<Failure>>>;

impl Newcomers {
    pub(super) fn new(store: Store, policies: Arc<PolicyCache>, clock: Clock) -> Self {
        let (waiting, ready) = (VecDeque::new(), VecDeque::new());
        Self { store, policies, clock, waiting, ready, task: None }
    }

    /// Returns whether no operation waits or is ready.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.ready.is_empty()
    }

    /// Returns whether there is an operation whose tenant was created.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns the next operation whose tenant was created.
    pub(super) fn next_ready(&mut self) -> Option<Waiting> {
        self.ready.pop_front()
    }

    /// Takes the operations out of a decided batch whose tenants must be created: the first operation of a tenant that
    /// may create the tenant, and all later operations of this tenant. The policy that the batch has read is in the
    /// cache, or a later policy.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        if !batch.items.iter().any(|item| item.lacks_tenant().is_some())
            || self.policies.latest().settings.default_plan.is_none()
        {
            return;
        }
        // An operation that comes after others of its tenant waits behind them.
        let mut created = ids(&self.waiting);
        for item in &mut batch.items {
            let Some(id) = item.lacks_tenant() else { continue };
            let creates = created.contains(id)
                || (item.request.operation.may_create_tenant() && new_id_fault(id).is_none());
            if creates {
                created.insert(id.to_owned());
                item.newcomer = Newcomer::Waits;
            }
        }
        for waiting in batch.take_out(|item| item.newcomer == Newcomer::Waits) {
            if self.waiting.len() < WAITING_OPERATIONS_MAX {
                self.waiting.push_back(waiting);
            } else {
                waiting.answer(Failure::Overloaded, self.store.metrics());
            }
        }
        self.start();
    }

    /// Takes the result of the task if the task has ended. Does not wait.
    pub(super) fn collect(&mut self) {
        if let Some(created) = self.task.as_mut().and_then(FutureExt::now_or_never) {
            self.end(created);
        }
    }

    /// Waits for the end of the task. If no task is running, waits for ever.
    pub(super) async fn changed(&mut self) {
        match &mut self.task {
            Some(task) => {
                let created = task.await;
                self.end(created);
            }
            None => pending().await,
        }
    }

    fn end(&mut self, created: Result<Created, JoinError>) {
        self.task = None;
        let waiting = std::mem::take(&mut self.waiting);
        // A panic of the task is a defect, and was logged.
        let created = created.ok();
        for mut next in waiting {
            let outcome = match (&created, &next.item.request.tenant) {
                (Some(created), TenantRef::Id(id)) => created.get(id).cloned(),
                (None, _) | (_, TenantRef::Key(_)) => Some(Err(Some(Failure::Internal))),
            };
            match outcome {
                Some(Ok(())) => {
                    (next.item.outcome, next.item.newcomer) = (None, Newcomer::Waited);
                    self.ready.push_back(next);
                }
                Some(Err(Some(failure))) => next.answer(failure, self.store.metrics()),
                Some(Err(None)) => next.answer_outcome(self.store.metrics()),
                // The operation came after the task had begun.
                None => self.waiting.push_back(next),
            }
        }
        self.start();
    }

    /// Starts a task if operations wait and no task is running.
    fn start(&mut self) {
        if self.waiting.is_empty() || self.task.is_some() {
            return;
        }
        let ids = ids(&self.waiting);
        self.task = Some(tokio::spawn(create(self.store.clone(), self.clock.clone(), ids)));
    }
}

/// Returns the ids of the tenants for which operations wait.
fn ids(waiting: &VecDeque<Waiting>) -> HashSet<String> {
    let ids = waiting.iter().filter_map(|waiting| match &waiting.item.request.tenant {
        TenantRef::Id(id) => Some(id.clone()),
        TenantRef::Key(_) => None,
    });
    ids.collect()
}

/// Creates the tenants with these ids.
async fn create(store: Store, clock: Clock, ids: HashSet<String>) -> Created {
    let mut new: Vec<(TenantKey, String)> =
        ids.into_iter().map(|id| (TenantKey::mint(&id, random()), id)).collect();
    new.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
    let mut created = Created::default();
    for chunk in new.chunks(CREATED_MAX) {
        let outcome = store.create_default_tenants(clock.now(), chunk).await;
        let outcome = outcome.map_err(|error| match error {
            AdminError::Refused(_) => None,
            AdminError::Store(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "tenants with the default plan could not be created; the callers get an error"
                );
                Some(Failure::from(&error))
            }
        });
        created.extend(chunk.iter().map(|(_, id)| (id.clone(), outcome.clone())));
    }
    created
}
