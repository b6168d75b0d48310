//! The rpcs of AdminService about webhooks.

use std::time::Instant;

use tonic::{Response, Status};

use super::{
    convert::{self, ID_IS_FIXED, Mask, display_name_fault, required},
    lists::{List, NO_FILTER},
    parts::{Admin, of_error, of_refusal},
};
use crate::{
    clock::{random, random_bytes},
    domain::{
        audit::Author,
        bounds::{REDELIVER_MAX, SECRET_OVERLAP_DEFAULT, SECRET_OVERLAP_MAX, WEBHOOK_TENANTS_MAX},
        faults::Faults,
        id::{name_fault, new_id_fault},
        refusal::Refusal,
        time::{Span, Time},
        webhook::{Delivery, DeliveryState, Secret, Webhook, WebhookKey, WebhookState},
    },
    events::webhook::{Rules, check_host, parse_url},
    grpc::{
        faults::{check_names, choices, kinds},
        token::{self, Token},
        v1,
        wire::timestamp,
    },
    store::{DeliveryQuery, NewWebhook, WebhookChange},
};

/// Length in bytes of a secret that the server makes.
const SECRET_BYTES: usize = 32;

type Reply<T> = Result<Response<T>, Status>;

impl Admin {
    pub(super) async fn make_webhook(
        &self,
        request: v1::CreateWebhookRequest,
        author: &Author,
    ) -> Reply<v1::Webhook> {
        let new =
            new_webhook(request.webhook, self.clockwork.deliverer().rules()).await.map_err(of_refusal)?;
        let store = self.store()?;
        // The webhook begins after all events of operations that were answered before the call.
        self.feed.number_all().await.map_err(|error| of_error(error.into()))?;
        let made = store.create_webhook(self.by(author), &new).await.map_err(of_error)?;
        Ok(Response::new(with_secret(made)))
    }

    pub(super) async fn find_webhook(&self, id: String) -> Result<Webhook, Status> {
        let id = convert::id(id).map_err(of_refusal)?;
        self.read("get webhook").await?.get_webhook(self.clock.now(), &id).await.map_err(of_error)
    }

    pub(super) async fn page_of_webhooks(
        &self,
        request: v1::ListWebhooksRequest,
    ) -> Reply<v1::ListWebhooksResponse> {
        let list = List::read("ListWebhooks", NO_FILTER, request.page_size, &request.page_token)?;
        let transaction = self.read("list webhooks").await?;
        let page = transaction.list_webhooks(self.clock.now(), list.after(), list.size).await;
        let page = page.map_err(|error| of_error(error.into()))?;
        let next_page_token = list.next(page.more, page.items.last().map(|last| &*last.id));
        let webhooks = page.items.into_iter().map(webhook).collect();
        Ok(Response::new(v1::ListWebhooksResponse { webhooks, next_page_token }))
    }

    pub(super) async fn change_webhook(
        &self,
        request: v1::UpdateWebhookRequest,
        author: &Author,
    ) -> Reply<v1::Webhook> {
        let (id, change) =
            webhook_change(request, self.clockwork.deliverer().rules()).await.map_err(of_refusal)?;
        let changed = self.store()?.update_webhook(self.by(author), &id, &change).await.map_err(of_error)?;
        Ok(Response::new(webhook(changed)))
    }

    pub(super) async fn remove_webhook(
        &self,
        request: v1::DeleteWebhookRequest,
        author: &Author,
    ) -> Reply<()> {
        let id = convert::id(request.id).map_err(of_refusal)?;
        self.store()?.delete_webhook(self.by(author), &id, &request.etag).await.map_err(of_error)?;
        Ok(Response::new(()))
    }

    pub(super) async fn try_webhook(&self, id: String) -> Reply<v1::TestWebhookResponse> {
        let webhook = self.find_webhook(id).await?;
        let transaction = self.read("read the time").await?;
        let now = transaction.now(self.clock.now()).await.map_err(|error| of_error(error.into()))?;
        drop(transaction);
        let began = Instant::now();
        let attempt = self.clockwork.deliverer().test(&webhook, now).await;
        Ok(Response::new(v1::TestWebhookResponse {
            succeeded: attempt.succeeded(),
            response_status: attempt.response_status.into(),
            error: attempt.error,
            duration: prost_types::Duration::try_from(began.elapsed()).ok(),
        }))
    }

