//! One text of SQL for both databases: placeholders stand for what they write differently.

use sea_orm_migration::{
    prelude::{ConnectionTrait, DbErr, SchemaManager},
    sea_orm::DbBackend,
};

/// Placeholder, on SQLite, on PostgreSQL. All times are bigint, in unix milliseconds.
const PLACEHOLDERS: [(&str, &str, &str); 10] = [
    ("{smallint}", "INTEGER", "smallint"),
    ("{int}", "INTEGER", "integer"),
    ("{bigint}", "INTEGER", "bigint"),
    ("{blob}", "BLOB", "bytea"),
    ("{uuid}", "BLOB", "uuid"),
    ("{text}", "TEXT", "text"),
    // Pages are in the order of ids, and both databases must agree on it: byte by byte.
    ("{key_text}", "TEXT", "text COLLATE \"C\""),
    // The primary key is a single integer: SQLite keeps the rows by it.
    ("{rows}", "STRICT", ""),
    // The primary key has several columns: SQLite keeps the rows by it, not by a number of its own.
    ("{rows_by_key}", "STRICT, WITHOUT ROWID", ""),
    // Rows that are updated all the time leave room for their next version on the same page (HOT).
    ("{updated_often}", "", "WITH (fillfactor = 50)"),
];

/// Runs statements, one after the other.
pub(crate) async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    for statement in statements {
        let text = translate(statement, connection.get_database_backend());
        connection.execute_unprepared(&text).await?;
    }
    Ok(())
}

fn translate(statement: &str, backend: DbBackend) -> String {
    let sqlite = backend == DbBackend::Sqlite;
    PLACEHOLDERS.iter().fold(statement.to_owned(), |text, (placeholder, on_sqlite, on_postgres)| {
        text.replace(placeholder, if sqlite { on_sqlite } else { on_postgres })
    })
}
