//! The log of events, and watchers of it.

use futures::future::{BoxFuture, FutureExt, LocalBoxFuture};
use sea_orm::{ConnectionTrait, Statement};
use tokio::time::timeout;
use tonic::Streaming;

use super::{
    call::Answer,
    clients::{Clients, done},
    database::{Database, Kind},
    no::No,
    stall::connect,
    v1::{watch_usage_response::Update, *},
    wait::{PATIENCE, eventually},
    world::World,
};

/// The kind and the percentage of an event.
pub type KindAndPercent = (EventKind, i32);

/// An open WatchUsage stream.
pub struct Watcher {
    stream: Streaming<WatchUsageResponse>,
    /// The cursor of the last message that had a cursor.
    pub cursor: String,
}

impl Watcher {
    /// Waits for the next message.
    pub async fn update(&mut self) -> Answer<Update> {
        let message = timeout(PATIENCE, self.stream.message()).await.expect("a heartbeat comes at least");
        let message = message.map_err(|status| Box::new(No::from(status)))?;
        let message = message.expect("it ends with an error");
        if !message.cursor.is_empty() {
            self.cursor = message.cursor;
        }
        Ok(message.update.expect("there is always one"))
    }

    /// Waits for the next event. Skips heartbeats.
    pub async fn event(&mut self) -> Event {
        loop {
            match self.update().await.expect("the stream goes on") {
                Update::Event(event) => return event,
                Update::Heartbeat(_) => {}
                Update::Snapshot(snapshot) => panic!("{snapshot:?}"),
            }
        }
    }

    /// Returns the events until the next heartbeat.
    pub async fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.update().await.expect("the stream goes on") {
                Update::Event(event) => events.push(event),
                Update::Heartbeat(_) => return events,
                Update::Snapshot(snapshot) => panic!("{snapshot:?}"),
            }
        }
    }

    /// Waits for the refusal that ends the stream.
    pub async fn end(&mut self) -> No {
        loop {
            if let Err(no) = self.update().await {
                return *no;
            }
        }
    }
}

/// Makes a request to watch all events of all tenants, with a heartbeat every second.
pub fn everything() -> WatchUsageRequest {
    let heartbeat_interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    WatchUsageRequest { heartbeat_interval, ..WatchUsageRequest::default() }
}

impl Clients {
    /// Opens a WatchUsage stream.
    pub fn watch(&self, request: WatchUsageRequest) -> BoxFuture<'_, Answer<Watcher>> {
        async move {
            let stream = done(self.quota.clone().watch_usage(request).await)?;
            Ok(Watcher { stream, cursor: String::new() })
        }
        .boxed()
    }

    /// Returns one page of the log.
    pub fn list_events(&self, request: ListEventsRequest) -> BoxFuture<'_, Answer<ListEventsResponse>> {
        async move { done(self.admin.clone().list_events(request).await) }.boxed()
    }

    /// Returns the events of all pages.
    pub fn all_events(&self, mut request: ListEventsRequest) -> BoxFuture<'_, Vec<Event>> {
        async move {
            let mut events = Vec::new();
            loop {
                let page = self.list_events(request.clone()).await.expect("the log can be read");
                events.extend(page.events);
                if page.next_page_token.is_empty() {
                    return events;
                }
                request.page_token = page.next_page_token;
            }
        }
        .boxed()
    }
}

impl World {
    /// Waits until each event of a tenant has its place in the log. Returns these events, without POLICY_CHANGED.
    pub fn events_of<'a>(&'a self, tenant: &'a str) -> LocalBoxFuture<'a, Vec<Event>> {
        async move {
            let mut events = self.numbered_events_of(tenant).await;
            events.retain(|event| event.kind() != EventKind::PolicyChanged);
            events
        }
        .boxed_local()
    }

    /// Waits until each event of a tenant has its place in the log. Returns the changes of POLICY_CHANGED.
    pub fn changes_of<'a>(&'a self, tenant: &'a str) -> LocalBoxFuture<'a, Vec<PolicyChange>> {
        async move {
            let events = self.numbered_events_of(tenant).await;
            events.into_iter().filter_map(|event| event.change).collect()
        }
        .boxed_local()
    }

    fn numbered_events_of<'a>(&'a self, tenant: &'a str) -> LocalBoxFuture<'a, Vec<Event>> {
        async move {
            let query = format!("SELECT event_number FROM tenants WHERE id = '{tenant}'");
            let number = self.database.number(&query).await;
            let request =
                ListEventsRequest { tenant: tenant.into(), page_size: 1_000, ..ListEventsRequest::default() };
            let events = eventually("each event has its place", async || {
                let events = self.all_events(request.clone()).await;
                (i64::try_from(events.len()) == Ok(number)).then_some(events)
            })
            .await;
            let numbers: Vec<i64> = events.iter().map(|event| event.tenant_sequence).collect();
            assert_eq!(numbers, (1..=number).collect::<Vec<_>>(), "they are dense, and in order");
            events
        }
        .boxed_local()
    }

    /// Returns the kind and the percentage of each event of a tenant, without POLICY_CHANGED.
    pub fn kinds<'a>(&'a self, tenant: &'a str) -> LocalBoxFuture<'a, Vec<KindAndPercent>> {
        async move { kinds_of(&self.events_of(tenant).await) }.boxed_local()
    }
}

/// Returns the kind and the percentage of each event.
pub fn kinds_of(events: &[Event]) -> Vec<KindAndPercent> {
    events.iter().map(|event| (event.kind(), event.percent)).collect()
}

impl Database {
    /// Runs a query whose result is one number.
    pub fn number<'a>(&'a self, query: &'a str) -> BoxFuture<'a, i64> {
        async move {
            let connection = connect(self.url()).await;
            let statement = Statement::from_string(connection.get_database_backend(), query);
            let row = connection.query_one_raw(statement).await.expect("it can be read").expect("a row");
            connection.close().await.expect("the connection closes");
            row.try_get_by_index(0).expect("a number")
        }
        .boxed()
    }

    /// Runs one of two queries whose result is one text: the first on SQLite, the second on PostgreSQL.
    pub fn text<'a>(&'a self, sqlite: &'a str, postgres: &'a str) -> BoxFuture<'a, String> {
        async move {
            let query = if self.kind() == Kind::Sqlite { sqlite } else { postgres };
            let connection = connect(self.url()).await;
            let statement = Statement::from_string(connection.get_database_backend(), query);
            let row = connection.query_one_raw(statement).await.expect("it can be read").expect("a row");
            connection.close().await.expect("the connection closes");
            row.try_get_by_index(0).expect("a text")
        }
        .boxed()
    }
}
