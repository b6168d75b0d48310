//! What Aforo does, as claims through its own door.

mod harness;

mod batch;
mod calendar;
mod check;
mod clock_skew;
mod expiry;
mod extend;
mod idempotency;
mod inspect;
mod policy_change;
mod record;
mod reserve;
mod retry_hint;
mod settle;
mod suspended;
mod usage;

// mod tidy;
