//! Writes the changes of administration.

use uuid::Uuid;

use crate::{
    domain::{
        access::Key,
        audit::{Author, ThingKind},
        id::ReservationId,
        plan::{Plan, Policy, Resource},
        time::Time,
        webhook::Webhook,
    },
    store::{AdminError, MadeOverride, PlannedAgent, PlannedTenant, Store, StoreError, Transaction, Writes},
};

/// Who makes a change and when, and how the change is written down.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// The time on the process's clock. `None`: the time of the database's clock counts.
    pub shown: Option<Time>,
    /// Who makes the change.
    pub author: &'a Author,
    /// How the change is written down.
    pub scribe: Scribe,
}

/// What the store needs of other modules, to write a change down.
#[derive(Clone, Copy, Debug)]
pub struct Scribe {
    /// Makes the JSON of a thing, as replies show it, without secrets.
    pub describe: fn(Thing<'_>) -> String,
    /// Makes the id of a change.
    pub mint: fn(Time) -> ReservationId,
}

/// A thing that was changed, before or after the change.
#[derive(Clone, Copy, Debug)]
pub enum Thing<'a> {
    /// A resource of the policy.
    Resource(&'a Resource),
    /// A plan, and the policy with the names of its resources.
    Plan(&'a Plan, &'a Policy),
    /// The settings of a policy.
    Settings(&'a Policy),
    /// A tenant, with its plans.
    Tenant(&'a PlannedTenant),
    /// The id of a tenant, and its agent.
    Agent(&'a str, &'a PlannedAgent),
    /// The id of a tenant, and its override.
    Override(&'a str, &'a MadeOverride),
    /// A webhook. Its secrets are not described.
    Webhook(&'a Webhook),
    /// A key. Its hash is not described.
    Key(&'a Key),
    /// The webhook and the places of deliveries that are sent again, and the number of them.
    Redelivery(&'a [i64], u64),
}

/// A change to write down.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Deed<'a> {
    /// The instant of the change.
    pub(in crate::store) at: Time,
    /// The kind of thing that is changed.
    pub(in crate::store) kind: ThingKind,
    /// The id of the thing.
    pub(in crate::store) thing: &'a str,
    /// The id of the tenant that has the thing. Empty: none.
    pub(in crate::store) tenant: &'a str,
    /// The thing before the change. `None`: it did not exist.
    pub(in crate::store) before: Option<Thing<'a>>,
    /// The thing after the change. `None`: it does not exist.
    pub(in crate::store) after: Option<Thing<'a>>,
    /// The revision of the policy that the change makes, if it makes one.
    pub(in crate::store) revision: Option<i64>,
}

/// Writes a change. Its columns are those of `correction.rs`, too.
const INSERT_CHANGE: &str =
    "INSERT INTO changes (id, changed_at, caller, address, rpc, kind, thing, tenant, before, after,
                         request_id, revision)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

impl<W: Writes> Transaction<W> {
    /// Writes a change into the audit.
    pub(in crate::store) async fn note_change(&self, by: By<'_>, deed: Deed<'_>) -> Result<(), StoreError> {
        let By { author, scribe, .. } = by;
        let described =
            |thing: Option<Thing<'_>>| thing.map_or_else(String::new, |thing| (scribe.describe)(thing));
        let values = vec![
            Uuid::from_bytes((scribe.mint)(deed.at).0).into(),
            deed.at.into(),
            author.caller.as_str().into(),
            author.address.as_str().into(),
            author.rpc.into(),
            deed.kind.code().into(),
            deed.thing.into(),
            deed.tenant.into(),
            described(deed.before).into(),
            described(deed.after).into(),
            author.request_id.as_str().into(),
            deed.revision.into(),
        ];
        self.rows(INSERT_CHANGE, values).await.map(drop)
    }
}

impl Store {
    /// Writes into the audit that a caller runs a job.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn note_run(&self, by: By<'_>, job: &str) -> Result<(), AdminError> {
        self.run("note a run of a job", move |transaction| async move {
            let deed = Deed {
                at: transaction.now(by.shown).await?,
                kind: ThingKind::Job,
                thing: job,
                tenant: "",
                before: None,
                after: None,
                revision: None,
            };
            transaction.note_change(by, deed).await?;
            Ok((transaction, ()))
        })
        .await
    }
}
