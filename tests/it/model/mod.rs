//! Random lives of a tenant on a server, compared step by step with a model of its books that was written
//! independently.
//!
//! After each step, every reply, every balance (I2) and every reservation (I3, I5) is as the model says, and nothing
//! was granted beyond a HARD limit (I1). The clock goes forward and back (I9). Each refusal for want of quota says, to
//! the second, when the same request would pass.

mod asking;
mod books;
mod comparing;
mod limit;
mod pinned;
mod player;
mod reading;
mod steps;
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
/// Attempts to make a failed life shorter.
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
    let outcome = TestRunner::new(config).run(&life(STEPS_MAX), |life| {
        runtime.block_on(play(&world, &life));
        Ok(())
    });
    // The printed life can be copied into `pinned` as it is.
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    runtime.block_on(world.end());
}
