//! I6 for webhooks: each event arrives at least once, even if the endpoint fails and the server is killed.

use std::collections::BTreeSet;

use crate::{
    harness::{clients::done, receiver::Answer, v1::*, *},
    webhooks::{deliveries, webhook},
};

/// Number of times that the server is killed.
const KILLS: usize = 4;
/// Number of events per round. The server is killed while they are sent.
const EVENTS: usize = 40;
/// The deliveries are listed only each so many times that the test looks at the endpoint. The lists are long.
const HURRY_EACH: usize = 25;

/// Answers with 200, fails or does not answer, in an irregular order.
fn fickle() -> impl FnMut(&Post) -> Answer + Send + 'static {
    let mut state = 0x2545_f491_u32;
    move |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        match state % 40 {
            0 => Answer::Stall,
            1..=9 => Answer::Status(500),
            10..=12 => Answer::Redirect("http://127.0.0.1:1/".into()),
            _ => Answer::Status(200),
        }
    }
}

on_both! {
    async fn no_event_is_lost_when_the_server_is_killed(kind: Kind) {
        let database = Database::fresh(kind);
        let allowed = ["--webhook-allow-http", "--webhook-allow-private"];
        let receiver = Receiver::answering(fickle()).await;
        let (mut process, channel) =
            Process::serving(database.url(), &database.path(""), &allowed).await;
        let mut clients = Clients::of(channel);
        clients.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
        let made = webhook(&clients, "chat", &receiver.url(), &[EventKind::UsageReset]).await;
        for kill in 1..=KILLS {
            let before = receiver.posts().len();
            for _ in 0..EVENTS {
                clients.record("acme").tokens(1).await.expect("it is recorded");
                clients.reset_only("acme", &[], &["lifetime"]).await.expect("the tenant is there");
            }
            // Kill the server while deliveries are sent, at a random point.
            let mut asked = 0_usize;
            eventually("some are sent", async || {
                if asked.is_multiple_of(HURRY_EACH) {
                    hurry(&clients).await;
                }
                asked += 1;
                (receiver.posts().len() > before + kill).then_some(())
            })
            .await;
            process.kill();
            // The lease of the killed server ends by itself after the last kill. It would take 20 seconds each time.
            if kill < KILLS {
                database.execute("UPDATE webhooks SET claimed_until = 0").await;
            }
            (process, clients) = {
                let (process, channel) =
                    Process::serving(database.url(), &database.path(""), &allowed).await;
                (process, Clients::of(channel))
            };
        }
        receiver.answer(|_| Answer::Status(200));
        let mut asked = 0_usize;
        let found = eventually("all arrive", async || {
            asked += 1;
            if !asked.is_multiple_of(HURRY_EACH) {
                return None;
            }
            hurry(&clients).await;
            let found = deliveries(&clients, "chat", &[DeliveryState::Delivered]).await;
            (found.len() == KILLS * EVENTS).then_some(found)
        })
        .await;
        let posts = receiver.posts();
        assert!(posts.iter().all(|post| post.is_genuine(&made.secret)), "each is signed");
        let received: BTreeSet<i64> = posts.iter().map(Post::sequence).collect();
        let there: BTreeSet<i64> = found.iter().map(|delivery| delivery.sequence).collect();
        assert_eq!(received, there, "each event was received");
        assert_eq!(received.len(), KILLS * EVENTS);
        process.stop().await;
        process::verify(database.url()).await;
    }
}

/// Sends failed deliveries again now, before their pauses are over.
async fn hurry(clients: &Clients) {
    let pending = deliveries(clients, "chat", &[DeliveryState::Pending]).await;
    let failed = pending.iter().filter(|delivery| delivery.next_attempt_time.is_some());
    let sequences: Vec<i64> = failed.map(|delivery| delivery.sequence).collect();
    if !sequences.is_empty() {
        let request = RedeliverRequest { webhook: "chat".into(), sequences };
        done(clients.admin.clone().redeliver(request).await).expect("they are there");
    }
}
