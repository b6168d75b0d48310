//! One SQL text for both databases: placeholders stand for the words that differ.

use sea_orm_migration::{
    prelude::{ConnectionTrait, DbErr, SchemaManager},
    sea_orm::DbBackend,
};

/// A placeholder, its text for SQLite, and its text for PostgreSQL. Times are bigint: milliseconds since 1970-01-01
/// UTC.
const PLACEHOLDERS: [(&str, &str, &str); 10] = [
    ("{smallint}", "INTEGER", "smallint"),
    ("{int}", "INTEGER", "integer"),
    ("{bigint}", "INTEGER", "bigint"),
    ("{blob}", "BLOB", "bytea"),
    ("{uuid}", "BLOB", "uuid"),
    ("{text}", "TEXT", "text"),
    // Pages are in the order of ids, so both databases must agree on that order: byte by byte.
    ("{key_text}", "TEXT", "text COLLATE \"C\""),
    // For a primary key of one integer: SQLite stores the rows by it.
    ("{rows}", "STRICT", ""),
    // For a primary key of several columns: without this, SQLite stores the rows by a hidden number of its own.
    ("{rows_by_key}", "STRICT, WITHOUT ROWID", ""),
    // For rows that are updated often: half of each page stays free for their next versions (HOT updates).
    ("{updated_often}", "", "WITH (fillfactor = 50)"),
];

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
