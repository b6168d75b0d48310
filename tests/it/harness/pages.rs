//! Reads the pages of a server's HTTP listener, and checks the text format of Prometheus strictly.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::wait::PATIENCE;

/// The series of a page with their values, by their text, such as `tope_watchers` or `up{job="tope"}`.
pub type Series = BTreeMap<String, f64>;

/// A page of metrics that has the right format.
#[derive(Debug)]
pub struct Metrics {
    /// The values of all series.
    pub series: Series,
    /// The names of the metrics, each with its type.
    pub kinds: BTreeMap<String, String>,
}

/// Asks for a page, and returns its status and its text.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let (head, body) = get_as(address, path, "*/*").await;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body)
}

/// Asks for a page with a key or a JWT, and returns its status and its text.
pub async fn get_with(address: SocketAddr, path: &str, text: &str) -> (u16, String) {
    let accept = format!("*/*\r\nauthorization: Bearer {text}");
    let (head, body) = get_as(address, path, &accept).await;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body)
}

/// Asks for a page in a form, and returns its head and its text. In HTTP/1.0 an answer comes in one piece.
pub async fn get_as(address: SocketAddr, path: &str, accept: &str) -> (String, String) {
    let asked = async {
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\naccept: {accept}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("the server reads");
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).await.expect("the server answers");
        String::from_utf8(bytes).expect("the answer is text")
    };
    let answer = timeout(PATIENCE, asked).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("headers and a body");
    (head.to_owned(), body.to_owned())
}

/// Reads the page of metrics of a server.
pub async fn metrics(address: SocketAddr) -> Metrics {
    let (status, page) = get(address, "/metrics").await;
    assert_eq!(status, 200, "{page}");
    Metrics::parse(&page)
}

impl Metrics {
    /// Parses a page. Fails if it breaks a rule of the format.
    pub fn parse(page: &str) -> Self {
        assert!(page.ends_with('\n'), "the last line has an end");
        let (mut series, mut kinds, mut helped) = (Series::new(), BTreeMap::new(), BTreeSet::new());
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a text");
                assert!(help.ends_with('.') && helped.insert(name.to_owned()), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert!(helped.contains(name), "HELP comes before TYPE: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            } else {
                let (text, value) = line.rsplit_once(' ').expect("a series and a value");
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                let name = text.split('{').next().unwrap_or_default();
                let own = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
                let histogram = own.filter(|own| kinds.get(*own).is_some_and(|kind| kind == "histogram"));
                assert!(kinds.contains_key(histogram.unwrap_or(name)), "no TYPE before {line}");
                assert!(name.starts_with("tope_") || name.starts_with("process_"), "{line}");
                assert!(series.insert(text.to_owned(), value).is_none(), "twice: {line}");
            }
        }
        let metrics = Self { series, kinds };
        metrics.check_histograms();
        metrics
    }

    fn check_histograms(&self) {
        for (text, &all) in self.series.iter().filter(|(text, _)| text.contains("le=\"+Inf\"")) {
            let (name, labels) = text.split_once("_bucket{").expect("a bucket");
            let labels: Vec<&str> =
                labels.trim_end_matches('}').split(',').filter(|label| *label != "le=\"+Inf\"").collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            assert_eq!(self.series.get(&format!("{name}_count{labels}")), Some(&all), "{text}");
            assert!(self.series.contains_key(&format!("{name}_sum{labels}")), "{text}");
        }
    }

    /// Returns the value of a series. 0 if there is none.
    pub fn value(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or(0.0)
    }
}
