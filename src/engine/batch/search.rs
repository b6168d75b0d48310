//! The places where a batch looks for rows that an earlier attempt, or an earlier call, has written.

/// Where a batch looks for earlier effects of its operations. Each value includes the values before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Search {
    /// Nowhere: the batch assumes that each `request_id` is new. If one is known, its row cannot be inserted, and the
    /// batch is repeated.
    Nothing,
    /// Among the `request_id`s, because a recent batch had one that was known.
    Requests,
    /// Among all rows that the batch itself may have written, because the outcome of its last COMMIT is unknown.
    Own,
}
