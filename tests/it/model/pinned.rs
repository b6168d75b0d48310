//! Lives that have failed before, in their shortest form.

use super::{
    player::play,
    steps::{Hold, Life, Step, Step::*},
};
use crate::harness::*;

fn hold(ttl: i64, charge: bool) -> Step {
    let amounts = vec![(0, 40, 0)];
    Reserve(Hold { who: [0; 3], amounts, ttl, partial: false, charge, keyed: false })
}

both! {
    async fn a_charge_that_a_reset_forgave_is_not_subtracted_again(world: World) {
        let charged = [hold(1, true), Advance(1), Reset(None, None)];
        let settled = [Release(0), Commit(0, vec![(0, 0)]), Commit(0, vec![(0, 10)]), Commit(0, vec![(0, 50)])];
        for settled in settled {
            let steps = [&charged[..], &[settled]].concat();
            play(world, &Life { zone: 0, limits: vec![(0, 100, 1)], steps }).await;
        }
    }

    async fn a_reservation_made_after_the_clock_went_back_is_listed_first(world: World) {
        let steps = vec![hold(SECOND, false), Advance(1), TurnBack(SECOND), hold(SECOND, false), Advance(1)];
        play(world, &Life { zone: 0, limits: vec![], steps }).await;
    }
}
