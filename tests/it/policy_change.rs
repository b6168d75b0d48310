//! R4.7: a change of the policy binds every operation that begins after the change was acknowledged.

use std::future::IntoFuture;

use sea_orm::ConnectionTrait;

use crate::{batch::error, harness::*};

both! {
    async fn a_raised_limit_grants_more_at_once(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.reserve("acme").tokens(100).await.expect("there is quota");
        for quantity in 101..120 {
            world.reserve("acme").tokens(1).await.expect_err("it is used up").is_quota(&["day"]);
            world.change_plan("acme", &[day("tokens", quantity)]).await.expect("the plan is there");
            let reply = world.reserve("acme").tokens(1).await.expect("one more");
            assert_eq!(reply.balance("day").allowance, Some(quantity));
        }
    }

    async fn a_limit_lowered_below_the_usage_does_not_change_open_holds(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(30).await.expect("it is recorded");
        let hold = world.reserve("acme").tokens(50).await.expect("there is quota");
        world.change_plan("acme", &[day("tokens", 10)]).await.expect("the plan is there");
        let balance = world.usage("acme").await.balance("day").clone();
        assert_eq!(figures(&balance), (30, 50));
        assert_eq!((balance.allowance, balance.remaining, balance.exceeded), (Some(10), Some(0), true));
        world.reserve("acme").tokens(1).await.expect_err("80 of 10").is_quota(&["day"]);
        world.extend(hold.name()).tokens(1).await.expect_err("80 of 10").is_quota(&["day"]);
        world.extend(hold.name()).ttl(HOUR).await.expect("time is not what is limited");
        let reply = world.commit(hold.name()).tokens(45).await.expect("it is held");
        assert_eq!(reply.figures("day"), (75, 0));
    }

    async fn usage_survives_a_change_of_plan(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), month("tokens", 1_000)]).await;
        world.plan("pro", &[day("tokens", 500).named("daily"), lifetime("tokens", 9)]).await.expect("the plan is new");
        let hold = world.reserve("acme").tokens(60).await.expect("there is quota");
        world.record("acme").tokens(40).await.expect("it is recorded");
        world.reserve("acme").tokens(1).await.expect_err("it is used up").is_quota(&["day"]);

        world.set_plan("acme", "pro").await;
        let usage = world.usage("acme").await;
        assert_eq!(usage.figures("daily"), (40, 60), "the same shape, the same counter");
        assert_eq!(usage.figures("lifetime"), (0, 0), "a new shape counts from now on");
        assert_eq!(usage.len(), 2);
        world.commit(hold.name()).tokens(50).await.expect("it is held");
        assert_eq!(world.figures("acme", "daily").await, (90, 0));

        world.set_plan("acme", "acme").await;
        assert_eq!(world.figures("acme", "day").await, (90, 0), "and back");
    }

    /// `counted_since` is the instant at which the limit was added.
    async fn a_limit_of_a_new_shape_counts_since_it_was_added(world: World) {
        world.tenant_with("acme", &[month("tokens", 1_000)]).await;
        world.record("acme").tokens(300).await.expect("it is recorded");
        world.clock.advance(HOUR);
        let limits = [month("tokens", 1_000), day("tokens", 100)];
        world.change_plan("acme", &limits).await.expect("the plan is there");
        let usage = world.usage("acme").await;
        assert_eq!(usage.figures("day"), (0, 0));
        assert_eq!(millis(usage.balance("day").counted_since.as_ref()), Some(NOON + HOUR));
        assert_eq!(millis(usage.balance("month").counted_since.as_ref()), Some(NOON), "it is as it was");
        let reply = world.reserve("acme").tokens(100).await.expect("the day has counted nothing yet");
        assert_eq!(reply.figures("day"), (0, 100));
        // The next window counts since its start.
        world.clock.advance(DAY);
        let usage = world.usage("acme").await;
        assert_eq!(millis(usage.balance("day").counted_since.as_ref()), Some(NOON + 12 * HOUR));
    }

    /// The limit was added after the hold was made.
    async fn a_new_limit_bounds_an_extend_of_an_old_hold(world: World) {
        world.tenant_with("acme", &[month("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(300).await.expect("there is quota");
        let limits = [month("tokens", 1_000), day("tokens", 100)];
        world.change_plan("acme", &limits).await.expect("the plan is there");
        world.extend(hold.name()).tokens(101).await.expect_err("100 a day").is_quota(&["day"]);
        world.extend(hold.name()).tokens(100).await.expect("100 a day");
        assert_eq!(world.figures("acme", "day").await, (0, 100));
        assert_eq!(world.figures("acme", "month").await, (0, 400));
        world.release(hold.name()).await.expect("it is held");
        assert_eq!(world.figures("acme", "day").await, (0, 0));
    }

    async fn a_removed_limit_no_longer_refuses(world: World) {
        world.tenant_with("acme", &[day("tokens", 10), month("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(10).await.expect("there is quota");
        world.change_plan("acme", &[month("tokens", 100)]).await.expect("the plan is there");
        let reply = world.reserve("acme").tokens(90).await.expect("only the month is left");
        assert_eq!(reply.balances.len(), 1);
        world.commit(hold.name()).tokens(5).await.expect("it is held");
        assert_eq!(world.figures("acme", "month").await, (5, 90));
        world.change_plan("acme", &[]).await.expect("a plan without limits");
        world.reserve("acme").tokens(1_000_000).await.expect("metered");
    }

    async fn the_enforcement_of_a_limit_can_change(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        world.reserve("acme").tokens(11).await.expect_err("HARD").is_quota(&["day"]);
        world.change_plan("acme", &[day("tokens", 10).soft()]).await.expect("the plan is there");
        let reply = world.reserve("acme").tokens(11).await.expect("SOFT");
        assert!(reply.balance("day").exceeded);
        world.change_plan("acme", &[day("tokens", 10)]).await.expect("the plan is there");
        world.reserve("acme").tokens(1).await.expect_err("HARD again").is_quota(&["day"]);
    }

    /// This is also true if the server has decided nothing since its start, or since the resource was declared.
    async fn a_refusal_does_not_list_a_declared_resource_as_a_fault(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        let quantity = ["amounts[0].quantity"];
        let both = ["amounts[0].quantity", "amounts[0].resource"];
        world.reserve("acme").tokens(-1).await.expect_err("negative").names(&quantity);
        world.restart().await;
        world.check("acme").tokens(-1).await.expect_err("negative").names(&quantity);
        world.resource("fresh").await.expect("the resource is new");
        world.reserve("acme").amount("fresh", -1).await.expect_err("negative").names(&quantity);
        world.reserve("acme").amount("undeclared", -1).await.expect_err("negative").names(&both);
        world.resource("fresher").await.expect("the resource is new");
        let reserve = |resource| world.reserve("acme").amount(resource, -1).operation();
        let results = world.batch(["fresher", "undeclared", "tokens"].map(reserve).into()).await.expect("a Batch");
        for (result, fields) in results.into_iter().zip([&quantity[..], &both, &quantity]) {
            error(result).names(fields);
        }
    }

    async fn a_new_resource_and_a_new_plan_are_known_at_once(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        for number in 0..10 {
            let resource = format!("resource-{number}");
            let asked = world.reserve("acme").amount(&resource, 1);
            asked.clone().await.expect_err("undeclared").names(&["amounts[0].resource"]);
            world.resource(&resource).await.expect("the resource is new");
            asked.await.expect("it is metered");
            let plan = format!("plan-{number}");
            world.plan(&plan, &[lifetime(&resource, 1)]).await.expect("the plan is new");
            world.set_plan("acme", &plan).await;
            let no = world.reserve("acme").amount(&resource, 2).await.expect_err("the new plan's");
            no.is_quota(&["lifetime"]);
        }
    }
}

/// A batch needs no connection of the reading pool, even if it has to load the changed policy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_change_binds_while_all_reading_connections_are_busy() {
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("acme", &[day("tokens", 100)]).await;
    let lock = stall::connect(world.database.url()).await;
    let statement = "BEGIN; LOCK TABLE reservations IN ACCESS EXCLUSIVE MODE";
    lock.execute_unprepared(statement).await.expect("it is free");
    // One connection has room for two replies of ListReservations at the same time, so the test needs two connections.
    let second = Clients::of(clients::connect(&world.target()).await);
    let list = |clients: &Clients| clients.list("acme").states(&clients::ALL_STATES).into_future();
    let mut lists: Vec<_> = (0..20).flat_map(|_| [list(&world), list(&second)]).collect();
    for list in &mut lists {
        assert!(futures::poll!(list).is_pending(), "it has to wait");
    }
    let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND relation = 'reservations'::regclass
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let waiting = async || world.database.number(waiting).await;
    eventually("all connections that read are busy", async || (waiting().await == 4).then_some(())).await;
    // The lists use up the room for replies of their connections, so these calls need another connection.
    let other = Clients::of(clients::connect(&world.target()).await);
    other.resource("more").await.expect("the resource is new");
    let reply = other.reserve("acme").amount("more", 7).await.expect("it is declared");
    assert_eq!(reply.figures(""), (0, 7));
    assert_eq!(waiting().await, 4, "they wait still");
    lock.execute_unprepared("ROLLBACK").await.expect("the transaction is rolled back");
    lock.close().await.expect("the connection closes");
    for list in lists {
        list.await.expect("it is answered");
    }
    world.end().await;
}
