//! Translates one SQL text for both databases. Placeholders stand for the parts that differ between them.

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
    // Pages of lists are in the order of ids. So both databases must sort ids in the same order, which is byte by byte.
    ("{key_text}", "TEXT", "text COLLATE \"C\""),
    // For tables with a primary key of one integer. SQLite stores their rows in the order of the key.
    ("{rows}", "STRICT", ""),
    // For tables with another primary key. Without this option, SQLite would store their rows in the order of a hidden
    // number, and the key in a separate index.
    ("{rows_by_key}", "STRICT, WITHOUT ROWID", ""),
    // For tables whose rows are updated often. Half of each page stays free for new versions of the rows (HOT updates).
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
