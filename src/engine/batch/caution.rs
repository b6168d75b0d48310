//! How careful a lane is: whether its next batch may be decided ahead, where a batch looks for what may be known already,
//! and what follows when a batch fails.
//!
//! | state | set when | ends |
//! | --- | --- | --- |
//! | `seen` | a batch has locked its tenants and read policy and time | when the lane forgets what it remembers |
//! | `behind` | a batch could not be decided ahead, or was overtaken | after 16 batches under the lock |
//! | `contended` | a locked row was not the one that was remembered | after 16 batches that lock rows |
//! | `looking` | a request_id was taken for new and was not | after 64 batches |
//! | `lost` | the outcome of a COMMIT is unknown | with the batch; what is set aside keeps it |
//!
//! While `behind`, `contended` or `looking` lasts, no batch is decided ahead.

use std::time::Duration;

use tokio::time::Instant;

use super::super::load::Look;
use crate::{
    domain::window::Millis,
    store::{Expected, StoreError},
};

/// How many batches are decided under the lock after one could not be decided ahead: the reason mostly stays for a while.
pub(super) const BEHIND_BATCHES: u32 = 16;

/// How many batches read with the lock what they remember, after a batch that found its memory outdated: whoever changed
/// the tenant mostly does so again.
pub(super) const CONTENDED_BATCHES: u32 = 16;

/// How many batches look request_ids up after one of them was known: clients that repeat themselves do so for a while.
const LOOKING_BATCHES: u32 = 64;

/// How often a batch is repeated that ran into another transaction.
const COLLISIONS_MAX: u32 = 8;

/// How often a batch is repeated that lost its database.
const LOSSES_MAX: u32 = 3;

/// How often a batch is repeated that waited for a locked row in vain: that takes a tenth of a second each time, after which
/// the rows that are still locked are left out.
const LOCKS_MAX: u32 = 64;

/// How often a batch is repeated whose tenants got other keys between the look for their ids and the lock. Each time
/// somebody has deleted a tenant and created another by its id in that moment.
const MOVES_MAX: u32 = 8;

/// Pause before the first repeat; doubled for each further one.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// For so long the database's time is counted on from when it last came, in milliseconds.
pub(super) const TIME_AGE_MAX: Millis = 1_000;

/// The state of a lane's caution.
#[derive(Debug, Default)]
pub(super) struct Caution {
    seen: Option<Seen>,
    behind: u32,
    contended: u32,
    looking: u32,
    lost: bool,
}

/// What a batch has seen beside the books.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) expected: Expected,
    /// The database's time, and when it came.
    pub(super) database: Option<(Instant, Millis)>,
}

/// How often a batch was repeated, and why.
#[derive(Debug, Default)]
pub(super) struct Tries {
    collisions: u32,
    losses: u32,
    locks: u32,
    moves: u32,
}

/// What follows when an attempt at a batch has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The batch is decided anew at once.
    Repeat,
    /// The batch is decided anew after a pause.
    RepeatAfter(Duration),
    /// The batch is decided anew at once, without the tenants that are locked.
    SetAside,
    /// The batch is not repeated as it is.
    GiveUp,
}

impl Caution {
    /// Whether the next batch may be decided ahead. Counts it as one that was not, if not.
    pub(super) fn may_decide_ahead(&mut self) -> bool {
        let may = self.behind == 0 && self.looking == 0 && self.contended == 0;
        self.behind = self.behind.saturating_sub(1);
        may
    }

    /// A batch could not be decided ahead.
    pub(super) fn fell_behind(&mut self) {
        self.behind = BEHIND_BATCHES;
    }

    /// A batch was decided ahead, and its commit has failed.
    pub(super) fn was_overtaken(&mut self, error: &StoreError) {
        self.fell_behind();
        if matches!(error, StoreError::KnownRequest) {
            self.looking = LOOKING_BATCHES;
        }
        self.lost = matches!(error, StoreError::Unavailable(_));
    }

    /// A batch begins. `lost`: an operation of it may have been carried out by a batch before.
    pub(super) fn begin(&mut self, lost: bool) {
        self.lost = lost;
    }

