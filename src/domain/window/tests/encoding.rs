//! Claims about the bytes that stand for cycles in keys.

use super::*;

fn bytes(cycle: Cycle) -> Vec<u8> {
    let mut bytes = Vec::new();
    cycle.encode(&mut bytes);
    bytes
}

#[test]
fn the_cycles_that_keys_had_before_keep_their_two_bytes() {
    assert_eq!(bytes(Cycle::METER), [0, 0]);
    assert_eq!(bytes(Cycle::plain(Period::Day)), [3, 0]);
    assert_eq!(bytes(Cycle::plain(Period::Lifetime)), [7, 0]);
    for day in 1..=31 {
        assert_eq!(bytes(months_from(day)), [5, u8::try_from(day).unwrap()]);
    }
}

#[test]
fn a_cycle_with_at_most_one_anchor_takes_two_bytes_and_any_other_takes_ten() {
    let rows: [(Cycle, &[u8]); 9] = [
        (Cycle::plain(Period::Minute), &[1, 0]),
        (Cycle::plain(Period::Hour), &[2, 0]),
        (weeks_from(7), &[4, 7]),
        (years_from(1, 31), &[6, 31]),
        (years_from(2, 29), &[6, 0x80, 29, 2, 0, 0, 0, 1, 0, 0]),
        (days_from(4, 0), &[3, 0x80, 0, 0, 0, 240, 0, 1, 0, 0]),
        (cycle(Period::Minute, every(15)), &[1, 0x80, 0, 0, 0, 0, 0, 15, 0, 0]),
        (
            cycle(Period::Week, Anchors { origin_date: "2026-01-19", anchor_weekday: 5, ..every(2) }),
            &[4, 0x80, 5, 0, 0, 0, 0, 2, 0, 1],
        ),
        (
            Cycle::of_anchor_time(Period::Hour, 1_000, Tz::UTC, Time(59_999 * MINUTE)),
            &[2, 0x80, 0, 0, 0, 0, 3, 232, 234, 95],
        ),
    ];
    for (cycle, want) in rows {
        assert_eq!(bytes(cycle), want, "{cycle:?}");
        assert_eq!(Cycle::decode(want), Some((cycle, &[][..])));
    }
}

#[test]
fn origins_that_are_whole_intervals_apart_make_the_same_cycle() {
    let week = |origin_date| cycle(Period::Week, Anchors { origin_date, ..every(2) });
    assert_eq!(week(""), week("1970-01-05"));
    assert_eq!(week("2026-01-05"), week("2026-01-19"));
    assert_eq!(week("2026-01-05"), week("2026-01-11"), "a Sunday is in the week of its Monday");
    assert_ne!(week("2026-01-05"), week("2026-01-12"));
}

#[test]
fn bytes_that_no_cycle_has_are_refused() {
    let rows: [&[u8]; 24] = [
        &[],
        &[3],
        &[8, 0],
        &[3, 1],
        &[4, 0],
        &[4, 8],
        &[5, 0],
        &[5, 32],
        &[6, 0x81],
        &[7, 0x80, 0, 0, 0, 0, 0, 2, 0, 0],
        &[7, 0x81, 0, 0, 0, 0, 0, 1, 0, 0],
        // A cycle that has two bytes must not have ten, too.
        &[5, 0x80, 15, 0, 0, 0, 0, 1, 0, 0],
        &[3, 0x80, 0, 0, 5, 160, 0, 1, 0, 0],
        &[3, 0x80, 0, 0, 0, 0, 0, 0, 0, 0],
        &[3, 0x80, 0, 0, 0, 0, 3, 233, 0, 0],
        &[3, 0x80, 0, 0, 0, 0, 0, 3, 0, 3],
        &[6, 0x80, 1, 13, 0, 0, 0, 1, 0, 0],
        &[3, 0x80, 0, 0, 0, 240, 0, 1, 0],
        // A cycle of ROLLING has no short form, and its duration is a minute to 400 days in whole seconds.
        &[8, 0],
        &[8, 0x81, 0, 0, 0, 0, 0, 0, 0xea, 0x60],
        &[8, 0x80, 0, 0, 0, 0, 0, 0, 0xea, 0x5f],
        &[8, 0x80, 0, 0, 0, 0, 0, 0, 0xea, 0x61],
        &[8, 0x80, 0, 0, 0, 8, 0x0b, 0xef, 0xc3, 0xe8],
        &[8, 0x80, 0, 0, 0, 0, 0, 0, 0xea],
    ];
    for bytes in rows {
        assert_eq!(Cycle::decode(bytes), None, "{bytes:?}");
    }
}

#[test]
fn a_duration_is_read_as_it_was_written() {
    for duration in [Span::minutes(1), Span::hours(5), Span::days(400)] {
        let cycle = Cycle::rolling(duration).expect("it is in the bounds");
        assert_eq!(Cycle::decode(&bytes(cycle)), Some((cycle, &[][..])));
        assert_eq!(cycle.nominal_length(), duration);
    }
    for duration in [Span(60_001), Span::seconds(59), Span(400 * Span::days(1).0 + 1_000)] {
        assert_eq!(Cycle::rolling(duration).expect_err("it is out of the bounds").0, "duration");
    }
}

#[test]
fn each_two_bytes_that_are_a_cycle_are_the_bytes_of_that_cycle() {
    let mut count = 0;
    for first in 0..=u8::MAX {
        for second in 0..=u8::MAX {
            if let Some((cycle, rest)) = Cycle::decode(&[first, second]) {
                assert_eq!((bytes(cycle).as_slice(), rest), (&[first, second][..], &[][..]));
                count += 1;
            }
        }
    }
    assert_eq!(
        count,
        5 + 7 + 31 + 31,
        "five without an anchor, weekdays, and days of months and of Januaries"
    );
}
