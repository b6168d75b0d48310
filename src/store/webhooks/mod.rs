//! Webhooks, and what was sent to them. `admin.rs` is what operators change, and has the rows of webhooks. Read
//! `deliveries.rs` first: it expands the log into deliveries, leases a webhook to one process, and records attempts.
//! `list.rs` shows deliveries, and `prune.rs` removes them.

mod admin;
mod deliveries;
mod list;
mod prune;

pub use admin::{NewWebhook, WebhookChange};
pub use deliveries::{DueWebhooks, Errand, Expanded, Lease, Next};
pub use list::{DeliveryPage, DeliveryQuery};
pub use prune::PrunedDeliveries;
