//! Reads the log: the events after a place, or from an instant on.

use sea_orm::Value;

use super::{body::decode_event, head::missing_log};
use crate::{
    domain::{event::LoggedEvent, id::TenantKey, time::Time},
    store::{Statements, StoreError, Transaction, row::Row},
};

/// The result of a scan of the times of some events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The place of the first event at or after the instant. `None`: all scanned events are earlier.
    pub first: Option<i64>,
    /// The place of the last scanned event. `None`: no event was scanned.
    pub last: Option<i64>,
    /// The number of scanned events.
    pub rows: usize,
}

impl<W: Statements> Transaction<W> {
    /// Lists the events after a place in the log, in order. With a tenant, lists only events of that tenant.
    pub async fn list_events(
        &self,
        tenant: Option<TenantKey>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let limit = Value::from(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = match tenant {
            None => {
                let text = "SELECT sequence, tenant_key, number, kind, occurred_at, body FROM events
                      WHERE sequence > $1 ORDER BY sequence LIMIT $2";
                self.rows(text, vec![after.into(), limit]).await?
            }
            Some(tenant) => {
                let text = "SELECT sequence, tenant_key, number, kind, occurred_at, body FROM events
                      WHERE tenant_key = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
                self.rows(text, vec![tenant.0.into(), after.into(), limit]).await?
            }
        };
        rows.iter().map(event_from_row).collect()
    }

    /// Finds the first event at or after an instant among the next `limit` events after a place. With a tenant, scans
    /// only events of that tenant. Does not read the bodies of events.
    pub async fn scan_for_time(
        &self,
        tenant: Option<TenantKey>,
        after: i64,
        from: Time,
        limit: usize,
    ) -> Result<Scanned, StoreError> {
        let values = vec![after.into(), from.into(), Value::from(i64::try_from(limit).unwrap_or(i64::MAX))];
        let rows = match tenant {
            None => {
                let text =
                    "SELECT MIN(CASE WHEN occurred_at >= $2 THEN sequence END), MAX(sequence), COUNT(*)
                       FROM (SELECT sequence, occurred_at FROM events
                              WHERE sequence > $1 ORDER BY sequence LIMIT $3) AS scanned";
                self.rows(text, values).await?
            }
            Some(tenant) => {
                let text =
                    "SELECT MIN(CASE WHEN occurred_at >= $2 THEN sequence END), MAX(sequence), COUNT(*)
                       FROM (SELECT sequence, occurred_at FROM events
                              WHERE tenant_key = $4 AND sequence > $1 ORDER BY sequence LIMIT $3) AS scanned";
                self.rows(text, [values, vec![tenant.0.into()]].concat()).await?
            }
        };
        let row = rows.first().ok_or_else(missing_log)?;
        let rows = usize::try_from(row.get::<i64>(2)?).unwrap_or(0);
        Ok(Scanned { first: row.get(0)?, last: row.get(1)?, rows })
    }
}

fn event_from_row(row: &Row) -> Result<LoggedEvent, StoreError> {
    let body: Vec<u8> = row.get(5)?;
    let event = decode_event(TenantKey(row.get(1)?), row.get(3)?, row.get(4)?, &body);
    Ok(LoggedEvent { sequence: row.get(0)?, number: row.get(2)?, event })
}
