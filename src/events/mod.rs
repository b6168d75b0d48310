//! Delivers events: numbers the events that batches wrote, and serves the log to watchers, lists and webhooks. This
//! module does not know the protos, and makes no decisions about quota.

mod cursor;
mod feed;
mod list;
mod pages;
mod watch;
pub mod webhook;

pub use self::{
    cursor::Cursor,
    feed::{Feed, POLL_INTERVAL},
    list::{EventPage, EventQuery},
    watch::{Update, Watch, WatchEnd, WatchQuery},
};
