//! The history of a calendar: what a change of a limit's zone or anchors does to its windows.
//!
//! A change keeps the running window to its end. The next window runs from that end to the first boundary of the new
//! calendar that lies at least half a nominal period later. From there on the windows are those of the new calendar.
//! Of several changes within one running window only the last one counts. So no change gives a second allowance for a
//! window that has begun, and the windows of any history have no gaps and no overlaps.

use chrono_tz::Tz;

use super::{
    super::time::{Span, Time},
    Window,
    cycle::Cycle,
    window_at,
};

/// A calendar, and since when it has been the calendar of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// When the calendar was changed to this one. Has no effect in the oldest entry of a history.
    pub since: Time,
    /// The zone whose local time windows follow.
    pub zone: Tz,
    /// What decides where windows begin in the zone.
    pub cycle: Cycle,
}

/// A window, and the cycle in whose counters it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowOfCycle {
    /// From the first instant up to, and without, the end.
    pub window: Window,
    /// The cycle before a change for the window that was running, and the cycle after it for the next window. If the
    /// next window is none of the new calendar's own windows, the cycle says so.
    pub cycle: Cycle,
}

/// Returns the window that contains the instant `at`, in a calendar with this history. `history` has at least one
/// entry, the oldest first.
///
/// A change has no effect on a window that ends before the change, nor on the window that contains it.
pub fn window_in(history: &[Entry], at: Time) -> WindowOfCycle {
    let mut stages = Stages::of(history);
    let mut stage = stages.first();
    while let Some(next) = stages.after(&stage) {
        if at < next.transition.start {
            break;
        }
        stage = next;
    }
    stage.window_of_cycle(at)
}

/// The time in which windows follow one entry of a history.
#[derive(Clone, Copy, Debug)]
struct Stage {
    entry: Entry,
    /// The first window, from the end of the window that was running to a boundary of the entry's calendar. Windows of
    /// the oldest entry have always been its own: its transition ends before all time.
    transition: Window,
}

impl Stage {
    /// Returns the window of this stage that contains `at`, with its cycle, if the stage has begun then.
    fn window_of_cycle(&self, at: Time) -> WindowOfCycle {
        let Entry { zone, cycle, .. } = self.entry;
        let window = self.window(at);
        let is_own = at >= self.transition.end || window == window_at(zone, cycle, window.start);
        WindowOfCycle { window, cycle: if is_own { cycle } else { cycle.of_transition() } }
    }

    /// Returns the window of this stage that contains `at`, if the stage has begun then.
    fn window(&self, at: Time) -> Window {
        if at < self.transition.end {
            self.transition
        } else {
            window_at(self.entry.zone, self.entry.cycle, at)
        }
    }
}

/// Walks through the stages of a history.
struct Stages<'a> {
    history: &'a [Entry],
    /// The place of the first change that the stages so far leave out.
    next: usize,
}

impl<'a> Stages<'a> {
    fn of(history: &'a [Entry]) -> Self {
        Self { history, next: 1 }
    }

    fn first(&self) -> Stage {
        let transition = Window { start: Time::MIN, end: Time::MIN };
        Stage { entry: self.history[0], transition }
    }

    /// Returns the stage after `stage`, which is the latest of these stages. `None`: the stage has no end.
    fn after(&mut self, stage: &Stage) -> Option<Stage> {
        let change = self.history.get(self.next)?;
        let end = stage.window(change.since).end;
        if end == Time::NEVER {
            return None;
        }
        let within = self.history[self.next..].iter().take_while(|change| change.since < end).count();
        self.next += within;
        let entry = self.history[self.next - 1];
        Some(Stage { entry, transition: Window { start: end, end: boundary_after(&entry, end) } })
    }
}

/// Returns the first boundary of the entry's calendar that lies at least half a nominal period after `end`.
fn boundary_after(entry: &Entry, end: Time) -> Time {
    let earliest = end.saturating_add(Span(entry.cycle.nominal_length().0 / 2));
    let window = window_at(entry.zone, entry.cycle, earliest);
    if window.start == earliest { earliest } else { window.end }
}
