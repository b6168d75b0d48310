//! Webhooks and their deliveries. Read `deliveries.rs` first: it creates deliveries from the log, leases a webhook to
//! one process, and records attempts. `admin.rs` makes the changes of operators, and reads the rows of webhooks.
//! `list.rs` lists deliveries, and `prune.rs` removes them.

mod admin;
mod deliveries;
mod list;
mod prune;

pub use admin::{NewWebhook, WebhookChange};
pub use deliveries::{DueDelivery, DueWebhooks, Expanded, Lease, Next};
pub use list::{DeliveryPage, DeliveryQuery};
pub use prune::PrunedDeliveries;
