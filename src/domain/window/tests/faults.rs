//! Claims about requests that make no sense: every field at fault is named, with what it must be.

use super::{super::interval_of, *};

const ALL_WRONG: Anchors<'_> = Anchors {
    interval: -1,
    anchor_day: -1,
    anchor_weekday: -1,
    anchor_month: -1,
    anchor_minute: -1,
    origin_date: "tomorrow",
};

fn faults(period: Period, anchors: Anchors) -> Vec<(&'static str, &'static str)> {
    Cycle::new(period, &anchors).err().unwrap_or_default()
}

/// Returns the name of the period in the contract.
fn name(period: Period) -> String {
    format!("PERIOD_{period:?}").to_uppercase()
}

#[test]
fn an_anchor_that_the_period_does_not_have_is_refused() {
    let rows = [
        (Anchors { anchor_day: 1, ..NO_ANCHORS }, "anchor_day", &[Period::Month, Period::Year][..]),
        (Anchors { anchor_weekday: 1, ..NO_ANCHORS }, "anchor_weekday", &[Period::Week]),
        (Anchors { anchor_month: 1, ..NO_ANCHORS }, "anchor_month", &[Period::Year]),
        (
            Anchors { anchor_minute: 1, ..NO_ANCHORS },
            "anchor_minute",
            &[Period::Day, Period::Week, Period::Month, Period::Year],
        ),
    ];
    for (anchors, field, periods) in rows {
        for period in Period::ALL {
            let faults = faults(period, anchors);
            if periods.contains(&period) {
                assert_eq!(faults, [], "{period:?} has {field}");
                continue;
            }
            let &[(at, must_be)] = faults.as_slice() else { panic!("{period:?} {field}: {faults:?}") };
            assert_eq!(at, field);
            assert!(must_be.starts_with("must be 0 unless the period is PERIOD_"), "{must_be}");
            for period in Period::ALL.into_iter().filter(|period| *period != Period::Meter) {
                let is_named = must_be.split([' ', ',']).any(|word| word == name(period));
                assert_eq!(is_named, periods.contains(&period), "{must_be}");
            }
        }
    }
}

#[test]
fn an_anchor_out_of_range_is_refused() {
    let day = |anchor_day| Anchors { anchor_day, ..NO_ANCHORS };
    let weekday = |anchor_weekday| Anchors { anchor_weekday, ..NO_ANCHORS };
    let month = |anchor_month| Anchors { anchor_month, ..NO_ANCHORS };
    let minute = |anchor_minute| Anchors { anchor_minute, ..NO_ANCHORS };
    let out_of_range = |most: i32| [i32::MIN, -1, most + 1, 65_537, i32::MAX];
    for (number, in_range) in out_of_range(31).map(|n| (n, false)).into_iter().chain([(31, true)]) {
        for period in [Period::Month, Period::Year] {
            let want = [("anchor_day", "must be 1 to 31; 0 means 1")];
            assert_eq!(faults(period, day(number)), if in_range { &[][..] } else { &want });
        }
    }
    for number in out_of_range(7) {
        let want = [("anchor_weekday", "must be 1 (Monday) to 7 (Sunday); 0 means 1")];
        assert_eq!(faults(Period::Week, weekday(number)), want);
    }
    for number in out_of_range(12) {
        let want = [("anchor_month", "must be 1 to 12; 0 means 1")];
        assert_eq!(faults(Period::Year, month(number)), want);
    }
    for number in out_of_range(1_439) {
        assert_eq!(faults(Period::Day, minute(number)), [("anchor_minute", "must be 0 to 1,439")]);
    }
    assert_eq!(faults(Period::Week, weekday(7)), []);
    assert_eq!(faults(Period::Year, month(12)), []);
    assert_eq!(faults(Period::Day, minute(1_439)), []);
}

#[test]
fn an_interval_has_bounds_which_its_fault_names() {
    let bounds = [
        (Period::Minute, 1_440, "1,440"),
        (Period::Hour, 1_000, "1,000"),
        (Period::Day, 1_000, "1,000"),
        (Period::Week, 520, "520"),
        (Period::Month, 120, "120"),
        (Period::Year, 100, "100"),
    ];
    for (period, most, text) in bounds {
        for interval in [0, 1, most] {
            assert_eq!(faults(period, every(interval)), []);
            assert!(interval_of(period, interval).is_ok());
        }
        for interval in [i32::MIN, -1, most + 1, 65_537, i32::MAX] {
            let must_be = format!("must be 1 to {text} for {}; 0 means 1", name(period));
            let want = [("interval", must_be.as_str())];
            assert_eq!(faults(period, every(interval)), want);
            assert_eq!(interval_of(period, interval), Err(want[0]));
        }
    }
    for period in [Period::Lifetime, Period::Meter] {
        for interval in [-1, 1, 2] {
            let want = [("interval", "must be 0 for PERIOD_LIFETIME, which has one window")];
            assert_eq!(faults(period, every(interval)), want);
        }
    }
}

#[test]
fn an_origin_is_a_date_and_needs_an_interval() {
    let origin = |interval, origin_date| Anchors { origin_date, ..every(interval) };
    for text in ["1970-01-01", "0001-01-01", "9999-12-31", "2028-02-29", ""] {
        assert_eq!(faults(Period::Day, origin(2, text)), []);
    }
    let wrong = [
        "2026-02-29",
        "2026-13-01",
        "2026-00-10",
        "2026-01-00",
        "0000-01-01",
        "26-01-05",
        "2026-1-5",
        "2026/01/05",
        "2026-01-05T00:00:00Z",
        " 2026-01-05",
        "2026-01-05 ",
        "+026-01-05",
        "2026-W2-12",
        "tomorrow",
        "２０２６",
    ];
    for text in wrong {
        let want = [("origin_date", "must be a date such as 2026-01-05, or empty")];
        assert_eq!(faults(Period::Day, origin(2, text)), want, "{text}");
    }
    for (period, interval) in [(Period::Day, 0), (Period::Minute, 1), (Period::Lifetime, 0)] {
        let want = [("origin_date", "must be empty unless `interval` is 2 or more")];
        assert_eq!(faults(period, origin(interval, "2026-01-05")), want);
    }
}

#[test]
fn every_field_at_fault_is_reported_at_once() {
    let all = ["interval", "anchor_day", "anchor_weekday", "anchor_month", "anchor_minute", "origin_date"];
    for period in Period::ALL {
        let found: Vec<_> = faults(period, ALL_WRONG).into_iter().map(|(field, _)| field).collect();
        assert_eq!(found, all, "{period:?}");
    }
}
