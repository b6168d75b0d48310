//! Webhooks: events of the log, posted to endpoints.
//!
//! [`address`] decides where webhooks may be sent, [`body`] makes the JSON, [`sign`] signs it, [`send`] makes one
//! attempt, and [`deliver`] makes the attempts in order.

mod address;
mod body;
mod deliver;
mod send;
mod sign;

pub use self::{
    address::{Rules, check_host, parse_url},
    deliver::{Begun, Deliverer},
};
