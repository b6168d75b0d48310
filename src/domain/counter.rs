//! What was spent and what is held, of one subject scope, resource and window.

use std::sync::Arc;

use super::{
    id::ResourceKey,
    lineage::Since,
    plan::{Limit, Shape, Subject},
    window::{Millis, Period, Window},
};

/// The key of a counter within its tenant: resource, period, anchor, window start, and the value of each
/// dimension that counts apart. Neither plan nor limit are in it: usage survives their change.
///
/// It is kept as the bytes that are stored, in an order in which the counters of one window of one shape
/// are neighbours: resource (4), period (1), anchor (1), window start (8, sign flipped), all big-endian, then per
/// dimension either 0, or 1, the length, and the value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterKey(Arc<[u8]>);

/// Length of the part that all counters of one window of one shape share.
const PREFIX_LENGTH: usize = 14;

/// Length of the part that the counters of all windows of a resource, period and anchor share.
const WINDOWS_LENGTH: usize = 6;

impl CounterKey {
    /// The counter of a limit of this shape for a subject.
    pub fn of_shape(shape: &Shape, window_start: Millis, subject: &Subject) -> Self {
        let mut bytes = Vec::with_capacity(PREFIX_LENGTH + 3);
        push_prefix(&mut bytes, shape.resource, shape.period, shape.anchor_day, window_start);
        for (dimension, value) in subject.values().into_iter().enumerate() {
            if shape.counts_apart(dimension) {
                bytes.push(1);
                // Names are at most 128 bytes.
                bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
                bytes.extend_from_slice(value.as_bytes());
            } else {
                bytes.push(0);
            }
        }
        Self(bytes.into())
    }

    /// The counter of a resource that no limit covers.
    pub fn of_meter(resource: ResourceKey, window_start: Millis) -> Self {
        let mut bytes = Vec::with_capacity(PREFIX_LENGTH + 3);
        push_prefix(&mut bytes, resource, Period::Meter, 0, window_start);
        bytes.extend_from_slice(&[0, 0, 0]);
        Self(bytes.into())
    }

    /// The start of the keys of all counters of one window of one shape, whatever the subject.
    pub fn prefix(resource: ResourceKey, period: Period, anchor_day: u8, window_start: Millis) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PREFIX_LENGTH);
        push_prefix(&mut bytes, resource, period, anchor_day, window_start);
        bytes
    }

    /// The first key that no counter of its resource, period and anchor comes behind, whatever the window.
    pub fn successor_of_windows(&self) -> Vec<u8> {
        let mut bytes = self.0[..WINDOWS_LENGTH].to_vec();
        // No window starts that late.
        bytes.extend_from_slice(&[u8::MAX; PREFIX_LENGTH - WINDOWS_LENGTH + 1]);
        bytes
    }

    /// A key as it was stored; `None` when it is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = Self(bytes.into());
        key.parse().is_some().then_some(key)
    }

    /// As it is stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The resource that is counted.
    pub fn resource(&self) -> ResourceKey {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[..4]);
        ResourceKey(i32::from_be_bytes(bytes))
    }

    /// Length of its window.
    pub fn period(&self) -> Period {
        Period::from_code(self.0[4]).unwrap_or(Period::Meter)
    }

    /// Day of the month on which its windows start; 0 for other periods than MONTH.
    pub fn anchor_day(&self) -> u8 {
        self.0[5]
    }

    /// First instant of its window.
    pub fn window_start(&self) -> Millis {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[6..PREFIX_LENGTH]);
        i64::from_be_bytes(bytes) ^ i64::MIN
    }

    /// The values that it counts apart, in the order of [`super::plan::Dimension`].
    pub fn dimensions(&self) -> [Option<&str>; 3] {
        self.parse().unwrap_or_default()
    }

    fn parse(&self) -> Option<[Option<&str>; 3]> {
        Period::from_code(*self.0.get(4)?)?;
        let mut rest = self.0.get(PREFIX_LENGTH..)?;
        let mut values = [None; 3];
        for value in &mut values {
            let (mark, tail) = rest.split_first()?;
            rest = tail;
            if *mark == 1 {
                let (length, tail) = rest.split_first()?;
                let (text, tail) = tail.split_at_checked(usize::from(*length))?;
                *value = Some(std::str::from_utf8(text).ok()?);
                rest = tail;
            }
        }
        rest.is_empty().then_some(values)
    }
}

