//! Retention of deliveries: they are removed with their events.

use crate::{
    harness::{clients::done, receiver::Answer, v1::*, *},
    webhooks::{at_rest, deliver, delivered, deliveries, happen, of_resets, prepare},
};

const KEPT: i64 = 30 * DAY;

both! {
    async fn deliveries_are_removed_with_their_events(world: World) {
        prepare(world).await;
        let (well, ill) = (Receiver::start().await, Receiver::answering(|_| Answer::Status(500)).await);
        of_resets(world, "healthy", &well).await;
        of_resets(world, "down", &ill).await;
        of_resets(world, "gone", &ill).await;
        happen(world, 3).await;
        delivered(world, "healthy", DeliveryState::Delivered, 3).await;
        for webhook in ["down", "gone"] {
            let tried = |delivery: &Delivery| delivery.attempts == 1;
            eventually("all are tried", async || {
                deliver(world).await;
                let found = deliveries(world, webhook, &[DeliveryState::Pending]).await;
                (found.len() == 3 && found.iter().all(tried)).then_some(())
            })
            .await;
        }
        // Wait for the end of all attempts, so that no attempt is running when the clock moves.
        at_rest(world).await;
        let start = world.clock.now();
        let pruned = async || {
            let figures = world.job("prune-events").await;
            (figures["events"] > 0, figures["deliveries"], figures["unsent"])
        };
        assert_eq!(pruned().await, (false, 0, 0));
        world.clock.set(start + KEPT - 1);
        assert_eq!(pruned().await, (false, 0, 0), "not before");
        let request = DeleteWebhookRequest { id: "gone".into(), ..DeleteWebhookRequest::default() };
        done(world.admin.clone().delete_webhook(request).await).expect("the webhook exists");
        assert_eq!(pruned().await, (false, 3, 0), "nobody waits for those of a webhook that is not there");
        world.clock.set(start + KEPT);
        // A new event is kept.
        happen(world, 1).await;
        world.job("number-events").await;
        assert_eq!(pruned().await, (true, 6, 3));
        assert_eq!(pruned().await, (false, 0, 0));
        let left = delivered(world, "healthy", DeliveryState::Delivered, 1).await;
        assert_eq!(left.len(), 1);
        assert_eq!(deliveries(world, "down", &[]).await.len(), 1);
    }
}