    pub(super) async fn rotate_secret(
        &self,
        request: v1::RotateWebhookSecretRequest,
        author: &Author,
    ) -> Reply<v1::Webhook> {
        let mut faults = Faults::default();
        faults.check("id", name_fault(&request.id));
        let secret = secret(&mut faults, "secret", &request.secret);
        let overlap = overlap(&mut faults, request.overlap);
        faults.into_result(()).map_err(of_refusal)?;
        let rotated =
            self.store()?.rotate_webhook_secret(self.by(author), &request.id, &secret, overlap).await;
        Ok(Response::new(with_secret(rotated.map_err(of_error)?)))
    }

    pub(super) async fn page_of_deliveries(
        &self,
        request: v1::ListDeliveriesRequest,
    ) -> Reply<v1::ListDeliveriesResponse> {
        let page = DeliveryPage::read(&request).map_err(of_refusal)?;
        let transaction = self.read("list deliveries").await?;
        let webhook = transaction.get_webhook(self.clock.now(), &request.webhook).await.map_err(of_error)?;
        let query = DeliveryQuery {
            webhook: webhook.key,
            states: page.states,
            before: page.before.unwrap_or(i64::MAX),
            limit: page.size,
        };
        let found = transaction.list_deliveries(&query).await.map_err(|error| of_error(error.into()))?;
        let next = found.before.map(|before| token::encode(&page.token, &before.to_be_bytes()));
        Ok(Response::new(v1::ListDeliveriesResponse {
            deliveries: found.deliveries.into_iter().map(delivery).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    pub(super) async fn send_again(
        &self,
        request: v1::RedeliverRequest,
        author: &Author,
    ) -> Reply<v1::RedeliverResponse> {
        let mut faults = Faults::default();
        faults.check("webhook", name_fault(&request.webhook));
        if faults.is_within("sequences", request.sequences.len(), REDELIVER_MAX) {
            for (place, _) in request.sequences.iter().enumerate().filter(|(_, sequence)| **sequence < 1) {
                faults.add(format_args!("sequences[{place}]"), "must be 1 or more");
            }
        }
        faults.into_result(()).map_err(of_refusal)?;
        let count = self
            .store()?
            .redeliver(self.by(author), &request.webhook, &request.sequences)
            .await
            .map_err(of_error)?;
        Ok(Response::new(v1::RedeliverResponse { count: i64::try_from(count).unwrap_or(i64::MAX) }))
    }
}

/// A parsed ListDeliveries request: the page, and the states that it filters by.
struct DeliveryPage {
    token: Token,
    states: Vec<DeliveryState>,
    before: Option<i64>,
    size: usize,
}

impl DeliveryPage {
    fn read(request: &v1::ListDeliveriesRequest) -> Result<Self, Refusal> {
        let mut faults = Faults::default();
        faults.check("webhook", name_fault(&request.webhook));
        let wanted = "must be a DeliveryState, such as DELIVERY_STATE_FAILED";
        let states = choices(&mut faults, "states", wanted, &request.states, |code| {
            v1::DeliveryState::try_from(code).ok()?.into()
        });
        let token = Token::new("ListDeliveries").text(&request.webhook);
        let token = DeliveryState::ALL
            .into_iter()
            .fold(token, |token, state| token.optional(states.contains(&state).then_some("wanted")));
        let size = token::page_size(&mut faults, request.page_size);
        let place = |bytes: &[u8]| Some(i64::from_be_bytes(bytes.try_into().ok()?));
        let before = token::decode(&mut faults, &token, &request.page_token, place);
        faults.into_result(Self { token, states, before, size })
    }
}

async fn new_webhook(message: Option<v1::Webhook>, rules: Rules) -> Result<NewWebhook, Refusal> {
    let mut faults = Faults::default();
    let message = required("webhook", message)?;
    faults.check("webhook.id", new_id_fault(&message.id));
    url_fault(&mut faults, &message.url, rules).await;
    faults.check("webhook.description", display_name_fault(&message.description));
    check_tenants(&mut faults, &message.tenants);
    let kinds = kinds(&mut faults, "webhook.kinds", &message.kinds);
    let state = state(&mut faults, message.state);
    let secret = secret(&mut faults, "webhook.secret", &message.secret);
    faults.into_result(NewWebhook {
        key: WebhookKey((i64::from(random() >> 1) << 32) | i64::from(random())),
        id: message.id,
        url: message.url,
        description: message.description,
        tenants: message.tenants,
        kinds,
        state: state.unwrap_or(WebhookState::Active),
        secret,
    })
}

async fn webhook_change(
    request: v1::UpdateWebhookRequest,
    rules: Rules,
) -> Result<(String, WebhookChange), Refusal> {
    let mut faults = Faults::default();
    let message = required("webhook", request.webhook)?;
    faults.check("webhook.id", name_fault(&message.id));
    let fixed = [ID_IS_FIXED[0], ("secret", "is changed by RotateWebhookSecret")];
    let changeable = ["url", "description", "tenants", "kinds", "state"];
    let mask = Mask::read(&mut faults, request.update_mask, &changeable, &fixed);
    if mask.is_empty() && !message.secret.is_empty() {
        faults.add("webhook.secret", "is changed by RotateWebhookSecret");
    }
    let url = mask.take("url", message.url, String::is_empty);
    if let Some(url) = &url {
        url_fault(&mut faults, url, rules).await;
    }
    let description = mask.take("description", message.description, String::is_empty);
    faults.check("webhook.description", description.as_deref().and_then(display_name_fault));
    let tenants = mask.take("tenants", message.tenants, Vec::is_empty);
    check_tenants(&mut faults, tenants.as_deref().unwrap_or_default());
    let given = mask.take("kinds", message.kinds, Vec::is_empty);
    let kinds = given.map(|given| kinds(&mut faults, "webhook.kinds", &given));
    let given = mask.take("state", message.state, |state| *state == 0);
    let state = given.and_then(|given| state(&mut faults, given));
    faults.into_result((
        message.id,
        WebhookChange { url, description, tenants, kinds, state, etag: message.etag },
    ))
}

async fn url_fault(faults: &mut Faults, text: &str, rules: Rules) {
    let checked = match parse_url(rules, text) {
        Ok(url) => check_host(rules, &url).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = checked {
        faults.add("webhook.url", fault);
    }
}

fn check_tenants(faults: &mut Faults, tenants: &[String]) {
    check_names(faults, "webhook.tenants", tenants, WEBHOOK_TENANTS_MAX);
}

/// Parses a webhook's state. `None` if the state is unset or wrong.
fn state(faults: &mut Faults, state: i32) -> Option<WebhookState> {
    match v1::WebhookState::try_from(state).map(Option::from) {
        Ok(state @ (None | Some(WebhookState::Active | WebhookState::Disabled))) => state,
        Ok(Some(WebhookState::Gone | WebhookState::Failed)) | Err(_) => {
            faults.add("webhook.state", "must be WEBHOOK_STATE_ACTIVE or WEBHOOK_STATE_DISABLED");
            None
        }
    }
}

/// Returns the given secret, or a new random secret if none is given.
fn secret(faults: &mut Faults, field: &str, text: &str) -> Secret {
    let minted = || Secret::from_bytes(random_bytes::<SECRET_BYTES>().to_vec());
    if text.is_empty() {
        return minted();
    }
    Secret::parse(text).unwrap_or_else(|fault| {
        faults.add(field, fault);
        minted()
    })
}

fn overlap(faults: &mut Faults, overlap: Option<prost_types::Duration>) -> Span {
    let Some(overlap) = overlap else { return SECRET_OVERLAP_DEFAULT };
    let given = std::time::Duration::try_from(overlap).ok().map(Span::from);
    match given {
        Some(given) if given <= SECRET_OVERLAP_MAX => given,
        Some(_) | None => {
            faults.add("overlap", "must be 0 to 7 days");
            Span::ZERO
        }
    }
}

/// Returns the message of a webhook with its secret.
fn with_secret(made: Webhook) -> v1::Webhook {
    let secret = made.secret.text();
    v1::Webhook { secret, ..webhook(made) }
}

/// Returns the message of a webhook, without its secret.
pub(super) fn webhook(webhook: Webhook) -> v1::Webhook {
    v1::Webhook {
        etag: webhook.etag(),
        id: webhook.id,
        url: webhook.url,
        description: webhook.description,
        tenants: webhook.tenants,
        kinds: webhook.kinds.iter().map(|kind| kind.code().into()).collect(),
        state: v1::WebhookState::from(webhook.state).into(),
        secret: String::new(),
        old_secret_expire_time: webhook.old_secret.map(|(_, until)| timestamp(until)),
        failing_since: webhook.failing_since.map(timestamp),
        create_time: Some(timestamp(webhook.created_at)),
        update_time: Some(timestamp(webhook.updated_at)),
    }
}

fn delivery(delivery: Delivery) -> v1::Delivery {
    let pending = delivery.state == DeliveryState::Pending && delivery.next_attempt_at > Time::EPOCH;
    v1::Delivery {
        sequence: delivery.sequence,
        state: v1::DeliveryState::from(delivery.state).into(),
        attempts: delivery.attempts,
        next_attempt_time: pending.then(|| timestamp(delivery.next_attempt_at)),
        last_attempt_time: delivery.attempted_at.map(timestamp),
        response_status: delivery.response_status.into(),
        error: delivery.error,
        create_time: Some(timestamp(delivery.created_at)),
    }
}
