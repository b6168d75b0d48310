//! Compares the answers of the server with the expectations of the model.

use tonic::Code;

use super::{
    asking::Answer,
    books::Refusal,
    player::{Expected, Hand, Player},
    reading::{View, figures_of_books, figures_of_reply},
    steps::Units,
};
use crate::harness::{
    v1::{operation_result::Result as Answered, *},
    *,
};

impl Player<'_> {
    /// Checks one answer against the model.
    pub fn check(&mut self, answer: Answer, expected: Expected) {
        match expected {
            Expected::Held(hand) => {
                let answer = answer.unwrap_or_else(|no| panic!("{no:?}, and not {hand:#?}"));
                let (reservation, balances) = parts(&answer);
                self.check_held(reservation, balances, &hand);
                if let Answered::Record(reply) = &answer {
                    self.check_applied(reply, hand.index);
                }
            }
            Expected::Again(sent) => {
                let answer = answer.unwrap_or_else(|no| panic!("{no:?}, and not the first reply"));
                assert_eq!(Some(parts(&answer).0), self.sent[sent].first.as_ref());
            }
            Expected::Refused(refusals) => {
                let Err(no) = answer else { panic!("{answer:?}, and not {refusals:?}") };
                assert!(refusals.iter().any(|refusal| is(&no, refusal)), "{no:?}, and not {refusals:?}");
            }
            Expected::Reused => {
                let Err(no) = answer else { panic!("{answer:?}, and not REQUEST_ID_REUSED") };
                no.is(Code::AlreadyExists, "REQUEST_ID_REUSED");
            }
            Expected::Verdict(verdict) => {
                let Ok(Answered::Check(reply)) = answer else { panic!("{answer:?}") };
                check_verdict(&reply, verdict);
            }
        }
    }

    fn check_held(&mut self, reservation: &Reservation, balances: &[Balance], hand: &Hand) {
        assert_eq!(View::of_reply(reservation), hand.view);
        let read = figures_of_reply(balances);
        for (key, figures) in &read {
            let known = hand.figures.get(key).unwrap_or_else(|| panic!("{key:?} is not of {hand:#?}"));
            assert!(known == figures || hand.vague.contains_key(key), "{key:?}: {figures:?}, {hand:#?}");
        }
        // I1: nothing is granted above a HARD limit. A quantity of 0 is granted always.
        let granted = |balance: &&Balance| {
            hand.granted.iter().any(|(resource, units)| *resource == balance.resource && *units > 0)
        };
        for balance in balances.iter().filter(granted) {
            assert!(!balance.exceeded || balance.enforcement() != Enforcement::Hard, "{balance:?}");
        }
        for (resource, _) in &hand.granted {
            let wanted = hand.figures.keys().filter(|(of, ..)| of == resource);
            wanted.for_each(|key| assert!(read.contains_key(key), "{key:?} is missing in {read:?}"));
        }
        let name = self.names[hand.index].get_or_insert_with(|| reservation.name.clone());
        assert_eq!(*name, reservation.name);
        if let Some(sent) = hand.sent {
            self.sent[sent].first = Some(reservation.clone());
        }
    }

    fn check_applied(&self, reply: &RecordResponse, index: usize) {
        let entry = &self.books.entries[index];
        assert_eq!(reply.applied.len(), reply.balances.len());
        for (balance, &applied) in reply.balances.iter().zip(&reply.applied) {
            let limit = self.books.limits.iter().find(|limit| limit.id == balance.limit_id);
            let mut lines = entry.lines.iter().filter(|(key, _)| match limit {
                Some(limit) => limit.counts(key),
                None => super::books::Books::resource(key.resource) == balance.resource,
            });
            let (_, (_, charged)) = lines.next().expect("it was touched");
            assert_eq!(applied, *charged, "{balance:?}");
        }
    }

    /// Compares all balances and reservations that a client can read.
    pub async fn compare(&self) {
        let read = self.world.usage(&self.tenant).await;
        let untouched = self.books.limits.iter().filter(|limit| limit.on && limit.per == [false; 3]);
        for limit in untouched {
            assert!(read.iter().any(|balance| balance.limit_id == limit.id), "{} is missing", limit.id);
        }
        let mut figures = figures_of_reply(&read);
        figures.retain(|_, sums| *sums != [(0, 0)]);
        assert_eq!(figures, figures_of_books(&self.books));

        let read = self.world.reservations(&self.tenant).await;
        let made: Vec<_> = read.iter().map(|reservation| millis(reservation.create_time.as_ref())).collect();
        assert!(made.is_sorted_by(|a, b| a >= b), "newest first");
        for (index, entry) in self.books.entries.iter().enumerate() {
            if self.books.is_kept(index) {
                let name = self.names[index].as_deref().expect("it was answered");
                let found = read.iter().find(|reservation| reservation.name == name);
                let found = found.unwrap_or_else(|| panic!("{entry:?} is missing"));
                assert_eq!(View::of_reply(found), View::of_entry(entry));
            }
        }
        assert!(read.len() <= self.books.entries.len(), "there are more than were made");
    }
}

fn parts(answer: &Answered) -> (&Reservation, &[Balance]) {
    match answer {
        Answered::Reserve(reply) => (reply.held(), reply.all()),
        Answered::Commit(reply) => (reply.held(), reply.all()),
        Answered::Release(reply) => (reply.held(), reply.all()),
        Answered::Extend(reply) => (reply.held(), reply.all()),
        Answered::Record(reply) => (reply.held(), reply.all()),
        Answered::Amend(reply) => (reply.held(), reply.all()),
        Answered::Check(_) | Answered::Error(_) => panic!("no reservation: {answer:?}"),
    }
}

fn is(no: &No, refusal: &Refusal) -> bool {
    let (code, reason) = match refusal {
        Refusal::Quota(_) => (Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        Refusal::Suspended => (Code::PermissionDenied, "TENANT_SUSPENDED"),
        Refusal::Settled => (Code::FailedPrecondition, "RESERVATION_SETTLED"),
        Refusal::Expired => (Code::FailedPrecondition, "RESERVATION_EXPIRED"),
        Refusal::TooLong => (Code::InvalidArgument, "INVALID_ARGUMENT"),
    };
    if let Refusal::Quota(limits) = refusal {
        let mut refused: Vec<&str> =
            no.violations.iter().map(|violation| violation.quota_id.as_str()).collect();
        refused.sort_unstable();
        return (no.code, no.reason.as_str()) == (code, reason) && refused == *limits;
    }
    (no.code, no.reason.as_str()) == (code, reason)
}

fn check_verdict(reply: &CheckResponse, verdict: Result<Vec<Units>, Refusal>) {
    let granted: Vec<(&str, i64)> =
        reply.granted.iter().map(|amount| (amount.resource.as_str(), amount.quantity)).collect();
    match verdict {
        Ok(units) => {
            let mut wanted: Vec<(&str, i64)> = units
                .into_iter()
                .map(|(resource, units)| (super::books::Books::resource(resource), units))
                .collect();
            let mut granted = granted;
            wanted.sort_unstable();
            granted.sort_unstable();
            assert!(reply.allowed, "{reply:?}");
            assert_eq!(granted, wanted);
        }
        Err(refusal) => {
            assert!(!reply.allowed && granted.is_empty(), "{reply:?}");
            assert_eq!(reply.suspended, refusal == Refusal::Suspended);
        }
    }
}
