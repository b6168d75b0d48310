//! A database that lets nobody write for a while.

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::database::{Database, Kind};

/// While it lives, whatever writes waits. Keep it short: the server gives up after some seconds.
pub struct Stall(DatabaseConnection);

impl Database {
    /// Takes the lock that every decision needs.
    pub async fn stall(&self) -> Stall {
        let lock = match self.kind() {
            Kind::Sqlite => "BEGIN IMMEDIATE",
            Kind::Postgres => "BEGIN; LOCK TABLE tenants IN EXCLUSIVE MODE",
        };
        let mut options = sea_orm::ConnectOptions::new(self.url());
        options.max_connections(1).sqlx_logging(false);
        let connection = sea_orm::Database::connect(options).await.expect("the database is there");
        connection.execute_unprepared(lock).await.expect("the lock is free");
        Stall(connection)
    }
}

impl Stall {
    /// Gives the lock back.
    pub async fn end(self) {
        self.0.execute_unprepared("ROLLBACK").await.expect("it is ours");
        self.0.close().await.expect("it is ours");
    }
}