    /// Whether the outcome of a COMMIT of this batch is unknown.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Where the batch looks for what its operations may have done before.
    pub(super) fn look(&self) -> Look {
        match (self.lost, self.looking) {
            (false, 0) => Look::Nowhere,
            (false, _) => Look::AtRequests,
            // The outcome of the commit may be unknown, also to the halves of the batch.
            (true, _) => Look::AtOwn,
        }
    }

    /// Rows were locked. `outdated`: one of them was not as it was remembered.
    pub(super) fn has_locked(&mut self, outdated: bool) {
        self.contended = if outdated { CONTENDED_BATCHES } else { self.contended.saturating_sub(1) };
    }

    /// Whether somebody else changes the same tenants, so that what is remembered of them is mostly outdated.
    pub(super) fn is_contended(&self) -> bool {
        self.contended > 0
    }

    /// A batch was decided under the lock and committed.
    pub(super) fn has_settled(&mut self) {
        self.looking = self.looking.saturating_sub(1);
    }

    /// An attempt at a batch has failed.
    pub(super) fn after(&mut self, error: &StoreError, tries: &mut Tries) -> Next {
        match error {
            // The key was forgotten: the repeat looks for it by the tenant's id.
            StoreError::TenantMoved | StoreError::Outdated => {
                if again(&mut tries.moves, MOVES_MAX) {
                    Next::Repeat
                } else {
                    Next::GiveUp
                }
            }
            StoreError::KnownRequest if self.look() == Look::Nowhere => {
                self.looking = LOOKING_BATCHES;
                Next::Repeat
            }
            StoreError::Serialization(_) => again_after(&mut tries.collisions, COLLISIONS_MAX),
            StoreError::Locked(_) => {
                if again(&mut tries.locks, LOCKS_MAX) {
                    Next::SetAside
                } else {
                    Next::GiveUp
                }
            }
            StoreError::Unavailable(_) => {
                self.lost = true;
                again_after(&mut tries.losses, LOSSES_MAX)
            }
            StoreError::KnownRequest
            | StoreError::Conflict(_)
            | StoreError::Permanent(_)
            | StoreError::Corrupt(_)
            | StoreError::Unreachable(_)
            | StoreError::Unusable(_) => Next::GiveUp,
        }
    }

    /// What was seen last of the policy and the time.
    pub(super) fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    /// A batch has read the policy's revision, and the time where the database's counts.
    pub(super) fn see(&mut self, seen: Seen) {
        self.seen = Some(seen);
    }

    /// The database's time has come with an answer.
    pub(super) fn see_time(&mut self, now: Millis) {
        if let Some(seen) = &mut self.seen {
            seen.database = Some((Instant::now(), now));
        }
    }

    /// What was seen is not to be believed any more.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }
}

impl Seen {
    /// The database's time, counted on from when it came, unless that is too long ago.
    pub(super) fn database_now(&self) -> Option<Millis> {
        let (came, now) = self.database?;
        let age = Millis::try_from(came.elapsed().as_millis()).unwrap_or(Millis::MAX);
        (age < TIME_AGE_MAX).then(|| now.saturating_add(age))
    }
}

/// Counts one more try, within a bound.
fn again(tries: &mut u32, tries_max: u32) -> bool {
    let may = *tries < tries_max;
    *tries += u32::from(may);
    may
}

