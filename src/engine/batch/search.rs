//! Says among which rows a batch searches for the effects of earlier attempts and earlier calls.

/// The rows among which a batch searches for earlier effects of its operations. Each value includes the rows of the
/// values before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Search {
    /// No rows: the batch assumes that each `request_id` is new. If a `request_id` is known, its row cannot be
    /// inserted, and the batch is repeated.
    Nothing,
    /// The rows of `request_id`s, because a recent batch had a `request_id` that was known.
    Requests,
    /// All rows that the batch itself may have written, because the outcome of its last COMMIT is unknown.
    Own,
}
