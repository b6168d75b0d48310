//! Short functions that read replies.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

use super::v1::{
    AmendResponse, Balance, CommitResponse, ExtendResponse, GetUsageResponse, RecordResponse,
    ReleaseResponse, Reservation, ReservationState, ReserveResponse,
};

/// Replies that contain balances.
pub trait Balances {
    /// Returns all balances of the reply.
    fn all(&self) -> &[Balance];

    /// Returns the balance of a limit, which must have exactly one. The limit "" stands for a resource without a limit.
    fn balance(&self, limit: &str) -> &Balance {
        let mut found = self.all().iter().filter(|balance| balance.limit_id == limit);
        let balance = found.next().unwrap_or_else(|| panic!("no balance of {limit:?} in {:#?}", self.all()));
        assert_eq!(found.next(), None, "more than one balance of {limit:?}");
        balance
    }

    /// Returns committed and reserved of a limit, which must have exactly one balance.
    fn figures(&self, limit: &str) -> (i64, i64) {
        figures(self.balance(limit))
    }
}

/// Returns committed and reserved of a balance.
pub fn figures(balance: &Balance) -> (i64, i64) {
    (balance.committed, balance.reserved)
}

impl Balances for [Balance] {
    fn all(&self) -> &[Balance] {
        self
    }
}

impl Balances for Vec<Balance> {
    fn all(&self) -> &[Balance] {
        self
    }
}

/// Replies that contain a reservation.
pub trait Held {
    /// Returns the reply's reservation.
    fn held(&self) -> &Reservation;

    /// Returns the reservation's name.
    fn name(&self) -> &str {
        &self.held().name
    }
}

impl Balances for GetUsageResponse {
    fn all(&self) -> &[Balance] {
        &self.balances
    }
}

macro_rules! replies {
    ($($reply:ty),*) => {$(
        impl Balances for $reply {
            fn all(&self) -> &[Balance] {
                &self.balances
            }
        }

        impl Held for $reply {
            fn held(&self) -> &Reservation {
                self.reservation.as_ref().expect("every reply has its reservation")
            }
        }
    )*};
}
replies!(ReserveResponse, CommitResponse, ReleaseResponse, ExtendResponse, RecordResponse, AmendResponse);

/// Returns the reserved and the committed quantity of one resource of a reservation.
pub fn amount(reservation: &Reservation, resource: &str) -> (i64, i64) {
    let amount = reservation.amounts.iter().find(|amount| amount.resource == resource);
    amount.map_or((0, 0), |amount| (amount.reserved, amount.committed))
}

/// Returns the reservation's state.
pub fn state(reservation: &Reservation) -> ReservationState {
    ReservationState::try_from(reservation.state).expect("a state of the contract")
}

/// Converts an instant to milliseconds since 1970-01-01 UTC.
pub fn millis(timestamp: Option<&Timestamp>) -> Option<i64> {
    timestamp.map(|at| at.seconds * 1_000 + i64::from(at.nanos / 1_000_000))
}

/// Converts milliseconds since 1970-01-01 UTC to the message of an instant.
pub fn timestamp(millis: i64) -> Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1_000) * 1_000_000).expect("less than a second");
    Timestamp { seconds: millis.div_euclid(1_000), nanos }
}

/// Parses an instant, and returns it in milliseconds since 1970-01-01 UTC.
pub fn at(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().expect("an instant").timestamp_millis()
}

/// Returns whether the balance has no window.
pub fn is_windowless(balance: &Balance) -> bool {
    balance.window_start.is_none() && balance.window_end.is_none()
}

/// Returns the start and the end of a balance's window, in milliseconds since 1970-01-01 UTC.
pub fn window(balance: &Balance) -> (i64, i64) {
    let [start, end] = [&balance.window_start, &balance.window_end].map(|instant| millis(instant.as_ref()));
    (start.expect("a window with a start"), end.expect("a window with an end"))
}
