//! The rules of quota. Pure: no I/O, no clock and no randomness; time and ids are arguments.
//!
//! Read the files in this order:
//!
//! - the things that are counted: [`id`], [`time`], [`window`], [`timing`], [`shape`], [`carry_over`], [`plan`],
//!   [`counter`]
//! - who may spend by which limits: [`tenant`], [`agent`], [`overrides`], [`terms`]
//! - the change since which a counter counts: [`lineage`], [`carry`], [`next_plan`]
//! - the operations, and the reservations that they make: [`operation`], [`reservation`],
//!   [`amendment`]
//! - the refusals, with their retry hints: [`refusal`], [`faults`], [`outlook`], [`hint`]
//! - the events: [`alert`], [`event_kind`], [`event`]
//! - the state of one tenant: [`books`]
//! - the function that decides an operation: [`decide`]
//! - who may call: [`access`], [`san`]
//! - who made which change: [`audit`]
//! - what operators see of things, as one short text: [`etag`]

pub mod access;
pub mod agent;
pub mod alert;
pub mod amendment;
pub mod audit;
pub mod books;
pub mod bounds;
pub mod calendar;
pub mod carry;
pub mod carry_over;
mod codes;
pub mod counter;
pub mod decide;
pub mod etag;
pub mod event;
#[cfg(test)]
pub(crate) mod event_examples;
pub mod event_kind;
pub mod faults;
pub mod hint;
pub mod id;
pub mod lineage;
pub mod next_plan;
pub mod operation;
pub mod outlook;
pub mod overrides;
pub mod plan;
pub mod refusal;
pub mod reservation;
pub mod san;
pub mod shape;
pub mod tenant;
pub mod terms;
pub mod time;
pub mod timing;
pub mod webhook;
pub mod window;
