//! The receivers of events while a bench runs: watchers, and one webhook.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::workload::{LIMIT_QUANTITY, RESOURCE};
use crate::{
    console::{
        client::{Connection, CredentialArgs, created, print_line, run_id},
        error::CliError,
    },
    grpc::v1::{
        Amount, CreatePlanRequest, CreateTenantRequest, CreateWebhookRequest, DeleteWebhookRequest,
        Enforcement, Limit, Period, Plan, RecordRequest, ResetUsageRequest, Tenant, WatchUsageRequest,
        Webhook, admin_service_client::AdminServiceClient, quota_service_client::QuotaServiceClient,
        watch_usage_response::Update,
    },
};

/// Id of the tenant whose usage causes the events, and of its plan. The plan has one limit, so that each ResetUsage
/// emits one event.
const TENANT: &str = "bench-events";

/// Maximum number of WatchUsage streams per connection.
const STREAMS_MAX: u32 = 64;

/// Watchers, a webhook, and the task that causes events for them.
#[derive(Debug)]
pub struct Audience {
    watchers: Vec<Arc<AtomicU64>>,
    delivered: Arc<AtomicU64>,
    active: watch::Sender<bool>,
    admin: AdminServiceClient<Connection>,
    webhook: String,
    _tasks: JoinSet<()>,
}

impl Audience {
    /// Opens `watchers` streams, and creates a webhook. After `cause_events(true)`, a task causes `events_per_second`
    /// events a second for the watchers and the webhook.
    ///
    /// # Errors
    ///
    /// When the server refuses any of these calls.
    pub async fn open(
        credentials: &CredentialArgs,
        target: &str,
        watchers: u32,
        events_per_second: u32,
    ) -> Result<Self, CliError> {
        let mut tasks = JoinSet::new();
        let channel = credentials.connect(target).await?;
        let admin = AdminServiceClient::new(channel.clone());
        prepare(&admin).await?;
        let mut counts = Vec::new();
        let mut shared = channel.clone();
        for number in 0..watchers {
            if number % STREAMS_MAX == 0 {
                shared = credentials.connect(target).await?;
            }
            let count = Arc::new(AtomicU64::new(0));
            counts.push(Arc::clone(&count));
            let request = WatchUsageRequest { tenant: TENANT.to_owned(), ..WatchUsageRequest::default() };
            let stream = QuotaServiceClient::new(shared.clone()).watch_usage(request).await;
            let mut stream = stream.map_err(|status| CliError::refused("WatchUsage", &status))?.into_inner();
            tasks.spawn(async move {
                while let Ok(Some(message)) = stream.message().await {
                    if matches!(message.update, Some(Update::Event(_))) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let delivered = Arc::new(AtomicU64::new(0));
        let webhook = make_webhook(&admin, &mut tasks, &delivered).await?;
        let active = watch::Sender::new(false);
        tasks.spawn(cause_events(channel, admin.clone(), events_per_second, active.subscribe()));
        Ok(Self { watchers: counts, delivered, active, admin, webhook, _tasks: tasks })
    }

    /// Starts or stops the events.
    pub fn cause_events(&self, active: bool) {
        self.active.send_replace(active);
    }

    /// Prints how many events were received, and deletes the webhook.
    ///
    /// # Errors
    ///
    /// When a watcher or the webhook has received no event, or when the server refuses to delete the webhook.
    pub async fn finish(mut self) -> Result<(), CliError> {
        let request = DeleteWebhookRequest { id: self.webhook.clone(), ..DeleteWebhookRequest::default() };
        let gone = self.admin.delete_webhook(request).await;
        gone.map_err(|status| CliError::refused("DeleteWebhook", &status))?;
        let received = || self.watchers.iter().map(|count| count.load(Ordering::Relaxed));
        let (least, most) = (received().min().unwrap_or(0), received().max().unwrap_or(0));
        let delivered = self.delivered.load(Ordering::Relaxed);
        print_line(format_args!(
            "audience  {} watchers received {least} to {most} events each, the webhook {delivered}",
            self.watchers.len()
        ))?;
        if least == 0 || delivered == 0 {
            return Err(CliError::new("a watcher or the webhook received no event"));
        }
        Ok(())
    }
}

async fn prepare(admin: &AdminServiceClient<Connection>) -> Result<(), CliError> {
    let limit = Limit {
        id: "day".to_owned(),
        resource: RESOURCE.to_owned(),
        quantity: LIMIT_QUANTITY,
        period: Period::Day.into(),
        enforcement: Enforcement::Hard.into(),
        ..Limit::default()
    };
    let plan = Plan { id: TENANT.to_owned(), limits: vec![limit], ..Plan::default() };
    created("CreatePlan", admin.clone().create_plan(CreatePlanRequest { plan: Some(plan) }).await)?;
    let tenant = Tenant { id: TENANT.to_owned(), plan: TENANT.to_owned(), ..Tenant::default() };
    created("CreateTenant", admin.clone().create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await)?;
    Ok(())
}

/// Listens on loopback, and creates a webhook that sends the tenant's events there.
async fn make_webhook(
    admin: &AdminServiceClient<Connection>,
    tasks: &mut JoinSet<()>,
    delivered: &Arc<AtomicU64>,
) -> Result<String, CliError> {
    let failed =
        |error| CliError::caused("cannot listen on 127.0.0.1 for the events of the bench's webhook", &error);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let delivered = Arc::clone(delivered);
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.spawn(receive(connection, Arc::clone(&delivered)));
        }
    });
    let id = format!("bench-{}", run_id());
    let webhook = Webhook {
        id: id.clone(),
        url: format!("http://{address}/"),
        tenants: vec![TENANT.to_owned()],
        ..Webhook::default()
    };
    let made = admin.clone().create_webhook(CreateWebhookRequest { webhook: Some(webhook) }).await;
    made.map_err(|status| CliError::refused("CreateWebhook", &status))?;
    Ok(id)
}

/// Answers each POST of a connection with 204. Bytes that are not HTTP end the connection.
async fn receive(connection: TcpStream, delivered: Arc<AtomicU64>) -> Option<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let (mut length, mut line) = (0_u64, String::new());
        loop {
            line.clear();
            if connection.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = (&mut connection).take(length);
        tokio::io::copy(&mut body, &mut tokio::io::sink()).await.ok()?;
        delivered.fetch_add(1, Ordering::Relaxed);
        connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
    }
}

/// Causes one event per tick: it sends a Record, and then a ResetUsage that sets the usage to zero again.
async fn cause_events(
    channel: Connection,
    mut admin: AdminServiceClient<Connection>,
    events_per_second: u32,
    active: watch::Receiver<bool>,
) {
    let mut quota = QuotaServiceClient::new(channel);
    let mut ticks = interval(Duration::from_secs(1) / events_per_second.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !*active.borrow() {
            continue;
        }
        let record = RecordRequest {
            tenant: TENANT.to_owned(),
            amounts: vec![Amount { resource: RESOURCE.to_owned(), quantity: 1 }],
            ..RecordRequest::default()
        };
        let reset = ResetUsageRequest {
            tenant: TENANT.to_owned(),
            reason: "bench".to_owned(),
            operator: "bench".to_owned(),
            ..ResetUsageRequest::default()
        };
        // Errors do not matter here: `finish` fails if a receiver got no event.
        let _ = quota.record(record).await;
        let _ = admin.reset_usage(reset).await;
    }
}
