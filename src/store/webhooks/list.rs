//! Lists of deliveries, newest first, in bounded steps.

use super::deliveries::{delivery_columns, delivery_from_row};
use crate::{
    domain::webhook::{Delivery, DeliveryState, WebhookKey},
    store::{Reading, StoreError, Transaction},
};

/// Maximum number of deliveries that one statement reads.
const STEP_ROWS: usize = 2_000;

/// Maximum number of statements for one page. If they do not fill the page, the next page continues the search.
const STEPS_MAX: usize = 5;

/// Reads pending deliveries. There are few, unless the endpoint fails.
const PENDING: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries d WHERE d.webhook_key = $1 AND d.sequence < $2 AND d.state = 1
      ORDER BY d.sequence DESC LIMIT $3"
);

/// Reads deliveries that were given up.
const FAILED: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries d WHERE d.webhook_key = $1 AND d.sequence < $2 AND d.state = 3
      ORDER BY d.sequence DESC LIMIT $3"
);

/// Reads deliveries in any state.
const ALL: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries d WHERE d.webhook_key = $1 AND d.sequence < $2 ORDER BY d.sequence DESC LIMIT $3"
);

/// The filter of a list of deliveries.
#[derive(Clone, Debug)]
pub struct DeliveryQuery {
    /// The key of the webhook.
    pub webhook: WebhookKey,
    /// Only deliveries in these states. If empty, deliveries in all states.
    pub states: Vec<DeliveryState>,
    /// Only deliveries before this place in the log.
    pub before: i64,
    /// Maximum number of deliveries on the page.
    pub limit: usize,
}

/// A page of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryPage {
    /// The deliveries, newest first. The page may be short.
    pub deliveries: Vec<Delivery>,
    /// The value of `before` for the next page. `None`: this is the last page.
    pub before: Option<i64>,
}

impl Transaction<Reading> {
    /// Lists deliveries of a webhook, newest first. Pending and failed deliveries each have an index. Deliveries that
    /// are DELIVERED have no index, since nearly all deliveries are. The search for them reads all deliveries, in
    /// bounded steps.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn list_deliveries(&self, query: &DeliveryQuery) -> Result<DeliveryPage, StoreError> {
        let has = |state| query.states.contains(&state);
        if query.states.is_empty() || has(DeliveryState::Delivered) {
            return self.search_deliveries(query).await;
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

    async fn search_deliveries(&self, query: &DeliveryQuery) -> Result<DeliveryPage, StoreError> {
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

/// Cuts a page to its size. If the page was too long, the next page begins after the page's last delivery, otherwise
/// at `before`.
fn cut(mut found: Vec<Delivery>, limit: usize, before: Option<i64>) -> DeliveryPage {
    let more = found.len() > limit;
    found.truncate(limit);
    let before = if more { found.last().map(|last| last.sequence) } else { before };
    DeliveryPage { deliveries: found, before }
}
