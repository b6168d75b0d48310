//! Locks and statements on the database that do not go through the server.

use futures::future::{BoxFuture, FutureExt};
use sea_orm::{ConnectOptions, ConnectionTrait, DatabaseConnection};

use super::database::{Database, Kind};

/// A lock in the database. Writers that need the lock wait. Release the lock soon, because the server gives up after
/// some seconds.
pub struct Stall(DatabaseConnection);

impl Database {
    /// Takes the lock that every decision needs. So all writes of tenants wait.
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

    /// Locks the row of one tenant, like a transaction that changes the tenant. PostgreSQL only.
    pub fn lock_tenant<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Stall> {
        self.lock_row(format!("SELECT FROM tenants WHERE id = '{id}' FOR UPDATE"))
    }

    /// Locks the policy's row, which administrative changes lock first. PostgreSQL only.
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

    /// Returns how many connections wait for a lock. PostgreSQL only.
    pub async fn count_waiting(&self) -> i64 {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity
              WHERE datname = current_database() AND wait_event_type = 'Lock'";
        self.number(waiting).await
    }

    /// Runs a statement on a new connection.
    pub fn execute<'a>(&'a self, statement: &'a str) -> BoxFuture<'a, ()> {
        async move {
            let connection = connect(self.url()).await;
            connection.execute_unprepared(statement).await.expect("it can be written to");
            connection.close().await.expect("the connection closes");
        }
        .boxed()
    }
}

impl Stall {
    /// Releases the lock, by a rollback.
    pub fn end(self) -> BoxFuture<'static, ()> {
        async move {
            self.0.execute_unprepared("ROLLBACK").await.expect("the transaction is rolled back");
            self.0.close().await.expect("the connection closes");
        }
        .boxed()
    }
}

/// Opens a connection to the database, which does not go through the server.
pub async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    sea_orm::Database::connect(options).await.expect("the database is there")
}
