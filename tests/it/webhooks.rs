//! Deliveries to webhooks. Each event arrives at least once. While no attempt fails, events arrive in order.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use futures::{FutureExt, future::join};
use tope::clock::system_now;

use crate::harness::{
    clients::{done, mask},
    receiver::Answer,
    v1::*,
    world::run_in_world,
    *,
};

/// Creates a webhook for these kinds of events. Without kinds, it is for all events.
pub async fn webhook(clients: &Clients, id: &str, url: &str, kinds: &[EventKind]) -> Webhook {
    let kinds = kinds.iter().map(|&kind| kind.into()).collect();
    let webhook = Webhook { id: id.into(), url: url.into(), kinds, ..Webhook::default() };
    let request = CreateWebhookRequest { webhook: Some(webhook) };
    done(clients.admin.clone().create_webhook(request).await).expect("the webhook is new")
}

/// Creates a webhook for the events that [`happen`] causes.
pub async fn of_resets(clients: &Clients, id: &str, receiver: &Receiver) -> Webhook {
    webhook(clients, id, &receiver.url(), &[EventKind::UsageReset]).await
}

pub async fn get(clients: &Clients, id: &str) -> Webhook {
    done(clients.admin.clone().get_webhook(GetWebhookRequest { id: id.into() }).await)
        .expect("the webhook exists")
}

pub async fn set_state(clients: &Clients, id: &str, state: WebhookState) {
    let webhook = Webhook { id: id.into(), state: state.into(), ..Webhook::default() };
    let request = UpdateWebhookRequest { webhook: Some(webhook), update_mask: Some(mask(&["state"])) };
    done(clients.admin.clone().update_webhook(request).await).expect("the webhook exists");
}

