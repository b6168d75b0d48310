//! Counters: committed and reserved quantities of one resource in one window, for a tenant as a whole or for certain
//! agents, users or models.

use std::sync::Arc;

use super::{
    id::ResourceKey,
    lineage::Since,
    plan::Limit,
    shape::{Dimension, PerDimension, Shape, Subject},
    time::Time,
    window::{Period, Window},
};

/// The key of a counter within its tenant: resource, period, anchor day, window start, and the values of the dimensions
/// for whose values the counter's shape counts separately. The key contains neither plan nor limit, so usage survives
/// their changes (R4.15).
///
/// The key is the stored bytes: resource (4 bytes), period (1), anchor day (1), window start (8, sign flipped), all
/// big-endian. Then each dimension follows: either 0, or 1, the value's length (1 byte) and the value. In this order
/// the counters of one shape and one window follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterKey(Arc<[u8]>);

/// Length, in bytes, of the part of the key that all counters of one resource, period, anchor day and window share.
const PREFIX_LENGTH: usize = 14;

/// Length, in bytes, of the part of the key that all counters of one resource, period and anchor day share, whatever
/// the window.
const WINDOWS_LENGTH: usize = 6;

impl CounterKey {
    /// Makes the key of the counter that limits of this shape have for a subject.
    pub fn of_shape(shape: &Shape, window_start: Time, subject: &Subject) -> Self {
        let mut bytes = Vec::with_capacity(PREFIX_LENGTH + 3);
        push_prefix(&mut bytes, shape.resource, shape.period, shape.anchor_day, window_start);
        for (dimension, value) in subject.values() {
            if shape.counts_separately(dimension) {
                bytes.push(1);
                // A name has at most 128 bytes, so its length fits into a byte.
                bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
                bytes.extend_from_slice(value.as_bytes());
            } else {
                bytes.push(0);
            }
        }
        Self(bytes.into())
    }

    /// Makes the key of a resource's meter, which counts when no limit covers the resource.
    pub fn of_meter(resource: ResourceKey, window_start: Time) -> Self {
        let mut bytes = Vec::with_capacity(PREFIX_LENGTH + 3);
        push_prefix(&mut bytes, resource, Period::Meter, 0, window_start);
        bytes.extend_from_slice(&[0, 0, 0]);
        Self(bytes.into())
    }

    /// Returns the first bytes of the keys of all counters of one resource, period, anchor day and window.
    pub fn prefix(resource: ResourceKey, period: Period, anchor_day: u8, window_start: Time) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PREFIX_LENGTH);
        push_prefix(&mut bytes, resource, period, anchor_day, window_start);
        bytes
    }

    /// Returns bytes that sort after the keys of all counters of this resource, period and anchor day, whatever the
    /// window.
    pub fn successor_of_windows(&self) -> Vec<u8> {
        let mut bytes = self.0[..WINDOWS_LENGTH].to_vec();
        // A window start is at most eight bytes of 255, and the byte after it is 0 or 1.
        bytes.extend_from_slice(&[u8::MAX; PREFIX_LENGTH - WINDOWS_LENGTH + 1]);
        bytes
    }

    /// Reads a stored key. `None`: these bytes are no key.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = Self(bytes.into());
        key.parse().is_some().then_some(key)
    }

    /// Returns the bytes of the key as they are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the resource that is counted.
    pub fn resource(&self) -> ResourceKey {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[..4]);
        ResourceKey(i32::from_be_bytes(bytes))
    }

    /// Returns the period of the counter's window.
    pub fn period(&self) -> Period {
        Period::from_code(self.0[4]).unwrap_or(Period::Meter)
    }

    /// Returns the day of the month on which a MONTH begins; 0 for other periods.
    pub fn anchor_day(&self) -> u8 {
        self.0[5]
    }

    /// Returns the first instant of the counter's window.
    pub fn window_start(&self) -> Time {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[6..PREFIX_LENGTH]);
        Time(i64::from_be_bytes(bytes) ^ i64::MIN)
    }

    /// Returns the dimension values for which the counter counts separately.
    pub fn dimensions(&self) -> PerDimension<Option<&str>> {
        self.parse().unwrap_or_default()
    }

    fn parse(&self) -> Option<PerDimension<Option<&str>>> {
        Period::from_code(*self.0.get(4)?)?;
        let mut rest = self.0.get(PREFIX_LENGTH..)?;
        let mut values = PerDimension::default();
        for dimension in Dimension::ALL {
            let (mark, tail) = rest.split_first()?;
            rest = tail;
            if *mark == 1 {
                let (length, tail) = rest.split_first()?;
                let (text, tail) = tail.split_at_checked(usize::from(*length))?;
                values[dimension] = Some(std::str::from_utf8(text).ok()?);
                rest = tail;
            }
        }
        rest.is_empty().then_some(values)
    }
}

