//! Events on their way out: gives places in the log to what batches wrote, and hands the log to those who watch it.
//! It knows nothing of protos, and decides nothing.

mod feed;
mod list;
mod pages;
mod watch;
pub mod webhook;

pub use self::{
    feed::{Feed, POLL_INTERVAL},
    list::{EventPage, EventQuery},
    watch::{Cursor, Update, Watch, WatchEnd, WatchQuery},
};
