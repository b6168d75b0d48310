//! What Aforo does, as claims through its own door.

mod harness;

mod admin_plans;
mod admin_reset;
mod admin_resources;
mod admin_tenants;
mod bad_input;
mod batch;
mod books_kept;
mod calendar;
mod check;
mod clock_skew;
mod crowd;
mod expiry;
mod extend;
mod health;
mod idempotency;
mod inspect;
mod kill;
mod model;
mod overload;
mod policy_change;
mod processes;
mod record;
mod reserve;
mod retry_hint;
mod settle;
mod suspended;
mod usage;

mod tidy;
