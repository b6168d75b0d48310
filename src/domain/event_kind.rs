//! The kinds of events, and the number and the name of each.

/// The kind of an event. The contract and the rows use the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// `committed` has reached a threshold.
    ThresholdReached,
    /// `committed` is below a threshold, or below the allowance, again.
    ThresholdCleared,
    /// `committed` has reached the allowance.
    LimitReached,
    /// A limit refused for the first time in a window.
    ReserveRefused,
    /// A hold's deadline came before the hold was settled.
    ReservationExpired,
    /// A reservation was committed after its deadline, or a late Release reversed its charge.
    CommittedLate,
    /// A window is over, and its figures are final.
    WindowClosed,
    /// ResetUsage corrected a counter.
    UsageReset,
    /// An operator changed a resource, a plan or a tenant.
    PolicyChanged,
    /// A webhook is no longer notified. The event has no tenant.
    WebhookDisabled,
    /// The books do not add up. The event has no tenant.
    BooksDisagree,
    /// The number of a kind that a later version of the server emits.
    Later(i16),
}

impl EventKind {
    /// All kinds that this version emits.
    pub const ALL: [EventKind; 11] = [
        EventKind::ThresholdReached,
        EventKind::ThresholdCleared,
        EventKind::LimitReached,
        EventKind::ReserveRefused,
        EventKind::ReservationExpired,
        EventKind::CommittedLate,
        EventKind::WindowClosed,
        EventKind::UsageReset,
        EventKind::PolicyChanged,
        EventKind::WebhookDisabled,
        EventKind::BooksDisagree,
    ];

    /// The number that stands for the kind. Numbers never change their meaning.
    pub fn code(self) -> i16 {
        match self {
            EventKind::ThresholdReached => 1,
            EventKind::ThresholdCleared => 2,
            EventKind::LimitReached => 3,
            EventKind::ReserveRefused => 4,
            EventKind::ReservationExpired => 5,
            EventKind::CommittedLate => 6,
            EventKind::WindowClosed => 7,
            EventKind::UsageReset => 8,
            EventKind::PolicyChanged => 9,
            EventKind::WebhookDisabled => 10,
            EventKind::BooksDisagree => 11,
            EventKind::Later(code) => code,
        }
    }

    /// The kind of a number from [`EventKind::code`]. `None`: this version does not know the number.
    pub fn from_code(code: i16) -> Option<EventKind> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The name of the kind in the contract. UNKNOWN is not in the contract.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::ThresholdReached => "THRESHOLD_REACHED",
            EventKind::ThresholdCleared => "THRESHOLD_CLEARED",
            EventKind::LimitReached => "LIMIT_REACHED",
            EventKind::ReserveRefused => "RESERVE_REFUSED",
            EventKind::ReservationExpired => "RESERVATION_EXPIRED",
            EventKind::CommittedLate => "COMMITTED_LATE",
            EventKind::WindowClosed => "WINDOW_CLOSED",
            EventKind::UsageReset => "USAGE_RESET",
            EventKind::PolicyChanged => "POLICY_CHANGED",
            EventKind::WebhookDisabled => "WEBHOOK_DISABLED",
            EventKind::BooksDisagree => "BOOKS_DISAGREE",
            EventKind::Later(_) => "UNKNOWN",
        }
    }
}
