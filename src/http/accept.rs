//! Chooses the format of the page of metrics by the header `Accept`.

use http::{HeaderMap, header::ACCEPT};

use crate::metrics::Format;

/// Media types of the text format of Prometheus, beside which OpenMetrics is chosen only if it is wanted as much.
const TEXT_TYPES: [&str; 3] = ["text/plain", "text/*", "*/*"];

const OPENMETRICS_TYPE: &str = "application/openmetrics-text";

/// The versions of OpenMetrics in which the page can be read. The older version has the same lines.
const OPENMETRICS_VERSIONS: [&str; 2] = ["1.0.0", "0.0.1"];

/// Returns OpenMetrics if the client names it and prefers nothing else. Otherwise the text format of Prometheus, also
/// for a client that names neither of them.
pub(super) fn format_for(headers: &HeaderMap) -> Format {
    let (mut text, mut openmetrics) = (0.0, 0.0);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version): (f32, _) = (1.0, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"').to_owned()),
                _ => {}
            }
        }
        if media_type == OPENMETRICS_TYPE {
            if version.is_none_or(|version| OPENMETRICS_VERSIONS.contains(&version.as_str())) {
                openmetrics = quality.max(openmetrics);
            }
        } else if TEXT_TYPES.contains(&media_type.as_str()) {
            text = quality.max(text);
        }
    }
    if openmetrics > 0.0 && openmetrics >= text { Format::OpenMetrics } else { Format::Text }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn openmetrics_is_chosen_only_if_the_client_names_it_and_prefers_nothing_else() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let cases = [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8 , */*", Format::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0, text/plain;q=0.1", Format::Text),
            ("application/openmetrics-text;q=0.2,text/plain;q=0.3", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=high", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("text/html,*/*;q=0.8", Format::Text),
            ("application/json", Format::Text),
            (";;=,,", Format::Text),
            ("", Format::Text),
        ];
        for (accept, format) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).expect("a header"));
            assert_eq!(format_for(&headers), format, "{accept}");
        }
        assert_eq!(format_for(&HeaderMap::new()), Format::Text);
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("text/plain;q=0.5"));
        headers.append(ACCEPT, HeaderValue::from_static("application/openmetrics-text;q=0.6"));
        assert_eq!(format_for(&headers), Format::OpenMetrics, "several headers are one list");
    }
}
