//! The bodies of webhooks. Each body fits the published schema.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::{Value, json};
use tope::clock::system_now;

use crate::{
    harness::{
        clients::done,
        process::{run, said, tool},
        receiver::Answer,
        v1::*,
        *,
    },
    webhooks::webhook,
};

/// Checks bodies against the published schema, and returns the faults of each.
async fn faults_of(bodies: &[Value]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bodies.json");
    std::fs::write(&file, serde_json::to_vec(bodies).expect("they are JSON"))
        .expect("the folder can be written to");
    let mut command = Command::new(tool("TOPE_TEST_PYTHON"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/schema.py")).arg(&file);
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
    let faults: Vec<Vec<String>> = serde_json::from_slice(&output.stdout).expect("the script prints JSON");
    assert_eq!(faults.len(), bodies.len());
    faults
}

#[tokio::test]
async fn the_schema_refuses_invalid_bodies() {
    let test = json!({
        "type": "test", "timestamp": "2026-11-24T00:00:00.000Z", "data": { "webhook": { "id": "chat" } }
    });
    let spoilt: [fn(&mut Value); 9] = [
        |body| body["type"] = "nonsense".into(),
        |body| body["type"] = "limit_reached".into(),
        |body| body["timestamp"] = "yesterday".into(),
        |body| body["data"] = json!({}),
        |body| body["data"]["webhook"]["id"] = 7.into(),
        |body| body["data"]["balances"] = json!([{ "resource": "tokens" }]),
        |body| body["data"]["sequence"] = 7.into(),
        |body| body["data"]["requested"] = json!("9.2e18"),
        |body| body["data"]["adjusted"] = json!("-0"),
    ];
    let mut bodies = vec![test.clone()];
    bodies.extend(spoilt.map(|spoil| {
        let mut body = test.clone();
        spoil(&mut body);
        body
    }));
    let faults = faults_of(&bodies).await;
    assert_eq!(faults[0], Vec::<String>::new());
    for (body, faults) in bodies.iter().zip(faults).skip(1) {
        assert!(!faults.is_empty(), "{body}");
    }
}

/// Lists the numbers in a body that JavaScript may round: all numbers that are no int32.
pub fn bare_numbers(path: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Number(_) if ["percent", "generation", "kind"].iter().any(|small| path.ends_with(small)) => {
            vec![]
        }
        Value::Number(number) => vec![format!("{path}: {number}")],
        Value::Array(values) => values.iter().flat_map(|value| bare_numbers(path, value)).collect(),
        Value::Object(fields) => {
            fields.iter().flat_map(|(name, value)| bare_numbers(&format!("{path}.{name}"), value)).collect()
        }
        Value::Null | Value::Bool(_) | Value::String(_) => vec![],
    }
}

both! {
    async fn int64_figures_are_strings_so_that_javascript_does_not_round_them(world: World) {
        world.clock.set(system_now().0);
        let receiver = Receiver::start().await;
        webhook(world, "all", &receiver.url(), &[EventKind::LimitReached]).await;
        const LARGE: i64 = (1 << 53) + 1;
        world.tenant_with("acme", &[day("tokens", LARGE)]).await;
        world.record("acme").tokens(LARGE).await.expect("it is recorded");
        let post = eventually("it is notified", async || {
            for job in ["number-events", "deliver-webhooks"] {
                world.job(job).await;
            }
            receiver.posts().pop()
        })
        .await;
        let data = &post.json()["data"];
        let balance = &data["balances"][0];
        let large = "9007199254740993";
        assert_eq!((&balance["committed"], &balance["allowance"]), (&large.into(), &large.into()), "{data:#}");
        assert_eq!((&balance["quantity"], &balance["reserved"]), (&large.into(), &"0".into()), "{data:#}");
        assert_eq!((&data["tenant_sequence"], &data["percent"]), (&"2".into(), &100.into()), "{data:#}");
    }

    async fn every_kind_of_body_fits_the_schema(world: World) {
        world.clock.set(system_now().0);
        let receiver = Receiver::start().await;
        webhook(world, "all", &receiver.url(), &[]).await;
        let gone = Receiver::answering(|_| Answer::Status(410)).await;
        webhook(world, "gone", &gone.url(), &[EventKind::UsageReset]).await;
        let request = TestWebhookRequest { id: "all".into() };
        assert!(done(world.admin.clone().test_webhook(request).await).expect("the webhook exists").succeeded);
        let limits = [
            day("tokens", 100).thresholds(&[50]),
            lifetime("tokens", 1_000).thresholds(&[5]).per(&[Dimension::Agent]),
        ];
        world.tenant_with("acme", &limits).await;
        let hold = world.reserve("acme").tokens(10).agent("planner").id("r").ttl(MINUTE).await.expect("quota");
        world.record("acme").tokens(60).agent("planner").await.expect("it is recorded");
        world.record("acme").tokens(-30).agent("planner").await.expect("it is recorded");
        world.clock.advance(MINUTE);
        world.commit(hold.name()).tokens(9).await.expect("it is kept");
        world.record("acme").tokens(200).agent("planner").await.expect("it is recorded");
        world.reserve("acme").tokens(10).agent("planner").await.expect_err("there is no quota");
        world.reset("acme", &["tokens"]).await.expect("the tenant is there");
        world.clock.advance(2 * DAY);
        let kinds = tope::domain::event_kind::EventKind::ALL.map(|kind| kind.name().to_ascii_lowercase());
        let wanted: BTreeSet<String> = kinds.into_iter().chain(["test".to_owned()]).collect();
        world.database.execute("UPDATE counters SET committed = committed + 1").await;
        world.run_job("verify-sample").await.expect("it runs");
        world.database.execute("UPDATE counters SET committed = committed - 1").await;
        let mut missing = BTreeSet::new();
        eventually("events of all kinds arrive", async || {
            for job in ["close-windows", "number-events", "deliver-webhooks"] {
                world.job(job).await;
            }
            let kind = |post: &Post| post.json()["type"].as_str().map(str::to_owned);
            let received: BTreeSet<String> = receiver.posts().iter().filter_map(kind).collect();
            missing = wanted.difference(&received).cloned().collect();
            missing.is_empty().then_some(())
        })
        .await;
        let bodies: Vec<Value> = receiver.posts().iter().map(Post::json).collect();
        for (body, faults) in bodies.iter().zip(faults_of(&bodies).await) {
            assert!(faults.is_empty(), "{body:#}: {faults:#?}");
            assert_eq!(bare_numbers("", body), Vec::<String>::new(), "{body:#}");
        }
    }
}
