//! Lives that have failed before, in their shortest form.

use super::{
    player::play,
    policy::Filter,
    steps::{Chosen, Hold, Life, Step, Step::*},
};
use crate::harness::*;

fn hold(ttl: i64, charge: bool) -> Step {
    let amounts = vec![(0, 40, 0)];
    Reserve(Hold { who: [0; 5], amounts, ttl, partial: false, charge, keyed: false })
}

fn commit(units: i64) -> Step {
    Commit(0, vec![(0, units)], [None; 3])
}

fn life(limits: Vec<Chosen>, steps: Vec<Step>) -> Life {
    Life { zone: 0, limits, own: vec![], agents: [None; 2], steps }
}

both! {
    async fn a_charge_that_a_reset_forgave_is_not_subtracted_again(world: World) {
        let charged = [hold(1, true), Advance(1), Reset(Filter::default())];
        let settled = [Release(0), commit(0), commit(10), commit(50)];
        for settled in settled {
            let steps = [&charged[..], &[settled]].concat();
            play(world, &life(vec![(0, 100, 1, [true; 2])], steps)).await;
        }
    }

    async fn a_reservation_made_after_the_clock_went_back_is_listed_first(world: World) {
        let steps = vec![hold(SECOND, false), Advance(1), TurnBack(SECOND), hold(SECOND, false), Advance(1)];
        play(world, &life(vec![], steps)).await;
    }
}
