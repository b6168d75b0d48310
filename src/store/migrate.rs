//! Brings the schema up to date, once, even if several replicas try at the same time.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use tope_migrations::{Migrator, sea_orm_migration::prelude::MigratorTrait};

use super::{connect::Store, dialect::Dialect, error::StoreError};

/// The advisory lock under which replicas migrate: "tope" in ASCII.
const LOCK_KEY: i64 = 0x74_6f_70_65;

impl Store {
    /// Applies the missing migrations, all or none. Replicas that migrate at the same time wait for each other; SQLite
    /// has one process. Fails if the schema is newer than this program.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let transaction = self.begin_write("migrate").await?;
        let connection = transaction.connection();
        if self.dialect() == Dialect::Postgres {
            refuse_encoding(connection).await?;
            // Another replica may need longer than `lock_timeout` and `statement_timeout` allow.
            let wait = format!(
                "SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '600s'; SELECT pg_advisory_xact_lock({LOCK_KEY})"
            );
            connection.execute_unprepared(&wait).await?;
        }
        Migrator::install(connection).await?;
        refuse_newer(&applied(connection).await?)?;
        Migrator::up(connection, None).await?;
        transaction.commit().await
    }

    /// Fails if the schema of the database is not that of this program. For commands that do not migrate.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let transaction = self.begin_read("check schema").await?;
        let connection = transaction.connection();
        let pending = if has_migrations(connection).await? {
            refuse_newer(&applied(connection).await?)?;
            !Migrator::get_pending_migrations_read_only(connection).await?.is_empty()
        } else {
            true
        };
        if pending {
            let text = "the database's schema is not up to date; run `tope migrate` first";
            return Err(StoreError::Unusable(text.to_owned()));
        }
        transaction.rollback().await
    }
}

/// Refuses a database whose encoding is not UTF8, since ids and names may contain any character.
async fn refuse_encoding(connection: &DatabaseTransaction) -> Result<(), StoreError> {
    let text = "SELECT current_setting('server_encoding') WHERE current_setting('server_encoding') <> 'UTF8'";
    let statement = Statement::from_string(connection.get_database_backend(), text);
    match connection.query_one_raw(statement).await? {
        None => Ok(()),
        Some(row) => {
            let encoding: String = row.try_get_by_index(0)?;
            let text = format!("the database must have the encoding UTF8, and has {encoding}");
            Err(StoreError::Unusable(text))
        }
    }
}

async fn has_migrations(connection: &DatabaseTransaction) -> Result<bool, StoreError> {
    let text = match connection.get_database_backend() {
        DbBackend::Sqlite => "SELECT name FROM sqlite_schema WHERE name = 'seaql_migrations'",
        _ => "SELECT relname FROM pg_class WHERE oid = to_regclass('seaql_migrations')",
    };
    let statement = Statement::from_string(connection.get_database_backend(), text);
    Ok(connection.query_one_raw(statement).await?.is_some())
}

async fn applied(connection: &DatabaseTransaction) -> Result<Vec<String>, StoreError> {
    let text = "SELECT version FROM seaql_migrations ORDER BY version";
    let statement = Statement::from_string(connection.get_database_backend(), text);
    let rows = connection.query_all_raw(statement).await?;
    rows.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
}

fn refuse_newer(applied: &[String]) -> Result<(), StoreError> {
    let known: Vec<String> =
        Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    match applied.iter().find(|version| !known.contains(version)) {
        None => Ok(()),
        Some(version) => Err(StoreError::Unusable(format!(
            "the database's schema is newer than this tope (it has the migration {version}); run a newer tope"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{databases, empty_databases};

    #[tokio::test]
    async fn migrating_again_changes_nothing() {
        for fixture in empty_databases().await {
            let store = &fixture.store;
            let message = store.check_schema().await.expect_err("nothing there yet").to_string();
            assert!(message.contains("tope migrate"), "{message}");
            store.migrate().await.expect("the first time");
            store.migrate().await.expect("the second time");
            store.check_schema().await.expect("up to date");
        }
    }

    /// The first three migrations are those of the previous release.
    #[tokio::test]
    async fn request_ids_are_kept_and_may_be_of_other_methods() {
        for fixture in empty_databases().await {
            let store = &fixture.store;
            let id = match store.dialect() {
                Dialect::Sqlite => "zeroblob(16)",
                Dialect::Postgres => "'00000000-0000-0000-0000-000000000000'",
            };
            let insert = |request_id: &str, method: i16| {
                format!(
                    "INSERT INTO requests (tenant_key, request_id, fingerprint, method, reservation_id, created_at)
                     VALUES (1, '{request_id}', {id}, {method}, {id}, 7)"
                )
            };
            let transaction = store.begin_write("test").await.expect("begun");
            let connection = transaction.connection();
            Migrator::up(connection, Some(3)).await.expect("migrated");
            for (request_id, method) in [("b", 1), ("a", 2)] {
                connection.execute_unprepared(&insert(request_id, method)).await.expect("inserted");
            }
            transaction.commit().await.expect("committed");
            store.migrate().await.expect("migrated");
            let transaction = store.begin_write("test").await.expect("begun");
            let connection = transaction.connection();
            connection.execute_unprepared(&insert("c", 4)).await.expect("inserted");
            let text =
                "SELECT method FROM requests WHERE tenant_key = 1 AND created_at = 7 ORDER BY request_id";
            let statement = Statement::from_string(connection.get_database_backend(), text);
            let rows = connection.query_all_raw(statement).await.expect("read");
            let methods: Vec<i16> =
                rows.iter().map(|row| row.try_get_by_index(0).expect("a number")).collect();
            assert_eq!(methods, [2, 1, 4]);
            transaction.commit().await.expect("committed");
        }
    }

    #[tokio::test]
    async fn replicas_that_migrate_at_once_wait_for_each_other() {
        for fixture in empty_databases().await {
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let store = fixture.store.clone();
                    tokio::spawn(async move { store.migrate().await })
                })
                .collect();
            for task in tasks {
                task.await.expect("no panic").expect("migrated");
            }
            fixture.store.check_schema().await.expect("up to date");
        }
    }

    #[tokio::test]
    async fn a_schema_that_is_newer_is_refused() {
        for fixture in databases().await {
            let store = &fixture.store;
            let transaction = store.begin_write("test").await.expect("begun");
            let newer =
                "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99991231_000001_later', 0)";
            transaction.connection().execute_unprepared(newer).await.expect("inserted");
            transaction.commit().await.expect("committed");
            for refused in [store.migrate().await, store.check_schema().await] {
                let message = refused.expect_err("newer").to_string();
                assert!(message.contains("newer than this tope"), "{message}");
                assert!(message.contains("m99991231_000001_later"), "{message}");
            }
        }
    }
}
