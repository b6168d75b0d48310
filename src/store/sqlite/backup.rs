//! Copies a SQLite database while it is in use, and reads the settings that make a database durable.

use std::{
    fs::{self, File},
    path::Path,
};

use sea_orm::{ConnectionTrait, Statement, Value};

use super::settings::SQLITE_SYNCHRONOUS;
use crate::store::{connect::Store, dialect::Dialect, error::StoreError};

/// The settings of PostgreSQL that decide whether acknowledged changes survive a crash.
const POSTGRES_DURABILITY: [&str; 3] = ["fsync", "synchronous_commit", "full_page_writes"];

impl Store {
    /// Returns the settings that decide whether acknowledged changes survive a power failure, by name.
    pub async fn durability(&self) -> Result<Vec<(&'static str, String)>, StoreError> {
        let transaction = self.begin_read("durability").await?;
        if self.dialect() == Dialect::Sqlite {
            let rows = transaction.rows("PRAGMA journal_mode", Vec::new()).await?;
            let mode = rows.first().map(|row| row.get(0)).transpose()?.unwrap_or_default();
            // `synchronous` is a property of the connection that writes, but not of the file.
            return Ok(vec![("journal_mode", mode), ("synchronous", SQLITE_SYNCHRONOUS.to_owned())]);
        }
        let mut settings = Vec::with_capacity(POSTGRES_DURABILITY.len());
        for name in POSTGRES_DURABILITY {
            let rows = transaction.rows("SELECT current_setting($1)", vec![name.into()]).await?;
            settings.push((name, rows.first().map(|row| row.get(0)).transpose()?.unwrap_or_default()));
        }
        Ok(settings)
    }

    /// Copies the database into a new file, as it is at one instant. The copy's log of events gets the id `log_id`,
    /// since its next events differ from those of the original. Refuses PostgreSQL, which has its own tools for
    /// backups.
    pub async fn backup(&self, file: &Path, log_id: [u8; 16]) -> Result<(), StoreError> {
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
        // The file is created here first, since SQLite would only report that it cannot open a database.
        drop(File::create_new(file).map_err(unusable)?);
        let connection = self.reader();
        let backend = connection.get_database_backend();
        let copy = Statement::from_sql_and_values(backend, "VACUUM INTO ?", [Value::from(name)]);
        let copied = connection.execute_raw(copy).await.map_err(StoreError::from);
        if let Err(error) = copied.and_then(|_| renew_log(file, log_id)) {
            // An incomplete copy is useless, and the next backup would refuse to overwrite it.
            let _ = fs::remove_file(file);
            return Err(error);
        }
        File::open(file).and_then(|copy| copy.sync_all()).map_err(unusable)
    }
}

/// Gives another log id to the copy, which no other program uses yet. A copy with an older schema may have no log of
/// events.
fn renew_log(copy: &Path, log_id: [u8; 16]) -> Result<(), StoreError> {
    let connection = rusqlite::Connection::open(copy)?;
    let found = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'event_log'";
    if connection.query_row(found, [], |row| row.get::<_, i64>(0))? > 0 {
        connection.execute("UPDATE event_log SET log_id = ?1", [&log_id[..]])?;
    }
    connection.close().map_err(|(_, error)| error.into())
}
