//! Statements on a connection of a pool.

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

use super::{Entities, Statements};
use crate::store::{bulk::Bulk, dialect::Dialect, error::StoreError, row::Row};

impl<W: Entities> Statements for W {
    fn dialect(&self) -> Dialect {
        match self.connection().get_database_backend() {
            DbBackend::Sqlite => Dialect::Sqlite,
            _ => Dialect::Postgres,
        }
    }

    async fn rows(&self, text: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let connection = self.connection();
        let statement = Statement::from_sql_and_values(connection.get_database_backend(), text, values);
        Ok(connection.query_all_raw(statement).await?.into_iter().map(Row::Pool).collect())
    }

    async fn find(&self, bulk: &Bulk, columns: Vec<Vec<Value>>) -> Result<Vec<Row>, StoreError> {
        let mut found = Vec::new();
        for statement in bulk.statements(self.dialect(), columns) {
            found.extend(self.connection().query_all_raw(statement).await?.into_iter().map(Row::Pool));
        }
        Ok(found)
    }

    async fn rollback(self) -> Result<(), StoreError> {
        self.undo().await
    }
}
