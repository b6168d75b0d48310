//! Wake-ups from other replicas when there are new events. PostgreSQL only. If a wake-up is missed, the numbering task
//! finds the events at its next regular check.

use sea_orm::sqlx::postgres::{PgListener, PgPoolOptions};

use crate::store::{connect::Store, error::StoreError};

/// The channel that wakes other replicas. A replica that misses a wake-up finds the events at its next regular check.
pub(in crate::store) const CHANNEL: &str = "tope_events";

/// A connection that does nothing but receive wake-ups.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Store {
    /// Begins to receive wake-ups from other replicas. Returns `None` on SQLite, which has no other replicas.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn listen(&self) -> Result<Option<Listener>, StoreError> {
        let Some(options) = self.postgres_options() else {
            return Ok(None);
        };
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
        let mut listener = PgListener::connect_with(&pool).await.map_err(unreachable)?;
        listener.listen(CHANNEL).await.map_err(unreachable)?;
        Ok(Some(Listener(listener)))
    }
}

impl Listener {
    /// Waits for a wake-up. Also returns when the connection was lost, since wake-ups may have been missed.
    ///
    /// # Errors
    ///
    /// When the connection is lost and cannot be made again.
    pub async fn wait(&mut self) -> Result<(), StoreError> {
        self.0.try_recv().await.map(|_| ()).map_err(unreachable)
    }
}

fn unreachable(error: sea_orm::SqlxError) -> StoreError {
    StoreError::Unreachable(error.to_string())
}
