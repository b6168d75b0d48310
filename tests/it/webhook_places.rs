//! The addresses that webhooks may use. The tests use TestWebhook. The server never connects to a forbidden address.

use tope::{clock::system_now, config::Config};

use crate::harness::{clients::done, receiver::Answer, v1::*, world::settings, *};

async fn create(clients: &Clients, id: &str, url: &str) -> call::Answer<Webhook> {
    let webhook = Webhook { id: id.into(), url: url.into(), ..Webhook::default() };
    done(clients.admin.clone().create_webhook(CreateWebhookRequest { webhook: Some(webhook) }).await)
}

async fn test(clients: &Clients, id: &str) -> TestWebhookResponse {
    let reply = clients.admin.clone().test_webhook(TestWebhookRequest { id: id.into() }).await;
    done(reply).expect("an endpoint that fails is an answer")
}

both! {
    async fn test_webhook_sends_a_signed_post_and_reports_the_outcome(world: World) {
        world.clock.set(system_now().0);
        let receiver = Receiver::start().await;
        let webhook = create(world, "chat", &receiver.url()).await.expect("the webhook is new");
        let tested = test(world, "chat").await;
        assert!(tested.succeeded && tested.error.is_empty(), "{tested:?}");
        assert_eq!(tested.response_status, 204);
        assert!(tested.duration.is_some());
        let posts = receiver.posts();
        assert_eq!((posts.len(), posts[0].path.as_str()), (1, "/hook"));
        assert!(posts[0].is_genuine(&webhook.secret), "{:?}", posts[0]);
        assert!(!posts[0].is_genuine("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        assert_eq!(posts[0].header("content-type"), "application/json");
        let body = posts[0].json();
        assert_eq!((body["type"].as_str(), &body["data"]["webhook"]["id"]), (Some("test"), &"chat".into()));

        for status in [400, 404, 410, 500, 503] {
            receiver.answer(move |_| Answer::Status(status));
            let tested = test(world, "chat").await;
            assert_eq!((tested.succeeded, tested.response_status), (false, i32::from(status)), "{tested:?}");
            assert!(tested.error.contains(&status.to_string()), "{tested:?}");
        }
        // TestWebhook changes nothing, and works in every state.
        let webhook = done(world.admin.clone().get_webhook(GetWebhookRequest { id: "chat".into() }).await);
        assert_eq!(webhook.expect("the webhook exists").state(), WebhookState::Active);
    }

    async fn both_secrets_are_valid_during_a_rotation(world: World) {
        world.clock.set(system_now().0);
        let receiver = Receiver::start().await;
        let before = create(world, "chat", &receiver.url()).await.expect("the webhook is new");
        let overlap = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let request = RotateWebhookSecretRequest { id: "chat".into(), secret: String::new(), overlap };
        let after = done(world.admin.clone().rotate_webhook_secret(request).await).expect("the webhook exists");
        test(world, "chat").await;
        world.clock.advance(MINUTE);
        test(world, "chat").await;
        let posts = receiver.posts();
        assert!(posts[0].is_genuine(&before.secret) && posts[0].is_genuine(&after.secret));
        assert!(!posts[1].is_genuine(&before.secret) && posts[1].is_genuine(&after.secret));
    }

    /// The client has not received the first reply, and repeats the rotation.
    async fn a_repeated_rotation_keeps_the_previous_secret(world: World) {
        const GIVEN: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        world.clock.set(system_now().0);
        let receiver = Receiver::start().await;
        let before = create(world, "chat", &receiver.url()).await.expect("the webhook is new");
        let rotate = async |seconds| {
            let overlap = Some(prost_types::Duration { seconds, nanos: 0 });
            let request = RotateWebhookSecretRequest { id: "chat".into(), secret: GIVEN.into(), overlap };
            done(world.admin.clone().rotate_webhook_secret(request).await).expect("the webhook exists")
        };
        let first = rotate(60).await;
        let expires = millis(first.old_secret_expire_time.as_ref());
        assert_eq!(expires, Some(world.clock.now() + MINUTE));
        world.clock.advance(SECOND);
        assert_eq!(rotate(3_600).await, first, "nothing is changed");
        test(world, "chat").await;
        assert!(receiver.posts()[0].is_genuine(&before.secret) && receiver.posts()[0].is_genuine(GIVEN));

        // A previous secret that has expired is no longer shown.
        world.clock.advance(MINUTE);
        let get = GetWebhookRequest { id: "chat".into() };
        let shown = done(world.admin.clone().get_webhook(get).await).expect("the webhook exists");
        assert_eq!(shown.old_secret_expire_time, None);
        let listed = done(world.admin.clone().list_webhooks(ListWebhooksRequest::default()).await);
        assert_eq!(listed.expect("a page").webhooks, [shown]);
        assert_eq!(rotate(60).await.old_secret_expire_time, None);
        let webhook = Webhook { id: "chat".into(), description: "x".into(), ..Webhook::default() };
        let request = UpdateWebhookRequest { webhook: Some(webhook), update_mask: None };
        let changed = done(world.admin.clone().update_webhook(request).await).expect("the webhook exists");
        assert_eq!(changed.old_secret_expire_time, None);
        // The expired secret stays gone even if the clock is set back.
        world.clock.advance(-MINUTE);
        test(world, "chat").await;
        assert!(!receiver.posts()[1].is_genuine(&before.secret) && receiver.posts()[1].is_genuine(GIVEN));
    }

    async fn a_redirect_is_not_followed(world: World) {
        let elsewhere = Receiver::start().await;
        let target = elsewhere.url();
        let receiver = Receiver::answering(move |_| Answer::Redirect(target.clone())).await;
        create(world, "chat", &receiver.url()).await.expect("the webhook is new");
        let tested = test(world, "chat").await;
        assert_eq!((tested.succeeded, tested.response_status), (false, 302), "{tested:?}");
        assert!(tested.error.contains("redirect"), "{tested:?}");
        assert_eq!((receiver.posts().len(), elsewhere.posts().len()), (1, 0));
    }

    async fn an_answer_of_a_gigabyte_is_not_read(world: World) {
        let receiver = Receiver::answering(|_| Answer::Gigabyte).await;
        create(world, "chat", &receiver.url()).await.expect("the webhook is new");
        let tested = test(world, "chat").await;
        assert!(tested.succeeded, "its status is all that counts: {tested:?}");
        // Bytes in buffers count as sent.
        assert!(receiver.sent_bytes() < 64 << 20, "{}", receiver.sent_bytes());
    }

    async fn an_attempt_at_a_silent_endpoint_is_given_up(world: World) {
        let receiver = Receiver::answering(|_| Answer::Stall).await;
        create(world, "chat", &receiver.url()).await.expect("the webhook is new");
        let tested = test(world, "chat").await;
        assert_eq!((tested.succeeded, tested.response_status), (false, 0), "{tested:?}");
        assert!(tested.error.contains("10 seconds"), "{tested:?}");
        let closed = format!("http://127.0.0.1:{}/", postgres::free_port());
        create(world, "nobody", &closed).await.expect("the webhook is new");
        let tested = test(world, "nobody").await;
        assert!(!tested.succeeded && tested.error.contains("cannot connect"), "{tested:?}");
    }

    /// An address is checked when its webhook is created and when it is used, because the settings may change in
    /// between.
    async fn private_addresses_are_refused_unless_allowed(world: World) {
        let receiver = Receiver::start().await;
        let port = receiver.port();
        create(world, "literal", &receiver.url()).await.expect("it is allowed");
        create(world, "name", &format!("http://localhost:{port}/")).await.expect("it is allowed");
        let settings = Config { webhook_allow_private: false, ..settings(world.database.url()) };
        world.restart_with(Config { webhook_allow_http: false, ..settings.clone() }).await;
        let places = [
            "127.0.0.1", "127.1", "2130706433", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1",
            "192.168.0.1", "localhost",
        ];
        for place in places {
            let no = create(world, "new", &format!("https://{place}:{port}/")).await.expect_err(place);
            no.names(&["webhook.url"]);
            assert!(no.faults[0].1.contains("public address"), "{place}: {no:?}");
        }
        create(world, "new", "http://hooks.example.invalid/").await.expect_err("http").names(&["webhook.url"]);
        for id in ["literal", "name"] {
            let tested = test(world, id).await;
            assert!(!tested.succeeded && tested.error.contains("https"), "{id}: {tested:?}");
        }
        world.restart_with(settings).await;
        for id in ["literal", "name"] {
            let tested = test(world, id).await;
            assert!(!tested.succeeded && tested.error.contains("public address"), "{id}: {tested:?}");
        }
        assert_eq!(receiver.posts().len(), 0, "nothing was sent");
        world.restart().await;
        for id in ["literal", "name"] {
            assert!(test(world, id).await.succeeded, "{id}");
        }
    }
}
