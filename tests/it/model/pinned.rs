//! Lives that failed once, made as short as they could be.

#![expect(unused_imports, reason = "what is printed can be pasted as it is")]

use super::{
    player::play,
    steps::{Hold, Life, Step::*},
};
use crate::harness::*;

both! {
    async fn nothing_at_all(world: World) {
        play(world, &Life { zone: 0, limits: vec![], steps: vec![] }).await;
    }
}
