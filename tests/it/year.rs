//! A year of many tenants, played hour by hour and compared with an independent model.
//!
//! tests/python/year.py makes the operations, and computes what must come out of them with Python's zoneinfo. This file
//! plays the operations with the clock of the test. At each checkpoint it compares the balances (windows, committed
//! figures, `counted_since`) and the windows for which WINDOW_CLOSED was emitted.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::{
    batch::error,
    harness::{
        call::span,
        clients::mask,
        process::{run, said, tool},
        v1::{operation_result::Result as Outcome, *},
        world::plays_full_year,
        *,
    },
};

/// Tenants and operations of the year that every run of the tests plays: a tenth of the full size.
const USUAL: [&str; 2] = ["100", "6000"];

/// Tenants and operations of the full size, which is played if TOPE_TEST_YEAR is `full`. An unoptimised build takes
/// some minutes for it.
const FULL: [&str; 2] = ["1000", "60000"];

/// The seed of the operations.
const SEED: &str = "17";

/// A balance: where its limit comes from, whether the limit is SOFT, agent, team, quantity, units that were carried
/// over, committed, start and end of the window, counted_since.
type Row = (Origin, bool, Option<String>, Option<String>, Option<i64>, i64, i64, [Option<i64>; 3]);

/// The id of a limit, the agent whose plan has the limit, and the override that applies.
type Origin = [String; 3];

/// A window that is over: tenant, start, end, committed, agent, team.
type Over = (String, i64, i64, i64, Option<String>, Option<String>);

