//! R4.6: more windows of days and longer periods, one row each. Python's zoneinfo computed the instants.

use crate::harness::{v1::*, *};

/// A time zone, a period, its interval and anchors, an instant, and the start and the end of the window that contains
/// it.
const ROWS: [&str; 38] = [
    "Pacific/Auckland DAY 2026-04-04T20:00:00Z 2026-04-04T11:00:00Z 2026-04-05T12:00:00Z",
    "Pacific/Auckland DAY 2026-09-26T20:00:00Z 2026-09-26T12:00:00Z 2026-09-27T11:00:00Z",
    "Pacific/Chatham DAY 2026-03-16T11:00:00Z 2026-03-16T10:15:00Z 2026-03-17T10:15:00Z",
    "Asia/Kathmandu DAY 2026-03-16T18:14:59Z 2026-03-15T18:15:00Z 2026-03-16T18:15:00Z",
    "Asia/Kathmandu DAY 2026-03-16T18:15:00Z 2026-03-16T18:15:00Z 2026-03-17T18:15:00Z",
    "America/St_Johns DAY 2026-03-08T12:00:00Z 2026-03-08T03:30:00Z 2026-03-09T02:30:00Z",
    "America/St_Johns DAY 2026-11-01T12:00:00Z 2026-11-01T02:30:00Z 2026-11-02T03:30:00Z",
    "America/Santiago DAY 2026-09-06T12:00:00Z 2026-09-06T04:00:00Z 2026-09-07T03:00:00Z",
    "America/Santiago DAY 2026-04-04T12:00:00Z 2026-04-04T03:00:00Z 2026-04-05T04:00:00Z",
    "Atlantic/Azores DAY 2026-03-29T12:00:00Z 2026-03-29T01:00:00Z 2026-03-30T00:00:00Z",
    "Pacific/Kiritimati DAY 2026-03-16T10:00:00Z 2026-03-16T10:00:00Z 2026-03-17T10:00:00Z",
    "Pacific/Pago_Pago DAY 2026-03-16T10:59:59Z 2026-03-15T11:00:00Z 2026-03-16T11:00:00Z",
    "America/New_York DAY minute=150 2026-03-08T12:00:00Z 2026-03-08T07:00:00Z 2026-03-09T06:30:00Z",
    "America/New_York DAY minute=90 2026-11-01T05:45:00Z 2026-11-01T05:30:00Z 2026-11-02T06:30:00Z",
    "America/New_York DAY minute=90 2026-11-01T06:45:00Z 2026-11-01T05:30:00Z 2026-11-02T06:30:00Z",
    "Europe/London DAY minute=60 2026-10-25T01:10:00Z 2026-10-25T00:00:00Z 2026-10-26T01:00:00Z",
    "Europe/Lisbon DAY minute=1439 2026-03-29T12:00:00Z 2026-03-28T23:59:00Z 2026-03-29T22:59:00Z",
    "UTC DAY interval=10 2026-03-16T12:00:00Z 2026-03-08T00:00:00Z 2026-03-18T00:00:00Z",
    "America/New_York DAY interval=2 2026-03-08T12:00:00Z 2026-03-08T05:00:00Z 2026-03-10T04:00:00Z",
    "Europe/Berlin WEEK 2026-03-29T12:00:00Z 2026-03-22T23:00:00Z 2026-03-29T22:00:00Z",
    "Europe/Berlin WEEK 2026-10-25T12:00:00Z 2026-10-18T22:00:00Z 2026-10-25T23:00:00Z",
    "Asia/Tokyo WEEK weekday=3 2026-03-18T12:00:00Z 2026-03-17T15:00:00Z 2026-03-24T15:00:00Z",
    "UTC WEEK 2026-01-01T00:00:00Z 2025-12-29T00:00:00Z 2026-01-05T00:00:00Z",
    "UTC WEEK weekday=3 minute=360 2026-03-18T05:59:59Z 2026-03-11T06:00:00Z 2026-03-18T06:00:00Z",
    "UTC WEEK interval=4 2026-03-18T12:00:00Z 2026-03-16T00:00:00Z 2026-04-13T00:00:00Z",
    "UTC MONTH day=29 2028-02-29T12:00:00Z 2028-02-29T00:00:00Z 2028-03-29T00:00:00Z",
    "UTC MONTH day=30 2027-02-28T12:00:00Z 2027-02-28T00:00:00Z 2027-03-30T00:00:00Z",
    "UTC MONTH day=29 2100-02-28T12:00:00Z 2100-02-28T00:00:00Z 2100-03-29T00:00:00Z",
    "Asia/Tokyo MONTH 2026-02-28T15:00:00Z 2026-02-28T15:00:00Z 2026-03-31T15:00:00Z",
    "America/New_York MONTH day=31 minute=120 2026-03-31T12:00:00Z 2026-03-31T06:00:00Z 2026-04-30T06:00:00Z",
    "America/New_York MONTH day=8 minute=150 2026-03-08T06:59:59Z 2026-02-08T07:30:00Z 2026-03-08T07:00:00Z",
    "America/New_York MONTH day=8 minute=150 2026-03-08T07:00:00Z 2026-03-08T07:00:00Z 2026-04-08T06:30:00Z",
    "UTC MONTH interval=6 2026-12-31T23:59:59Z 2026-07-01T00:00:00Z 2027-01-01T00:00:00Z",
    "UTC MONTH interval=2 day=31 2026-08-31T00:00:00Z 2026-07-31T00:00:00Z 2026-09-30T00:00:00Z",
    "Europe/Berlin YEAR month=3 day=29 minute=120 2026-03-29T00:59:59Z 2025-03-29T01:00:00Z 2026-03-29T01:00:00Z",
    "UTC YEAR month=2 day=29 2028-02-29T00:00:00Z 2028-02-29T00:00:00Z 2029-02-28T00:00:00Z",
    "Pacific/Auckland YEAR 2026-12-31T11:00:00Z 2026-12-31T11:00:00Z 2027-12-31T11:00:00Z",
    "UTC YEAR interval=10 month=7 2026-03-16T00:00:00Z 2020-07-01T00:00:00Z 2030-07-01T00:00:00Z",
];

