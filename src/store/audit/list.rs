//! Lists changes, newest first, in bounded steps.

use uuid::Uuid;

use crate::{
    domain::audit::{Change, ChangeId, ThingKind},
    store::{Reading, StoreError, Transaction, row::Row},
};

/// Maximum number of changes that one statement reads.
const STEP_ROWS: usize = 200;

/// Maximum number of statements for one page. If they do not fill the page, the next page continues the search.
const STEPS_MAX: usize = 20;

/// Size of the texts on a page, in bytes, after which the page ends. A single change may be larger.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// A query of the changes before `$1` and from `$2` on, at most `$3` of them, with one more condition.
macro_rules! changes_query {
    ($condition:literal) => {
        concat!(
            "SELECT id, caller, address, rpc, kind, thing, tenant, before, after, request_id, revision FROM changes
              WHERE ",
            $condition,
            "id < $1 AND id >= $2 ORDER BY id DESC LIMIT $3"
        )
    };
}

/// Each query, by the column that it compares with `$4`. The columns that choose the fewest changes come first.
pub(super) const BY_THING: &str = changes_query!("thing = $4 AND ");
pub(super) const BY_TENANT: &str = changes_query!("tenant = $4 AND ");
pub(super) const BY_CALLER: &str = changes_query!("caller = $4 AND ");
pub(super) const BY_RPC: &str = changes_query!("rpc = $4 AND ");
pub(super) const BY_KIND: &str = changes_query!("kind = $4 AND ");
pub(super) const BY_TIME: &str = changes_query!("");

/// The filters of a list of changes. `None`: changes with any value.
#[derive(Clone, Debug)]
pub struct ChangeQuery {
    /// The kind of the thing.
    pub kind: Option<ThingKind>,
    /// The id of the thing.
    pub thing: Option<String>,
    /// The id of the tenant that has the thing.
    pub tenant: Option<String>,
    /// The caller who made the change.
    pub caller: Option<String>,
    /// The name of the rpc.
    pub rpc: Option<String>,
    /// Only changes with this id or a later one.
    pub from: ChangeId,
    /// Only changes with an earlier id.
    pub before: ChangeId,
    /// Maximum number of changes on the page.
    pub limit: usize,
}

/// A page of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePage {
    /// The changes, newest first. The page may be short.
    pub changes: Vec<Change>,
    /// The value of `before` for the next page. `None`: this is the last page.
    pub before: Option<ChangeId>,
}

impl ChangeQuery {
    /// Returns the query, with the value of its condition.
    fn statement(&self) -> (&'static str, Option<sea_orm::Value>) {
        let value = |text: &String| Some(text.as_str().into());
        let Self { kind, thing, tenant, caller, rpc, .. } = self;
        if let Some(thing) = thing {
            (BY_THING, value(thing))
        } else if let Some(tenant) = tenant {
            (BY_TENANT, value(tenant))
        } else if let Some(caller) = caller {
            (BY_CALLER, value(caller))
        } else if let Some(rpc) = rpc {
            (BY_RPC, value(rpc))
        } else if let Some(kind) = kind {
            (BY_KIND, Some(kind.code().into()))
        } else {
            (BY_TIME, None)
        }
    }

    /// Returns whether there are filters besides the one that the index compares.
    fn compares_more(&self) -> bool {
        let texts = [&self.thing, &self.tenant, &self.caller, &self.rpc];
        let count =
            texts.into_iter().filter(|text| text.is_some()).count() + usize::from(self.kind.is_some());
        count > 1
    }

    fn wants(&self, change: &Change) -> bool {
        let is = |filter: &Option<String>, value: &str| filter.as_ref().is_none_or(|wanted| wanted == value);
        self.kind.is_none_or(|kind| Some(kind) == change.kind)
            && is(&self.thing, &change.thing)
            && is(&self.tenant, &change.tenant)
            && is(&self.caller, &change.caller)
            && is(&self.rpc, &change.rpc)
    }
}

impl Transaction<Reading> {
    /// Lists changes, newest first. One filter is compared by an index, and the others with what the index finds, in
    /// bounded steps.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn list_changes(&self, query: &ChangeQuery) -> Result<ChangePage, StoreError> {
        let (text, value) = query.statement();
        let step = if query.compares_more() { STEP_ROWS } else { STEP_ROWS.min(query.limit + 1) };
        let (mut changes, mut bytes, mut before) = (Vec::new(), 0, query.before);
        for _ in 0..STEPS_MAX {
            let rows_max = i64::try_from(step).unwrap_or(i64::MAX);
            let mut values = vec![uuid(before), uuid(query.from), rows_max.into()];
            values.extend(value.clone());
            let rows = self.rows(text, values).await?;
            for row in &rows {
                let change = change_from_row(row)?;
                if query.wants(&change) {
                    if changes.len() == query.limit || bytes >= PAGE_BYTES {
                        return Ok(ChangePage { changes, before: Some(before) });
                    }
                    bytes += change.before.len() + change.after.len();
                    before = change.id;
                    changes.push(change);
                } else {
                    before = change.id;
                }
            }
            if rows.len() < step {
                return Ok(ChangePage { changes, before: None });
            }
        }
        Ok(ChangePage { changes, before: Some(before) })
    }
}

fn uuid(id: ChangeId) -> sea_orm::Value {
    Uuid::from_bytes(id.0).into()
}

fn change_from_row(row: &Row) -> Result<Change, StoreError> {
    let id: Uuid = row.get(0)?;
    Ok(Change {
        id: ChangeId(id.into_bytes()),
        caller: row.get(1)?,
        address: row.get(2)?,
        rpc: row.get(3)?,
        kind: ThingKind::from_code(row.get(4)?),
        thing: row.get(5)?,
        tenant: row.get(6)?,
        before: row.get(7)?,
        after: row.get(8)?,
        request_id: row.get(9)?,
        revision: row.get(10)?,
    })
}
