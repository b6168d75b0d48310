//! Finds when a refused request would pass, in the simplest way: it tries each instant at which a hold, a window or an
//! override ends, or at which an override begins.

use super::{
    asking::Answer,
    books::{Books, Refusal},
    plans::{Exception, Name},
    steps::{Hold, Units},
    window::FOR_EVER,
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

/// Returns the number of whole seconds between two instants, at least 1.
fn seconds(now: i64, at: i64) -> i64 {
    ((at - now + SECOND - 1) / SECOND).max(1)
}

impl Books {
    /// Returns the number of seconds, at least 1, after which a wish would pass if nothing else happens: the latest of
    /// the times of all limits that refuse, but the instant of a scheduled change of plan at the latest (R4.11, R4.36).
    /// `None`: never.
    fn patience(&self, wish: &Wish) -> Option<i64> {
        let now = self.now();
        let refusing = self.refused(wish, now).into_iter().find_map(|refusal| match refusal {
            Refusal::Quota(limits) => Some(limits),
            _ => None,
        });
        let limits = refusing.unwrap_or_default();
        let times = limits.iter().map(|limit| self.patience_of(wish, *limit));
        let latest = times.collect::<Option<Vec<i64>>>().map(|times| times.into_iter().max().unwrap_or(1));
        let change = self.next.map(|(_, at)| seconds(now, at)).filter(|seconds| match wish {
            Wish::Hold(_) => true,
            Wish::Extend(..) => self.is_in_time(wish, now + seconds * SECOND),
        });
        [latest, change].into_iter().flatten().min()
    }

    /// Returns the number of seconds after which one limit no longer refuses.
    fn patience_of(&self, wish: &Wish, limit: Name) -> Option<i64> {
        let now = self.now();
        let deadlines = self.entries.iter().map(|entry| entry.deadline);
        let limits = self.plans.iter().flat_map(|plan| &plan.limits).filter(|limit| limit.on);
        let ends = limits.map(|limit| limit.window(&self.calendars, now).end);
        let edges = self.exceptions.iter().flat_map(Exception::edges);
        let mut instants: Vec<i64> = deadlines
            .chain(ends)
            .chain(edges)
            .filter(|&at| at > now && at < FOR_EVER)
            .chain([now + 1])
            .collect();
        instants.sort_unstable();
        let passes = |at: &i64| {
            let refused = self.refused(wish, *at);
            let mut limits = refused.iter().filter_map(|refusal| match refusal {
                Refusal::Quota(limits) => Some(limits),
                _ => None,
            });
            !limits.any(|limits| limits.contains(&limit))
                && self.is_in_time(wish, now + seconds(now, *at) * SECOND)
        };
        instants.into_iter().find(passes).map(|at| seconds(now, at))
    }

    /// Returns why the wish would be refused at an instant.
    fn refused(&self, wish: &Wish, at: i64) -> Vec<Refusal> {
        let mut books = self.clone();
        books.clock = at;
        books.expire(at);
        match wish {
            Wish::Hold(hold) => books.grant(hold).err().into_iter().collect(),
            Wish::Extend(index, added, ttl) => books.extend(*index, added, *ttl).err().unwrap_or_default(),
        }
    }

    /// Returns whether only quota can refuse the wish at an instant.
    fn is_in_time(&self, wish: &Wish, at: i64) -> bool {
        self.refused(wish, at).iter().all(|refusal| matches!(refusal, Refusal::Quota(_)))
    }

    /// Fails unless a refusal because of quota has the right retry hint. Returns the hint of such a refusal.
    pub fn check_hint(&self, answer: &Answer, wish: &Wish) -> Option<Option<i64>> {
        let hint = match answer {
            Err(no) if no.reason == "QUOTA_EXCEEDED" => {
                no.retry.map(|delay| i64::try_from(delay.as_secs()).expect("less than for ever"))
            }
            Ok(Answered::Check(reply)) if !reply.allowed && !reply.suspended => {
                reply.retry_delay.map(|delay| delay.seconds)
            }
            Ok(_) | Err(_) => return None,
        };
        assert_eq!(hint, self.patience(wish), "seconds until {wish:?} comes true, after {answer:?}");
        Some(hint)
    }
}
