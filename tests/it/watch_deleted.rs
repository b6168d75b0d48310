//! A watch of one tenant ends after the event that the tenant was deleted.

use std::fs::{self, File};

use tonic::Code;

use crate::harness::{
    clients::done,
    process::tope,
    v1::{EventKind::*, policy_change::Action, *},
    *,
};

fn of_acme() -> WatchUsageRequest {
    WatchUsageRequest { tenant: "acme".into(), ..everything() }
}

async fn delete(world: &World) {
    let request = DeleteTenantRequest { id: "acme".into(), force: true, ..DeleteTenantRequest::default() };
    done(world.admin.clone().delete_tenant(request).await).expect("the tenant exists");
}

/// Maximum number of heartbeats, one a second, before a stream must end.
const HEARTBEATS_MAX: usize = 15;

/// Returns the kinds of all events until the stream ends with TENANT_NOT_FOUND.
async fn kinds_until_the_stream_ends(watcher: &mut watching::Watcher) -> Vec<EventKind> {
    let (mut heard, mut heartbeats) = (Vec::new(), 0);
    while heartbeats < HEARTBEATS_MAX {
        match watcher.update().await {
            Ok(watch_usage_response::Update::Event(event)) => heard.push(event.kind()),
            Ok(_) => heartbeats += 1,
            Err(no) => {
                no.is(Code::NotFound, "TENANT_NOT_FOUND");
                assert_eq!(no.resource, Some(("tenant".to_owned(), "acme".to_owned())), "{no:?}");
                return heard;
            }
        }
    }
    panic!("it goes on behind {heard:?}");
}

both! {
    async fn a_watch_ends_after_the_event_that_its_tenant_was_deleted(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        world.tenant_with("globex", &[day("tokens", 10)]).await;
        let mut watchers = Vec::new();
        for request in [
            of_acme(),
            WatchUsageRequest { snapshot: true, ..of_acme() },
            WatchUsageRequest { kinds: vec![LimitReached.into()], ..of_acme() },
        ] {
            watchers.push(world.watch(request).await.expect("it begins"));
        }
        watchers.remove(1).update().await.expect("a snapshot");
        let mut all = world.watch(everything()).await.expect("it begins");
        all.update().await.expect("a heartbeat");
        world.record("acme").tokens(10).await.expect("it is recorded");
        delete(world).await;
        world.tenant("acme", "acme", "").await.expect("the name is free");
        world.record("acme").tokens(10).await.expect("it is recorded");
        assert_eq!(kinds_until_the_stream_ends(&mut watchers[0]).await, [LimitReached, PolicyChanged]);
        assert_eq!(kinds_until_the_stream_ends(&mut watchers[1]).await, [LimitReached]);
        // The watch for all tenants goes on.
        let mut heard = Vec::new();
        while heard.len() < 4 {
            heard.push(i32::from(all.event().await.kind()));
        }
        // All events occurred at the same instant, so events of two tenants may come in any order.
        heard.sort_unstable();
        assert_eq!(heard, [LimitReached, LimitReached, PolicyChanged, PolicyChanged].map(i32::from));
    }

    async fn a_resumed_watch_gets_the_events_until_its_tenant_was_deleted(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        let mut watcher = world.watch(of_acme()).await.expect("it begins");
        watcher.update().await.expect("a heartbeat");
        let before = WatchUsageRequest { cursor: watcher.cursor.clone(), ..of_acme() };
        world.record("acme").tokens(10).await.expect("it is recorded");
        delete(world).await;
        // Resume at once, and again when all events have their places.
        for _ in 0..2 {
            let mut resumed = world.watch(before.clone()).await.expect("resumed");
            assert_eq!(kinds_until_the_stream_ends(&mut resumed).await, [LimitReached, PolicyChanged]);
        }
        assert_eq!(kinds_until_the_stream_ends(&mut watcher).await, [LimitReached, PolicyChanged]);
        let behind = WatchUsageRequest { cursor: watcher.cursor, ..of_acme() };
        let mut resumed = world.watch(behind).await.expect("the cursor is good");
        assert_eq!(kinds_until_the_stream_ends(&mut resumed).await, []);
        // Two deleted tenants had this id, and the watch gets the events of both.
        world.tenant("acme", "acme", "").await.expect("the name is free");
        delete(world).await;
        let mut resumed = world.watch(before).await.expect("resumed");
        let mut actions = Vec::new();
        while actions.len() < 3 {
            if let Some(change) = resumed.event().await.change {
                actions.push(change.action());
            }
        }
        assert_eq!(actions, [Action::Deleted, Action::Created, Action::Deleted]);
        assert_eq!(kinds_until_the_stream_ends(&mut resumed).await, []);
    }

    async fn tope_watch_prints_that_its_tenant_was_deleted_and_fails(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        let mut watcher = world.watch(of_acme()).await.expect("it begins");
        watcher.update().await.expect("a heartbeat");
        delete(world).await;
        let complaints = world.database.path("stderr");
        let mut command = tope();
        let arguments = ["--tenant", "acme", "--cursor", &watcher.cursor];
        command.args(["watch", "--target", &world.target()]).args(arguments);
        command.stderr(File::create(&complaints).expect("the folder can be written to"));
        let mut printing = Printing::start(command);
        let line = printing.line();
        assert!(line.contains("acme  POLICY_CHANGED"), "{line}");
        assert_eq!(printing.ended().await.code(), Some(1));
        let complaint = fs::read_to_string(&complaints).expect("the file exists");
        assert!(complaint.contains("tenant \"acme\"") && complaint.contains("TENANT_NOT_FOUND"), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}
