//! The caution of a lane: whether it may decide its next batch ahead, among which rows a batch searches for earlier
//! effects of its operations, and what the lane does after an attempt fails.
//!
//! | state | set when | ends |
//! | --- | --- | --- |
//! | `seen` | a batch has locked its tenants, and read policy and time | when the lane forgets what it remembers |
//! | `behind` | a batch could not be decided ahead, or was not written then | after 16 batches under the lock |
//! | `contended` | a locked row differed from the remembered row | after 16 batches that lock rows |
//! | `searching` | a `request_id` was assumed to be new, but was known | after 64 batches under the lock |
//! | `in_doubt` | the outcome of a COMMIT is unknown | with the batch, except for operations that the batch set aside |
//!
//! While `behind`, `contended` or `searching` lasts, no batch is decided ahead.

use std::time::Duration;

use tokio::time::Instant;

use super::search::Search;
use crate::{
    domain::time::{Span, Time},
    store::{Expected, StoreError},
};

/// Number of batches that run under the lock after a batch could not be decided ahead. The reason often persists for a
/// while.
pub(super) const BEHIND_BATCHES: u32 = 16;

/// Number of batches that re-read remembered rows with the lock, after a batch found a remembered row stale. The
/// replica that wrote the row will probably write it again.
pub(super) const CONTENDED_BATCHES: u32 = 16;

/// Number of batches that search for their `request_id`s, after a batch had a `request_id` that had taken effect
/// before. Clients that repeat one call often repeat several calls.
const SEARCHING_BATCHES: u32 = 64;

/// Maximum number of times that a batch is repeated because it collided with other transactions.
const COLLISIONS_MAX: u32 = 8;

/// Maximum number of times that a batch is repeated because its connection or the database was lost.
const LOSSES_MAX: u32 = 3;

/// Maximum number of times that a batch is repeated because a row stayed locked. Each time the batch waits for a tenth
/// of a second, and then sets aside the tenants that are still locked.
const LOCKS_MAX: u32 = 64;

/// Maximum number of times that a batch is repeated because a remembered tenant key was out of date. This happens when
/// an operator deletes a tenant and creates another tenant with the same id.
const MOVES_MAX: u32 = 8;

/// Pause before the first repeat. It doubles for each further repeat.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Maximum age of a time that PostgreSQL reported. Until then the lane adds the time that has passed.
pub(super) const TIME_AGE_MAX: Span = Span::seconds(1);

/// The states that keep a lane from deciding ahead.
#[derive(Debug, Default)]
pub(super) struct Caution {
    seen: Option<Seen>,
    behind: u32,
    contended: u32,
    searching: u32,
    in_doubt: bool,
}

/// The policy revision, data version and time that the last batch read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) expected: Expected,
    /// The database's time, with the instant at which it arrived.
    pub(super) database: Option<(Instant, Time)>,
}

/// How often one batch was repeated, for each reason.
#[derive(Debug, Default)]
pub(super) struct Tries {
    collisions: u32,
    losses: u32,
    locks: u32,
    moves: u32,
}

/// The reaction of a batch to a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Decides again at once.
    Repeat,
    /// Decides again after a pause.
    RepeatAfter(Duration),
    /// Decides again at once, without the tenants that are locked.
    SetAside,
    /// Fails: the batch is not repeated in this form.
    GiveUp,
}

impl Caution {
    /// Returns whether the next batch may be decided ahead. If not, counts it as one of the batches under the lock.
    pub(super) fn may_decide_ahead(&mut self) -> bool {
        let may = self.behind == 0 && self.searching == 0 && self.contended == 0;
        self.behind = self.behind.saturating_sub(1);
        may
    }

    /// Notes that a batch could not be decided ahead.
    pub(super) fn fell_behind(&mut self) {
        self.behind = BEHIND_BATCHES;
    }

    /// Notes that the commit of a batch that was decided ahead failed.
    pub(super) fn has_failed_to_commit(&mut self, error: &StoreError) {
        self.fell_behind();
        if matches!(error, StoreError::KnownRequest) {
            self.searching = SEARCHING_BATCHES;
        }
        self.in_doubt = matches!(error, StoreError::Unavailable(_));
    }

    /// Notes that a batch begins. `in_doubt`: an earlier COMMIT, whose outcome is unknown, may have carried out some of
    /// the batch's operations.
    pub(super) fn begin(&mut self, in_doubt: bool) {
        self.in_doubt = in_doubt;
    }

    /// Returns whether the outcome of an earlier COMMIT of this batch is unknown.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Returns among which rows the batch searches for earlier effects of its operations.
    pub(super) fn search(&self) -> Search {
        match (self.in_doubt, self.searching) {
            (false, 0) => Search::Nothing,
            (false, _) => Search::Requests,
            // The halves of a batch inherit the unknown outcome.
            (true, _) => Search::Own,
        }
    }

    /// Notes that rows were locked. `outdated`: a locked row differs from the remembered row.
    pub(super) fn has_locked(&mut self, outdated: bool) {
        self.contended = if outdated { CONTENDED_BATCHES } else { self.contended.saturating_sub(1) };
    }

    /// Returns whether other transactions write the same tenants. The rows that the lane remembers are then often
    /// stale.
    pub(super) fn is_contended(&self) -> bool {
        self.contended > 0
    }

    /// Notes that a batch was decided under the lock and committed.
    pub(super) fn has_committed(&mut self) {
        self.searching = self.searching.saturating_sub(1);
    }

