//! The HTTP listener: liveness, readiness, and metrics for Prometheus.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
};

use futures::future::join_all;
use http::uri::PathAndQuery;
use tonic::{Code, Request, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use crate::{
    harness::{
        clients::serving,
        database::{scratch_folder, sqlite_url},
        pages::{Metrics, get, get_as, metrics},
        postgres::{self, Cluster, free_port},
        process::{run, said, tope},
        v1::*,
        *,
    },
    webhooks::{deliver, happen, of_resets, prepare},
};

/// Checks that the value of a series has grown by this number.
fn grew(before: &Metrics, after: &Metrics, series: &str, by: f64) {
    let (before, after) = (before.value(series), after.value(series));
    assert!(
        (after - before - by).abs() < f64::EPSILON,
        "{series}: {before}, then {after}, expected {by} more"
    );
}

fn is(page: &Metrics, series: &str, value: f64) {
    let found = page.series.get(series);
    assert!(
        found.is_some_and(|found| (found - value).abs() < f64::EPSILON),
        "{series} is {found:?}, not {value}"
    );
}

/// Does a little of all that has a metric.
async fn use_everything(world: &World) {
    prepare(world).await;
    world.tenant_with("small", &[lifetime("tokens", 100)]).await;
    let receiver = Receiver::start().await;
    of_resets(world, "chat", &receiver).await;
    happen(world, 1).await;
    eventually("it is delivered", async || {
        deliver(world).await;
        (!receiver.posts().is_empty()).then_some(())
    })
    .await;
    world.reserve("small").tokens(101).await.expect_err("the limit refuses it");
    world.job("verify-sample").await;
}

both! {
    async fn counters_rise_by_exactly_what_was_done(world: World) {
        let address = world.restart_with_http().await;
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        world.reserve("acme").tokens(1).ttl(HOUR).await.expect("there is quota");
        let before = metrics(address).await;
        is(&before, "tope_holds_open", 1.0);
        is(&before, "tope_deliveries_pending", 0.0);
        is(&before, "tope_delivery_oldest_pending_seconds", 0.0);
        is(&before, "tope_database_up", 1.0);
        is(&before, "tope_serving", 1.0);
        is(&before, "tope_watchers", 0.0);
        is(&before, "tope_lane_queue_operations{lane=\"0\"}", 0.0);

        let settled = world.reserve("acme").tokens(100).await.expect("there is quota");
        world.commit(settled.name()).tokens(90).await.expect("it is held");
        for _ in 0..3 {
            world.reserve("acme").tokens(5_000).await.expect_err("the limit refuses it").is(
                Code::ResourceExhausted,
                "QUOTA_EXCEEDED",
            );
        }
        world.release("nonsense").await.expect_err("there is none");
        let records = (0..5).map(|_| world.record("acme").tokens(1).operation());
        world.batch(records.collect()).await.expect("a reply");
        world.reserve("nobody").tokens(1).await.expect_err("there is no such tenant");
        world.reserve("acme").tokens(7).ttl(MINUTE).await.expect("there is quota");
        world.clock.advance(2 * MINUTE);
        world.job("expire-holds").await;
        let after = metrics(address).await;
        let operations = |kind: &str, outcome: &str| {
            format!("tope_operations_total{{kind=\"{kind}\",outcome=\"{outcome}\"}}")
        };
        grew(&before, &after, &operations("reserve", "ok"), 2.0);
        grew(&before, &after, &operations("reserve", "quota_exceeded"), 3.0);
        grew(&before, &after, &operations("reserve", "refused"), 1.0);
        grew(&before, &after, &operations("commit", "ok"), 1.0);
        grew(&before, &after, &operations("record", "ok"), 5.0);
        grew(&before, &after, &operations("check", "ok"), 0.0);
        grew(&before, &after, &operations("sweep", "ok"), 1.0);
        grew(&before, &after, "tope_refusals_total{limit=\"lifetime\"}", 3.0);
        grew(&before, &after, "tope_holds_expired_total", 1.0);
        let calls = |code: &str, method: &str| {
            let method = format!("tope.v1.QuotaService/{method}");
            format!("tope_rpc_duration_seconds_count{{code=\"{code}\",method=\"{method}\"}}")
        };
        grew(&before, &after, &calls("OK", "Reserve"), 2.0);
        grew(&before, &after, &calls("RESOURCE_EXHAUSTED", "Reserve"), 3.0);
        grew(&before, &after, &calls("NOT_FOUND", "Reserve"), 1.0);
        grew(&before, &after, &calls("OK", "Commit"), 1.0);
        grew(&before, &after, &calls("OK", "Batch"), 1.0);
        grew(&before, &after, "tope_job_runs_total{name=\"expire-holds\",outcome=\"succeeded\"}", 1.0);
        is(&after, "tope_rpcs_in_flight", 0.0);
        let began = (NOON + 2 * MINUTE) as f64 / 1_000.0;
        let last = "tope_job_last_run_timestamp_seconds{name=\"expire-holds\",outcome=\"succeeded\"}";
        is(&after, last, began);
        let batches = "tope_batch_operations_sum";
        let decided: f64 = after.series.iter().filter(|(text, _)| text.starts_with("tope_operations_total")).map(|(_, value)| value).sum();
        is(&after, batches, decided);

        eventually("each event has its place", async || {
            let page = metrics(address).await;
            let written = page.value("tope_events_written_total");
            (written > 0.0 && (written - page.value("tope_events_numbered_total")).abs() < 0.5).then_some(())
        })
        .await;
    }

    async fn a_watch_counts_while_it_is_open_and_a_delivery_when_it_was_tried(world: World) {
        let address = world.restart_with_http().await;
        use_everything(world).await;
        let page = metrics(address).await;
        assert!(page.value("tope_delivery_attempts_total{outcome=\"succeeded\"}") >= 1.0, "{page:?}");
        is(&page, "tope_delivery_attempts_total{outcome=\"failed\"}", 0.0);
        is(&page, "tope_books_faults", 0.0);
        assert!(page.value("tope_books_verified_timestamp_seconds") > 1_700_000_000.0);
        let watcher = world.watch(everything()).await.expect("it begins");
        eventually("it is counted", async || {
            (metrics(address).await.value("tope_watchers") > 0.5).then_some(())
        })
        .await;
        is(&metrics(address).await, "tope_rpcs_in_flight", 1.0);
        drop(watcher);
        let ended = "tope_rpc_duration_seconds_count{code=\"CANCELLED\",method=\"tope.v1.QuotaService/WatchUsage\"}";
        eventually("it is gone", async || {
            let page = metrics(address).await;
            (page.value("tope_watchers") < 0.5 && page.value(ended) > 0.5).then_some(())
        })
        .await;
        is(&metrics(address).await, "tope_rpcs_in_flight", 0.0);
    }

    async fn the_table_of_metrics_lists_every_metric_with_its_type(world: World) {
        let address = world.restart_with_metrics(3).await;
        use_everything(world).await;
        let page = metrics(address).await;
        let table = include_str!("../../docs/operating.md");
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| {
            let mut cells = row.split(" | ");
            let name = cells.next()?.strip_suffix('`')?;
            (name.starts_with("tope_") || name.starts_with("process_")).then_some((name, cells.next()?))
        });
        let listed: Vec<(&str, &str)> = rows.collect();
        let exposed: Vec<(&str, &str)> =
            page.kinds.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
        let missing: Vec<_> = exposed.iter().filter(|metric| !listed.contains(metric)).collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
        // Only a server with TLS, or with JWTs, has them, which `tls.rs` and `access/jwks.rs` show.
        let others = ["tope_tls_certificate_expiry_timestamp_seconds", "tope_jwks_reads_total", "tope_jwks_keys"];
        let gone = listed.iter().filter(|metric| !exposed.contains(metric) && !others.contains(&metric.0));
        let gone: Vec<_> = gone.collect();
        assert!(gone.is_empty(), "no server has them: {gone:?}");
    }

    async fn no_label_has_a_tenant_unless_the_busiest_are_asked_for(world: World) {
        let address = world.restart_with_http().await;
        use_everything(world).await;
        let named = |page: &Metrics| -> Vec<String> {
            page.series.keys().filter(|text| text.contains("small") || text.contains("acme")).cloned().collect()
        };
        assert_eq!(named(&metrics(address).await), Vec::<String>::new());
        let address = world.restart_with_metrics(2).await;
        world.tenant_with("busy", &[lifetime("tokens", 100)]).await;
        for (tenant, records) in [("small", 1), ("acme", 6), ("busy", 3)] {
            for _ in 0..records {
                world.record(tenant).tokens(1).await.expect("it is recorded");
            }
        }
        let hold = world.reserve("busy").tokens(5).await.expect("there is quota");
        world.release(hold.name()).await.expect("it is held");
        world.reserve("busy").tokens(500).await.expect_err("the limit refuses it");
        world.commit(hold.name()).tokens(1).await.expect_err("it was released");
        for number in 0..20 {
            world.reserve(&format!("nobody-{number}")).tokens(1).await.expect_err("there is no such tenant");
        }
        let page = metrics(address).await;
        let shown: Vec<_> = page.series.iter().filter(|(text, _)| text.starts_with("tope_tenant_")).collect();
        let series = |tenant: &str, outcome: &str| {
            format!("tope_tenant_operations_total{{outcome=\"{outcome}\",tenant=\"{tenant}\"}}")
        };
        let expected = [
            (&series("acme", "ok"), &6.0),
            (&series("busy", "ok"), &5.0),
            (&series("busy", "quota_exceeded"), &1.0),
            (&series("busy", "refused"), &1.0),
        ];
        assert_eq!(shown.len(), expected.len(), "{shown:?}");
        assert!(expected.iter().all(|row| shown.contains(row)), "{shown:?}");
        assert!(named(&page).iter().all(|text| text.starts_with("tope_tenant_")), "{page:?}");
    }

    async fn openmetrics_has_the_same_series_as_the_text_of_prometheus(world: World) {
        let address = world.restart_with_metrics(3).await;
        use_everything(world).await;
        let page = metrics(address).await;
        let (head, text) = get_as(address, "/metrics", "application/openmetrics-text; version=1.0.0").await;
        let content_type = "\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(head.contains(content_type), "{head}");
        assert!(text.ends_with("\n# EOF\n"), "{text}");
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        let series: BTreeSet<&str> = series.map(|(series, _)| series).filter(|text| !text.contains("le=")).collect();
        let expected = page.series.keys().map(String::as_str).filter(|text| !text.contains("le="));
        let lost: Vec<_> = expected.filter(|text| !series.contains(text)).collect();
        assert!(lost.is_empty() && !series.is_empty(), "{lost:?} of {series:?}");
        let kinds = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert!(kinds >= page.kinds.len(), "{text}");
    }

    async fn rpcs_that_do_not_exist_do_not_make_the_page_longer(world: World) {
        let address = world.restart_with_http().await;
        wrong_rpc(&world.channel, "/tope.v1.QuotaService/First").await;
        let before = metrics(address).await;
        let paths: Vec<String> = (0..1_000).map(|number| format!("/tope.v{number}.Service/Rpc{number}")).collect();
        for paths in paths.chunks(100) {
            join_all(paths.iter().map(|path| wrong_rpc(&world.channel, path))).await;
        }
        let after = metrics(address).await;
        let unknown = "tope_rpc_duration_seconds_count{code=\"UNIMPLEMENTED\",method=\"(unknown)\"}";
        grew(&before, &after, unknown, 1_000.0);
        let new: Vec<_> = after.series.keys().filter(|text| !before.series.contains_key(*text)).collect();
        assert!(new.iter().all(|text| text.starts_with("tope_transaction_")), "{new:?}");
    }
}

