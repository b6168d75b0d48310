//! Webhooks that change or fail while their deliveries are being sent.

use std::sync::Arc;

use futures::future::join;
use tokio::sync::Semaphore;

use crate::{
    harness::{
        clients::{done, mask},
        receiver::Answer,
        v1::*,
        *,
    },
    webhooks::{
        Mark, deliver, delivered, deliveries, failing, get, happen, of_resets, prepare, redeliver, set_state,
    },
};

/// Makes a gate. Answers wait at the gate until it gets permits.
fn gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// Makes the endpoint answer with a status, when the gate has a permit.
fn hold_answers(receiver: &Receiver, gate: &Arc<Semaphore>, status: u16) {
    let gate = Arc::clone(gate);
    receiver.answer(move |_| Answer::Held(Arc::clone(&gate), status));
}

/// Delivers until the endpoint has received `count` posts.
async fn posted(clients: &Clients, receiver: &Receiver, count: usize) {
    eventually(&format!("{count} are posted"), async || {
        deliver(clients).await;
        (receiver.posts().len() >= count).then_some(())
    })
    .await;
}

async fn set_url(clients: &Clients, id: &str, url: &str) -> Webhook {
    let webhook = Webhook { id: id.into(), url: url.into(), ..Webhook::default() };
    let request = UpdateWebhookRequest { webhook: Some(webhook), update_mask: Some(mask(&["url"])) };
    done(clients.admin.clone().update_webhook(request).await).expect("the webhook exists")
}

