//! A new watch or webhook begins "from now on": it gets no event of a call that was answered before. This is true
//! although events get their places in the log a moment after the reply.

use futures::FutureExt;

use crate::{
    harness::{
        v1::{EventKind::*, watch_usage_response::Update, *},
        world::run_in_world,
        *,
    },
    webhooks::webhook,
};

/// Number of rounds. In most rounds the next call comes before the event has its place, so this number is enough.
const ROUNDS: i64 = 15;

/// Returns the instant of an event, in milliseconds.
fn instant(event: &Event) -> Option<i64> {
    millis(event.occur_time.as_ref())
}

/// Creates a tenant for which the first Record of 10 tokens on each day emits one event.
async fn limited(world: &World) {
    world.tenant_with("acme", &[day("tokens", 10)]).await;
}

/// Checks that the watcher's next event is of a later day than all calls that were answered before the watch began.
async fn watcher_gets_events_of_later_days_only(
    watcher: &mut watching::Watcher,
    world: &World,
    clients: &Clients,
) {
    world.clock.advance(DAY);
    clients.record("acme").tokens(10).await.expect("it is recorded");
    let event = watcher.event().await;
    assert_eq!((event.kind(), instant(&event)), (LimitReached, Some(world.clock.now())));
    world.clock.advance(DAY);
}

async fn watch_after_answers_of_another_replica(world: &mut World) {
    limited(world).await;
    let (server, other) = world.replica().await;
    for _ in 0..ROUNDS {
        other.record("acme").tokens(10).await.expect("it is recorded");
        let mut watcher = world.watch(everything()).await.expect("it begins");
        watcher_gets_events_of_later_days_only(&mut watcher, world, &other).await;
    }
    server.shutdown().await;
}

#[test]
fn a_watcher_gets_no_event_of_calls_that_another_replica_answered_before() {
    run_in_world(Kind::Postgres, |world| watch_after_answers_of_another_replica(world).boxed_local());
}

both! {
    async fn a_watcher_gets_no_event_of_calls_that_were_answered_before(world: World) {
        limited(world).await;
        for _ in 0..ROUNDS {
            world.record("acme").tokens(10).await.expect("it is recorded");
            let mut watcher = world.watch(everything()).await.expect("it begins");
            watcher_gets_events_of_later_days_only(&mut watcher, world, world.clients()).await;
        }
    }

    async fn a_watcher_gets_no_event_whose_usage_is_in_its_snapshot(world: World) {
        limited(world).await;
        let request = WatchUsageRequest { tenant: "acme".into(), snapshot: true, ..everything() };
        for _ in 0..ROUNDS {
            world.record("acme").tokens(10).await.expect("it is recorded");
            let mut watcher = world.watch(request.clone()).await.expect("it begins");
            let Ok(Update::Snapshot(part)) = watcher.update().await else { panic!("it begins with a snapshot") };
            assert_eq!(part.balances[0].committed, 10);
            watcher_gets_events_of_later_days_only(&mut watcher, world, world.clients()).await;
        }
    }

    async fn a_webhook_gets_no_event_of_calls_that_were_answered_before(world: World) {
        limited(world).await;
        let receiver = Receiver::start().await;
        for round in 0..ROUNDS {
            world.record("acme").tokens(10).await.expect("it is recorded");
            webhook(world, &format!("w{round}"), &receiver.url(), &[LimitReached]).await;
            world.clock.advance(DAY);
        }
        world.record("acme").tokens(10).await.expect("it is recorded");
        world.events_of("acme").await;
        // Each webhook gets the events of the days after its creation, and no others.
        let expected = usize::try_from(ROUNDS * (ROUNDS + 1) / 2).expect("a count");
        eventually("all is sent", async || {
            world.job("deliver-webhooks").await;
            (receiver.posts().len() >= expected).then_some(())
        })
        .await;
        let mut made = 0;
        for round in 0..ROUNDS {
            let all = [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Failed];
            made += crate::webhooks::deliveries(world, &format!("w{round}"), &all).await.len();
        }
        assert_eq!(made, expected);
    }
}
