//! Finds when a refused request would pass, in the simplest way: it tries each instant at which a hold or a window
//! ends.

use super::{
    asking::Answer,
    books::Books,
    steps::{Hold, Units},
    window::window_end,
};
use crate::harness::{SECOND, v1::operation_result::Result as Answered};

/// A request that is tried again at later instants.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A Reserve or a Check.
    Hold(Hold),
    /// An Extend: index of the entry, amounts, ttl.
    Extend(usize, Vec<Units>, Option<i64>),
}

impl Books {
    /// Returns the number of seconds, at least 1, after which a wish would pass if nothing else happens. `None`: never.
    fn patience(&self, wish: &Wish) -> Option<i64> {
        let now = self.now();
        let deadlines = self.entries.iter().map(|entry| entry.deadline);
        let limits = self.limits.iter().filter(|limit| limit.on);
        let ends = limits.filter_map(|limit| window_end(self.zone, limit.span, now));
        let mut seconds: Vec<i64> = deadlines
            .chain(ends)
            .filter(|&at| at > now)
            .map(|at| (at - now + SECOND - 1) / SECOND)
            .chain([1])
            .collect();
        seconds.sort_unstable();
        seconds.into_iter().find(|seconds| self.comes_true(wish, now + seconds * SECOND))
    }

    fn comes_true(&self, wish: &Wish, at: i64) -> bool {
        let mut books = self.clone();
        books.clock = at;
        books.expire();
        match wish {
            Wish::Hold(hold) => books.grant(hold).is_ok(),
            Wish::Extend(index, added, ttl) => books.extend(*index, added, *ttl).is_ok(),
        }
    }

    /// Fails unless a refusal because of quota has the right retry hint.
    pub fn check_hint(&self, answer: &Answer, wish: &Wish) {
        let hint = match answer {
            Err(no) if no.reason == "QUOTA_EXCEEDED" => {
                no.retry.map(|delay| i64::try_from(delay.as_secs()).expect("less than for ever"))
            }
            Ok(Answered::Check(reply)) if !reply.allowed && !reply.suspended => {
                reply.retry_delay.map(|delay| delay.seconds)
            }
            Ok(_) | Err(_) => return,
        };
        assert_eq!(hint, self.patience(wish), "seconds until {wish:?} comes true, after {answer:?}");
    }
}
