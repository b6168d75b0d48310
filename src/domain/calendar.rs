//! Remembers the running windows: most operations need the same window as the operation before.

use chrono_tz::Tz;
use foldhash::HashMap;

use super::{
    time::Time,
    window::{Period, Window, window_at},
};

/// The window that was computed last for each zone, period and anchor day.
#[derive(Debug, Default)]
pub struct Calendar {
    windows: HashMap<(Tz, Period, u8), Window>,
}

impl Calendar {
    /// Returns the window that contains the instant `at`.
    pub fn window(&mut self, zone: Tz, period: Period, anchor_day: u8, at: Time) -> Window {
        let place = self
            .windows
            .entry((zone, period, anchor_day))
            .or_insert_with(|| window_at(zone, period, anchor_day, at));
        if !place.contains(at) {
            *place = window_at(zone, period, anchor_day, at);
        }
        *place
    }
}
