//! The calendar: which window of a cycle an instant falls into.
//!
//! Windows of MINUTE and HOUR are arithmetic in UTC. Every longer window begins where local time first reaches the
//! window's date and the minute at which days begin. A local time that does not exist is the first instant after the
//! gap; a local time that exists twice is the first of the two. A date that a zone left out counts as the date after
//! it, so such a day has no window. An hour that is repeated across the end of a window stays in the window that has
//! begun. So the windows of a cycle have no gaps and no overlaps (R4.6).
//!
//! Read in this order: what a limit says about its windows ([`period`], [`anchors`],
//! [`cycle`]), the dates on which windows begin
//! ([`boundaries`]), and what a change of the calendar does to windows ([`history`]).

mod anchors;
mod boundaries;
mod cycle;
mod history;
mod period;

pub use self::{
    anchors::{Anchors, Fault},
    cycle::{Cycle, interval_of},
    history::{Entry, WindowOfCycle, window_in},
    period::Period,
};
use chrono_tz::Tz;

use self::boundaries::Beginnings;
use super::time::{Span, Time};

/// 0001-01-01T00:00:00Z, the earliest instant of a protobuf Timestamp. Earlier instants share its window.
const CALENDAR_FIRST: Time = Time(-62_135_596_800_000);

/// 9999-12-31T23:59:59.999Z, the latest instant of a protobuf Timestamp. Later instants share its window.
pub const CALENDAR_LAST: Time = Time(253_402_300_799_999);

/// The shortest windows whose counters count towards the bound of a tenant's counters. SQL repeats it in milliseconds.
const BOUNDED_LENGTH_MIN: Span = Span::hours(1);

/// One concrete period: from `start` up to `end`, `end` excluded.
///
/// `start` is negative before 1970. Only a clock that is far wrong leads to such a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// First instant of the window. [`Time::EPOCH`] if the window has no start.
    pub start: Time,
    /// First instant after the window. [`Time::NEVER`] if the window has no end.
    pub end: Time,
}

impl Window {
    /// The window of LIFETIME, which contains every instant.
    pub const ENDLESS: Window = Window { start: Time::EPOCH, end: Time::NEVER };

    /// Returns whether the instant `at` lies in the window.
    pub fn contains(self, at: Time) -> bool {
        self == Window::ENDLESS || (self.start <= at && (at < self.end || !self.has_end()))
    }

    /// Returns whether the window has a start and an end. A window of LIFETIME does not, nor does the window of a
    /// subject that has no running window of ROLLING.
    pub fn has_bounds(self) -> bool {
        self.has_end() && self.start != Time::MIN
    }

    /// Returns whether the window is an hour long or longer. Only counters of such windows count towards the bound of a
    /// tenant's counters (R4.48). A counter of a shorter window is pruned not long after its reservations.
    pub fn is_bounded(self) -> bool {
        self.end.saturating_since(self.start) >= BOUNDED_LENGTH_MIN
    }

    /// Returns whether the window ends at some time.
    pub fn has_end(self) -> bool {
        self.end != Time::NEVER
    }
}

/// Returns the window of `cycle` that contains the instant `at`, in the calendar of `zone`.
///
/// All instants before year 1 share one window, and so do all instants after year 9999.
pub fn window_at(zone: Tz, cycle: Cycle, at: Time) -> Window {
    let inside = at.clamp(CALENDAR_FIRST, CALENDAR_LAST);
    let (start, end) = match cycle.beginnings() {
        Beginnings::Never => return Window::ENDLESS,
        Beginnings::Utc { first, step } => {
            let start = Time(inside.0 - (inside - first).0.rem_euclid(step.0));
            (start, start + step)
        }
        Beginnings::Local { dates, minute } => boundaries::around(zone, dates, minute, inside),
    };
    Window {
        start: if start <= CALENDAR_FIRST { Time::MIN } else { start },
        end: if end > CALENDAR_LAST { Time::NEVER } else { end },
    }
}

#[cfg(test)]
mod tests;
