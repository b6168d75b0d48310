//! Converts requests, reservations and counters between rows and domain.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{alerts::decode_alerts, body, columns::Owned};
use crate::{
    domain::{
        alert::Alerts,
        books::{Method, Request},
        counter::{Counter, CounterKey},
        id::{ReservationId, TenantKey},
        lineage::Since,
        operation::Fingerprint,
        reservation::Reservation,
        window::Window,
    },
    store::{StoreError, row::Row},
};

/// A counter, and its alerts. `None`: the counter has no alerts.
pub type StoredCounter = (Counter, Option<Box<Alerts>>);

/// Returns the code that stands for a method in rows.
pub(in crate::store) fn method_code(method: Method) -> i16 {
    match method {
        Method::Reserve => 1,
        Method::Extend => 2,
        Method::Record => 3,
        Method::Reset => 4,
    }
}

/// Reads a request from the columns that `FIND_REQUESTS` names.
pub(super) fn request_from_row(row: &Row) -> Result<Owned<(String, Request)>, StoreError> {
    let method = match row.get::<i16>(3)? {
        1 => Method::Reserve,
        2 => Method::Extend,
        3 => Method::Record,
        4 => Method::Reset,
        other => return Err(StoreError::Corrupt(format!("method {other} of a request"))),
    };
    let answer: Option<Vec<u8>> = row.get(5)?;
    let fingerprint: Fingerprint = row.get::<Uuid>(2)?.into_bytes();
    let request = Request {
        fingerprint,
        method,
        reservation: ReservationId(row.get::<Uuid>(4)?.into_bytes()),
        answer: answer.as_deref().map(body::decode_answer).transpose()?,
    };
    Ok((TenantKey(row.get(0)?), (row.get(1)?, request)))
}

/// Reads a reservation from its tenant's key, its id and its body.
pub(super) fn reservation_from_row(row: &Row) -> Result<Owned<Reservation>, StoreError> {
    let id = ReservationId(row.get::<Uuid>(1)?.into_bytes());
    let bytes: Vec<u8> = row.get(2)?;
    Ok((TenantKey(row.get(0)?), body::decode_reservation(id, &bytes)?))
}

/// Reads a counter from the columns that `FIND_COUNTERS` names.
pub(super) fn counter_from_row(row: &Row) -> Result<Owned<(CounterKey, StoredCounter)>, StoreError> {
    let key = CounterKey::from_bytes(&row.get::<Vec<u8>>(1)?)
        .ok_or_else(|| StoreError::Corrupt("a counter's key".to_owned()))?;
    let counter = Counter {
        committed: row.get(2)?,
        reserved: row.get(3)?,
        window: Window { start: row.get(4)?, end: row.get(5)? },
        counted_since: Since { at: row.get(6)?, order: row.get(8)? },
        forgiven_until: row.get(9)?,
    };
    let alerts: Option<Vec<u8>> = row.get(7)?;
    let alerts = alerts.as_deref().map(decode_alerts).transpose()?.map(Box::new);
    Ok((TenantKey(row.get(0)?), (key, (counter, alerts))))
}

/// Returns the column `labels` of a counter. `None`: the counter counts no label separately.
pub(in crate::store) fn label_column(key: &CounterKey) -> Option<String> {
    let labels: BTreeMap<&str, &str> = key.labels().collect();
    (!labels.is_empty()).then(|| serde_json::json!(labels).to_string())
}
