//! Claims about all zones, all cycles and all histories.

use chrono::NaiveDate;
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::{
    super::{Entry, window_in},
    model::{self, Given, given_of, givens, offset_seconds, periods, zones},
    *,
};

#[test]
fn wherever_a_zone_changes_its_clock_the_days_around_agree_with_the_model() {
    let first = NaiveDate::from_epoch_days(0).unwrap();
    let days = |minute| Given {
        period: Period::Day,
        interval: 1,
        day: 1,
        weekday: 1,
        month: 1,
        minute,
        origin: first,
    };
    let days = [0, 29, 135, 240, 1_409].map(|minute| (days(minute), days(minute).cycle()));
    let mut changes = 0;
    for zone in TZ_VARIANTS {
        let mut offset = offset_seconds(zone, SPAN.start);
        for at in SPAN.step_by(usize::try_from(DAY).unwrap()) {
            if offset_seconds(zone, at) == offset {
                continue;
            }
            // Every change is tried with one of the minutes, and a change by a day with all of them.
            let is_large = offset_seconds(zone, at).abs_diff(offset) > 12 * 3_600;
            let all = if is_large { days.len() } else { 1 };
            offset = offset_seconds(zone, at);
            changes += 1;
            for (given, cycle) in days.into_iter().cycle().skip(changes % days.len()).take(all) {
                let mut day = window_at(zone, cycle, Time(at - 3 * DAY / 2));
                for _ in 0..3 {
                    let want = given.window(zone, day.start.0);
                    assert_eq!(day, want, "{zone} {given:?}: {}, the model: {}", shown(day), shown(want));
                    day = window_at(zone, cycle, day.end);
                }
            }
        }
    }
    assert!(changes > 10_000, "only {changes} changes of the clock were tried");
}

/// A period, a calendar of this period from the beginning, and up to nine changes within six nominal periods.
type Changes = (Millis, Vec<(Millis, Tz, Given)>);

fn changes() -> impl Strategy<Value = Changes> {
    let entry = |period| (0.0..6.0_f64, zones(), given_of(period));
    let entries = periods().prop_flat_map(move |period| proptest::collection::vec(entry(period), 1..10));
    (SPAN, entries, any::<bool>()).prop_map(|(from, mut entries, is_same_interval)| {
        entries.sort_by(|a, b| a.0.total_cmp(&b.0));
        let first = entries[0].2;
        let history = entries.into_iter().map(|(place, zone, mut given)| {
            if is_same_interval {
                given.interval = first.interval;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "a place in a span"
            )]
            let since = from + (place * 2.0 * first.half_nominal() as f64) as Millis;
            (since, zone, given)
        });
        (from, history.collect())
    })
}

fn entries(history: &[(Millis, Tz, Given)]) -> Vec<Entry> {
    let entry = |&(since, zone, given): &(Millis, Tz, Given)| Entry {
        since: Time(since),
        zone,
        cycle: given.cycle(),
    };
    history.iter().map(entry).collect()
}

