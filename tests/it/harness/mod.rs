//! The tools of all tests: a new database, a clock that the test sets, a real server and a real client.
//!
//! A test is written once, inside [`both!`], and runs on both databases.

pub mod call;
pub mod certificates;
pub mod clients;
pub mod database;
pub mod limits;
pub mod load;
pub mod no;
pub mod pages;
pub mod postgres;
pub mod preload;
pub mod printing;
pub mod process;
pub mod provider;
pub mod proxy;
pub mod raw;
pub mod reading;
pub mod receiver;
pub mod stall;
pub mod wait;
pub mod watching;
pub mod world;

pub use tope::grpc::v1;

pub use call::Call;
pub use clients::Clients;
pub use database::{Database, Kind};
pub use limits::{LimitExt, day, every, lifetime, month, rolling};
pub use load::Load;
pub use no::No;
pub use printing::Printing;
pub use process::Process;
pub use proxy::Proxy;
pub use reading::{Balances, Held, amount, at, figures, is_windowless, millis, state, timestamp, window};
pub use receiver::{Post, Receiver};
pub use wait::eventually;
pub use watching::{KindAndPercent, everything, kinds_of};
pub use world::{NOON, World};

/// The path of a field, and a function that makes its value invalid.
pub type Case<Q> = (&'static str, fn(&mut Q));

/// One second, in milliseconds (the clock's unit).
pub const SECOND: i64 = 1_000;
/// One minute, in milliseconds.
pub const MINUTE: i64 = 60 * SECOND;
/// One hour, in milliseconds.
pub const HOUR: i64 = 60 * MINUTE;
/// One day of 24 hours, in milliseconds.
pub const DAY: i64 = 24 * HOUR;

/// Tests that run on both databases. `async fn name(world: World) { … }` becomes the tests `name::sqlite` and
/// `name::postgres`. Each test has its own world. The books of the world are verified at the end.
macro_rules! both {
    ($($(#[doc = $text:literal])* async fn $name:ident($world:ident: World) $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[doc = $text])*
            async fn claim($world: &mut World) $body

            #[test]
            fn sqlite() {
                crate::harness::world::run_in_world(crate::harness::Kind::Sqlite, |world| Box::pin(claim(world)));
            }

            #[test]
            fn postgres() {
                crate::harness::world::run_in_world(crate::harness::Kind::Postgres, |world| Box::pin(claim(world)));
            }
        }
    )*};
}
pub(crate) use both;

/// Tests that run on both databases and make their own worlds. Each test gets the kind of the database.
macro_rules! on_both {
    ($($(#[doc = $text:literal])* async fn $name:ident($kind:ident: Kind) $body:block)*) => {$(
        mod $name {
            use futures::FutureExt;

            use super::*;

            $(#[doc = $text])*
            async fn claim($kind: Kind) $body

            #[test]
            fn sqlite() {
                crate::harness::world::run(claim(crate::harness::Kind::Sqlite).boxed_local());
            }

            #[test]
            fn postgres() {
                crate::harness::world::run(claim(crate::harness::Kind::Postgres).boxed_local());
            }
        }
    )*};
}
pub(crate) use on_both;
