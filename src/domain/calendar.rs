//! Remembers the running windows: most operations need the same window as the operation before.

use chrono_tz::Tz;
use foldhash::HashMap;

use super::{
    time::Time,
    timing::{TenantCalendar, Timing},
    window::{Cycle, Entry, Window, WindowOfCycle, window_at, window_in},
};

/// Maximum number of cycles, and of histories, whose windows are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// The windows that were computed last.
#[derive(Debug, Default)]
pub struct Calendar {
    windows: HashMap<(Tz, Cycle), Window>,
    histories: HashMap<Vec<Entry>, WindowOfCycle>,
}

impl Calendar {
    /// Returns the window of a limit that contains the instant `at`, for a tenant with these calendars.
    pub fn window(&mut self, calendars: &[TenantCalendar], timing: &Timing, at: Time) -> WindowOfCycle {
        match timing.only_cycle(calendars) {
            Some((zone, cycle)) => WindowOfCycle { window: self.window_of_cycle(zone, cycle, at), cycle },
            None => self.window_in(timing.history(calendars), at),
        }
    }

    fn window_of_cycle(&mut self, zone: Tz, cycle: Cycle, at: Time) -> Window {
        if self.windows.len() >= REMEMBERED_MAX && !self.windows.contains_key(&(zone, cycle)) {
            self.windows.clear();
        }
        let place = self.windows.entry((zone, cycle)).or_insert_with(|| window_at(zone, cycle, at));
        if !place.contains(at) {
            *place = window_at(zone, cycle, at);
        }
        *place
    }

    fn window_in(&mut self, history: Vec<Entry>, at: Time) -> WindowOfCycle {
        if let Some(found) = self.histories.get(&history).filter(|found| found.window.contains(at)) {
            return *found;
        }
        let found = window_in(&history, at);
        if self.histories.len() >= REMEMBERED_MAX {
            self.histories.clear();
        }
        self.histories.insert(history, found);
        found
    }
}