/// Makes the operations of the year.
async fn story() -> Vec<Value> {
    let [tenants, operations] = if plays_full_year() { FULL } else { USUAL };
    let mut command = Command::new(tool("TOPE_TEST_PYTHON"));
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/year.py");
    command.arg(program).args([tenants, operations, SEED]);
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).expect("it prints text");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn small(value: &Value, name: &str) -> i32 {
    i32::try_from(value[name].as_i64().unwrap_or_default()).expect("a small number")
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map(|values| values.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Makes a limit of the model a limit of the contract.
fn limit(value: &Value) -> Limit {
    let name = format!("PERIOD_{}", text(value, "period"));
    let period = Period::from_str_name(&name).expect("a period of the contract");
    let mut limit = every(period, value["quantity"].as_i64().expect("a quantity")).named(text(value, "id"));
    limit.agent = text(value, "agent").into();
    limit.origin_date = text(value, "origin").into();
    limit.interval = small(value, "interval");
    limit.anchor_day = small(value, "day");
    limit.anchor_weekday = small(value, "weekday");
    limit.anchor_month = small(value, "month");
    limit.anchor_minute = small(value, "minute");
    if let Some(team) = value["team"].as_str() {
        limit = limit.label("team", team);
    }
    for counted in strings(&value["per"]) {
        limit = if counted == "agent" { limit.per(&[Dimension::Agent]) } else { limit.per_label(counted) };
    }
    if value["soft"] == true {
        limit = limit.soft();
    }
    limit.duration = value["length"].as_i64().map(span);
    if let Some(caps) = value["carry"].as_array() {
        let cap = |place: usize| caps[place].as_i64().expect("a cap");
        let percent = i32::try_from(cap(0)).expect("a percentage");
        limit.carry = Some(Carry { percent, quantity: cap(1) });
    }
    if value["of_tenant"] == true {
        limit = limit.of_tenant();
    }
    limit
}

/// Does what an operator does. Returns false if the line is something else.
async fn operate(world: &World, line: &Value) -> bool {
    if let Some(plan) = line["plan"].as_str().filter(|_| line["limits"].is_array()) {
        let limits: Vec<Limit> = line["limits"].as_array().expect("a list").iter().map(limit).collect();
        if world.plan(plan, &limits).await.is_err() {
            world.change_plan(plan, &limits).await.expect("the plan is there");
        }
    } else if let Some(id) = line["tenant"].as_str() {
        let tenant = Tenant {
            id: id.into(),
            plan: text(line, "plan").into(),
            zone: text(line, "zone").into(),
            anchor_time: line["anchor_time"].as_i64().map(timestamp),
            ..Tenant::default()
        };
        let request = CreateTenantRequest { tenant: Some(tenant) };
        world.admin.clone().create_tenant(request).await.expect("the tenant is new");
    } else if let Some(id) = line["zone"].as_str() {
        world.move_to(id, text(line, "to")).await.expect("the zone is known");
    } else if let Some(id) = line["anchor"].as_str() {
        let anchor_time = line["to"].as_i64().map(timestamp);
        let tenant = Tenant { id: id.into(), anchor_time, ..Tenant::default() };
        world.change_tenant(tenant, &["anchor_time"]).await.expect("the tenant is there");
    } else if let Some(id) = line["move"].as_str() {
        world.set_plan(id, text(line, "to")).await;
    } else if let Some(id) = line["agent"].as_str() {
        change_agent(world, line, id).await;
    } else if let Some(id) = line["override"].as_str() {
        change_override(world, line, id).await;
    } else {
        return false;
    }
    true
}

async fn change_agent(world: &World, line: &Value, id: &str) {
    let (mut admin, tenant, deed) = (world.admin.clone(), text(line, "of"), text(line, "do"));
    let mut agent =
        Agent { tenant: tenant.into(), id: id.into(), plan: text(line, "plan").into(), ..Agent::default() };
    let refused = match deed {
        "create" => admin.create_agent(CreateAgentRequest { agent: Some(agent) }).await.err(),
        "delete" => {
            let request = DeleteAgentRequest { tenant: tenant.into(), id: id.into(), ..Default::default() };
            admin.delete_agent(request).await.err()
        }
        _ => {
            let state = if deed == "suspend" { AgentState::Suspended } else { AgentState::Active };
            agent.state = state.into();
            let update_mask = Some(mask(&[if deed == "update" { "plan" } else { "state" }]));
            admin.update_agent(UpdateAgentRequest { agent: Some(agent), update_mask }).await.err()
        }
    };
    assert!(refused.is_none(), "{line}: {refused:?}");
}

async fn change_override(world: &World, line: &Value, id: &str) {
    let (mut admin, tenant) = (world.admin.clone(), text(line, "of"));
    if text(line, "do") == "delete" {
        let request = DeleteOverrideRequest { tenant: tenant.into(), id: id.into(), ..Default::default() };
        admin.delete_override(request).await.expect("the override is there");
        return;
    }
    let selected = &line["selected"];
    let team = selected["team"].as_str().map(|team| ("team".to_owned(), team.to_owned()));
    let enforcement = if line["soft"] == true { Enforcement::Soft } else { Enforcement::Unspecified };
    let made = Override {
        tenant: tenant.into(),
        id: id.into(),
        limit_id: text(line, "limit").into(),
        agent: selected["agent"].as_str().map(Into::into),
        labels: team.into_iter().collect(),
        quantity: line["quantity"].as_i64(),
        enforcement: enforcement.into(),
        start_time: line["start"].as_i64().map(timestamp),
        end_time: line["end"].as_i64().map(timestamp),
        ..Override::default()
    };
    let made = admin.create_override(CreateOverrideRequest { r#override: Some(made) }).await;
    assert!(made.is_ok(), "{line}: {made:?}");
}

/// Resets usage, and compares the sum of the adjustments.
async fn reset(world: &World, line: &Value) {
    let (resources, limits) = (strings(&line["resources"]), strings(&line["limits"]));
    let reply =
        world.reset_only(text(line, "reset"), &resources, &limits).await.expect("the tenant is there");
    assert_eq!(Some(reply.adjusted.iter().sum::<i64>()), line["adjusted"].as_i64(), "{line}");
}

/// Sends operations in one Batch, and compares which Reserves are granted.
async fn send(world: &World, line: &Value, batch: &[Value]) {
    let mut operations = Vec::new();
    for operation in batch {
        let [tenant, agent, team] = [1, 2, 3].map(|place| operation[place].as_str().expect("a name"));
        let [tokens, other] = [4, 5].map(|place| operation[place].as_i64().expect("a quantity"));
        if operation[0] == "record" {
            let record = world.record(tenant).tokens(tokens).agent(agent);
            let record = if other > 0 { record.amount("images", other) } else { record };
            operations.push(if team.is_empty() { record } else { record.label("team", team) }.operation());
        } else {
            let id = operation[6].as_str().expect("a request id");
            let reserve = world.reserve(tenant).tokens(tokens).agent(agent).id(id);
            operations.push(if team.is_empty() { reserve } else { reserve.label("team", team) }.operation());
            let commit = world.commit("").tokens(other).with(|commit| {
                (commit.tenant, commit.reserve_request_id) = (tenant.into(), id.into());
            });
            operations.push(commit.operation());
        }
    }
    let mut results = world.batch(operations).await.expect("a reply").into_iter();
    for operation in batch {
        let case = format!("{operation} at {}", line["at"]);
        let first = results.next().expect("a result for each operation");
        if operation[0] == "record" {
            assert!(matches!(first.result, Some(Outcome::Record(_))), "{case}: {first:?}");
            continue;
        }
        let second = results.next().expect("a result for each operation");
        if operation[7] == "" {
            assert!(matches!(first.result, Some(Outcome::Reserve(_))), "{case}: {first:?}");
            assert!(matches!(second.result, Some(Outcome::Commit(_))), "{case}: {second:?}");
        } else {
            assert!(matches!(first.result, Some(Outcome::Error(_))), "{case}: {first:?}");
            assert_eq!(operation[7], error(first).reason, "{case}");
            assert_eq!(error(second).reason, "RESERVATION_NOT_FOUND", "{case}");
        }
    }
}

/// Compares the balances of tenants.
async fn check(world: &World, line: &Value) {
    for (tenant, wanted) in line["check"].as_object().expect("balances by tenant") {
        let mut wanted: Vec<Row> = serde_json::from_value(wanted.clone()).expect("rows");
        let mut found: Vec<Row> = world.usage(tenant).await.iter().filter_map(row).collect();
        wanted.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, wanted, "{tenant} at {}", line["at"]);
    }
}

/// Makes a row of a balance. The model leaves out agents, teams and meters with nothing committed.
fn row(balance: &Balance) -> Option<Row> {
    let (agent, team) = (balance.agent.clone(), balance.labels.get("team").cloned());
    assert_eq!(balance.reserved, 0, "every hold is settled: {balance:?}");
    let allowance = balance.quantity.map(|quantity| quantity + balance.carried);
    let remaining = allowance.map(|allowance| (allowance - balance.committed).max(0));
    assert_eq!((balance.allowance, balance.remaining), (allowance, remaining), "{balance:?}");
    if balance.committed == 0 && (agent.is_some() || team.is_some() || balance.limit_id.is_empty()) {
        return None;
    }
    // No rule says since when a meter counts.
    let since = balance.counted_since.as_ref().filter(|_| !balance.limit_id.is_empty());
    let instants = [balance.window_start.as_ref(), balance.window_end.as_ref(), since].map(millis);
    let source = balance.source.clone().unwrap_or_default();
    let origin = [balance.limit_id.clone(), source.agent, source.r#override];
    let soft = balance.enforcement() == Enforcement::Soft;
    Some((origin, soft, agent, team, balance.quantity, balance.carried, balance.committed, instants))
}

/// Closes the windows that are over, and compares the events after a place in the log. Returns the last place.
async fn close(world: &World, line: &Value, after_sequence: i64) -> i64 {
    while world.close_windows().await.counters > 0 {}
    eventually("each event has its place", async || {
        (world.database.number("SELECT COUNT(*) FROM pending_events").await == 0).then_some(())
    })
    .await;
    let kinds = vec![EventKind::WindowClosed.into()];
    let request =
        ListEventsRequest { kinds, after_sequence, page_size: 1_000, ..ListEventsRequest::default() };
    let events = world.all_events(request).await;
    let mut found: Vec<Over> = events
        .iter()
        .map(|event| {
            let balance = &event.balances[0];
            let (start, end) = window(balance);
            let team = balance.labels.get("team").cloned();
            (event.tenant.clone(), start, end, balance.committed, balance.agent.clone(), team)
        })
        .collect();
    let mut wanted: Vec<Over> = serde_json::from_value(line["closed"].clone()).expect("rows");
    found.sort_unstable();
    wanted.sort_unstable();
    let missing: Vec<_> = wanted.iter().filter(|over| found.binary_search(over).is_err()).take(5).collect();
    let surplus: Vec<_> = found.iter().filter(|over| wanted.binary_search(over).is_err()).take(5).collect();
    assert!(found == wanted, "at {}: missing {missing:#?}, surplus {surplus:#?}", line["at"]);
    events.iter().map(|event| event.sequence).max().unwrap_or(after_sequence)
}

both! {
    /// R4.6, R4.15, R4.18, R4.25 to R4.34, R4.41, R4.46, R4.47, R5.7.
    async fn a_year_of_many_tenants_ends_with_the_figures_of_the_model(world: World) {
        let story = story().await;
        let first = story[0]["at"].as_i64().expect("an instant");
        // The clock goes back before the first operation only, so no tenant sees it.
        world.clock.set(first);
        for resource in ["tokens", "images"] {
            world.declare(resource).await;
        }
        let (mut sequence, mut closed) = (0, 0);
        for line in &story {
            world.clock.set(line["at"].as_i64().expect("an instant"));
            if operate(world, line).await {
                continue;
            }
            if let Some(batch) = line["batch"].as_array() {
                send(world, line, batch).await;
            } else if line["reset"].is_string() {
                reset(world, line).await;
            } else if line["check"].is_object() {
                check(world, line).await;
            } else {
                closed += line["closed"].as_array().expect("windows that are over").len();
                sequence = close(world, line, sequence).await;
            }
        }
        assert!(closed > story.len(), "only {closed} windows were closed");
    }
}
