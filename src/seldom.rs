//! Limits log lines that could come as often as calls. Each line is logged at most once a minute per subject, with
//! the number of lines that were left out.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Minimum time between two lines about the same subject.
const PAUSE: Duration = Duration::from_secs(60);

/// Maximum number of subjects that one `Seldom` remembers. If each of these subjects was logged within the last minute,
/// a new subject is not logged.
const SUBJECTS_MAX: usize = 1_024;

/// A place in the code that logs, with the last line about each subject. A subject is, for example, a webhook's key
/// or a kind of error.
#[derive(Debug)]
pub struct Seldom<K> {
    lines: Mutex<BTreeMap<K, Line>>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    logged_at: Instant,
    left_out: u64,
}

impl<K: Ord> Default for Seldom<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord> Seldom<K> {
    /// Makes a place that has logged nothing so far.
    pub const fn new() -> Self {
        Self { lines: Mutex::new(BTreeMap::new()) }
    }

    /// Decides whether to log a line about this subject now. `Some`: log the line, with the number of lines that were
    /// left out since the last logged line. `None`: leave the line out. It is counted if the subject is remembered.
    pub fn due(&self, subject: K) -> Option<u64> {
        self.due_at(subject, Instant::now())
    }

    fn due_at(&self, subject: K, now: Instant) -> Option<u64> {
        let is_recent = |line: &Line| now.saturating_duration_since(line.logged_at) < PAUSE;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get_mut(&subject).filter(|line| is_recent(line)) {
            line.left_out = line.left_out.saturating_add(1);
            return None;
        }
        if lines.len() >= SUBJECTS_MAX && !lines.contains_key(&subject) {
            lines.retain(|_, line| is_recent(line));
            if lines.len() >= SUBJECTS_MAX {
                return None;
            }
        }
        let before = lines.insert(subject, Line { logged_at: now, left_out: 0 });
        Some(before.map_or(0, |line| line.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_logged_once_a_minute_with_the_number_of_lines_left_out() {
        let (place, start) = (Seldom::new(), Instant::now());
        let at = |subject: u32, millis: u64| place.due_at(subject, start + Duration::from_millis(millis));
        assert_eq!(at(1, 0), Some(0));
        assert_eq!([at(1, 1), at(1, 59_999)], [None, None]);
        assert_eq!(at(2, 59_999), Some(0), "another subject has its own line");
        assert_eq!(at(1, 60_000), Some(2));
        assert_eq!(at(1, 60_001), None);
        assert_eq!(at(1, 120_000), Some(1));
        assert_eq!(at(1, 240_000), Some(0), "nothing was left out");
    }

    #[test]
    fn subjects_are_bounded() {
        let (place, start) = (Seldom::new(), Instant::now());
        assert!((0..SUBJECTS_MAX).all(|subject| place.due_at(subject, start) == Some(0)));
        assert_eq!(place.due_at(SUBJECTS_MAX, start), None, "all others were logged of late");
        assert_eq!(place.due_at(SUBJECTS_MAX, start + PAUSE), Some(0), "they are forgotten");
        assert_eq!(place.due_at(0, start + PAUSE), Some(0));
    }
}
