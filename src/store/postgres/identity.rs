//! Checks whether PostgreSQL still has the database on which the server began.

use std::sync::OnceLock;

use uuid::Uuid;

use super::wire::{Question, Wire};
use crate::store::{
    error::{StoreError, unusable},
    row::Row,
};

/// The identity of a database on PostgreSQL: its log's id, which `tope migrate --new-log` changes, and the oid of a
/// table, which restoring a dump changes. If both have changed, PostgreSQL has another database than before.
const IDENTITY: &str = "SELECT log_id, 'event_log'::regclass::oid::bigint FROM event_log WHERE id = 1";

/// The log's id, and the oid of the table `event_log`.
pub(in crate::store) type Identity = (Uuid, i64);

/// Reads the present identity of the database.
pub(in crate::store) async fn read_identity(wire: &Wire) -> Result<Identity, StoreError> {
    let row = wire.run(&Question::of_values(IDENTITY, &[])).await?.pop().map(Row::Wire);
    let row = row.ok_or_else(|| StoreError::Corrupt("the table event_log has no row".to_owned()))?;
    Ok((row.get(0)?, row.get(1)?))
}

/// Remembers the first identity, and refuses a database in which both parts of the identity differ.
pub(in crate::store) fn recognize(first: &OnceLock<Identity>, found: Identity) -> Result<(), StoreError> {
    let (log, table) = *first.get_or_init(|| found);
    if log != found.0 && table != found.1 {
        return Err(unusable(
            "this is not the PostgreSQL database that the server started with; if that is intended, restart \
             the server",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_with_another_log_and_other_tables_is_another_database() {
        let first = OnceLock::new();
        let (here, there) = (Uuid::from_u128(1), Uuid::from_u128(2));
        recognize(&first, (here, 1)).expect("the first is remembered");
        recognize(&first, (there, 1)).expect("a new log");
        recognize(&first, (here, 2)).expect("a restored dump");
        let message = recognize(&first, (there, 2)).expect_err("neither").to_string();
        assert!(message.contains("not the PostgreSQL database"), "{message}");
    }
}
