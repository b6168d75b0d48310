//! The table of a bench, printed row by row while the bench runs.

use std::time::Duration;

use super::{
    BenchArgs,
    load::{Figures, Pace},
};
use crate::console::{client::print_line, error::CliError};

/// The rounds measured so far.
#[derive(Debug)]
pub struct Report {
    unit: &'static str,
    /// Whether the server is loaded alone, without a comparison with the empty service.
    alone: bool,
    empty: Vec<Figures>,
    tope: Vec<Figures>,
}

impl Report {
    /// Makes a report without rounds. With `batch`, the rates count operations instead of calls.
    pub fn new(batch: bool, alone: bool) -> Self {
        Self { alone, unit: if batch { "op/s" } else { "rpc/s" }, empty: Vec::new(), tope: Vec::new() }
    }

    /// Prints the load, and the headings of the columns.
    ///
    /// # Errors
    ///
    /// When stdout is closed.
    pub fn print_head(&self, args: &BenchArgs, empty: Option<Pace>, tope: Pace) -> Result<(), CliError> {
        let calls = match args.batch {
            None => "single calls".to_owned(),
            Some(operations) if self.alone => format!("Batch calls of {operations}"),
            Some(operations) => format!("Batch calls of {operations} (the empty service: single calls)"),
        };
        print_line(format_args!(
            "load      {calls}; {}tope {}; {} channels, {} tenants",
            empty.map_or_else(String::new, |empty| format!("empty {}, ", in_words(empty))),
            in_words(tope),
            args.channels,
            args.tenants,
        ))?;
        print_line("")?;
        let columns = |unit: &str| format!("{unit:>12}{:>10}{:>10}", "p50 ms", "p99 ms");
        let (empty, of_empty) = if self.alone { Default::default() } else { ("empty", columns("rpc/s")) };
        print_line(format_args!("{:<8}{empty:^width$}{:^32}", "", "tope", width = of_empty.len()))?;
        print_line(format_args!("{:<8}{of_empty}{}", "round", columns(self.unit)))
    }

    /// Adds a round, and prints its row.
    ///
    /// # Errors
    ///
    /// When stdout is closed.
    pub fn add_round(&mut self, empty: Option<Figures>, tope: Figures) -> Result<(), CliError> {
        let before = self.empty.len();
        self.empty.extend(empty);
        self.tope.push(tope);
        let number = self.tope.len().to_string();
        print_line(row(&number, &self.empty[before..], &self.tope[self.tope.len() - 1..]))
    }

    /// Prints the medians, the errors and the ratio.
    ///
    /// # Errors
    ///
    /// When stdout is closed, or an operation failed for another reason than overload.
    pub fn finish(&self) -> Result<(), CliError> {
        print_line(row("median", &self.empty, &self.tope))?;
        print_line("")?;
        let all = || self.empty.iter().chain(&self.tope);
        let overloaded: u64 = all().map(|figures| figures.overloaded).sum();
        let failed: u64 = all().map(|figures| figures.failed).sum();
        print_line(format_args!("errors    {overloaded} overloaded, {failed} failed"))?;
        if !self.alone {
            print_line(format_args!("ratio {:.2}", self.ratio()))?;
        }
        match all().find_map(|figures| figures.failure.as_ref()) {
            Some(failure) => Err(CliError::new(format!("{failed} operations failed, first: {failure}"))),
            None => Ok(()),
        }
    }

    /// Returns Tope's median rate divided by the median rate of the empty service; 0 if the second rate is 0.
    fn ratio(&self) -> f64 {
        let rate = |figures: &Figures| figures.per_second;
        let (empty, tope) = (median(&self.empty, rate), median(&self.tope, rate));
        if empty > 0.0 { tope / empty } else { 0.0 }
    }
}

/// Converts a duration to milliseconds, for tables.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn in_words(pace: Pace) -> String {
    match pace {
        Pace::Closed(calls) => format!("{calls} in flight"),
        Pace::Open(per_second) => format!("{per_second} a second"),
    }
}

fn row(name: &str, empty: &[Figures], tope: &[Figures]) -> String {
    let cells = |figures: &[Figures]| {
        let rate = median(figures, |figures| figures.per_second);
        let p50 = median(figures, |figures| milliseconds(figures.p50));
        let p99 = median(figures, |figures| milliseconds(figures.p99));
        format!("{rate:>12.0}{p50:>10.3}{p99:>10.3}")
    };
    let of_empty = if empty.is_empty() { String::new() } else { cells(empty) };
    format!("{name:<8}{of_empty}{}", cells(tope))
}

/// Returns the middle value, or the mean of the two middle values; 0 if there are none.
fn median(figures: &[Figures], value: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(per_second: f64) -> Figures {
        Figures {
            per_second,
            p50: Duration::from_millis(1),
            p99: Duration::from_millis(2),
            overloaded: 1,
            failed: 0,
            failure: None,
        }
    }

    #[test]
    fn the_median_is_the_middle_value() {
        let cases: [(&[f64], f64); 4] =
            [(&[], 0.0), (&[3.0], 3.0), (&[9.0, 1.0, 2.0], 2.0), (&[4.0, 1.0, 2.0, 9.0], 3.0)];
        for (rates, expected) in cases {
            let all: Vec<Figures> = rates.iter().map(|rate| figures(*rate)).collect();
            assert!((median(&all, |figures| figures.per_second) - expected).abs() < 1e-9, "{rates:?}");
        }
    }

    #[test]
    fn the_ratio_is_the_ratio_of_the_medians() {
        let mut report = Report::new(false, false);
        assert!(report.ratio().abs() < 1e-9);
        for (empty, tope) in [(100.0, 50.0), (200.0, 60.0), (90.0, 10.0)] {
            report.empty.push(figures(empty));
            report.tope.push(figures(tope));
        }
        assert!((report.ratio() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn overload_is_no_failure_but_a_failed_operation_is() {
        let mut report = Report::new(false, false);
        report.add_round(Some(figures(2.0)), figures(1.0)).expect("stdout");
        assert_eq!(report.finish(), Ok(()));
        let failure = Some("NotFound: gone".to_owned());
        report.add_round(Some(figures(2.0)), Figures { failed: 3, failure, ..figures(1.0) }).expect("stdout");
        assert_eq!(report.finish(), Err(CliError::new("3 operations failed, first: NotFound: gone")));
    }
}
