//! A watch is resumed after ids were deleted or used again, with events of a later version, and after the log was
//! replaced or shortened.

use crate::harness::{
    clients::done,
    v1::{EventKind::*, policy_change::Action, *},
    *,
};

async fn limited(world: &World, tenant: &str) {
    world.tenant_with(tenant, &[day("tokens", 10).thresholds(&[50])]).await;
    world.events_of(tenant).await;
}

async fn delete(world: &World, id: &str) {
    let request = DeleteTenantRequest { id: id.into(), force: true, ..DeleteTenantRequest::default() };
    done(world.admin.clone().delete_tenant(request).await).expect("the tenant exists");
}

async fn cursor(world: &World) -> String {
    let mut watcher = world.watch(everything()).await.expect("it begins");
    watcher.update().await.expect("a heartbeat");
    watcher.cursor
}

const TWO: [KindAndPercent; 2] = [(ThresholdReached, 50), (LimitReached, 100)];

both! {
    async fn a_resumed_watch_gets_events_of_deleted_tenants_and_resources(world: World) {
        limited(world, "acme").await;
        world.declare("other").await;
        let cursor = cursor(world).await;
        world.record("acme").tokens(10).await.expect("it is recorded");
        delete(world, "acme").await;
        let of_resource = DeleteResourceRequest { id: "other".into(), ..DeleteResourceRequest::default() };
        world.admin.clone().delete_resource(of_resource).await.expect("nothing limits it");
        let request =
            WatchUsageRequest { tenant: "acme".into(), cursor: cursor.clone(), ..everything() };
        let mut watcher = world.watch(request.clone()).await.expect("resumed");
        assert_eq!(kinds_of(&[watcher.event().await, watcher.event().await]), TWO);
        let end = watcher.event().await;
        assert_eq!((end.kind(), end.change.expect("it is a change").action()), (PolicyChanged, Action::Deleted));
        let resources = vec!["other".to_owned(), "tokens".to_owned()];
        let mut watcher = world.watch(WatchUsageRequest { resources, ..request.clone() }).await.expect("resumed");
        assert_eq!(kinds_of(&[watcher.event().await, watcher.event().await]), TWO);
        // A watch from now on is refused, because no tenant has this id.
        let now = WatchUsageRequest { cursor: String::new(), ..request.clone() };
        world.watch(now).await.err().expect("it is gone").is(tonic::Code::NotFound, "TENANT_NOT_FOUND");
        // Now a new tenant has this id.
        world.tenant("acme", "acme", "").await.expect("the name is free");
        world.record("acme").tokens(5).await.expect("it is recorded");
        let mut watcher = world.watch(request).await.expect("resumed");
        let heard = [watcher.event().await, watcher.event().await];
        assert_eq!(heard[0].change.as_ref().expect("it is a change").action(), Action::Created);
        assert_eq!((kinds_of(&heard[1..]), heard[1].tenant_sequence), (vec![TWO[0]], 2));
    }

    async fn events_of_a_later_version_keep_their_places_in_the_log(world: World) {
        limited(world, "acme").await;
        let mut watcher =
            world.watch(WatchUsageRequest { tenant: "acme".into(), ..everything() }).await.expect("it begins");
        watcher.update().await.expect("a heartbeat");
        let garbage = if world.database.kind() == Kind::Sqlite { "x'ff'" } else { "'\\xff'::bytea" };
        let known = "(SELECT body FROM events WHERE tenant_key = tenants.key ORDER BY sequence LIMIT 1)";
        for (kind, body) in [(99, known), (1, garbage)] {
            let statement = format!(
                "INSERT INTO pending_events (tenant_key, number, kind, occurred_at, body)
                 SELECT key, event_number + 1, {kind}, decided_at, {body} FROM tenants WHERE id = 'acme'"
            );
            world.database.execute(&statement).await;
            world.database.execute("UPDATE tenants SET event_number = event_number + 1 WHERE id = 'acme'").await;
        }
        world.record("acme").tokens(10).await.expect("it is recorded");
        let mut heard = Vec::new();
        for _ in 0..4 {
            heard.push(watcher.event().await);
        }
        let kinds: Vec<i32> = heard.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [99, 1, ThresholdReached.into(), LimitReached.into()]);
        assert_eq!(heard.iter().map(|event| event.tenant_sequence).collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(heard[0].tenant, "acme");
        assert!(heard[..2].iter().all(|event| event.balances.is_empty() && event.occur_time.is_some()));
        let listed = world.events_of("acme").await;
        assert_eq!(listed, heard);
        // After a restart, the events come from the database.
        world.restart().await;
        let first = ListEventsRequest { tenant: "acme".into(), page_size: 1, ..Default::default() };
        assert_eq!(world.all_events(first).await[1..], heard);
    }

    async fn a_webhook_gets_events_of_a_later_version_as_unknown(world: World) {
        world.clock.set(tope::clock::system_now().0);
        let receiver = Receiver::start().await;
        crate::webhooks::webhook(world, "all", &receiver.url(), &[]).await;
        limited(world, "acme").await;
        world.database.execute("UPDATE events SET kind = 99 WHERE tenant_key <> 0").await;
        let post = eventually("the webhook gets the event", async || {
            for job in ["number-events", "deliver-webhooks"] {
                world.job(job).await;
            }
            receiver.posts().into_iter().find(|post| post.json()["type"] == "unknown")
        })
        .await;
        let body = post.json();
        assert_eq!((&body["data"]["tenant"], &body["data"]["kind"]), (&"acme".into(), &99.into()), "{body:#}");
    }

    /// So not each watcher needs to read the database.
    async fn watches_resumed_after_a_restart_are_served_from_memory(world: World) {
        limited(world, "acme").await;
        let cursor = cursor(world).await;
        world.record("acme").tokens(10).await.expect("it is recorded");
        assert_eq!(kinds_of(&world.events_of("acme").await), TWO);
        world.restart().await;
        let mut live = world.watch(everything()).await.expect("it begins");
        world.clock.advance(DAY);
        world.record("acme").tokens(10).await.expect("it is recorded");
        assert_eq!(kinds_of(&[live.event().await, live.event().await]), TWO);
        world.database.execute("DELETE FROM events").await;
        let mut resumed = world.watch(WatchUsageRequest { cursor, ..everything() }).await.expect("resumed");
        let mut heard = Vec::new();
        for _ in 0..4 {
            heard.push(resumed.event().await);
        }
        assert_eq!(kinds_of(&heard), [TWO, TWO].concat());
    }

    async fn a_watch_fails_if_the_log_goes_back_or_is_replaced(world: World) {
        limited(world, "acme").await;
        let begin = async || {
            let mut watcher = world.watch(everything()).await.expect("it begins");
            watcher.update().await.expect("a heartbeat");
            watcher
        };
        let mut ahead = begin().await;
        world.record("acme").tokens(10).await.expect("it is recorded");
        assert_eq!(kinds_of(&[ahead.event().await, ahead.event().await]), TWO);
        // Make the database look as after a failover to a replica that lagged.
        let events = "DELETE FROM events WHERE sequence > (SELECT last_sequence FROM event_log)";
        world.database.execute("UPDATE event_log SET last_sequence = last_sequence - 2").await;
        world.database.execute(events).await;
        let no = ahead.end().await;
        assert!(no.names(&["cursor"]).message.contains("after the end of the log"), "{no:?}");
        let mut behind = begin().await;
        world.clock.advance(DAY);
        world.record("acme").tokens(10).await.expect("it is recorded");
        assert_eq!(kinds_of(&[behind.event().await, behind.event().await]), TWO);
        // Make the database look as after `tope migrate --new-log` while a server is running.
        let id = if world.database.kind() == Kind::Sqlite { "randomblob(16)" } else { "gen_random_uuid()" };
        world.database.execute(&format!("UPDATE event_log SET log_id = {id}")).await;
        let mut fresh = world.watch(everything()).await.expect("it begins");
        let no = behind.end().await;
        assert!(no.names(&["cursor"]).message.contains("another log"), "{no:?}");
        world.clock.advance(DAY);
        world.record("acme").tokens(10).await.expect("it is recorded");
        assert_eq!(kinds_of(&[fresh.event().await, fresh.event().await]), TWO);
    }
}
