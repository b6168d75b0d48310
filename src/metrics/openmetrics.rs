//! Writes metrics in the text format of OpenMetrics 1.0. The crate `prometheus` writes only the older text format.

use std::fmt::{self, Write};

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// The units that a name may end with.
const UNITS: [&str; 2] = ["seconds", "bytes"];

/// Writes all metrics, and the line that marks the end of the page.
pub(super) fn encode(families: &[MetricFamily]) -> Result<String, fmt::Error> {
    let mut page = String::new();
    for family in families {
        write_family(&mut page, family)?;
    }
    page.push_str("# EOF\n");
    Ok(page)
}

fn write_family(page: &mut String, family: &MetricFamily) -> fmt::Result {
    let (name, kind) = match family.get_field_type() {
        // Only the samples of a counter have the ending.
        MetricType::COUNTER => (family.name().strip_suffix("_total").unwrap_or(family.name()), "counter"),
        MetricType::GAUGE => (family.name(), "gauge"),
        MetricType::HISTOGRAM => (family.name(), "histogram"),
        MetricType::SUMMARY | MetricType::UNTYPED => (family.name(), "unknown"),
    };
    writeln!(page, "# TYPE {name} {kind}")?;
    if let Some(unit) = UNITS.iter().find(|unit| name.rsplit('_').next() == Some(**unit)) {
        writeln!(page, "# UNIT {name} {unit}")?;
    }
    writeln!(page, "# HELP {name} {}", Escaped(family.help()))?;
    for metric in family.get_metric() {
        let labels = metric.get_label();
        match family.get_field_type() {
            MetricType::COUNTER => {
                write_sample(page, name, "_total", labels, None, metric.get_counter().get_value())?;
            }
            MetricType::GAUGE => write_sample(page, name, "", labels, None, metric.get_gauge().get_value())?,
            MetricType::HISTOGRAM => write_histogram(page, name, metric)?,
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }
    Ok(())
}

fn write_histogram(page: &mut String, name: &str, metric: &Metric) -> fmt::Result {
    let (labels, histogram) = (metric.get_label(), metric.get_histogram());
    for bucket in histogram.get_bucket() {
        // OpenMetrics writes the whole number 1 as 1.0 here.
        let bound = format!("{:?}", bucket.upper_bound());
        write_sample(page, name, "_bucket", labels, Some(&bound), bucket.cumulative_count() as f64)?;
    }
    let count = histogram.get_sample_count() as f64;
    write_sample(page, name, "_bucket", labels, Some("+Inf"), count)?;
    write_sample(page, name, "_sum", labels, None, histogram.get_sample_sum())?;
    write_sample(page, name, "_count", labels, None, count)
}

/// Writes one line. `bound` is the upper bound of a bucket.
fn write_sample(
    page: &mut String,
    name: &str,
    ending: &str,
    labels: &[LabelPair],
    bound: Option<&str>,
    value: f64,
) -> fmt::Result {
    write!(page, "{name}{ending}")?;
    let labels =
        labels.iter().map(|label| (label.name(), label.value())).chain(bound.map(|text| ("le", text)));
    let mut separator = '{';
    for (label, value) in labels {
        write!(page, "{separator}{label}=\"{}\"", Escaped(value))?;
        separator = ',';
    }
    if separator == ',' {
        page.push('}');
    }
    writeln!(page, " {value}")
}

/// A text in which backslashes, quotation marks and ends of lines are escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => formatter.write_str("\\\\")?,
                '"' => formatter.write_str("\\\"")?,
                '\n' => formatter.write_str("\\n")?,
                c => formatter.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::{super::make, *};

    #[test]
    fn a_page_has_the_format_of_openmetrics() {
        let registry = Registry::new();
        make::counter(&registry, "a_seconds_total", "A \"counter\".").inc_by(7);
        make::counter_of(&registry, "b_total", "B.", &["x"]).with_label_values(&["\\ \"\n"]).inc();
        make::gauge_of(&registry, "c", "C.", &[]).with_label_values::<&str>(&[]).set(0.5);
        let histogram = make::histogram_of(&registry, "d_bytes", "D.", &["y"], &[0.25, 1.0]);
        for value in [0.25, 0.5, 3.0] {
            histogram.with_label_values(&["z"]).observe(value);
        }
        let expected = r##"# TYPE a_seconds counter
# UNIT a_seconds seconds
# HELP a_seconds A \"counter\".
a_seconds_total 7
# TYPE b counter
# HELP b B.
b_total{x="\\ \"\n"} 1
# TYPE c gauge
# HELP c C.
c 0.5
# TYPE d_bytes histogram
# UNIT d_bytes bytes
# HELP d_bytes D.
d_bytes_bucket{y="z",le="0.25"} 1
d_bytes_bucket{y="z",le="1.0"} 2
d_bytes_bucket{y="z",le="+Inf"} 3
d_bytes_sum{y="z"} 3.75
d_bytes_count{y="z"} 3
# EOF
"##;
        assert_eq!(encode(&registry.gather()).expect("a page"), expected);
    }
}
