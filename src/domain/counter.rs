//! Counters: committed and reserved quantities of one resource in one window, for a tenant as a whole or for certain
//! agents, users, models or labels.

use std::sync::Arc;

use super::{
    id::ResourceKey,
    lineage::Since,
    plan::Limit,
    shape::{Dimension, LabelRule, OF_AGENTS_PLAN, PerDimension, Shape, Subject},
    time::{Span, Time},
    timing::TenantCalendar,
    window::{Cycle, Period, Window, WindowOfCycle},
};

/// The key of a counter within its tenant: resource, cycle, window start, and the values of the dimensions and labels
/// for whose values the counter's shape counts separately. The key contains neither plan nor limit, so usage survives
/// their changes (R4.15).
///
/// The key is the stored bytes: resource (4 bytes), cycle (2 or 10), window start (8, sign flipped), all big-endian.
/// Then each dimension follows: either 0, or 1, the value's length (1 byte) and the value. Then each label follows that
/// the shape counts separately, in the order of their keys: the key's length (1 byte), the key, the value's length (2
/// bytes) and the value. A counter of an agent's plan has a label with an empty key first. In this order the counters
/// of one shape and one window follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterKey(Arc<[u8]>);

/// The shortest windows whose end causes WINDOW_CLOSED, by their nominal length.
const CLOSED_LENGTH_MIN: Span = Span::hours(1);

/// Length of the resource in a key, in bytes.
const RESOURCE_LENGTH: usize = 4;

/// Length of the window start in a key, in bytes.
const START_LENGTH: usize = 8;

/// Length, in bytes, of the part of most keys that all counters of one resource, cycle and window share.
const PREFIX_LENGTH: usize = RESOURCE_LENGTH + 2 + START_LENGTH;

/// The window start in the key of a head. No window of ROLLING begins then.
pub const HEAD_START: Time = Time::MIN;

/// The window of a head whose end is not known.
pub const NOT_LOADED: Window = Window { start: HEAD_START, end: Time::NEVER };

/// The window of a head before its first window has begun.
const NOT_BEGUN: Window = Window { start: HEAD_START, end: Time::EPOCH };

