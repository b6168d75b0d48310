//! The windows that run, remembered: most operations fall into the window of the one before.

use std::collections::HashMap;

use chrono_tz::Tz;

use super::window::{Millis, Period, Window, window_at};

/// The latest window that was asked for, per zone, period and anchor.
#[derive(Debug, Default)]
pub struct Calendar {
    windows: HashMap<(Tz, Period, u8), Window>,
}

impl Calendar {
    /// The window that holds an instant.
    pub fn window(&mut self, zone: Tz, period: Period, anchor_day: u8, at: Millis) -> Window {
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
