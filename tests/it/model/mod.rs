//! Plays random lives of a tenant on a server. After each step the tests compare the server with a model of the
//! tenant's books, which was written independently.
//!
//! After each step, every reply, every balance (I2) and every reservation (I3, I5) must agree with the model, and
//! nothing may be granted above a HARD limit (I1). The clock goes forward and back (I9). Each refusal because of quota
//! must report after how many seconds the same request would pass.

mod asking;
mod books;
mod changes;
mod changing;
mod comparing;
mod limit;
mod pinned;
mod plans;
mod player;
mod policy;
mod preparing;
mod reading;
mod settling;
mod steps;
mod tally;
mod twins;
mod waiting;
mod window;

use proptest::test_runner::{Config, TestRunner};

use self::{player::play, steps::life};
use crate::harness::{Kind, World};

/// Number of lives per database.
const LIVES: u32 = 40;
/// Maximum number of steps in one generated life.
const STEPS_MAX: usize = 60;
/// Maximum number of attempts to make a failed life shorter.
const SHRINKS_MAX: u32 = 400;

#[test]
fn the_books_agree_with_the_model_on_sqlite() {
    try_lives(Kind::Sqlite);
}

#[test]
fn the_books_agree_with_the_model_on_postgres() {
    try_lives(Kind::Postgres);
}

fn try_lives(kind: Kind) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let world = runtime.block_on(World::start(kind));
    let config = Config {
        cases: LIVES,
        max_shrink_iters: SHRINKS_MAX,
        failure_persistence: None,
        ..Config::default()
    };
    // These lives differ from run to run. `twins` claims that all steps and outcomes are covered.
    let outcome = TestRunner::new(config).run(&life(STEPS_MAX), |life| {
        runtime.block_on(play(&world, &life));
        Ok(())
    });
    // The failure prints the life as code that can be copied into `pinned`.
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    runtime.block_on(world.end());
}
