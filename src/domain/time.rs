//! Instants and spans of time, in milliseconds. The domain reads no clock, so both are only numbers.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// An instant, in milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Time(pub i64);

impl Time {
    /// The instant 1970-01-01 00:00 UTC.
    pub const EPOCH: Time = Time(0);

    /// The earliest instant of all.
    pub const MIN: Time = Time(i64::MIN);

    /// An instant that never comes: it is later than every instant that a clock shows.
    pub const NEVER: Time = Time(i64::MAX);

    /// Returns this instant plus a span. If the result is out of range, returns the earliest or the latest instant.
    pub const fn saturating_add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }

    /// Returns this instant minus a span. If the result is out of range, returns the earliest or the latest instant.
    pub const fn saturating_sub(self, span: Span) -> Time {
        Time(self.0.saturating_sub(span.0))
    }

    /// Returns this instant plus a span. `None`: the result is out of range.
    pub fn checked_add(self, span: Span) -> Option<Time> {
        self.0.checked_add(span.0).map(Time)
    }

    /// Returns the span from another instant to this instant. It is negative if the other instant is later. If the
    /// result is out of range, returns the longest span with the same sign.
    pub const fn saturating_since(self, other: Time) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl Add<Span> for Time {
    type Output = Time;

    fn add(self, span: Span) -> Time {
        Time(self.0 + span.0)
    }
}

impl Sub for Time {
    type Output = Span;

    fn sub(self, other: Time) -> Span {
        Span(self.0 - other.0)
    }
}

/// The distance from one instant to another, in milliseconds. Negative if the other is earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Span(pub i64);

impl Span {
    /// The span from an instant to itself.
    pub const ZERO: Span = Span(0);

    /// The longest span that there is.
    pub const MAX: Span = Span(i64::MAX);

    /// The span from an instant to the next instant.
    pub const MILLISECOND: Span = Span(1);

    /// Returns this span plus another. If the result is out of range, returns the longest span with the same sign.
    pub const fn saturating_add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }

    /// Returns the span without its sign.
    pub const fn abs(self) -> Span {
        Span(self.0.saturating_abs())
    }

    /// Makes a span of whole seconds.
    pub const fn seconds(count: i64) -> Span {
        Span(count * 1_000)
    }

    /// Makes a span of whole minutes.
    pub const fn minutes(count: i64) -> Span {
        Span::seconds(count * 60)
    }

    /// Makes a span of whole hours.
    pub const fn hours(count: i64) -> Span {
        Span::minutes(count * 60)
    }

    /// Makes a span of days, each of 24 hours.
    pub const fn days(count: i64) -> Span {
        Span::hours(count * 24)
    }
}

impl From<Duration> for Span {
    /// Rounds down to milliseconds. A duration that is too long for a span becomes the longest span.
    fn from(duration: Duration) -> Self {
        Span(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}