async fn wrong_rpc(channel: &Channel, path: &str) {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("it is connected");
    let path = PathAndQuery::try_from(path).expect("a path");
    let codec = ProstCodec::<GetResourceRequest, Resource>::default();
    let answer = client.unary(Request::new(GetResourceRequest::default()), path, codec).await;
    assert_eq!(answer.expect_err("there is no such rpc").code(), Code::Unimplemented);
}

on_both! {
    async fn two_servers_in_one_process_have_separate_figures(kind: Kind) {
        let (mut one, mut other) = (World::start(kind).await, World::start(kind).await);
        let (address, other_address) = (one.restart_with_http().await, other.restart_with_http().await);
        one.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        one.record("acme").tokens(1).await.expect("it is recorded");
        let records = "tope_operations_total{kind=\"record\",outcome=\"ok\"}";
        is(&metrics(address).await, records, 1.0);
        is(&metrics(other_address).await, records, 0.0);
        one.end().await;
        other.end().await;
    }
}

/// Starts a server with an HTTP listener, and returns the address of the listener.
fn start(database: &str, folder: &std::path::Path) -> (Process, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    (Process::start(database, folder, &["--http", &address.to_string()]), address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readyz_is_503_while_the_database_is_away() {
    let folder = scratch_folder();
    let port = free_port();
    let mut cluster = Cluster::start(port);
    let (process, address) = start(&postgres::url(port, "postgres"), folder.path());
    serving(&process.connect().await).await;
    assert_eq!(get(address, "/readyz").await, (200, "ok\n".to_owned()));
    is(&metrics(address).await, "tope_database_up", 1.0);
    cluster.stop();
    let away = eventually("it is not ready", async || {
        let (status, reason) = get(address, "/readyz").await;
        (status == 503).then_some(reason)
    })
    .await;
    assert_eq!(away, "the database is unavailable\n");
    assert_eq!(get(address, "/livez").await, (200, "ok\n".to_owned()));
    let page = metrics(address).await;
    is(&page, "tope_database_up", 0.0);
    is(&page, "tope_serving", 0.0);
    assert!(!page.series.contains_key("tope_holds_open"), "an old figure would look as if it were true");
    cluster.resume();
    eventually("it is ready", async || (get(address, "/readyz").await.0 == 200).then_some(())).await;
    is(&metrics(address).await, "tope_holds_open", 0.0);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_can_be_off_and_names_an_address_that_is_in_use() {
    let folder = scratch_folder();
    let url = sqlite_url(&folder.path().join("tope.db"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound address").to_string();
    let mut command = tope();
    let listen = format!("127.0.0.1:{}", free_port());
    command.args(["serve", "--listen", &listen, "--database", &url, "--http", &address]);
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let error = said(&output);
    assert!(error.contains(&address) && error.contains("`http`") && error.contains("in use"), "{error}");
    let process = Process::start(&url, folder.path(), &["--http", "off"]);
    serving(&process.connect().await).await;
    assert!(!process.log().contains("/metrics"), "{}", process.log());
    process.stop().await;
    let mut command = tope();
    command.args(["serve", "--http", "here"]);
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("--http") && said(&output).contains("or off"), "{}", said(&output));
}