/// Returns all deliveries of a webhook in these states, oldest first.
pub async fn deliveries(clients: &Clients, webhook: &str, states: &[DeliveryState]) -> Vec<Delivery> {
    let mut request = ListDeliveriesRequest {
        webhook: webhook.into(),
        states: states.iter().map(|&state| state.into()).collect(),
        page_size: 7,
        page_token: String::new(),
    };
    let mut found = Vec::new();
    loop {
        let page =
            done(clients.admin.clone().list_deliveries(request.clone()).await).expect("the webhook exists");
        found.extend(page.deliveries);
        if page.next_page_token.is_empty() {
            found.reverse();
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

pub async fn redeliver(clients: &Clients, webhook: &str, sequences: &[i64]) -> i64 {
    let request = RedeliverRequest { webhook: webhook.into(), sequences: sequences.to_vec() };
    done(clients.admin.clone().redeliver(request).await).expect("they are there").count
}

/// Creates a tenant, and sets the clock to the real time, because receivers refuse old posts.
pub async fn prepare(world: &World) {
    world.clock.set(system_now().0);
    world.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
}

/// Creates the webhook "chat", and starts its endpoint, which answers each event with an error.
pub async fn failing(world: &World) -> Receiver {
    prepare(world).await;
    let receiver = Receiver::answering(|_| Answer::Status(503)).await;
    of_resets(world, "chat", &receiver).await;
    happen(world, 1).await;
    eventually("it fails", async || {
        deliver(world).await;
        get(world, "chat").await.failing_since
    })
    .await;
    receiver
}

/// Causes `count` events of one tenant.
pub async fn happen(clients: &Clients, count: usize) {
    for _ in 0..count {
        clients.record("acme").tokens(1).await.expect("it is recorded");
        clients.reset_only("acme", &[], &["lifetime"]).await.expect("the tenant is there");
    }
}

/// A webhook for policy changes, and its endpoint. A test causes such a change to check that all earlier events were
/// sent.
pub struct Mark(Receiver);

impl Mark {
    /// Creates the webhook `mark`, and starts its endpoint.
    pub async fn start(clients: &Clients) -> Self {
        let receiver = Receiver::start().await;
        webhook(clients, "mark", &receiver.url(), &[EventKind::PolicyChanged]).await;
        Self(receiver)
    }

    /// Delivers until the mark has received two new events. Then all other due deliveries are being sent or were sent.
    pub async fn pass(&self, clients: &Clients) {
        for _ in 0..2 {
            let name = format!("mark-{}", self.0.posts().len());
            clients.declare(&name).await;
            eventually("the mark gets the event", async || {
                deliver(clients).await;
                let is_mark = |post: &Post| post.json()["data"]["changed"]["id"] == *name;
                self.0.posts().iter().any(is_mark).then_some(())
            })
            .await;
        }
    }
}

/// Numbers the events, and starts the sending of due deliveries in the background.
pub async fn deliver(clients: &Clients) {
    clients.job("number-events").await;
    clients.job("deliver-webhooks").await;
}

/// Delivers until `count` deliveries of a webhook are in this state, and returns them.
pub async fn delivered(
    clients: &Clients,
    webhook: &str,
    state: DeliveryState,
    count: usize,
) -> Vec<Delivery> {
    eventually(&format!("{count} deliveries are {state:?}"), async || {
        deliver(clients).await;
        let found = deliveries(clients, webhook, &[state]).await;
        (found.len() == count).then_some(found)
    })
    .await
}

/// Waits until no delivery is being sent.
pub async fn at_rest(world: &World) {
    let leased = "SELECT COUNT(*) FROM webhooks WHERE claimed_until > 0";
    eventually("nothing is being sent", async || (world.database.number(leased).await == 0).then_some(()))
        .await;
}

fn sequences(posts: &[Post]) -> Vec<i64> {
    posts.iter().map(Post::sequence).collect()
}

both! {
    async fn each_event_is_sent_once_and_in_order(world: World) {
        prepare(world).await;
        let receiver = Receiver::start().await;
        happen(world, 2).await;
        // Deliver first, so that older events have their places before the webhook is created.
        deliver(world).await;
        let webhook = of_resets(world, "chat", &receiver).await;
        happen(world, 30).await;
        let found = delivered(world, "chat", DeliveryState::Delivered, 30).await;
        let posts = receiver.posts();
        assert_eq!(sequences(&posts), found.iter().map(|found| found.sequence).collect::<Vec<_>>());
        assert!(sequences(&posts).is_sorted_by(|a, b| a < b), "in order, and those from now on");
        let ids: BTreeSet<&str> = posts.iter().map(|post| post.header("webhook-id")).collect();
        assert_eq!(ids.len(), 30);
        for (post, delivery) in posts.iter().zip(&found) {
            assert!(post.is_genuine(&webhook.secret));
            let body = post.json();
            assert_eq!((&body["type"], &body["data"]["tenant"]), (&"usage_reset".into(), &"acme".into()));
            assert_eq!((delivery.attempts, delivery.response_status), (1, 204));
            assert!(delivery.next_attempt_time.is_none() && delivery.last_attempt_time.is_some());
        }
        // After a restart, nothing is sent a second time.
        world.restart().await;
        Mark::start(world).await.pass(world).await;
        assert_eq!(receiver.posts().len(), 30);
        happen(world, 1).await;
        delivered(world, "chat", DeliveryState::Delivered, 31).await;
        assert_eq!(receiver.posts().len(), 31);
    }

    async fn a_webhook_gets_only_matching_events(world: World) {
        prepare(world).await;
        world.tenant_with("globex", &[lifetime("tokens", 1_000)]).await;
        let (all, some) = (Receiver::start().await, Receiver::start().await);
        webhook(world, "all", &all.url(), &[]).await;
        let message = Webhook {
            id: "some".into(),
            url: some.url(),
            tenants: vec!["globex".into(), "nobody".into()],
            kinds: vec![EventKind::UsageReset.into(), EventKind::WindowClosed.into()],
            ..Webhook::default()
        };
        let request = CreateWebhookRequest { webhook: Some(message) };
        done(world.admin.clone().create_webhook(request).await).expect("the webhook is new");
        // Cause a new policy change, because the events of the tenants' creation may be older than the webhook.
        world.declare("images").await;
        happen(world, 2).await;
        world.record("globex").tokens(1_000).await.expect("it is recorded, and the limit reached");
        world.reset_only("globex", &[], &["lifetime"]).await.expect("the tenant is there");
        delivered(world, "some", DeliveryState::Delivered, 1).await;
        assert_eq!(some.posts()[0].json()["data"]["tenant"], "globex");
        eventually("every kind has arrived", async || {
            deliver(world).await;
            let posts = all.posts();
            let kinds: BTreeSet<String> =
                posts.iter().filter_map(|post| Some(post.json()["type"].as_str()?.to_owned())).collect();
            ["policy_changed", "limit_reached", "usage_reset"].iter().all(|kind| kinds.contains(*kind)).then_some(())
        })
        .await;
        Mark::start(world).await.pass(world).await;
        assert_eq!(some.posts().len(), 1);
    }

    async fn a_failed_delivery_is_sent_again_later(world: World) {
        prepare(world).await;
        let receiver = Receiver::answering(|_| Answer::Status(500)).await;
        of_resets(world, "chat", &receiver).await;
        let mark = Mark::start(world).await;
        happen(world, 1).await;
        let start = world.clock.now();
        let mut pauses = Vec::new();
        // There is one attempt, and ten retries.
        for attempts in 1..=11 {
            let delivery = eventually("it is tried", async || {
                deliver(world).await;
                let found = deliveries(world, "chat", &[]).await;
                found.into_iter().find(|delivery| delivery.attempts == attempts)
            })
            .await;
            assert_eq!(delivery.response_status, 500);
            assert!(delivery.error.contains("500"), "{delivery:?}");
            if attempts < 11 {
                assert_eq!(delivery.state(), DeliveryState::Pending);
                let next = millis(delivery.next_attempt_time.as_ref()).expect("it is tried again");
                pauses.push(next - world.clock.now());
                world.clock.set(next - 1);
                mark.pass(world).await;
                assert_eq!(receiver.posts().len(), usize::try_from(attempts).expect("few"), "not before");
                world.clock.set(next);
            } else {
                assert_eq!((delivery.state(), delivery.next_attempt_time), (DeliveryState::Failed, None));
            }
        }
        assert!(pauses[0] >= 5 * SECOND && pauses[0] <= 7 * SECOND, "{pauses:?}");
        let all = world.clock.now() - start;
        assert!((23 * HOUR..=30 * HOUR).contains(&all), "{all}");
        assert_eq!(receiver.posts().len(), 11);
        let ids: BTreeSet<String> =
            receiver.posts().iter().map(|post| post.header("webhook-id").to_owned()).collect();
        assert_eq!(ids.len(), 1, "the same in each attempt");
        assert_eq!(millis(get(world, "chat").await.failing_since.as_ref()), Some(start));

        // The failed delivery is kept, and can be sent again.
        world.clock.set(system_now().0);
        receiver.answer(|_| Answer::Status(200));
        assert_eq!(redeliver(world, "chat", &[]).await, 1);
        let found = delivered(world, "chat", DeliveryState::Delivered, 1).await;
        assert_eq!((found[0].attempts, found[0].error.as_str()), (1, ""));
        assert_eq!(get(world, "chat").await.failing_since, None);
        assert_eq!(redeliver(world, "chat", &[]).await, 0, "none is given up");
        assert_eq!(redeliver(world, "chat", &[found[0].sequence]).await, 1, "one that was delivered, too");
        eventually("it comes again", async || {
            deliver(world).await;
            (receiver.posts().len() == 13).then_some(())
        })
        .await;
    }

    async fn an_endpoint_that_answers_410_gets_no_more_events(world: World) {
        prepare(world).await;
        let receiver = Receiver::answering(|_| Answer::Status(410)).await;
        let watcher = Receiver::start().await;
        of_resets(world, "chat", &receiver).await;
        webhook(world, "watcher", &watcher.url(), &[EventKind::WebhookDisabled]).await;
        happen(world, 3).await;
        delivered(world, "watcher", DeliveryState::Delivered, 1).await;
        let body = watcher.posts()[0].json();
        assert_eq!(body["type"], "webhook_disabled");
        assert_eq!(body["data"]["webhook"], serde_json::json!({ "id": "chat", "state": "gone" }));
        assert!(body["data"].get("tenant").is_none(), "{body}");
        assert_eq!(get(world, "chat").await.state(), WebhookState::Gone);
        happen(world, 1).await;
        Mark::start(world).await.pass(world).await;
        assert_eq!(receiver.posts().len(), 1, "the first answer was enough");

        // A webhook that is active again continues where it stopped.
        receiver.answer(|_| Answer::Status(200));
        set_state(world, "chat", WebhookState::Active).await;
        delivered(world, "chat", DeliveryState::Delivered, 3).await;
        world.clock.advance(MINUTE);
        delivered(world, "chat", DeliveryState::Delivered, 4).await;
        assert_eq!(watcher.posts().len(), 1);
    }

    async fn an_endpoint_that_fails_for_five_days_is_disabled(world: World) {
        prepare(world).await;
        let receiver = Receiver::answering(|_| Answer::Status(503)).await;
        let watcher = Receiver::start().await;
        of_resets(world, "chat", &receiver).await;
        webhook(world, "watcher", &watcher.url(), &[EventKind::WebhookDisabled]).await;
        // An attempt counts once its result is saved.
        let tried = async |count: i32| {
            eventually("it is tried", async || {
                deliver(world).await;
                let found = deliveries(world, "chat", &[]).await;
                (found.iter().map(|delivery| delivery.attempts).sum::<i32>() >= count).then_some(())
            })
            .await;
        };
        happen(world, 1).await;
        tried(1).await;
        world.clock.advance(4 * DAY);
        happen(world, 1).await;
        tried(2).await;
        assert_eq!(get(world, "chat").await.state(), WebhookState::Active);
        world.clock.advance(DAY);
        happen(world, 1).await;
        eventually("it is disabled", async || {
            deliver(world).await;
            (get(world, "chat").await.state() == WebhookState::Failed).then_some(())
        })
        .await;
        delivered(world, "watcher", DeliveryState::Delivered, 1).await;
        assert_eq!(watcher.posts()[0].json()["data"]["webhook"]["state"], "failed");
    }

    async fn a_success_ends_the_count_of_failing_days(world: World) {
        let receiver = failing(world).await;
        receiver.answer(|_| Answer::Status(200));
        world.clock.advance(4 * DAY);
        delivered(world, "chat", DeliveryState::Delivered, 1).await;
        receiver.answer(|_| Answer::Status(503));
        world.clock.advance(4 * DAY);
        happen(world, 1).await;
        let since = eventually("it fails", async || {
            deliver(world).await;
            get(world, "chat").await.failing_since
        })
        .await;
        assert_eq!(millis(Some(&since)), Some(world.clock.now()));
        assert_eq!(get(world, "chat").await.state(), WebhookState::Active);
    }

    /// An attempt at the slow endpoint takes ten seconds of real time, and the other endpoint must not wait for it.
    async fn a_slow_endpoint_delays_no_other_endpoint(world: World) {
        prepare(world).await;
        let slow = Receiver::answering(|_| Answer::Stall).await;
        let fast = Receiver::start().await;
        of_resets(world, "a-slow", &slow).await;
        of_resets(world, "b-fast", &fast).await;
        let begun = Instant::now();
        happen(world, 5).await;
        delivered(world, "b-fast", DeliveryState::Delivered, 5).await;
        happen(world, 5).await;
        delivered(world, "b-fast", DeliveryState::Delivered, 10).await;
        // On a slow machine, the slow endpoint may have got one more attempt every ten seconds.
        let asked = u64::try_from(slow.posts().len()).expect("few");
        assert!(asked >= 1 && asked <= 1 + begun.elapsed().as_secs() / 10, "{asked}");
        assert_eq!(deliveries(world, "a-slow", &[DeliveryState::Pending]).await.len(), 10);
    }

    async fn events_for_a_disabled_webhook_wait(world: World) {
        prepare(world).await;
        let receiver = Receiver::start().await;
        of_resets(world, "chat", &receiver).await;
        set_state(world, "chat", WebhookState::Disabled).await;
        let mark = Mark::start(world).await;
        happen(world, 3).await;
        mark.pass(world).await;
        assert_eq!(deliveries(world, "chat", &[]).await, []);
        set_state(world, "chat", WebhookState::Active).await;
        delivered(world, "chat", DeliveryState::Delivered, 3).await;
        let request = DeleteWebhookRequest { id: "chat".into(), ..DeleteWebhookRequest::default() };
        done(world.admin.clone().delete_webhook(request).await).expect("the webhook exists");
        happen(world, 1).await;
        mark.pass(world).await;
        assert_eq!(receiver.posts().len(), 3);
    }

    /// Half of the attempts fail, in various ways. The endpoint still gets each event.
    async fn an_endpoint_that_often_fails_gets_each_event(world: World) {
        prepare(world).await;
        let count = Arc::new(AtomicUsize::new(0));
        let receiver = Receiver::answering(move |_| match count.fetch_add(1, Ordering::Relaxed) * 7 % 6 {
            0 | 4 => Answer::Status(200),
            1 => Answer::Status(500),
            2 => Answer::Redirect("http://127.0.0.1:1/".into()),
            3 => Answer::Status(429),
            _ => Answer::Gigabyte,
        })
        .await;
        of_resets(world, "chat", &receiver).await;
        happen(world, 40).await;
        eventually("all arrive", async || {
            deliver(world).await;
            // Move the clock only while no delivery is being sent, so that no lease ends during an attempt.
            at_rest(world).await;
            world.clock.advance(10 * SECOND);
            (deliveries(world, "chat", &[DeliveryState::Delivered]).await.len() == 40).then_some(())
        })
        .await;
        let received: BTreeSet<i64> = sequences(&receiver.posts()).into_iter().collect();
        assert_eq!(received.len(), 40);
    }
}

async fn deliver_on_two_replicas(world: &mut World) {
    prepare(world).await;
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    for (number, receiver) in receivers.iter().enumerate() {
        of_resets(world, &format!("chat-{number}"), receiver).await;
    }
    let (other, there) = world.replica().await;
    for _ in 0..10 {
        happen(world, 5).await;
        join(deliver(world), deliver(&there)).await;
    }
    for (number, receiver) in receivers.iter().enumerate() {
        delivered(world, &format!("chat-{number}"), DeliveryState::Delivered, 50).await;
        let sent = sequences(&receiver.posts());
        assert!(sent.len() == 50 && sent.is_sorted_by(|a, b| a < b), "each once, and in order: {sent:?}");
    }
    other.shutdown().await;
}

#[test]
fn two_replicas_send_each_event_once() {
    run_in_world(Kind::Postgres, |world| deliver_on_two_replicas(world).boxed_local());
}
