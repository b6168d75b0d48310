//! The kinds of events, and the number and the name of each.

/// The kind of an event. The contract and the rows use the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// `committed` has reached a threshold.
    ThresholdReached,
    /// `committed` is below a threshold or below the allowance again.
    ThresholdCleared,
    /// `committed` has reached the allowance.
    LimitReached,
    /// A limit refused an operation for the first time in a window, or would have refused it if the limit were HARD.
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
    /// Verification found wrong rows. The event has no tenant.
    BooksDisagree,
    /// The number of a kind that a later version of the server emits.
    Later(i16),
}

/// Gives the kinds their codes and names. One table gives the functions for both directions.
macro_rules! kinds {
    ($($kind:ident = $code:literal $name:literal),+ $(,)?) => {
        impl EventKind {
            /// All kinds that this version emits.
            pub const ALL: [EventKind; [$($code),+].len()] = [$(EventKind::$kind),+];

            /// Returns the number that stands for the kind. Numbers never change their meaning.
            pub fn code(self) -> i16 {
                match self {
                    $(EventKind::$kind => $code,)+
                    EventKind::Later(code) => code,
                }
            }

            /// Returns the kind of a number from [`EventKind::code`]. `None`: this version does not know the number.
            pub fn from_code(code: i16) -> Option<EventKind> {
                match code {
                    $($code => Some(EventKind::$kind),)+
                    _ => None,
                }
            }

            /// Returns the name of the kind in the contract. UNKNOWN is not in the contract.
            pub fn name(self) -> &'static str {
                match self {
                    $(EventKind::$kind => $name,)+
                    EventKind::Later(_) => "UNKNOWN",
                }
            }
        }
    };
}

kinds! {
    ThresholdReached = 1 "THRESHOLD_REACHED",
    ThresholdCleared = 2 "THRESHOLD_CLEARED",
    LimitReached = 3 "LIMIT_REACHED",
    ReserveRefused = 4 "RESERVE_REFUSED",
    ReservationExpired = 5 "RESERVATION_EXPIRED",
    CommittedLate = 6 "COMMITTED_LATE",
    WindowClosed = 7 "WINDOW_CLOSED",
    UsageReset = 8 "USAGE_RESET",
    PolicyChanged = 9 "POLICY_CHANGED",
    WebhookDisabled = 10 "WEBHOOK_DISABLED",
    BooksDisagree = 11 "BOOKS_DISAGREE",
}
