//! Where a batch looks for what an earlier attempt or an earlier call has written.

/// Where a batch looks for earlier effects of its operations. Each value includes the values before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// Nowhere: a `request_id` is taken for new. If it is known, its row cannot be inserted, and the batch is
    /// repeated.
    Nowhere,
    /// At the `request_id`s: one of the batch's is known.
    AtRequests,
    /// At everything that the batch may have written itself: the outcome of its last COMMIT is unknown.
    AtOwn,
}
