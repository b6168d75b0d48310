//! Webhooks: the log, posted to endpoints.
//!
//! [`address`] says where they may be sent, [`sign`] how they are signed, [`body`] what they say, [`send`] is one attempt,
//! and [`deliver`] makes them in order.

mod address;
mod body;
mod deliver;
mod send;
mod sign;

pub use self::{
    address::{Rules, check_host, parse_url},
    deliver::{Begun, Deliverer},
};
