//! GetUsage returns the balances of a tenant.

use tonic::Code;

use crate::harness::{v1::*, *};

both! {
    async fn unused_limits_without_per_have_balances(world: World) {
        let limits = [
            day("tokens", 100),
            month("tokens", 1_000).anchor(10),
            lifetime("requests", 5).soft(),
            day("tokens", 10).agent("planner").named("planner"),
            day("tokens", 10).per(&[Dimension::User]).named("each"),
        ];
        world.tenant_with("acme", &limits).await;
        let usage = world.usage("acme").await;
        let mut ids: Vec<&str> = usage.iter().map(|balance| balance.limit_id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["day", "lifetime", "month", "planner"], "a limit with per has no counter yet");
        assert!(usage.iter().all(|balance| figures(balance) == (0, 0)));
        assert_eq!(usage.balance("planner").agent.as_deref(), Some("planner"));
        assert_eq!(usage.balance("lifetime").enforcement(), Enforcement::Soft);
        assert_eq!(usage.balance("lifetime").window_end, None);
        assert_eq!(usage.balance("day").remaining, Some(100));
        let month = usage.balance("month");
        assert_eq!(month.period(), Period::Month);
        assert_eq!(millis(month.window_start.as_ref()), Some(NOON - 12 * HOUR - 6 * DAY), "10 March");
        assert_eq!(millis(month.window_end.as_ref()), Some(NOON - 12 * HOUR + 25 * DAY), "10 April");
    }

    async fn counted_since_is_when_the_tenant_was_created_or_the_window_began(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), lifetime("tokens", 1_000)]).await;
        let usage = world.usage("acme").await;
        assert_eq!(millis(usage.balance("day").counted_since.as_ref()), Some(NOON));
        assert_eq!(millis(usage.balance("lifetime").counted_since.as_ref()), Some(NOON));
        world.clock.advance(DAY);
        let usage = world.usage("acme").await;
        assert_eq!(millis(usage.balance("day").counted_since.as_ref()), Some(NOON + 12 * HOUR));
        assert_eq!(millis(usage.balance("lifetime").counted_since.as_ref()), Some(NOON));
    }

    async fn get_usage_can_select_resources_and_subjects(world: World) {
        let limits = [
            day("tokens", 1_000),
            day("tokens", 100).per(&[Dimension::Agent]).named("each"),
            day("tokens", 50).agent("planner").named("planner"),
            day("requests", 10).named("calls"),
        ];
        world.tenant_with("acme", &limits).await;
        for agent in ["planner", "coder", ""] {
            world.record("acme").tokens(5).agent(agent).await.expect("it is recorded");
        }
        let read = async |resources: &[&str], agent: Option<&str>| {
            let call = world.get_usage("acme").with(|request| {
                request.resources = resources.iter().map(|&resource| resource.into()).collect();
                request.agent = agent.map(Into::into);
            });
            let mut found: Vec<(String, Option<String>)> = call
                .await
                .expect("the tenant is there")
                .balances
                .into_iter()
                .map(|balance| (balance.limit_id, balance.agent))
                .collect();
            found.sort_unstable();
            found
        };
        let of = |id: &str, agent: Option<&str>| (id.to_owned(), agent.map(str::to_owned));
        assert_eq!(read(&["requests"], None).await, [of("calls", None)]);
        assert_eq!(read(&["requests", "tokens"], None).await.len(), 6);
        assert_eq!(
            read(&["tokens"], Some("planner")).await,
            [of("day", None), of("each", Some("planner")), of("planner", Some("planner"))]
        );
        assert_eq!(read(&["tokens"], Some("")).await, [of("day", None), of("each", Some(""))]);
        assert_eq!(read(&["tokens"], Some("nobody")).await, [of("day", None)]);
    }

    async fn pages_of_balances_add_up_to_the_whole_list(world: World) {
        let limits = [day("tokens", 1_000), lifetime("tokens", 100).per(&[Dimension::User]).named("each")];
        world.tenant_with("acme", &limits).await;
        world.declare("storage_bytes").await;
        world.record("acme").amount("storage_bytes", 1).await.expect("it is metered");
        for user in 0..60 {
            world.record("acme").tokens(1).user(&format!("u{user:02}")).await.expect("it is recorded");
        }
        let whole = world.usage("acme").await;
        assert_eq!(whole.len(), 62);
        let first = world.get_usage("acme").await.expect("the tenant is there");
        assert_eq!(first.balances.len(), 50, "the default");
        assert!(!first.next_page_token.is_empty());
        for size in [1, 7, 31, 61, 62, 63, 1_000] {
            let mut call = world.get_usage("acme").with(|request| request.page_size = size);
            let mut read = Vec::new();
            loop {
                let page = call.clone().await.expect("the tenant is there");
                assert!(page.balances.len() <= usize::try_from(size).expect("positive"));
                read.extend(page.balances);
                if page.next_page_token.is_empty() {
                    break;
                }
                call.request.page_token = page.next_page_token;
            }
            assert_eq!(read, whole, "pages of {size}");
        }
    }

    /// If a page token were accepted after such a change, a balance could be missing or appear twice.
    async fn a_page_token_is_refused_after_the_listed_limits_have_changed(world: World) {
        let three = [
            lifetime("tokens", 100).named("a"),
            lifetime("tokens", 50).per(&[Dimension::User]).named("b"),
            lifetime("tokens", 200).agent("planner").named("c"),
        ];
        let [a, b, c] = three.clone();
        let z = day("tokens", 1_000).named("z");
        let changes: [(&str, Vec<Limit>); 6] = [
            ("one is taken out", vec![b.clone(), c.clone()]),
            ("one is put in front", vec![z.clone(), a.clone(), b.clone(), c.clone()]),
            ("one is put behind", vec![a.clone(), b.clone(), c.clone(), z.clone()]),
            ("two change places", vec![b.clone(), a.clone(), c.clone()]),
            ("one has another name", vec![a.clone().named("y"), b.clone(), c.clone()]),
            ("one has another shape", vec![a.clone(), b.clone().model("m"), c.clone()]),
        ];
        world.tenant_with("acme", &three).await;
        world.plan("other", &[]).await.expect("the plan is new");
        for user in ["u0", "u1", "u2", "u3"] {
            world.record("acme").tokens(1).user(user).await.expect("it is recorded");
        }
        let whole = world.usage("acme").await;
        assert_eq!(whole.len(), 6);
        let paged = |token: &str| {
            world.get_usage("acme").with(|request| {
                (request.page_size, request.page_token) = (1, token.into());
            })
        };
        for pages in 1..whole.len() {
            let mut token = String::new();
            for _ in 0..pages {
                token = paged(&token).await.expect("the list has this page").next_page_token;
            }
            for (change, limits) in &changes {
                world.change_plan("acme", limits).await.expect("the plan exists");
                let no = paged(&token).await.expect_err(change);
                no.names(&["page_token"]);
                assert!(no.faults[0].1.contains("start again"), "{no:?}");
            }
            world.set_plan("acme", "other").await;
            paged(&token).await.expect_err("another plan").names(&["page_token"]);
            world.change_plan("acme", &three).await.expect("the plan exists");
            world.set_plan("acme", "acme").await;
        }
    }

    /// Quantities, figures and other plans may change.
    async fn a_page_token_stays_valid_after_other_changes(world: World) {
        let limits = |quantity| [
            lifetime("tokens", quantity).named("a"),
            lifetime("tokens", 50).per(&[Dimension::User]).named("b"),
            lifetime("tokens", 200).named("c"),
        ];
        world.tenant_with("acme", &limits(100)).await;
        world.record("acme").tokens(1).user("u0").await.expect("it is recorded");
        let mut call = world.get_usage("acme").with(|request| request.page_size = 1);
        let mut read = Vec::new();
        for page in 0.. {
            let reply = call.clone().await.expect("the token is good");
            read.extend(reply.balances.into_iter().map(|balance| balance.limit_id));
            if reply.next_page_token.is_empty() {
                break;
            }
            call.request.page_token = reply.next_page_token;
            world.plan(&format!("p{page}"), &[]).await.expect("the plan is new");
            world.change_plan("acme", &limits(200 + page)).await.expect("the plan exists");
            world.record("acme").tokens(1).user("u0").await.expect("it is recorded");
        }
        assert_eq!(read, ["a", "b", "c"]);
    }

    /// The next day has other counters than this day.
    async fn a_page_token_is_refused_after_a_listed_window_has_ended(world: World) {
        world.tenant_with("acme", &[day("tokens", 100).per(&[Dimension::User])]).await;
        for user in ["u0", "u1", "u2"] {
            world.record("acme").tokens(1).user(user).await.expect("it is recorded");
        }
        let first = world.get_usage("acme").with(|request| request.page_size = 1);
        let token = first.await.expect("the list has this page").next_page_token;
        let second = || world.get_usage("acme").with(|request| request.page_token = token.clone());
        world.clock.advance(HOUR);
        assert_eq!(second().await.expect("it is the same day").balances.len(), 2);
        world.clock.advance(DAY);
        for user in ["u0", "u1"] {
            world.record("acme").tokens(1).user(user).await.expect("it is recorded");
        }
        second().await.expect_err("another day").names(&["page_token"]);
    }

    async fn invalid_get_usage_requests_are_refused(world: World) {
        world.tenant_with("acme", &[day("tokens", 1)]).await;
        let no = world.get_usage("nobody").await.expect_err("there is none");
        no.is(Code::NotFound, "TENANT_NOT_FOUND");
        world.get_usage("").await.expect_err("no tenant").names(&["tenant"]);
        let undeclared = world.get_usage("acme").with(|request| request.resources = vec!["tokenz".into()]);
        undeclared.await.expect_err("undeclared").names(&["resources[0]"]);
        for size in [-1, 1_001] {
            let call = world.get_usage("acme").with(|request| request.page_size = size);
            call.await.expect_err("out of bounds").names(&["page_size"]);
        }
        let garbage = world.get_usage("acme").with(|request| request.page_token = "garbage".into());
        garbage.await.expect_err("not a token").names(&["page_token"]);
    }
}
