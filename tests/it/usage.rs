//! GetUsage says what is left.

use tonic::Code;

use crate::harness::{v1::*, *};

both! {
    async fn limits_that_nobody_touched_are_there(world: World) {
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

    async fn counters_are_as_old_as_the_tenant(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), lifetime("tokens", 1_000)]).await;
        let usage = world.usage("acme").await;
        assert_eq!(millis(usage.balance("day").counted_since.as_ref()), Some(NOON));
        assert_eq!(millis(usage.balance("lifetime").counted_since.as_ref()), Some(NOON));
        world.clock.advance(DAY);
        let usage = world.usage("acme").await;
        assert_eq!(millis(usage.balance("day").counted_since.as_ref()), Some(NOON + 12 * HOUR));
        assert_eq!(millis(usage.balance("lifetime").counted_since.as_ref()), Some(NOON));
    }

    async fn filters_choose_resources_and_subjects(world: World) {
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

    async fn pages_add_up_to_the_whole(world: World) {
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

    async fn what_it_cannot_answer_is_refused(world: World) {
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
