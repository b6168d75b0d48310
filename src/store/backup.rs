//! A copy of a SQLite database, made while it is in use.

use std::{fs::File, path::Path};

use sea_orm::{ConnectionTrait, Statement, Value};

use super::{Dialect, Store, StoreError};

impl Store {
    /// Copies the database into a new file, as it is at one instant. PostgreSQL has its own means.
    pub async fn backup(&self, file: &Path) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Postgres {
            let text = "only SQLite databases are copied by this program; for PostgreSQL use pg_dump or a base backup";
            return Err(StoreError::Unusable(text.to_owned()));
        }
        if file.exists() {
            return Err(StoreError::Unusable(format!("the file {} exists already", file.display())));
        }
        let unusable = |error: std::io::Error| {
            StoreError::Unusable(format!("the file {} cannot be written: {error}", file.display()))
        };
        let name = file
            .to_str()
            .ok_or_else(|| StoreError::Unusable(format!("the file name {} is not UTF-8", file.display())))?;
        // Tried first, for SQLite would only say that it cannot open a database.
        drop(File::create_new(file).map_err(unusable)?);
        let connection = self.reader();
        let backend = connection.get_database_backend();
        let copy = Statement::from_sql_and_values(backend, "VACUUM INTO ?", [Value::from(name)]);
        connection.execute_raw(copy).await?;
        File::open(file).and_then(|copy| copy.sync_all()).map_err(unusable)
    }
}
