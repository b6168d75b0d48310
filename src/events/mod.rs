//! Events.

pub mod webhook;
