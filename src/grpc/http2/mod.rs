//! The HTTP/2 server of the services. It bounds the memory that calls may use, and enforces their deadlines.
//!
//! Read `serve` first: it accepts connections, each with a `socket` over `tcp` and the calls of its `streams`. A call
//! then passes the `layer`, which enforces the deadline of the call and rewords tonic's errors. Then it comes to the `gate`, which
//! lets the call in if there is `room` for its kind of `rpc`. A `body` counts the bytes of requests and replies, and
//! `codec` reads and writes messages. `measure` measures each call.

mod body;
pub mod codec;
mod gate;
mod layer;
mod measure;
mod room;
mod rpc;
mod serve;
mod socket;
mod streams;
mod tcp;

pub(super) use self::{
    gate::{Peer, Promise, promise_snapshot},
    layer::Deadline,
    room::Share,
    rpc::OWN_PATHS,
};
pub use self::{
    layer::REQUEST_BYTES_MAX,
    serve::{Observers, serve},
};