/// Returns an instant somewhere in a window; `share` is from 0 to 1.
fn somewhere(window: Window, share: f64) -> Time {
    let Window { start: Time(start), end: Time(end) } = window;
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "rounding is harmless")]
    let away = ((end - 1 - start) as f64 * share) as Millis;
    Time((start + away).min(end - 1))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_agree_with_the_model(zone in zones(), given in givens(), at in SPAN) {
        let (window, want) = (window_at(zone, given.cycle(), Time(at)), given.window(zone, at));
        prop_assert_eq!(window, want, "{} and not {}", shown(window), shown(want));
    }

    #[test]
    fn a_window_contains_its_instant_and_is_the_window_of_all_that_it_contains(
        zone in zones(), given in givens(), at in any::<Millis>(), share in 0.0..1.0_f64,
    ) {
        let cycle = given.cycle();
        for at in [at, at % SPAN.end].map(Time) {
            let window = window_at(zone, cycle, at);
            prop_assert!(window.start < window.end && window.contains(at));
            let (start, end) = (window.start.max(Time(-SPAN.end * 9)), window.end.min(Time(SPAN.end * 40)));
            let ends = Window { start, end };
            if ends.start < ends.end {
                prop_assert_eq!(window_at(zone, cycle, somewhere(ends, share)), window);
            }
        }
    }

    #[test]
    fn windows_tile_time(zone in zones(), given in givens(), at in SPAN) {
        let cycle = given.cycle();
        let mut window = window_at(zone, cycle, Time(at));
        for _ in 0..40 {
            let next = window_at(zone, cycle, window.end);
            prop_assert_eq!(next.start, window.end);
            prop_assert_eq!(window_at(zone, cycle, just_before(window.end)), window);
            prop_assert!(!window.contains(window.end) && !next.contains(just_before(window.end)));
            window = next;
        }
    }

    #[test]
    fn a_later_instant_never_has_an_earlier_window(
        zone in zones(), given in givens(), at in SPAN, later in 0..70 * DAY,
    ) {
        let window = window_at(zone, given.cycle(), Time(at));
        let next = window_at(zone, given.cycle(), Time(at + later));
        prop_assert!(next == window || next.start >= window.end);
    }

    #[test]
    fn a_subscription_begins_in_the_first_minute_of_a_window(
        zone in zones(), given in givens(), at in SPAN,
    ) {
        let cycle = Cycle::of_anchor_time(given.period, u16::try_from(given.interval).unwrap(), zone, Time(at));
        let window = window_at(zone, cycle, Time(at));
        // Local time goes back by a day at most, and has the same minutes once more.
        let local = |at: Millis| at + Millis::from(offset_seconds(zone, at)) * 1_000;
        let since = local(at).div_euclid(MINUTE) - local(window.start.0).div_euclid(MINUTE);
        prop_assert_eq!(since, 0, "{}", shown(window));
        let plain = Cycle::of_anchor_time(given.period, 1, zone, Time(at));
        prop_assert_eq!(window_at(zone, plain, Time(at)).start, window.start);
    }

    #[test]
    fn the_bytes_of_a_cycle_stand_for_it_and_sort_its_windows(
        zone in zones(), given in givens(), other in givens(), at in SPAN, rest in any::<[u8; 3]>(),
    ) {
        let key = |cycle: Cycle, start: Time| {
            let mut key = Vec::new();
            cycle.encode(&mut key);
            key.extend_from_slice(&(start.0 ^ i64::MIN).to_be_bytes());
            key
        };
        let (cycle, other) = (given.cycle(), other.cycle());
        let mut bytes = Vec::new();
        cycle.encode(&mut bytes);
        prop_assert!(bytes.len() == 2 || bytes.len() == 10);
        let longer = [&bytes[..], &rest].concat();
        prop_assert_eq!(Cycle::decode(&longer), Some((cycle, &rest[..])));
        for end in 0..bytes.len() {
            prop_assert!(Cycle::decode(&bytes[..end]).is_none(), "no cycle begins with another cycle");
        }
        let window = window_at(zone, cycle, Time(at));
        let (this, next) = (key(cycle, window.start), key(cycle, window.end));
        prop_assert!(this < next);
        let others = key(other, window.start);
        prop_assert!(cycle == other || others < this || others > next, "no other cycle sorts between");
    }

    #[test]
    fn bytes_are_those_of_the_cycle_that_they_are_read_as(bytes in proptest::collection::vec(any::<u8>(), 10)) {
        let long = [bytes[0] % 9, 0x80, bytes[2] % 32, bytes[3] % 13, bytes[4] % 6, bytes[5], 0, bytes[7], 0, bytes[9]];
        for bytes in [&bytes[..], &long] {
            if let Some((cycle, rest)) = Cycle::decode(bytes) {
                let mut again = Vec::new();
                cycle.encode(&mut again);
                again.extend_from_slice(rest);
                prop_assert_eq!(&again[..], bytes);
            }
        }
    }

    #[test]
    fn windows_of_any_history_agree_with_the_model_and_tile_time(
        (from, history) in changes(), share in 0.0..1.0_f64,
    ) {
        let entries = entries(&history);
        let until = history.last().unwrap().0 + 6 * history[0].2.half_nominal();
        for want in model::windows(&history, from, until) {
            for at in [want.start, somewhere(want, share), just_before(want.end)] {
                let window = window_in(&entries, at).window;
                prop_assert_eq!(window, want, "{} and not {}", shown(window), shown(want));
            }
        }
    }

    #[test]
    fn no_window_of_a_changed_calendar_is_shorter_than_half_a_period_and_each_change_adds_one_at_most(
        (from, mut history) in changes(),
    ) {
        // The windows of one interval are compared with each other.
        let interval = history[0].2.interval;
        for entry in &mut history {
            entry.2.interval = interval;
        }
        let entries = entries(&history);
        let half = history[0].2.half_nominal();
        let mut window = window_in(&entries, Time(from)).window;
        let first = window.start;
        let mut count = 0;
        while window.start.0 <= history.last().unwrap().0 + 4 * half {
            prop_assert!((window.end - window.start).0 >= half, "{}", shown(window));
            prop_assert!((window.end - window.start).0 <= 4 * half, "{}", shown(window));
            count += 1;
            window = window_in(&entries, window.end).window;
        }
        // February has 28 days, and a day in spring has 23 hours.
        let periods = (window.start - first).0 / (2 * half * 9 / 10) + 1;
        let changes = Millis::try_from(history.len() - 1).unwrap();
        prop_assert!(count <= periods + changes, "{count} windows in {periods} periods");
    }

    #[test]
    fn a_change_has_no_effect_on_windows_that_begin_before_it((from, history) in changes()) {
        let entries = entries(&history);
        for count in 1..entries.len() {
            let at = entries[count].since;
            for at in [Time(from), just_before(at), at] {
                prop_assert_eq!(window_in(&entries[..count], at).window, window_in(&entries, at).window);
            }
        }
    }
}
