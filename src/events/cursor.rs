//! Places in a log, from which a watcher can resume.

/// A place in one log. A watcher that has this cursor received everything up to the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The id of the log.
    pub log_id: [u8; 16],
    /// The place in the log; 0 before the first event.
    pub sequence: i64,
}