/// Counts one more try, within a bound, after a pause that doubles.
fn again_after(tries: &mut u32, tries_max: u32) -> Next {
    let pause = RETRY_PAUSE * (1 << (*tries).min(tries_max));
    if again(tries, tries_max) { Next::RepeatAfter(pause) } else { Next::GiveUp }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL says when a row is locked for too long.
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    const SERIALIZATION_FAILURE: &str = "40001";
    const UNIQUE_VIOLATION: &str = "23505";
    const SYNTAX_ERROR: &str = "42601";

    #[test]
    fn no_batch_is_decided_ahead_while_there_is_a_reason_for_caution() {
        for (behind, contended, looking, may) in [
            (0, 0, 0, true),
            (1, 0, 0, false),
            (0, 1, 0, false),
            (0, 0, 1, false),
            (1, 1, 0, false),
            (1, 0, 1, false),
            (0, 1, 1, false),
            (1, 1, 1, false),
        ] {
            let mut caution = Caution { behind, contended, looking, ..Caution::default() };
            assert_eq!(caution.may_decide_ahead(), may, "{caution:?}");
            assert_eq!(
                (caution.behind, caution.contended, caution.looking),
                (0, contended, looking),
                "only batches that are not decided ahead count against `behind`"
            );
        }
    }

    #[test]
    fn a_batch_looks_where_it_may_have_been_before() {
        for (lost, looking, look) in [
            (false, 0, Look::Nowhere),
            (false, 1, Look::AtRequests),
            (true, 0, Look::AtOwn),
            (true, 1, Look::AtOwn),
        ] {
            let mut caution = Caution { lost, looking, ..Caution::default() };
            assert_eq!(caution.look(), look);
            caution.has_settled();
            assert_eq!(caution.looking, 0);
            caution.begin(false);
            assert_eq!(caution.look(), Look::Nowhere, "what was lost was so of the batch before");
        }
    }

    #[test]
    fn each_reason_for_caution_ends_after_so_many_batches() {
        let mut caution = Caution::default();
        caution.fell_behind();
        caution.has_locked(true);
        assert_eq!(caution.after(&StoreError::KnownRequest, &mut Tries::default()), Next::Repeat);
        let (mut batches, mut contended) = (0, 0);
        while !caution.may_decide_ahead() {
            caution.has_locked(false);
            caution.has_settled();
            contended += u32::from(caution.is_contended());
            batches += 1;
            assert!(batches < 1_000, "{caution:?}");
        }
        assert_eq!((batches, contended), (LOOKING_BATCHES, CONTENDED_BATCHES - 1));
    }

    #[test]
    fn a_batch_that_was_overtaken_is_decided_under_the_lock() {
        for (error, looking, lost) in [
            (StoreError::Outdated, 0, false),
            (StoreError::KnownRequest, LOOKING_BATCHES, false),
            (StoreError::silent(), 0, true),
            (StoreError::of_code(SERIALIZATION_FAILURE), 0, false),
            (StoreError::of_code(LOCK_NOT_AVAILABLE), 0, false),
        ] {
            let mut caution = Caution { lost: true, ..Caution::default() };
            caution.was_overtaken(&error);
            assert_eq!(
                (caution.behind, caution.looking, caution.lost),
                (BEHIND_BATCHES, looking, lost),
                "{error}"
            );
        }
    }

    #[test]
    fn every_repeat_has_a_bound_and_what_helps_is_done() {
        let pauses =
            |count: u32| (0..count).map(|n| Next::RepeatAfter(RETRY_PAUSE * (1 << n))).collect::<Vec<_>>();
        let rows: [(StoreError, Vec<Next>, bool); 11] = [
            (StoreError::TenantMoved, vec![Next::Repeat; 8], false),
            (StoreError::Outdated, vec![Next::Repeat; 8], false),
            (StoreError::KnownRequest, vec![Next::Repeat], false),
            (StoreError::of_code(LOCK_NOT_AVAILABLE), vec![Next::SetAside; 64], false),
            (StoreError::of_code(SERIALIZATION_FAILURE), pauses(COLLISIONS_MAX), false),
            (StoreError::silent(), pauses(LOSSES_MAX), true),
            (StoreError::of_code(UNIQUE_VIOLATION), Vec::new(), false),
            (StoreError::of_code(SYNTAX_ERROR), Vec::new(), false),
            (StoreError::Corrupt(String::new()), Vec::new(), false),
            (StoreError::Unreachable(String::new()), Vec::new(), false),
            (StoreError::Unusable(String::new()), Vec::new(), false),
        ];
        for (error, repeats, lost) in rows {
            let (mut caution, mut tries) = (Caution::default(), Tries::default());
            for next in repeats {
                assert_eq!(caution.after(&error, &mut tries), next, "{error}");
            }
            assert_eq!(caution.after(&error, &mut tries), Next::GiveUp, "{error}");
            assert_eq!(caution.lost, lost, "{error}");
        }
    }
}
