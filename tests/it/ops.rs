//! The files of the folder `ops`: the alerts, the sample configuration and the dashboard, with a real Prometheus.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::harness::{
    database::{scratch_folder, sqlite_url},
    pages::get,
    postgres::free_port,
    process::{run, said, tool},
    *,
};

/// What Grafana puts into the queries of the dashboard.
const VARIABLES: [(&str, &str); 3] = [("$__rate_interval", "1m"), ("$job", "tope"), ("$instance", ".*")];

const RULES: &str = include_str!("../../ops/rules.yml");

fn ops() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ops"))
}

fn promtool() -> Command {
    Command::new(tool("TOPE_TEST_PROMETHEUS_BIN").join("promtool"))
}

/// Returns the names of all alerts.
fn alerts() -> Vec<&'static str> {
    RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_accepts_the_alerts_and_the_configuration_and_the_tests_of_the_alerts_pass() {
    let orders: [&[&str]; 3] = [
        &["check", "rules", "rules.yml"],
        &["check", "config", "prometheus.yml"],
        &["test", "rules", "rules.test.yml"],
    ];
    for order in orders {
        let mut command = promtool();
        command.current_dir(ops()).args(order);
        let output = run(command).await;
        assert!(output.status.success(), "{order:?}: {}", said(&output));
    }
}

#[test]
fn each_alert_has_a_test_and_a_row_in_the_documents() {
    let (tests, document) =
        (include_str!("../../ops/rules.test.yml"), include_str!("../../docs/operating.md"));
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: Vec<&str> = rows.filter(|name| name.starts_with("Tope")).collect();
    assert_eq!(listed, alerts());
    let untested = alerts().into_iter().filter(|alert| !tests.contains(&format!("alertname=\"{alert}\"")));
    assert_eq!(untested.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn alerts_and_dashboard_name_only_metrics_that_are_documented() {
    let document = include_str!("../../docs/operating.md");
    let queries = queries();
    let texts = queries.iter().map(|(_, query)| query.as_str()).chain([RULES]);
    let names = texts.flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let metrics: Vec<&str> =
        names.filter(|name| name.starts_with("tope_") || name.starts_with("process_")).collect();
    assert!(metrics.len() > 60, "{metrics:?}");
    let is_listed = |name: &&str| {
        let own = ["_bucket", "_sum", "_count", ""].into_iter().filter_map(|end| name.strip_suffix(end));
        own.into_iter().any(|name| document.contains(&format!("| `{name}` |")))
    };
    assert_eq!(metrics.into_iter().filter(|name| !is_listed(name)).collect::<Vec<_>>(), Vec::<&str>::new());
}

/// Returns the queries of all panels, each with the title of its panel.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(include_str!("../../ops/grafana.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let of_panel = |panel: &Value| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.iter().map(|target| (text(&panel["title"]), text(&target["expr"]))).collect::<Vec<_>>()
    };
    panels.iter().flat_map(of_panel).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_scrapes_a_server_and_each_query_of_the_dashboard_finds_something() {
    let folder = scratch_folder();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let http = address.to_string();
    let arguments = ["--http", &http, "--metrics-tenants", "5"];
    let url = sqlite_url(&folder.path().join("tope.db"));
    let (process, channel) = Process::serving(&url, folder.path(), &arguments).await;
    let clients = Clients::of(channel);
    clients.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
    clients.job("verify-sample").await;
    for _ in 0..3 {
        clients.reserve("acme").tokens(10).await.expect("there is quota");
    }
    clients.reserve("acme").tokens(5_000).await.expect_err("the limit refuses it");
    check_page(&get(address, "/metrics").await.1);

    let mut prometheus = Prometheus::start(folder.path(), address);
    let listen = prometheus.listen;
    eventually("prometheus listens", async || tokio::net::TcpStream::connect(listen).await.ok()).await;
    let reserves = "sum(tope_operations_total{job=\"tope\",kind=\"reserve\",outcome=\"ok\"})";
    eventually("the query finds the three Reserves", async || {
        (query(listen, reserves).await.first()?["value"][1] == "3").then_some(())
    })
    .await;
    for (panel, text) in queries() {
        let text = VARIABLES.iter().fold(text, |text, (name, value)| text.replace(name, value));
        eventually(&format!("{panel}: {text} finds something"), async || {
            (!query(listen, &text).await.is_empty()).then_some(())
        })
        .await;
    }
    eventually("all rules were evaluated", async || {
        let rules = ask(listen, "/api/v1/rules").await;
        let rules = rules["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        let is_ok = |rule: &Value| rule["health"] == "ok";
        (rules.len() == alerts().len() && rules.iter().all(is_ok)).then_some(())
    })
    .await;
    let firing = query(listen, "ALERTS{alertstate=\"firing\"}").await;
    assert!(firing.is_empty(), "{firing:?}");
    prometheus.kill();
    process.stop().await;
}

/// Lets promtool check the page of metrics, by the conventions of Prometheus.
fn check_page(page: &str) {
    let mut checking = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    checking.stdin.take().expect("it is piped").write_all(page.as_bytes()).expect("it reads");
    let checked = checking.wait_with_output().expect("it ends");
    assert!(checked.status.success(), "{}", said(&checked));
}

/// Asks Prometheus for JSON.
async fn ask(prometheus: SocketAddr, path: &str) -> Value {
    let (_, answer) = get(prometheus, path).await;
    serde_json::from_str(&answer).unwrap_or_default()
}

/// Returns the series that a query finds. Fails if the query is wrong.
async fn query(prometheus: SocketAddr, text: &str) -> Vec<Value> {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let encoded: String = text.bytes().map(encode).collect();
    let answer = ask(prometheus, &format!("/api/v1/query?query={encoded}")).await;
    assert_ne!(answer["status"], "error", "{text}: {answer}");
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

/// A Prometheus that scrapes a server each second, with the alerts of this folder. It is killed when it is dropped.
struct Prometheus {
    child: Child,
    listen: SocketAddr,
}

impl Prometheus {
    fn start(folder: &Path, server: SocketAddr) -> Self {
        let sample = fs::read_to_string(ops().join("prometheus.yml")).expect("the sample is there");
        let config = sample
            .replace("127.0.0.1:50052", &server.to_string())
            .replace("15s", "1s")
            .replace("- rules.yml", &format!("- {}", ops().join("rules.yml").display()));
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).expect("the folder can be written to");
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = Command::new(tool("TOPE_TEST_PROMETHEUS_BIN").join("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("series").display()))
            .arg(format!("--web.listen-address={listen}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus runs");
        Self { child, listen }
    }

    fn kill(&mut self) {
        // An error only means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.kill();
    }
}
