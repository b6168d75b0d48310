//! What Tope does, as claims through its own door.

#![expect(unreachable_pub, reason = "a test binary has no outside")]

mod harness;

mod admin_plans;
mod admin_reset;
mod admin_resources;
mod admin_tenants;
mod ahead;
mod backlog;
mod bad_input;
mod batch;
mod books_kept;
mod calendar;
mod check;
mod clock_skew;
mod commands;
mod crowd;
mod documents;
mod events;
mod expiry;
mod extend;
mod from_now_on;
mod grpcurl;
mod health;
mod idempotency;
mod idle_holds;
mod inspect;
mod jobs;
mod kill;
mod landed;
mod model;
mod overload;
mod poison;
mod policy_change;
mod postgres_url;
mod processes;
mod prune;
mod record;
mod replay;
mod reserve;
mod retry_hint;
mod settings;
mod settle;
mod suspended;
mod thresholds;
mod trace;
mod usage;
mod watch;
mod watch_command;
mod watch_cut;
mod watch_deleted;
mod watch_python;
mod watch_resume;
mod watch_stalled;
mod webhook_admin;
mod webhook_body;
mod webhook_flight;
mod webhook_https;
mod webhook_kill;
mod webhook_places;
mod webhook_prune;
mod webhook_python;
mod webhooks;

mod tidy;