both! {
    /// This is true both if the running attempt succeeds and if it fails.
    async fn a_redeliver_during_an_attempt_sends_the_event_again(world: World) {
        prepare(world).await;
        let receiver = Receiver::answering(|_| Answer::Status(500)).await;
        of_resets(world, "chat", &receiver).await;
        happen(world, 1).await;
        let mut posts = 0;
        for status in [204, 500] {
            let failed = eventually("it fails", async || {
                deliver(world).await;
                deliveries(world, "chat", &[]).await.into_iter().find(|delivery| delivery.attempts == 1)
            })
            .await;
            posts += 1;
            let gate = gate();
            hold_answers(&receiver, &gate, status);
            world.clock.advance(10 * SECOND);
            posts += 1;
            posted(world, &receiver, posts).await;
            assert_eq!(redeliver(world, "chat", &[failed.sequence]).await, 1);
            receiver.answer(|_| Answer::Status(202));
            gate.add_permits(1);
            // The clock stands still, so this attempt needed no pause of a retry.
            let found = delivered(world, "chat", DeliveryState::Delivered, 1).await;
            posts += 1;
            assert_eq!(receiver.posts().len(), posts);
            assert_eq!((found[0].attempts, found[0].response_status), (1, 202));
            receiver.answer(|_| Answer::Status(500));
            assert_eq!(redeliver(world, "chat", &[failed.sequence]).await, 1);
        }
    }

    /// An answer counts only for the endpoint that gave it.
    async fn an_answer_from_the_old_url_does_not_count_for_the_new_url(world: World) {
        prepare(world).await;
        let (before, after) = (Receiver::start().await, Receiver::start().await);
        let gate = gate();
        hold_answers(&before, &gate, 410);
        of_resets(world, "chat", &before).await;
        happen(world, 1).await;
        posted(world, &before, 1).await;
        set_url(world, "chat", &after.url()).await;
        gate.add_permits(1);
        eventually("the answer is written down", async || {
            deliveries(world, "chat", &[]).await.into_iter().find(|delivery| delivery.response_status == 410)
        })
        .await;
        let webhook = get(world, "chat").await;
        assert_eq!((webhook.state(), webhook.failing_since), (WebhookState::Active, None));
        world.clock.advance(10 * SECOND);
        delivered(world, "chat", DeliveryState::Delivered, 1).await;
        assert_eq!((before.posts().len(), after.posts().len()), (1, 1));

        // When the URL changes, the failures of the old URL are forgotten, too.
        after.answer(|_| Answer::Status(503));
        happen(world, 1).await;
        eventually("it fails", async || {
            deliver(world).await;
            get(world, "chat").await.failing_since
        })
        .await;
        assert!(set_url(world, "chat", &after.url()).await.failing_since.is_some(), "it is the same place");
        assert_eq!(set_url(world, "chat", &before.url()).await.failing_since, None);
    }

    /// The run reports the webhook that cannot be loaded, and the other webhooks get their events.
    async fn a_webhook_that_cannot_be_loaded_delays_no_other_webhook(world: World) {
        prepare(world).await;
        let receiver = Receiver::start().await;
        for id in ["bad", "good"] {
            of_resets(world, id, &receiver).await;
        }
        // The bad webhook comes first, because its key is the lowest.
        world.database.execute("UPDATE webhooks SET key = -1, kinds = 'nonsense' WHERE id = 'bad'").await;
        happen(world, 3).await;
        let run = eventually("the other webhook gets its events", async || {
            world.job("number-events").await;
            let run = world.run_job("deliver-webhooks").await.expect("it runs");
            (receiver.posts().len() == 3).then_some(run)
        })
        .await;
        assert_eq!(run.outcome(), JobOutcome::Failed, "{run:?}");
        world.database.execute("UPDATE webhooks SET kinds = '[]' WHERE id = 'bad'").await;
    }

    /// A retry is due at its time, and does not wait until all new events are sent.
    async fn a_retry_does_not_wait_until_all_new_events_are_sent(world: World) {
        prepare(world).await;
        let receiver = Receiver::answering(|_| Answer::Status(500)).await;
        of_resets(world, "chat", &receiver).await;
        happen(world, 1).await;
        posted(world, &receiver, 1).await;
        let first = receiver.posts()[0].sequence();
        eventually("it is to be tried again", async || {
            deliveries(world, "chat", &[]).await[0].next_attempt_time
        })
        .await;
        // Forty events more come before the next attempt begins.
        let gate = gate();
        hold_answers(&receiver, &gate, 204);
        happen(world, 1).await;
        posted(world, &receiver, 2).await;
        happen(world, 40).await;
        eventually("all are to be sent", async || {
            deliver(world).await;
            (deliveries(world, "chat", &[]).await.len() == 42).then_some(())
        })
        .await;
        world.clock.advance(10 * SECOND);
        receiver.answer(|_| Answer::Status(204));
        gate.add_permits(1);
        delivered(world, "chat", DeliveryState::Delivered, 42).await;
        let received: Vec<i64> = receiver.posts().iter().map(Post::sequence).collect();
        let again = received.iter().skip(1).position(|sequence| *sequence == first).expect("it came again");
        assert!(again < 10, "{received:?}");
        let mut fresh = received.clone();
        fresh.remove(again + 1);
        assert!(fresh.is_sorted_by(|a, b| a < b), "the others came in order: {received:?}");
    }

    /// A process that no longer exists took such a lease before the clock was set back.
    async fn a_lease_that_lasts_too_long_is_ignored(world: World) {
        prepare(world).await;
        let receiver = Receiver::start().await;
        of_resets(world, "chat", &receiver).await;
        let mark = Mark::start(world).await;
        mark.pass(world).await;
        let lease = async |millis: i64| {
            let until = world.clock.now() + millis;
            let text = format!("UPDATE webhooks SET claimed_until = {until} WHERE id = 'chat'");
            world.database.execute(&text).await;
        };
        lease(20 * SECOND).await;
        happen(world, 1).await;
        mark.pass(world).await;
        assert_eq!(receiver.posts().len(), 0, "another process has it");
        lease(HOUR).await;
        delivered(world, "chat", DeliveryState::Delivered, 1).await;
    }

    /// The next server sends the other deliveries.
    async fn a_shutdown_waits_for_a_running_attempt(world: World) {
        prepare(world).await;
        let receiver = Receiver::start().await;
        let gate = gate();
        hold_answers(&receiver, &gate, 204);
        of_resets(world, "chat", &receiver).await;
        happen(world, 5).await;
        posted(world, &receiver, 1).await;
        let clients = Clients::clone(world);
        let release = async {
            eventually("it takes no more", async || {
                clients.admin.clone().list_jobs(ListJobsRequest {}).await.err()
            })
            .await;
            receiver.answer(|_| Answer::Status(204));
            gate.add_permits(1);
        };
        join(world.restart(), release).await;
        assert_eq!(receiver.posts().len(), 1, "no other one was begun");
        assert_eq!(deliveries(world, "chat", &[DeliveryState::Delivered]).await.len(), 1);
        delivered(world, "chat", DeliveryState::Delivered, 5).await;
        let received: Vec<i64> = receiver.posts().iter().map(Post::sequence).collect();
        assert!(received.len() == 5 && received.is_sorted_by(|a, b| a < b), "each once, and in order: {received:?}");
    }

    /// When a webhook is active again, its count of failing days begins again.
    async fn failures_before_a_webhook_was_disabled_do_not_count(world: World) {
        let receiver = failing(world).await;
        set_state(world, "chat", WebhookState::Disabled).await;
        world.clock.advance(6 * DAY);
        set_state(world, "chat", WebhookState::Active).await;
        happen(world, 1).await;
        posted(world, &receiver, 2).await;
        let since = eventually("it fails", async || get(world, "chat").await.failing_since).await;
        assert_eq!(millis(Some(&since)), Some(world.clock.now()));
        assert_eq!(get(world, "chat").await.state(), WebhookState::Active);
    }
}
