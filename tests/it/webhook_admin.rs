//! CreateWebhook, UpdateWebhook, DeleteWebhook, and the lists of webhooks and deliveries.

use tonic::Code;
use tope::grpc::v1;

use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::*,
    *,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn hook(id: &str) -> Webhook {
    Webhook { id: id.into(), url: "https://hooks.example.invalid/tope".into(), ..Webhook::default() }
}

async fn create(clients: &Clients, webhook: Webhook) -> Answer<Webhook> {
    done(clients.admin.clone().create_webhook(CreateWebhookRequest { webhook: Some(webhook) }).await)
}

async fn get(clients: &Clients, id: &str) -> Answer<Webhook> {
    done(clients.admin.clone().get_webhook(GetWebhookRequest { id: id.into() }).await)
}

async fn update(clients: &Clients, webhook: Webhook, paths: &[&str]) -> Answer<Webhook> {
    let update_mask = (!paths.is_empty()).then(|| mask(paths));
    done(
        clients
            .admin
            .clone()
            .update_webhook(UpdateWebhookRequest { webhook: Some(webhook), update_mask })
            .await,
    )
}

async fn rotate(clients: &Clients, request: RotateWebhookSecretRequest) -> Answer<Webhook> {
    done(clients.admin.clone().rotate_webhook_secret(request).await)
}

async fn deliveries(clients: &Clients, request: ListDeliveriesRequest) -> Answer<ListDeliveriesResponse> {
    done(clients.admin.clone().list_deliveries(request).await)
}

