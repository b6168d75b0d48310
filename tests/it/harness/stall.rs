//! The database behind the server's back.

use futures::future::{BoxFuture, FutureExt};
use sea_orm::{ConnectOptions, ConnectionTrait, DatabaseConnection};

use super::database::{Database, Kind};

/// While it lives, whatever writes waits. Keep it short: the server gives up after some seconds.
pub struct Stall(DatabaseConnection);

impl Database {
    /// Takes the lock that every decision needs.
    pub fn stall(&self) -> BoxFuture<'_, Stall> {
        let lock = match self.kind() {
            Kind::Sqlite => "BEGIN IMMEDIATE",
            Kind::Postgres => "BEGIN; LOCK TABLE tenants IN EXCLUSIVE MODE",
        };
        async move {
            let connection = connect(self.url()).await;
            connection.execute_unprepared(lock).await.expect("the lock is free");
            Stall(connection)
        }
        .boxed()
    }

    /// Takes the lock of one tenant, as a transaction does that changes it. On PostgreSQL.
    pub fn lock_tenant<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Stall> {
        self.lock_row(format!("SELECT FROM tenants WHERE id = '{id}' FOR UPDATE"))
    }

    /// Takes the lock that administrative changes take first. On PostgreSQL.
    pub fn lock_policy(&self) -> BoxFuture<'_, Stall> {
        self.lock_row("SELECT FROM policy FOR UPDATE".to_owned())
    }

    fn lock_row(&self, lock: String) -> BoxFuture<'_, Stall> {
        async move {
            let connection = connect(self.url()).await;
            connection.execute_unprepared(&format!("BEGIN; {lock}")).await.expect("the row is free");
            Stall(connection)
        }
        .boxed()
    }

    /// How many connections wait for a lock. On PostgreSQL.
    pub async fn count_waiting(&self) -> i64 {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity
              WHERE datname = current_database() AND wait_event_type = 'Lock'";
        self.number(waiting).await
    }

    /// Runs a statement.
    pub fn execute<'a>(&'a self, statement: &'a str) -> BoxFuture<'a, ()> {
        async move {
            let connection = connect(self.url()).await;
            connection.execute_unprepared(statement).await.expect("it can be written to");
            connection.close().await.expect("it is ours");
        }
        .boxed()
    }
}

impl Stall {
    /// Gives the lock back.
    pub fn end(self) -> BoxFuture<'static, ()> {
        async move {
            self.0.execute_unprepared("ROLLBACK").await.expect("it is ours");
            self.0.close().await.expect("it is ours");
        }
        .boxed()
    }
}

/// A connection that the server knows nothing of.
pub async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    sea_orm::Database::connect(options).await.expect("the database is there")
}