    /// Notes a failed attempt. Returns what the batch does next.
    pub(super) fn after(&mut self, error: &StoreError, tries: &mut Tries) -> Next {
        match error {
            // The lane has forgotten the outdated key, so the repeat finds the tenant by its id.
            StoreError::TenantMoved | StoreError::Outdated => {
                if again(&mut tries.moves, MOVES_MAX) {
                    Next::Repeat
                } else {
                    Next::GiveUp
                }
            }
            StoreError::KnownRequest if self.search() == Search::Nothing => {
                self.searching = SEARCHING_BATCHES;
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
                self.in_doubt = true;
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

    /// Returns the policy revision, data version and time that the last batch read.
    pub(super) fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    /// Notes what a batch has read: the policy's revision, and the time if the database is the clock.
    pub(super) fn see(&mut self, seen: Seen) {
        self.seen = Some(seen);
    }

    /// Notes the database's time, which arrived with a reply.
    pub(super) fn see_time(&mut self, now: Time) {
        if let Some(seen) = &mut self.seen {
            seen.database = Some((Instant::now(), now));
        }
    }

    /// Forgets the policy revision and the time, which may be out of date.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }
}

impl Seen {
    /// Returns the database's time plus the time that has passed since it arrived. `None`: no time arrived within
    /// [`TIME_AGE_MAX`].
    pub(super) fn database_now(&self) -> Option<Time> {
        let (came, now) = self.database?;
        let age = Span::from(came.elapsed());
        (age < TIME_AGE_MAX).then(|| now.saturating_add(age))
    }
}

/// Counts a repeat. Returns whether the bound allows it.
fn again(tries: &mut u32, tries_max: u32) -> bool {
    let may = *tries < tries_max;
    *tries += u32::from(may);
    may
}

/// Counts a repeat within a bound, after a pause that doubles.
fn again_after(tries: &mut u32, tries_max: u32) -> Next {
    let pause = RETRY_PAUSE * (1 << (*tries).min(tries_max));
    if again(tries, tries_max) { Next::RepeatAfter(pause) } else { Next::GiveUp }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PostgreSQL's code for a row that stayed locked for too long.
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    const SERIALIZATION_FAILURE: &str = "40001";
    const UNIQUE_VIOLATION: &str = "23505";
    const SYNTAX_ERROR: &str = "42601";

    #[test]
    fn no_batch_is_decided_ahead_while_there_is_a_reason_for_caution() {
        for (behind, contended, searching, may) in [
            (0, 0, 0, true),
            (1, 0, 0, false),
            (0, 1, 0, false),
            (0, 0, 1, false),
            (1, 1, 0, false),
            (1, 0, 1, false),
            (0, 1, 1, false),
            (1, 1, 1, false),
        ] {
            let mut caution = Caution { behind, contended, searching, ..Caution::default() };
            assert_eq!(caution.may_decide_ahead(), may, "{caution:?}");
            assert_eq!(
                (caution.behind, caution.contended, caution.searching),
                (0, contended, searching),
                "only batches that are not decided ahead count against `behind`"
            );
        }
    }

    #[test]
    fn a_batch_searches_the_rows_that_it_may_have_written() {
        for (in_doubt, searching, search) in [
            (false, 0, Search::Nothing),
            (false, 1, Search::Requests),
            (true, 0, Search::Own),
            (true, 1, Search::Own),
        ] {
            let mut caution = Caution { in_doubt, searching, ..Caution::default() };
            assert_eq!(caution.search(), search);
            caution.has_committed();
            assert_eq!(caution.searching, 0);
            caution.begin(false);
            assert_eq!(caution.search(), Search::Nothing, "only the batch before was in doubt");
        }
    }

    #[test]
    fn each_reason_for_caution_ends_after_a_number_of_batches() {
        let mut caution = Caution::default();
        caution.fell_behind();
        caution.has_locked(true);
        assert_eq!(caution.after(&StoreError::KnownRequest, &mut Tries::default()), Next::Repeat);
        let (mut batches, mut contended) = (0, 0);
        while !caution.may_decide_ahead() {
            caution.has_locked(false);
            caution.has_committed();
            contended += u32::from(caution.is_contended());
            batches += 1;
            assert!(batches < 1_000, "{caution:?}");
        }
        assert_eq!((batches, contended), (SEARCHING_BATCHES, CONTENDED_BATCHES - 1));
    }

    #[test]
    fn a_batch_that_failed_to_commit_is_decided_under_the_lock() {
        for (error, searching, in_doubt) in [
            (StoreError::Outdated, 0, false),
            (StoreError::KnownRequest, SEARCHING_BATCHES, false),
            (StoreError::silent(), 0, true),
            (StoreError::of_code(SERIALIZATION_FAILURE), 0, false),
            (StoreError::of_code(LOCK_NOT_AVAILABLE), 0, false),
        ] {
            let mut caution = Caution { in_doubt: true, ..Caution::default() };
            caution.has_failed_to_commit(&error);
            assert_eq!(
                (caution.behind, caution.searching, caution.in_doubt),
                (BEHIND_BATCHES, searching, in_doubt),
                "{error}"
            );
        }
    }

    #[test]
    fn each_error_has_its_reaction_and_a_bound_of_repeats() {
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
        for (error, repeats, in_doubt) in rows {
            let (mut caution, mut tries) = (Caution::default(), Tries::default());
            for next in repeats {
                assert_eq!(caution.after(&error, &mut tries), next, "{error}");
            }
            assert_eq!(caution.after(&error, &mut tries), Next::GiveUp, "{error}");
            assert_eq!(caution.in_doubt, in_doubt, "{error}");
        }
    }
}
