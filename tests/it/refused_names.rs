//! R5.6: the refusals of a new subject make no counter of a window shorter than an hour, since the number of these
//! counters has no bound.

use crate::harness::{
    v1::{EventKind::ReserveRefused, *},
    *,
};

/// Returns the user and the number of refusals of each counter of a limit in its running window.
async fn refused(clients: &Clients, limit: &str) -> Vec<(String, i64)> {
    let usage = clients.usage("acme").await;
    let balances = usage.into_iter().filter(|balance| balance.limit_id == limit);
    balances.map(|balance| (balance.user.unwrap_or_default(), balance.refused)).collect()
}

/// Asks for more than any limit permits.
async fn ask(clients: &Clients, user: &str, limits: &[&str]) {
    let no = clients.reserve("acme").tokens(101).user(user).await.expect_err("it is too much");
    no.is_quota(limits);
}

/// A limit for each user and minute.
fn rate() -> Limit {
    every(Period::Minute, 100).named("rate").per(&[Dimension::User])
}

both! {
    async fn refusals_of_new_names_make_no_counters_of_short_windows(world: World) {
        let run = every(Period::Minute, 100).interval(59).named("run").per_label("run");
        world.tenant_with("acme", &[rate(), run]).await;
        for number in 0..20 {
            let call = world.reserve("acme").tokens(101).user(&format!("u{number}")).label("run", &number.to_string());
            call.await.expect_err("it is too much").is_quota(&["rate", "run"]);
        }
        assert_eq!(world.database.number("SELECT COUNT(*) FROM counters").await, 0);
        assert_eq!(world.events_of("acme").await, []);
        let operations = (0..20).map(|number| world.reserve("acme").tokens(101).user(&format!("v{number}")).operation());
        world.batch(operations.collect()).await.expect("each stands for itself");
        assert_eq!(world.database.number("SELECT COUNT(*) FROM counters").await, 0);
    }

    async fn refusals_of_known_subjects_are_counted(world: World) {
        world.tenant_with("acme", &[rate()]).await;
        world.record("acme").tokens(1).user("ana").await.expect("it is recorded");
        for (minute, restarts) in [false, false, true, false].into_iter().enumerate() {
            if restarts {
                world.restart().await;
            }
            ask(world, "bob", &["rate"]).await;
            ask(world, "ana", &["rate"]).await;
            ask(world, "ana", &["rate"]).await;
            assert_eq!(refused(world, "rate").await, [("ana".to_owned(), 2)], "{minute}");
            world.clock.advance(MINUTE);
        }
        let kinds = world.kinds("acme").await;
        assert_eq!(kinds, [(ReserveRefused, 0); 4], "once in each window");
        // A user who did not use the window before is new again.
        world.clock.advance(MINUTE);
        ask(world, "ana", &["rate"]).await;
        assert_eq!(refused(world, "rate").await, []);
    }

    /// The number of such counters has a bound.
    async fn refusals_by_other_limits_are_counted_for_new_subjects_too(world: World) {
        let limits = [
            rate(),
            every(Period::Minute, 100).named("all"),
            day("tokens", 100).named("user").per(&[Dimension::User]),
            rolling(MINUTE, 100).per(&[Dimension::User]).named("session"),
        ];
        world.tenant_with("acme", &limits).await;
        ask(world, "ana", &["rate", "all", "user", "session"]).await;
        assert_eq!(refused(world, "rate").await, []);
        assert_eq!(refused(world, "all").await, [(String::new(), 1)]);
        assert_eq!(refused(world, "user").await, [("ana".to_owned(), 1)]);
        let kinds = world.kinds("acme").await;
        assert_eq!(kinds, [(ReserveRefused, 0); 3], "of all, user and session");
        let heads = "SELECT COUNT(*) FROM counters WHERE period = 8";
        assert_eq!(world.database.number(heads).await, 1);
    }
}
