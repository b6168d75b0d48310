//! The rules of quota. Pure: no I/O, and time comes in as an argument.
//!
//! Read in this order: what is counted ([`id`], [`window`], [`plan`], [`counter`], [`lineage`]), what is held
//! ([`reservation`]), what is asked ([`operation`]), every named no ([`refusal`], [`faults`]) and when to ask again
//! ([`hint`]), what is told ([`alert`], [`event`]),
//! the state of one tenant ([`books`]), and the one function that decides ([`decide`]).

pub mod alert;
pub mod books;
pub mod bounds;
pub mod calendar;
pub mod counter;
pub mod decide;
pub mod event;
pub mod faults;
pub mod hint;
pub mod id;
pub mod lineage;
pub mod operation;
pub mod plan;
pub mod refusal;
pub mod reservation;
pub mod tenant;
pub mod webhook;
pub mod window;
