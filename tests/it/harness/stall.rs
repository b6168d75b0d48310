//! A database that lets nobody write for a while.

use sea_orm::{ConnectionTrait, Database, DatabaseConnection};

use super::{World, database::Kind};

/// While it lives, whatever writes waits. Keep it short: the server gives up after some seconds.
pub struct Stall(DatabaseConnection);

impl World {
    /// Takes the lock that every decision needs.
    pub async fn stall(&self) -> Stall {
        let lock = match self.database.kind() {
            Kind::Sqlite => "BEGIN IMMEDIATE",
            Kind::Postgres => "BEGIN; LOCK TABLE tenants IN EXCLUSIVE MODE",
        };
        let mut options = sea_orm::ConnectOptions::new(self.database.url());
        options.max_connections(1).sqlx_logging(false);
        let connection = Database::connect(options).await.expect("the database is there");
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