impl CounterKey {
    /// Makes the key of the counter that limits of this shape have for a subject in a window.
    pub fn of_shape(shape: &Shape, window: WindowOfCycle, subject: &Subject) -> Self {
        let mut bytes = Vec::with_capacity(PREFIX_LENGTH + 3);
        push_prefix(&mut bytes, shape.resource, window.cycle, window.window.start);
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
        for rule in &shape.labels {
            let value = subject.label(&rule.key);
            // A label's key has at most 64 bytes, and its value at most 256.
            bytes.push(u8::try_from(rule.key.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(rule.key.as_bytes());
            bytes.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        Self(bytes.into())
    }

    /// Makes the key of a resource's meter, which counts when no limit covers the resource.
    pub fn of_meter(resource: ResourceKey) -> Self {
        let mut bytes = Vec::with_capacity(PREFIX_LENGTH + 3);
        push_prefix(&mut bytes, resource, Cycle::METER, Window::ENDLESS.start);
        bytes.extend_from_slice(&[0, 0, 0]);
        Self(bytes.into())
    }

    /// Returns whether the counter's windows are of ROLLING.
    pub fn is_rolling(&self) -> bool {
        self.0.get(RESOURCE_LENGTH) == Some(&Period::Rolling.code())
    }

    /// Returns whether this is the key of a head. A head is a counter without usage, whose window ends when the newest
    /// window of ROLLING of its subject ends. The head's own window has no start.
    pub fn is_head(&self) -> bool {
        self.is_rolling() && self.window_start() == HEAD_START
    }

    /// Returns the key of the head of this counter of ROLLING.
    pub fn head(&self) -> Self {
        self.starting_at(HEAD_START)
    }

    /// Returns the key of the counter that counts the same in the window with another start.
    pub fn starting_at(&self, start: Time) -> Self {
        let mut bytes = self.0.to_vec();
        let end = self.prefix_length();
        bytes[end - START_LENGTH..end].copy_from_slice(&(start.0 ^ i64::MIN).to_be_bytes());
        Self(bytes.into())
    }

    /// Returns the key of the counter with the same resource, dimensions and labels in another window.
    pub fn in_window(&self, window: WindowOfCycle) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len());
        push_prefix(&mut bytes, self.resource(), window.cycle, window.window.start);
        bytes.extend_from_slice(&self.0[self.prefix_length()..]);
        Self(bytes.into())
    }

    /// Returns the first bytes of the keys of all counters of one resource, cycle and window.
    pub fn prefix(resource: ResourceKey, cycle: Cycle, window_start: Time) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PREFIX_LENGTH);
        push_prefix(&mut bytes, resource, cycle, window_start);
        bytes
    }

    /// Returns bytes that sort after the keys of all counters of this resource and cycle, whatever the window.
    pub fn successor_of_windows(&self) -> Vec<u8> {
        let mut bytes = self.0[..self.prefix_length() - START_LENGTH].to_vec();
        // A window start is at most eight bytes of 255, and the byte after it is 0 or 1.
        bytes.extend_from_slice(&[u8::MAX; START_LENGTH + 1]);
        bytes
    }

    /// Returns the first bytes that sort after the key.
    pub fn successor(&self) -> Vec<u8> {
        [&self.0[..], &[0]].concat()
    }

    /// Reads a stored key. `None`: these bytes are no key.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = Self(bytes.into());
        key.is_valid().then_some(key)
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

    /// Returns the cycle of the counter's window.
    pub fn cycle(&self) -> Cycle {
        Cycle::decode(&self.0[RESOURCE_LENGTH..]).map_or(Cycle::METER, |(cycle, _)| cycle)
    }

    /// Returns the period of the counter's window.
    pub fn period(&self) -> Period {
        self.cycle().period()
    }

    /// Returns whether WINDOW_CLOSED is emitted when the counter's window is over (R5.7).
    pub fn closes(&self) -> bool {
        self.cycle().nominal_length() >= CLOSED_LENGTH_MIN && !self.is_head()
    }

    /// Returns the first instant of the counter's window.
    pub fn window_start(&self) -> Time {
        let end = self.prefix_length();
        let mut bytes = [0; START_LENGTH];
        bytes.copy_from_slice(&self.0[end - START_LENGTH..end]);
        Time(i64::from_be_bytes(bytes) ^ i64::MIN)
    }

    /// Returns the length of the part that all counters of one resource, cycle and window share, in bytes.
    fn prefix_length(&self) -> usize {
        let (length, place) = (self.0.len(), &self.0[RESOURCE_LENGTH..]);
        length - Cycle::decode(place).map_or(0, |(_, rest)| rest.len()) + START_LENGTH
    }

    /// Returns the dimension values for which the counter counts separately.
    pub fn dimensions(&self) -> PerDimension<Option<&str>> {
        self.parse().map(|(dimensions, _)| dimensions).unwrap_or_default()
    }

    /// Returns the labels for whose values the counter counts separately, in the order of their keys.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all_labels().filter(|(key, _)| *key != OF_AGENTS_PLAN)
    }

    /// Returns whether limits of an agent's plan read the counter. No other limits read such a counter.
    pub fn is_of_agents_plan(&self) -> bool {
        self.all_labels().next().is_some_and(|(key, _)| key == OF_AGENTS_PLAN)
    }

    /// Returns whether the counter counts a certain agent, user, model or label value, and not the tenant as a whole.
    pub fn is_of_one_subject(&self) -> bool {
        self.dimensions().iter().any(|(_, value)| value.is_some()) || self.all_labels().next().is_some()
    }

    fn all_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        labels_in(self.parse().map(|(_, labels)| labels).unwrap_or_default())
    }

    /// Returns the dimension values, and the bytes of the labels. `None`: the bytes are no key.
    fn parse(&self) -> Option<(PerDimension<Option<&str>>, &[u8])> {
        let (_, rest) = Cycle::decode(self.0.get(RESOURCE_LENGTH..)?)?;
        let mut rest = rest.get(START_LENGTH..)?;
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
        Some((values, rest))
    }

    /// Returns whether the bytes are a key.
    fn is_valid(&self) -> bool {
        let Some((_, mut rest)) = self.parse() else { return false };
        while !rest.is_empty() {
            let Some((_, tail)) = split_label(rest) else { return false };
            rest = tail;
        }
        true
    }
}

/// Returns the labels in these bytes of a key.
fn labels_in(mut bytes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    std::iter::from_fn(move || {
        let (label, rest) = split_label(bytes)?;
        bytes = rest;
        Some(label)
    })
}