/// Makes the limit that these words describe.
fn limit(period: &str, words: &[&str]) -> Limit {
    let period = Period::from_str_name(&format!("PERIOD_{period}")).expect("a period of the contract");
    words.iter().fold(every(period, 10), |limit, word| {
        let (name, number) = word.split_once('=').expect("a name and a number");
        let number = number.parse().expect("a small number");
        match name {
            "interval" => Limit { interval: number, ..limit },
            "day" => Limit { anchor_day: number, ..limit },
            "weekday" => Limit { anchor_weekday: number, ..limit },
            "month" => Limit { anchor_month: number, ..limit },
            "minute" => Limit { anchor_minute: number, ..limit },
            other => panic!("no anchor: {other}"),
        }
    })
}

both! {
    async fn a_row_of_the_calendar_is_a_window(world: World) {
        for (number, row) in ROWS.into_iter().enumerate() {
            let words: Vec<&str> = row.split_whitespace().collect();
            let [zone, period, anchors @ .., now, start, end] = &words[..] else { panic!("too short: {row}") };
            world.clock.set(at(now));
            let tenant = format!("t{number}");
            world.tenant_in(&tenant, zone, &[limit(period, anchors)]).await;
            let reply = world.record(&tenant).tokens(10).await.expect("it is recorded");
            assert_eq!(window(reply.balance("limit")), (at(start), at(end)), "{row}");
            world.clock.set(at(end) - 1);
            world.reserve(&tenant).tokens(1).await.expect_err("the window runs").is_quota(&["limit"]);
            world.clock.set(at(end));
            assert_eq!(world.figures(&tenant, "limit").await, (0, 0), "{row}");
        }
    }
}
