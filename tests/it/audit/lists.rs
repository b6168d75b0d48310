//! Pages of the audit, its filters, its retention, and changes on two servers.

use std::collections::BTreeSet;

use tope::config::Config;

use super::{all, changes, page};
use crate::harness::{clients::done, v1::*, world::settings, *};

/// Adds this number of changes of the caller `c` from the year 1970, without a change of anything.
async fn add_old(world: &World, count: u32) {
    let numbers = format!(
        "INSERT INTO changes (id, changed_at, caller, address, rpc, kind, thing, tenant, before, after, request_id)
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "
    );
    let id = match world.database.kind() {
        Kind::Sqlite => "unhex(printf('%032x', n))",
        Kind::Postgres => "('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid",
    };
    let select = format!("SELECT {id}, 0, 'c', '', 'R', 1, 't', '', '', '', '' FROM numbers");
    world.database.execute(&format!("{numbers}{select}")).await;
}

/// Creates this number of resources, a second apart.
async fn resources(world: &World, names: std::ops::Range<usize>) {
    for name in names {
        world.resource(&format!("r{name}")).await.expect("it is new");
        world.clock.advance(SECOND);
    }
}

both! {
    /// R8.5: a page begins where the page before ended, whatever is added meanwhile.
    async fn pages_are_stable_while_changes_are_added(world: World) {
        resources(world, 0..7).await;
        let expected: Vec<String> = (0..7).rev().map(|name| format!("r{name}")).collect();
        let (mut found, mut page_token, mut next) = (Vec::new(), String::new(), 100);
        loop {
            let request = ListChangesRequest { page_size: 2, page_token, ..ListChangesRequest::default() };
            let reply = page(world, request).await.expect("a page");
            found.extend(reply.changes.into_iter().map(|change| change.thing));
            if reply.next_page_token.is_empty() {
                break;
            }
            page_token = reply.next_page_token;
            world.clock.advance(SECOND);
            resources(world, next..next + 1).await;
            next += 1;
        }
        assert_eq!(found, expected);
    }

    async fn filters_choose_changes_and_belong_to_their_page_tokens(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.clock.advance(MINUTE);
        world.set_state("acme", TenantState::Suspended).await;
        world.job("prune").await;
        let none = ListChangesRequest::default;
        let minute = Some(timestamp(NOON + MINUTE));
        let acme = ListChangesRequest { tenant: "acme".into(), ..none() };
        let cases: [(ListChangesRequest, &[&str]); 10] = [
            (none(), &["RunJob", "UpdateTenant", "CreateTenant", "CreatePlan", "CreateResource"]),
            (acme.clone(), &["UpdateTenant", "CreateTenant"]),
            (ListChangesRequest { kind: ChangeKind::Plan.into(), ..none() }, &["CreatePlan"]),
            (ListChangesRequest { thing: "acme".into(), ..none() }, &["UpdateTenant", "CreateTenant", "CreatePlan"]),
            (ListChangesRequest { thing: "acme".into(), ..acme.clone() }, &["UpdateTenant", "CreateTenant"]),
            (ListChangesRequest { rpc: "CreateTenant".into(), ..none() }, &["CreateTenant"]),
            (ListChangesRequest { caller: "key:nobody".into(), ..none() }, &[]),
            (ListChangesRequest { caller: "local".into(), ..acme.clone() }, &["UpdateTenant", "CreateTenant"]),
            (ListChangesRequest { start_time: minute, ..none() }, &["RunJob", "UpdateTenant"]),
            (ListChangesRequest { end_time: minute, ..acme.clone() }, &["CreateTenant"]),
        ];
        for (filter, expected) in cases {
            for page_size in [1, 2, 1_000] {
                let found = changes(world, &filter, page_size).await;
                let rpcs: Vec<&str> = found.iter().map(|change| change.rpc.as_str()).collect();
                assert_eq!(rpcs, expected, "{filter:?} by {page_size}");
            }
        }
        let first = page(world, ListChangesRequest { page_size: 1, ..none() }).await.expect("a page");
        let other = ListChangesRequest { page_token: first.next_page_token, ..acme };
        page(world, other).await.expect_err("the filter is another").names(&["page_token"]);
        let wrong = ListChangesRequest {
            tenant: "a".repeat(129),
            kind: 99,
            thing: "a".repeat(1_025),
            caller: "\n".into(),
            rpc: "a".repeat(129),
            start_time: minute,
            end_time: Some(timestamp(NOON)),
            page_size: 1_001,
            page_token: "?".into(),
        };
        let fields = ["tenant", "rpc", "thing", "caller", "kind", "end_time", "page_size", "page_token"];
        page(world, wrong).await.expect_err("all are wrong").names(&fields);
    }

    /// R8.6: changes are removed after their retention, which is that of events unless it is set.
    async fn old_changes_are_pruned(world: World) {
        let prune = async |world: &World| world.job("prune-events").await["changes"];
        resources(world, 0..3).await;
        world.clock.set(NOON + 30 * DAY - 1);
        assert_eq!(prune(world).await, 0);
        world.clock.set(NOON + 30 * DAY + SECOND);
        assert_eq!(prune(world).await, 2, "two are 30 days old");
        let config = Config { audit_retention_days: 60, ..settings(world.database.url()) };
        world.restart_with(config).await;
        world.clock.set(NOON + 60 * DAY + SECOND);
        assert_eq!(prune(world).await, 0);
        let things: BTreeSet<String> = all(world).await.into_iter().map(|change| change.thing).collect();
        assert_eq!(things, ["prune-events", "r2"].map(str::to_owned).into());
        world.clock.set(NOON + 60 * DAY + 2 * SECOND);
        assert_eq!(prune(world).await, 1);
    }

    async fn more_changes_than_one_step_removes_are_pruned(world: World) {
        resources(world, 0..2).await;
        add_old(world, 1_200).await;
        assert_eq!(world.job("prune-events").await["changes"], 1_200);
        assert_eq!(all(world).await.len(), 3);
    }

    /// A search is divided into pages that read a bounded number of changes, even if they find none.
    async fn a_page_is_bounded_in_what_it_reads_and_in_what_it_has(world: World) {
        add_old(world, 9_000).await;
        let of_nobody = |page_token| ListChangesRequest {
            caller: "c".into(),
            rpc: "UpdatePlan".into(),
            page_size: 1_000,
            page_token,
            ..ListChangesRequest::default()
        };
        let (mut pages, mut page_token) = (0, String::new());
        loop {
            let reply = page(world, of_nobody(page_token)).await.expect("a page");
            assert!(reply.changes.is_empty(), "{reply:?}");
            pages += 1;
            page_token = reply.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(pages, 3, "a page reads at most 4,000 changes");

        world.resource("tokens").await.expect("it is new");
        let limit = |number: i64| day("tokens", number).named(&format!("{number:0>128}"));
        let limits = |first: i64| (first..first + 64).map(limit).collect::<Vec<_>>();
        world.plan("large", &limits(1)).await.expect("it is new");
        for first in 2..80 {
            world.change_plan("large", &limits(first)).await.expect("it is there");
        }
        let plans = ListChangesRequest { kind: ChangeKind::Plan.into(), page_size: 1_000, ..Default::default() };
        let first = page(world, plans.clone()).await.expect("a page");
        let bytes: usize = first.changes.iter().map(|change| change.before.len() + change.after.len()).sum();
        assert!((2 << 20..3 << 20).contains(&bytes) && !first.next_page_token.is_empty(), "{bytes}");
        let whole = changes(world, &plans, 1_000).await;
        assert_eq!((whole.len(), &whole[..first.changes.len()]), (79, &first.changes[..]));
    }

    /// R8.1: changes on two servers are in one audit, each once.
    async fn changes_of_two_servers_are_in_one_audit(world: World) {
        if world.database.kind() == Kind::Sqlite {
            return;
        }
        world.resource("tokens").await.expect("it is new");
        let (other, clients) = world.replica().await;
        let make = async |clients: &Clients, name: String| {
            for number in 0..10 {
                clients.plan(&format!("{name}{number}"), &[day("tokens", 1)]).await.expect("it is new");
            }
        };
        tokio::join!(make(world.clients(), "a".into()), make(&clients, "b".into()));
        let here = all(world).await;
        assert_eq!(here, all(&clients).await);
        let ids: BTreeSet<&String> = here.iter().map(|change| &change.id).collect();
        assert_eq!((here.len(), ids.len()), (21, 21));
        let mut revisions: Vec<i64> = here.iter().map(|change| change.revision).collect();
        revisions.sort_unstable();
        assert_eq!(revisions, (1..=21).collect::<Vec<i64>>());
        other.shutdown().await;
    }

    /// R8.1: if the row cannot be written, the change is not made either.
    async fn a_change_without_its_row_is_not_made(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let charge = world.record("acme").tokens(40).await.expect("it is recorded");
        let before = all(world).await;
        world.database.execute("ALTER TABLE changes RENAME TO elsewhere").await;
        world.resource("other").await.expect_err("its row cannot be written");
        world.amend(charge.name()).tokens(1).await.expect_err("its row cannot be written");
        world.reset("acme", &[]).await.expect_err("its row cannot be written");
        world.run_job("prune").await.expect_err("its row cannot be written");
        world.database.execute("ALTER TABLE elsewhere RENAME TO changes").await;
        assert_eq!(world.figures("acme", "day").await, (40, 0));
        let listed = done(world.admin.clone().list_resources(ListResourcesRequest::default()).await).expect("a page");
        assert_eq!(listed.resources.len(), 1);
        assert_eq!(all(world).await, before);
    }
}