fn push_prefix(bytes: &mut Vec<u8>, resource: ResourceKey, period: Period, anchor_day: u8, start: Millis) {
    bytes.extend_from_slice(&resource.0.to_be_bytes());
    bytes.push(period.code());
    bytes.push(anchor_day);
    bytes.extend_from_slice(&(start ^ i64::MIN).to_be_bytes());
}

/// The figures of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Units that were spent.
    pub committed: i64,
    /// Units that are held.
    pub reserved: i64,
    /// Its window.
    pub window: Window,
    /// The counter holds what was spent since this instant.
    pub counted_since: Since,
    /// What was charged at deadlines up to this instant was taken off since: it is not given back a second time.
    pub forgiven_until: Millis,
}

impl Counter {
    /// A counter that nothing was entered in yet.
    pub fn fresh(window: Window, since: Since) -> Self {
        let counted_since = since.in_window(window);
        Self { committed: 0, reserved: 0, window, counted_since, forgiven_until: 0 }
    }

    /// The counter as it is when the limits that count it have begun anew since it was used: what is held stays held.
    pub fn restarted(self, since: Since) -> Self {
        let forgiven_until = self.forgiven_until.max(since.at);
        Self { committed: 0, counted_since: since, forgiven_until, ..self }
    }
}

/// What one limit leaves of one counter; without a limit, what a counter holds.
#[derive(Clone, Debug)]
pub struct Balance {
    /// Whose figures these are.
    pub key: CounterKey,
    /// The limit, unless none covers the resource.
    pub limit: Option<Arc<Limit>>,
    /// The figures, holds that are due already taken out.
    pub counter: Counter,
    /// How often the limit has refused in this window, or would have.
    pub refused: i64,
}

impl Balance {
    /// What the limit permits in the window; `None` without a limit.
    pub fn allowance(&self) -> Option<i64> {
        self.limit.as_ref().map(|limit| limit.quantity)
    }

    /// What is left, negative when it is exceeded; `None` without a limit.
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
            selectors: selectors.map(|selector| selector.map(str::to_owned)),
            per,
        }
    }

    #[test]
    fn a_key_says_what_it_was_made_of() {
        let subject = Subject { agent: "planner".into(), user: String::new(), model: "ü".into() };
        let cases = [
            (shape([None, None, None], [false; 3]), [None, None, None]),
            (shape([Some("planner"), None, None], [false; 3]), [Some("planner"), None, None]),
            (shape([None, None, None], [false, true, true]), [None, Some(""), Some("ü")]),
        ];
        for (shape, dimensions) in cases {
            for start in [0, -1, 1_700_000_000_000, i64::MIN, i64::MAX] {
                let key = CounterKey::of_shape(&shape, start, &subject);
                let read = CounterKey::from_bytes(key.as_bytes()).expect("it was a key");
                assert_eq!(read.resource(), ResourceKey(7));
                assert_eq!(read.period(), Period::Month);
                assert_eq!(read.window_start(), start);
                assert_eq!(read.dimensions(), dimensions);
                let prefix = CounterKey::prefix(ResourceKey(7), Period::Month, 31, start);
                assert!(key.as_bytes().starts_with(&prefix));
            }
        }
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        let key = CounterKey::of_meter(ResourceKey(1), 0);
        for end in 0..key.as_bytes().len() {
            assert_eq!(CounterKey::from_bytes(&key.as_bytes()[..end]), None);
        }
        assert_eq!(CounterKey::from_bytes(&[key.as_bytes(), &[0]].concat()), None);
    }
}
