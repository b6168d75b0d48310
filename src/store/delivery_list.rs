//! Lists of deliveries, newest first, in bounded steps.

use super::{
    StoreError, Transaction,
    deliveries::{delivery_columns, delivery_from_row},
};
use crate::domain::webhook::{Delivery, DeliveryState, WebhookKey};

/// Deliveries that one statement looks through.
const STEP_ROWS: usize = 2_000;

/// Statements of one page: what it does not find then is left to the next page.
const STEPS_MAX: usize = 5;

/// Those that are pending: few, unless the endpoint fails.
const PENDING: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries d WHERE d.webhook_key = $1 AND d.sequence < $2 AND d.state = 1
      ORDER BY d.sequence DESC LIMIT $3"
);

/// Those that were given up.
const FAILED: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries d WHERE d.webhook_key = $1 AND d.sequence < $2 AND d.state = 3
      ORDER BY d.sequence DESC LIMIT $3"
);

/// All of them.
const ALL: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries d WHERE d.webhook_key = $1 AND d.sequence < $2 ORDER BY d.sequence DESC LIMIT $3"
);

/// Which deliveries of a webhook are asked for.
#[derive(Clone, Debug)]
pub struct DeliveryQuery {
    /// Whose.
    pub webhook: WebhookKey,
    /// In these states; empty: all.
    pub states: Vec<DeliveryState>,
    /// Older than this one.
    pub before: i64,
    /// How many.
    pub limit: usize,
}

/// A page of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryPage {
    /// Newest first. It may be short.
    pub deliveries: Vec<Delivery>,
    /// The next page is of what is older than this one; none when there is none.
    pub before: Option<i64>,
}

impl Transaction {
    /// Deliveries of a webhook, newest first. Those that are pending or failed have an index each; delivered ones are most
    /// of all, and are looked for among all.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn list_deliveries(&self, query: &DeliveryQuery) -> Result<DeliveryPage, StoreError> {
        let has = |state| query.states.contains(&state);
        if query.states.is_empty() || has(DeliveryState::Delivered) {
            return self.look_through_deliveries(query).await;
        }
        let mut found = Vec::new();
        for (state, text) in [(DeliveryState::Pending, PENDING), (DeliveryState::Failed, FAILED)] {
            if has(state) {
                found.extend(self.read_deliveries(text, query, query.before, query.limit + 1).await?);
            }
        }
        found.sort_unstable_by_key(|delivery| std::cmp::Reverse(delivery.sequence));
        Ok(cut(found, query.limit, None))
    }

    async fn look_through_deliveries(&self, query: &DeliveryQuery) -> Result<DeliveryPage, StoreError> {
        let wanted = |state: DeliveryState| query.states.is_empty() || query.states.contains(&state);
        let (mut found, mut before) = (Vec::new(), query.before);
        for _ in 0..STEPS_MAX {
            let step = self.read_deliveries(ALL, query, before, STEP_ROWS).await?;
            let last = step.last().map(|last| last.sequence);
            let full = step.len() == STEP_ROWS;
            found.extend(step.into_iter().filter(|delivery| wanted(delivery.state)));
            match last {
                Some(last) if full && found.len() <= query.limit => before = last,
                Some(_) | None => return Ok(cut(found, query.limit, None)),
            }
        }
        Ok(cut(found, query.limit, Some(before)))
    }

    async fn read_deliveries(
        &self,
        text: &'static str,
        query: &DeliveryQuery,
        before: i64,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.rows(text, vec![query.webhook.0.into(), before.into(), limit.into()]).await?;
        rows.iter().map(delivery_from_row).collect()
    }
}

/// A page of what was found. What is too much is left to the next one; `before` is where that begins otherwise.
fn cut(mut found: Vec<Delivery>, limit: usize, before: Option<i64>) -> DeliveryPage {
    let more = found.len() > limit;
    found.truncate(limit);
    let before = if more { found.last().map(|last| last.sequence) } else { before };
    DeliveryPage { deliveries: found, before }
}