impl Shape {
    /// Returns whether a limit of this shape reads the counter.
    pub fn counts(&self, key: &CounterKey) -> bool {
        let values = key.dimensions();
        let counted = |dimension: Dimension| {
            let (selector, value) = (self.selectors[dimension].as_deref(), values[dimension]);
            self.counts_separately(dimension) == value.is_some() && (selector.is_none() || selector == value)
        };
        self.resource == key.resource()
            && self.period == key.period()
            && self.anchor_day == key.anchor_day()
            && Dimension::ALL.into_iter().all(counted)
    }
}

fn push_prefix(bytes: &mut Vec<u8>, resource: ResourceKey, period: Period, anchor_day: u8, start: Time) {
    bytes.extend_from_slice(&resource.0.to_be_bytes());
    bytes.push(period.code());
    bytes.push(anchor_day);
    bytes.extend_from_slice(&(start.0 ^ i64::MIN).to_be_bytes());
}

/// The figures of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Units that were charged.
    pub committed: i64,
    /// Units that open holds have reserved.
    pub reserved: i64,
    /// The window in which the counter counts.
    pub window: Window,
    /// The counter contains all that was spent since this instant (R4.25).
    pub counted_since: Since,
    /// Charges at deadlines up to this instant no longer count: a ResetUsage, or the return of a limit, set the counter
    /// to zero. These charges are not subtracted a second time (R4.27).
    pub forgiven_until: Time,
}

impl Counter {
    /// Makes a counter in which nothing was entered yet.
    pub fn fresh(window: Window, since: Since) -> Self {
        let counted_since = since.in_window(window);
        Self { committed: 0, reserved: 0, window, counted_since, forgiven_until: Time::EPOCH }
    }

    /// Returns the counter after its limits started to count from zero at `since`: nothing is committed, and reserved
    /// units stay reserved (R4.26).
    pub fn restarted(self, since: Since) -> Self {
        let forgiven_until = self.forgiven_until.max(since.at);
        Self { committed: 0, counted_since: since, forgiven_until, ..self }
    }
}

/// A counter, together with one limit that reads it. Without a limit: the figures of a meter.
#[derive(Clone, Debug)]
pub struct Balance {
    /// The key of the counter.
    pub key: CounterKey,
    /// The limit that reads the counter. `None`: no limit covers the resource.
    pub limit: Option<Arc<Limit>>,
    /// The counter, without the holds that are due.
    pub counter: Counter,
    /// How often the limit refused in this window or, while OBSERVE, would have refused.
    pub refused: i64,
}

impl Balance {
    /// Returns what the limit permits in the window. `None`: there is no limit.
    pub fn allowance(&self) -> Option<i64> {
        self.limit.as_ref().map(|limit| limit.quantity)
    }

    /// Returns what is left of the allowance, negative if it is exceeded. `None`: there is no limit.
    pub fn remaining(&self) -> Option<i64> {
        let used = self.counter.committed.saturating_add(self.counter.reserved);
        self.allowance().map(|allowance| allowance.saturating_sub(used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(selectors: [Option<&str>; 3], per: [bool; 3]) -> Shape {
        Shape {
            resource: ResourceKey(7),
            period: Period::Month,
            anchor_day: 31,
            selectors: selectors.map(|selector| selector.map(str::to_owned)).into(),
            per: per.into(),
        }
    }

    #[test]
    fn a_key_contains_its_resource_period_window_and_dimensions() {
        let subject = Subject { agent: "planner".into(), user: String::new(), model: "ü".into() };
        let cases = [
            (shape([None, None, None], [false; 3]), [None, None, None]),
            (shape([Some("planner"), None, None], [false; 3]), [Some("planner"), None, None]),
            (shape([None, None, None], [false, true, true]), [None, Some(""), Some("ü")]),
        ];
        for (shape, dimensions) in cases {
            for start in [0, -1, 1_700_000_000_000, i64::MIN, i64::MAX].map(Time) {
                let key = CounterKey::of_shape(&shape, start, &subject);
                let read = CounterKey::from_bytes(key.as_bytes()).expect("it was a key");
                assert_eq!(read.resource(), ResourceKey(7));
                assert_eq!(read.period(), Period::Month);
                assert_eq!(read.window_start(), start);
                assert_eq!(read.dimensions(), dimensions.into());
                let prefix = CounterKey::prefix(ResourceKey(7), Period::Month, 31, start);
                assert!(key.as_bytes().starts_with(&prefix));
            }
        }
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        let key = CounterKey::of_meter(ResourceKey(1), Time::EPOCH);
        for end in 0..key.as_bytes().len() {
            assert_eq!(CounterKey::from_bytes(&key.as_bytes()[..end]), None);
        }
        assert_eq!(CounterKey::from_bytes(&[key.as_bytes(), &[0]].concat()), None);
    }
}
