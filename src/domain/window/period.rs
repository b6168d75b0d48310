//! Periods: the units in which the length of a window is given.

use super::super::{codes::codes, time::Span};

/// The unit in which the length of a window is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// No end. The period of a meter: its counter is no limit's counter.
    Meter,
    /// Minutes of UTC, from one whole minute to the next.
    Minute,
    /// Hours of UTC, each 60 minutes long.
    Hour,
    /// From the minute at which one local day begins to that of the next.
    Day,
    /// From the anchor weekday of one week to that of the next.
    Week,
    /// From the anchor day of one month to that of the next.
    Month,
    /// From the anchor day of the anchor month of one year to that of the next.
    Year,
    /// One window without an end.
    Lifetime,
    /// A certain time from the first use on. The next window begins with the first use after that time. So each subject
    /// has windows of its own, and the calendar does not know them.
    Rolling,
}

codes!(Period as u8: Meter = 0, Minute = 1, Hour = 2, Day = 3, Week = 4, Month = 5, Year = 6, Lifetime = 7,
    Rolling = 8);

impl Period {
    /// Returns the nominal length of a window of `interval` periods: a month counts as 30 days, and a year as 365.
    /// [`Span::MAX`] if a window has no end, or if its length is not given in periods.
    pub fn nominal_length(self, interval: u16) -> Span {
        let interval = i64::from(interval);
        match self {
            Period::Meter | Period::Lifetime | Period::Rolling => Span::MAX,
            Period::Minute => Span::minutes(interval),
            Period::Hour => Span::hours(interval),
            Period::Day => Span::days(interval),
            Period::Week => Span::days(7 * interval),
            Period::Month => Span::days(30 * interval),
            Period::Year => Span::days(365 * interval),
        }
    }

    /// Returns whether windows of this period follow the local time of a zone.
    pub fn is_local(self) -> bool {
        matches!(self, Period::Day | Period::Week | Period::Month | Period::Year)
    }
}