/// Splits the first label off the bytes of labels. `None`: the bytes do not begin with a label.
fn split_label(bytes: &[u8]) -> Option<((&str, &str), &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (key, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some(((std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?), rest))
}

impl Shape {
    /// Returns whether a limit of this shape reads the counter, for a tenant with these calendars.
    pub fn counts(&self, key: &CounterKey, calendars: &[TenantCalendar]) -> bool {
        let cycle = key.cycle();
        if self.resource != key.resource() || self.timing.period() != cycle.period() {
            return false;
        }
        let Some((values, labels)) = key.parse() else { return false };
        let counted = |dimension: Dimension| {
            let (selector, value) = (self.selectors[dimension].as_deref(), values[dimension]);
            self.counts_separately(dimension) == value.is_some() && (selector.is_none() || selector == value)
        };
        Dimension::ALL.into_iter().all(counted)
            && self.counts_labels(labels)
            && self.timing.has_window(calendars, cycle, key.window_start())
    }

    /// Returns whether these bytes of a key have exactly the labels of this shape, with the values that it selects.
    fn counts_labels(&self, bytes: &[u8]) -> bool {
        let mut labels = labels_in(bytes);
        let counted = |rule: &LabelRule| {
            labels.next().is_some_and(|(key, value)| key == rule.key && rule.accepts(value))
        };
        self.labels.iter().all(counted) && labels.next().is_none()
    }
}

fn push_prefix(bytes: &mut Vec<u8>, resource: ResourceKey, cycle: Cycle, start: Time) {
    bytes.extend_from_slice(&resource.0.to_be_bytes());
    cycle.encode(bytes);
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

    /// Makes the counter of a subject that has no running window of ROLLING at `now`.
    pub fn not_begun(now: Time) -> Self {
        let counted_since = Since { at: now, order: 0 };
        Self { counted_since, ..Self::fresh(NOT_BEGUN, counted_since) }
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
    /// Units that were carried over from the window before. 0 without a limit.
    pub carried: i64,
}

impl Balance {
    /// Returns what the limit permits in the window. `None`: there is no limit.
    pub fn allowance(&self) -> Option<i64> {
        self.limit.as_ref().map(|limit| limit.quantity.saturating_add(self.carried))
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

    const CYCLE: Cycle = Cycle::plain(Period::Month);

    fn shape(selectors: [Option<&str>; 3], per: [bool; 3]) -> Shape {
        Shape {
            resource: ResourceKey(7),
            timing: CYCLE.into(),
            selectors: selectors.map(|selector| selector.map(str::to_owned)).into(),
            per: per.into(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn a_key_contains_its_resource_period_window_and_dimensions() {
        let labels = vec![("run".into(), "r".repeat(256)), ("team".into(), "ü".into())];
        let subject = Subject { agent: "planner".into(), user: String::new(), model: "ü".into(), labels };
        let cases = [
            (shape([None, None, None], [false; 3]), [None, None, None]),
            (shape([Some("planner"), None, None], [false; 3]), [Some("planner"), None, None]),
            (shape([None, None, None], [false, true, true]), [None, Some(""), Some("ü")]),
        ];
        let rule = |key: &str, selected: Option<&str>| LabelRule {
            key: key.into(),
            selected: selected.map(Into::into),
        };
        let labelled = Shape {
            labels: vec![rule("absent", None), rule("run", None), rule("team", Some("ü"))],
            ..shape([None, None, None], [false; 3])
        };
        let cases = cases.into_iter().chain([(labelled, [None, None, None])]);
        for (shape, dimensions) in cases {
            for start in [0, -1, 1_700_000_000_000, i64::MIN, i64::MAX].map(Time) {
                let window = WindowOfCycle { window: Window { start, end: Time::NEVER }, cycle: CYCLE };
                let key = CounterKey::of_shape(&shape, window, &subject);
                let read = CounterKey::from_bytes(key.as_bytes()).expect("it was a key");
                assert_eq!(read.resource(), ResourceKey(7));
                assert_eq!(read.cycle(), CYCLE);
                assert_eq!(read.window_start(), start);
                assert_eq!(read.dimensions(), dimensions.into());
                let labels: Vec<_> = read.labels().collect();
                let want = shape.labels.iter().map(|rule| (rule.key.as_str(), subject.label(&rule.key)));
                assert_eq!(labels, want.collect::<Vec<_>>());
                let bytes = read.parse().expect("it is a key").1;
                assert!(shape.counts_labels(bytes));
                let others = Shape { labels: vec![rule("run", None)], ..shape.clone() };
                assert!(!others.counts_labels(bytes), "another set of labels");
                let prefix = CounterKey::prefix(ResourceKey(7), CYCLE, start);
                assert!(key.as_bytes().starts_with(&prefix));
                for cycle in [CYCLE, Cycle::plain(Period::Lifetime), Cycle::METER] {
                    let other = WindowOfCycle { window: Window::ENDLESS, cycle };
                    let moved = CounterKey::of_shape(&shape, other, &subject);
                    assert_eq!((key.in_window(other), moved.in_window(window)), (moved, key.clone()));
                }
            }
        }
    }

    #[test]
    fn a_key_with_labels_that_is_cut_short_is_refused_or_has_fewer_labels() {
        let labels = vec![
            LabelRule { key: "run".into(), selected: None },
            LabelRule { key: "team".into(), selected: None },
        ];
        let shape = Shape { labels, ..shape([None, None, None], [false; 3]) };
        let window = WindowOfCycle { window: Window::ENDLESS, cycle: CYCLE };
        let subject = Subject { labels: vec![("run".into(), "7".into())], ..Subject::default() };
        let key = CounterKey::of_shape(&shape, window, &subject);
        let whole = key.as_bytes().len();
        // A key that is cut short is a key only without labels, or right after its first label. The first label has a
        // length byte, three letters of its key, two bytes for the length of its value, and one byte of its value.
        let kept: Vec<usize> =
            (0..whole).filter(|end| CounterKey::from_bytes(&key.as_bytes()[..*end]).is_some()).collect();
        let prefix = key.prefix_length() + 3;
        assert_eq!(kept, [prefix, prefix + 1 + 3 + 2 + 1]);
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        let key = CounterKey::of_meter(ResourceKey(1));
        for end in 0..key.as_bytes().len() {
            assert_eq!(CounterKey::from_bytes(&key.as_bytes()[..end]), None);
        }
        assert_eq!(CounterKey::from_bytes(&[key.as_bytes(), &[0]].concat()), None);
    }
}
