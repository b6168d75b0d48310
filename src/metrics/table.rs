//! A table from names to values, which only grows, up to a bound. A lookup takes no lock and allocates nothing.

use std::{
    hash::BuildHasher,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;

/// The names and their values. A slot that has a name keeps this name, so a search ends at the first free slot.
#[derive(Debug)]
pub(super) struct Table<V> {
    slots: Box<[OnceLock<(Box<str>, V)>]>,
    /// Number of names, at most `max`. At least half of the slots are always free.
    names: AtomicUsize,
    max: usize,
    hasher: RandomState,
}

impl<V> Table<V> {
    /// Makes an empty table for at most `max` names.
    pub(super) fn new(max: usize) -> Self {
        let slots = (0..2 * max).map(|_| OnceLock::new()).collect();
        Self { slots, names: AtomicUsize::new(0), max, hasher: RandomState::default() }
    }

    /// Returns the value of a name. If the name is new, its value is made. `None`: the name is new and the table is
    /// full. While threads add the last names, a name may be refused that gets its place a moment later.
    pub(super) fn get(&self, name: &str, make: impl Fn() -> V) -> Option<&V> {
        let slots = self.slots.len() as u64;
        let first = usize::try_from(self.hasher.hash_one(name) % slots).ok()?;
        for slot in self.slots[first..].iter().chain(&self.slots[..first]) {
            let (known, value) = match slot.get() {
                Some(entry) => entry,
                None => self.fill(slot, name, &make)?,
            };
            if **known == *name {
                return Some(value);
            }
        }
        None
    }

    /// Puts a name into a free slot. If another thread is faster, the slot may have another name afterwards.
    fn fill<'a>(
        &self,
        slot: &'a OnceLock<(Box<str>, V)>,
        name: &str,
        make: impl Fn() -> V,
    ) -> Option<&'a (Box<str>, V)> {
        let more = |names: usize| (names < self.max).then_some(names + 1);
        self.names.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let mut filled = false;
        let entry = slot.get_or_init(|| {
            filled = true;
            (name.into(), make())
        });
        if !filled {
            self.names.fetch_sub(1, Ordering::Relaxed);
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        thread::scope,
    };

    use super::*;

    #[test]
    fn a_full_table_knows_its_names_and_takes_no_more() {
        let table = Table::new(3);
        for name in ["a", "b", "a", "c", "b"] {
            assert_eq!(table.get(name, || name.to_owned()).map(String::as_str), Some(name));
        }
        assert_eq!(table.get("d", || "d".to_owned()), None);
        assert_eq!(table.get("c", || "other".to_owned()).map(String::as_str), Some("c"));
    }

    #[test]
    fn threads_share_the_value_of_a_name() {
        // Threads that add the same name at the same instant need room for a moment.
        let table = Table::new(60);
        scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..10_000_u64 {
                        let counter = table.get(&(number % 50).to_string(), AtomicU64::default);
                        counter.expect("there is room for 50 names").fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        for name in 0..50 {
            let counter = table.get(&name.to_string(), AtomicU64::default).expect("a known name");
            assert_eq!(counter.load(Ordering::Relaxed), 800, "{name}");
        }
    }
}
