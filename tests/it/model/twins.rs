//! Plays the same lives on both databases. Both must give the same answers and emit the same events.

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    asking::text,
    player::Player,
    steps::{Life, Step, life},
    tally::{self, Tally},
};
use crate::harness::{world::run, *};

/// Minimum number of operations per seed.
const OPERATIONS: usize = 1_000;
/// The books are compared with the model after every step of this number.
const COMPARED_EVERY: usize = 8;
/// Maximum number of steps in one generated life.
const STEPS_MAX: usize = 120;

#[test]
fn both_databases_give_the_same_answers_and_events() {
    run(async {
        let (sqlite, postgres) = (World::start(Kind::Sqlite).await, World::start(Kind::Postgres).await);
        let mut tally = Tally::default();
        for seed in 1..=2 {
            for (number, life) in lives(seed).iter().enumerate() {
                let tenant = format!("twin-{seed}-{number}");
                let (one, covered) = said(&sqlite, &tenant, life).await;
                let (other, _) = said(&postgres, &tenant, life).await;
                tally.add(covered);
                for (place, (one, other)) in one.iter().zip(&other).enumerate() {
                    assert_eq!(one, other, "{place} of seed {seed}, {life:#?}");
                }
                assert_eq!(one.len(), other.len(), "seed {seed}, {life:#?}");
            }
        }
        // The lives of a seed are always the same.
        tally.covers(&[tally::STEPS, tally::OUTCOMES].concat());
        sqlite.end().await;
        postgres.end().await;
    });
}

/// Generates lives that together have at least [`OPERATIONS`] operations.
fn lives(seed: u8) -> Vec<Life> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut lives, mut count) = (Vec::new(), 0);
    while count < OPERATIONS {
        let life = life(STEPS_MAX).new_tree(&mut runner).expect("a life").current();
        count += life.steps.iter().map(operations).sum::<usize>();
        lives.push(life);
    }
    lives
}

fn operations(step: &Step) -> usize {
    match step {
        Step::Batch(steps) => steps.len(),
        Step::Advance(_) | Step::TurnBack(_) | Step::Change(_) => 0,
        _ => 1,
    }
}

/// Plays a life. Returns as text all answers, all balances and reservations at the end, and all events. Reservations
/// are named by the order in which they were made.
async fn said(world: &World, tenant: &str, life: &Life) -> (Vec<String>, Tally) {
    let mut player = Player::begin(world, tenant, life).await;
    for (number, step) in life.steps.iter().enumerate() {
        player.take(step).await;
        if number % COMPARED_EVERY == 0 {
            player.compare().await;
        }
    }
    world.close_windows().await;
    let mut said = std::mem::take(&mut player.answers);
    said.extend(world.usage(tenant).await.iter().map(text));
    said.extend(world.reservations(tenant).await.iter().map(text));
    for mut event in world.events_of(tenant).await {
        event.sequence = 0;
        said.push(text(&event));
    }
    for (number, name) in player.names.iter().flatten().enumerate() {
        let short = format!("reservation {number}");
        said.iter_mut().for_each(|text| *text = text.replace(name.as_str(), &short));
    }
    (said, player.tally)
}