async fn redeliver(clients: &Clients, webhook: &str, sequences: &[i64]) -> Answer<RedeliverResponse> {
    let request = RedeliverRequest { webhook: webhook.into(), sequences: sequences.to_vec() };
    done(clients.admin.clone().redeliver(request).await)
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

both! {
    async fn a_webhook_can_be_created_read_changed_and_deleted(world: World) {
        let wanted = Webhook {
            description: "to the chat".into(),
            tenants: vec!["acme".into(), "globex".into()],
            kinds: vec![1, 3],
            ..hook("chat")
        };
        let made = create(world, wanted.clone()).await.expect("the webhook is new");
        assert_eq!(made.state(), WebhookState::Active);
        assert!(made.secret.starts_with("whsec_") && made.secret.len() > 40, "{made:?}");
        assert_eq!(millis(made.create_time.as_ref()), Some(NOON));
        let shown = Webhook { secret: String::new(), ..made.clone() };
        assert_eq!(
            (&shown.url, &shown.description, &shown.tenants, &shown.kinds),
            (&wanted.url, &wanted.description, &wanted.tenants, &wanted.kinds)
        );
        assert_eq!(get(world, "chat").await.expect("the webhook exists"), shown, "the secret is shown once");
        create(world, hook("chat")).await.expect_err("it is there").is(Code::AlreadyExists, "NAME_TAKEN");

        world.clock.advance(MINUTE);
        let change = Webhook { description: "elsewhere".into(), ..Webhook { id: "chat".into(), ..Webhook::default() } };
        let changed = update(world, change, &[]).await.expect("the webhook exists");
        assert_eq!((changed.description.as_str(), &changed.url), ("elsewhere", &wanted.url));
        assert_eq!(millis(changed.update_time.as_ref()), Some(NOON + MINUTE));
        let clear = Webhook { id: "chat".into(), ..Webhook::default() };
        let cleared = update(world, clear, &["tenants", "kinds", "description"]).await.expect("the webhook exists");
        assert_eq!((cleared.tenants.len(), cleared.kinds.len(), cleared.description.len()), (0, 0, 0));
        let disable = Webhook { id: "chat".into(), state: WebhookState::Disabled.into(), ..Webhook::default() };
        let disabled = update(world, disable, &["state"]).await.expect("the webhook exists");
        assert_eq!(disabled.state(), WebhookState::Disabled);
        world.restart().await;
        assert_eq!(get(world, "chat").await.expect("it is kept"), disabled);

        let request = || DeleteWebhookRequest { id: "chat".into(), ..DeleteWebhookRequest::default() };
        done(world.admin.clone().delete_webhook(request()).await).expect("the webhook exists");
        get(world, "chat").await.expect_err("it is gone").is(Code::NotFound, "WEBHOOK_NOT_FOUND");
        let no = done(world.admin.clone().delete_webhook(request()).await).expect_err("it is gone");
        assert_eq!(no.resource, Some(("webhook".to_owned(), "chat".to_owned())));
        create(world, hook("chat")).await.expect("its name is free again");
    }

    async fn webhooks_are_listed_by_id(world: World) {
        for id in ["b", "a", "c"] {
            create(world, hook(id)).await.expect("the webhook is new");
        }
        let list = async |page_size, page_token: &str| {
            let request = ListWebhooksRequest { page_size, page_token: page_token.into() };
            done(world.admin.clone().list_webhooks(request).await)
        };
        let first = list(2, "").await.expect("a page");
        let ids: Vec<&str> = first.webhooks.iter().map(|webhook| webhook.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert!(first.webhooks.iter().all(|webhook| webhook.secret.is_empty()));
        let second = list(2, &first.next_page_token).await.expect("a page");
        assert_eq!((second.webhooks.len(), second.next_page_token.as_str()), (1, ""));
        list(-1, "").await.expect_err("no page").names(&["page_size"]);
        list(2, "nonsense").await.expect_err("no token").names(&["page_token"]);
    }

    async fn the_refusal_of_a_webhook_names_the_wrong_fields(world: World) {
        let cases: &[Case<Webhook>] = &[
            ("webhook.id", |webhook| webhook.id.clear()),
            ("webhook.id", |webhook| webhook.id = "a\nb".into()),
            ("webhook.url", |webhook| webhook.url.clear()),
            ("webhook.url", |webhook| webhook.url = "nonsense".into()),
            ("webhook.url", |webhook| webhook.url = "gopher://hooks.example.invalid/".into()),
            ("webhook.url", |webhook| webhook.url = "https://me:secret@hooks.example.invalid/".into()),
            ("webhook.url", |webhook| webhook.url = format!("https://hooks.example.invalid/{}", "x".repeat(2_048))),
            ("webhook.description", |webhook| webhook.description = "x".repeat(257)),
            ("webhook.tenants[1]", |webhook| webhook.tenants = vec!["acme".into(), String::new()]),
            ("webhook.tenants", |webhook| webhook.tenants = vec!["acme".into(); 101]),
            ("webhook.kinds[0]", |webhook| webhook.kinds = vec![0]),
            ("webhook.kinds[1]", |webhook| webhook.kinds = vec![1, 99]),
            ("webhook.kinds[0]", |webhook| webhook.kinds = vec![-1]),
            ("webhook.state", |webhook| webhook.state = WebhookState::Gone.into()),
            ("webhook.state", |webhook| webhook.state = 99),
            ("webhook.secret", |webhook| webhook.secret = "whsec_c2hvcnQ=".into()),
            ("webhook.secret", |webhook| webhook.secret = "not a secret".into()),
        ];
        for (field, spoil) in cases {
            let mut webhook = hook("chat");
            spoil(&mut webhook);
            create(world, webhook.clone()).await.expect_err(field).names(&[field]);
        }
        let mut all = Webhook { url: "nonsense".into(), secret: "short".into(), ..Webhook::default() };
        all.kinds = vec![99];
        let no = create(world, all).await.expect_err("all at once");
        no.names(&["webhook.id", "webhook.kinds[0]", "webhook.secret", "webhook.url"]);
        let no = done(world.admin.clone().create_webhook(CreateWebhookRequest { webhook: None }).await);
        no.expect_err("nothing").names(&["webhook"]);
        get(world, "chat").await.expect_err("none was made").is(Code::NotFound, "WEBHOOK_NOT_FOUND");
        let no = create(world, Webhook { secret: SECRET.into(), ..hook("") }).await.expect_err("no name");
        assert!(!format!("{no:?}").contains("MfKQ9r8"), "a secret is not printed: {no:?}");
    }

    async fn the_refusal_of_a_webhook_update_names_the_wrong_fields(world: World) {
        create(world, hook("chat")).await.expect("the webhook is new");
        let before = get(world, "chat").await.expect("the webhook exists");
        let change = |spoil: fn(&mut Webhook)| {
            let mut webhook = Webhook { id: "chat".into(), ..Webhook::default() };
            spoil(&mut webhook);
            webhook
        };
        let url = change(|webhook| webhook.url = "ftp://x/".into());
        update(world, url, &[]).await.expect_err("no place").names(&["webhook.url"]);
        update(world, change(|_| ()), &["url"]).await.expect_err("it needs one").names(&["webhook.url"]);
        let secret = change(|webhook| webhook.secret = SECRET.into());
        update(world, secret.clone(), &[]).await.expect_err("not so").names(&["webhook.secret"]);
        update(world, secret, &["secret"]).await.expect_err("not so").names(&["update_mask"]);
        for path in ["id", "nonsense", "failing_since", "create_time"] {
            update(world, change(|_| ()), &[path]).await.expect_err(path).names(&["update_mask"]);
        }
        let failed = change(|webhook| webhook.state = WebhookState::Failed.into());
        update(world, failed, &["state"]).await.expect_err("not a client's").names(&["webhook.state"]);
        let other = Webhook { description: "x".into(), ..hook("other") };
        update(world, other, &["description"]).await.expect_err("unknown").is(Code::NotFound, "WEBHOOK_NOT_FOUND");
        assert_eq!(get(world, "chat").await.expect("the webhook exists"), before);
    }

    async fn a_secret_can_be_given_generated_and_rotated(world: World) {
        let given = create(world, Webhook { secret: SECRET.into(), ..hook("given") }).await.expect("the webhook is new");
        assert_eq!(given.secret, SECRET);
        let made = create(world, hook("made")).await.expect("the webhook is new");
        let other = create(world, hook("other")).await.expect("the webhook is new");
        assert_ne!(made.secret, other.secret);
        let request = |overlap| RotateWebhookSecretRequest { id: "made".into(), secret: String::new(), overlap };
        let rotated = rotate(world, request(None)).await.expect("the webhook exists");
        assert!(rotated.secret.starts_with("whsec_") && rotated.secret != made.secret);
        assert_eq!(millis(rotated.old_secret_expire_time.as_ref()), Some(NOON + DAY));
        let rotated = rotate(world, request(seconds(7 * 86_400))).await.expect("the webhook exists");
        assert_eq!(millis(rotated.old_secret_expire_time.as_ref()), Some(NOON + 7 * DAY));
        assert_eq!(get(world, "made").await.expect("the webhook exists").secret, "");

        let too_long = rotate(world, request(seconds(7 * 86_400 + 1))).await;
        too_long.expect_err("it is too long").names(&["overlap"]);
        rotate(world, request(seconds(-1))).await.expect_err("it is over").names(&["overlap"]);
        let short = RotateWebhookSecretRequest { secret: "whsec_c2hvcnQ=".into(), ..request(None) };
        rotate(world, short).await.expect_err("it is short").names(&["secret"]);
        let unknown = RotateWebhookSecretRequest { id: "nobody".into(), ..request(None) };
        rotate(world, unknown).await.expect_err("unknown").is(Code::NotFound, "WEBHOOK_NOT_FOUND");
    }

    async fn requests_for_unknown_webhooks_and_deliveries_are_refused(world: World) {
        create(world, hook("chat")).await.expect("the webhook is new");
        let request = |webhook: &str| ListDeliveriesRequest { webhook: webhook.into(), ..Default::default() };
        assert_eq!(deliveries(world, request("chat")).await.expect("the webhook exists").deliveries, []);
        deliveries(world, request("")).await.expect_err("no name").names(&["webhook"]);
        deliveries(world, request("other")).await.expect_err("unknown").is(Code::NotFound, "WEBHOOK_NOT_FOUND");
        let spoilt = ListDeliveriesRequest { states: vec![1, 0, 9], page_size: 1_001, ..request("chat") };
        let no = deliveries(world, spoilt).await.expect_err("they are none");
        no.names(&["page_size", "states[1]", "states[2]"]);
        assert_eq!(redeliver(world, "chat", &[]).await.expect("the webhook exists").count, 0);
        let no = redeliver(world, "chat", &[7]).await.expect_err("there is none");
        no.is(Code::NotFound, "DELIVERY_NOT_FOUND");
        assert_eq!(no.metadata["sequence"], "7");
        redeliver(world, "chat", &[1, 0]).await.expect_err("there is none").names(&["sequences[1]"]);
        redeliver(world, "chat", &[1; 1_001]).await.expect_err("too many").names(&["sequences"]);
        redeliver(world, "other", &[]).await.expect_err("unknown").is(Code::NotFound, "WEBHOOK_NOT_FOUND");
        let no = world.admin.clone().test_webhook(v1::TestWebhookRequest { id: "other".into() }).await;
        done(no).expect_err("unknown").is(Code::NotFound, "WEBHOOK_NOT_FOUND");
    }

    /// A page may be short, but all pages together are complete.
    async fn many_deliveries_are_listed_in_bounded_steps(world: World) {
        create(world, hook("chat")).await.expect("the webhook is new");
        let make = "INSERT INTO deliveries (webhook_key, sequence, state, attempts, next_attempt_at, response_status,
                                            error, created_at)
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12005)
            SELECT key, i, CASE WHEN i <= 3 THEN 2 ELSE 3 END, 1, 0, 500, 'no', 0 FROM n, webhooks";
        world.database.execute(make).await;
        let pages = async |states: &[DeliveryState]| {
            let mut request = ListDeliveriesRequest {
                webhook: "chat".into(),
                states: states.iter().map(|&state| state.into()).collect(),
                page_size: 1_000,
                page_token: String::new(),
            };
            let (mut found, mut pages) = (Vec::new(), 0);
            loop {
                let page = deliveries(world, request.clone()).await.expect("the webhook exists");
                found.extend(page.deliveries.iter().map(|delivery| delivery.sequence));
                pages += 1;
                if page.next_page_token.is_empty() {
                    return (found, pages);
                }
                request.page_token = page.next_page_token;
            }
        };
        use DeliveryState::{Delivered, Failed, Pending};
        assert_eq!(pages(&[Delivered]).await, (vec![3, 2, 1], 2), "10,000 are looked through for one page");
        let down_to = |first: i64, last: i64| (last..=first).rev().collect::<Vec<_>>();
        assert_eq!(pages(&[Failed]).await, (down_to(12_005, 4), 13));
        assert_eq!(pages(&[]).await, (down_to(12_005, 1), 13));
        assert_eq!(pages(&[Pending]).await, (vec![], 1));
        let count = async || redeliver(world, "chat", &[]).await.expect("the webhook exists").count;
        assert_eq!(count().await, 10_000);
        assert_eq!(pages(&[Pending]).await, (down_to(10_003, 4), 10));
        assert_eq!(pages(&[Failed, Pending]).await, (down_to(12_005, 4), 13));
        assert_eq!((count().await, count().await), (2_002, 0));
    }

    async fn there_are_at_most_a_thousand_webhooks(world: World) {
        create(world, hook("first")).await.expect("the webhook is new");
        let copy = "INSERT INTO webhooks (key, id, url, description, tenants, kinds, state, secret, cursor, claimed_until,
                                          created_at, updated_at)
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 998)
            SELECT i, 'copy-' || i, url, description, tenants, kinds, state, secret, cursor, claimed_until,
                   created_at, updated_at FROM n, webhooks WHERE id = 'first'";
        world.database.execute(copy).await;
        create(world, hook("last")).await.expect("there is room for one");
        let no = create(world, hook("more")).await.expect_err("there is no room");
        no.is(Code::FailedPrecondition, "TOO_MANY_WEBHOOKS");
        assert_eq!(no.metadata["webhooks_max"], "1000");
    }
}
