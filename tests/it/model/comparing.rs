//! Compares the answers of the server with the expectations of the model.

use tonic::Code;
use tonic_types::QuotaViolation;

use super::{
    asking::Answer,
    books::{Books, Refusal},
    limit::Key,
    plans::Exception,
    player::{Expected, Hand, Player},
    reading::{View, figures_of_books, figures_of_reply, place_of_reply, places, without_zeros},
    steps::{DIMENSIONS, Units},
};
use crate::harness::{
    clients::done,
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
                    check_applied(reply, &hand);
                }
            }
            Expected::Again(sent) => {
                self.tally.note("first answer again");
                let answer = answer.unwrap_or_else(|no| panic!("{no:?}, and not the first reply"));
                assert_eq!(Some(parts(&answer).0), self.sent[sent].first.as_ref());
            }
            Expected::Refused(refusals) => {
                let Err(no) = answer else { panic!("{answer:?}, and not {refusals:?}") };
                let found = refusals.iter().find(|refusal| is(&no, refusal));
                let found = found.unwrap_or_else(|| panic!("{no:?}, and not {refusals:?}"));
                self.note_refusal(found);
            }
            Expected::Reused => {
                let Err(no) = answer else { panic!("{answer:?}, and not REQUEST_ID_REUSED") };
                no.is(Code::AlreadyExists, "REQUEST_ID_REUSED");
                self.tally.note("request_id reused");
            }
            Expected::Verdict(verdict) => {
                let Ok(Answered::Check(reply)) = answer else { panic!("{answer:?}") };
                self.tally.note(if verdict.is_ok() { "allowed by Check" } else { "refused by Check" });
                check_verdict(&reply, verdict);
            }
        }
    }

    fn note_refusal(&mut self, refusal: &Refusal) {
        let name = match refusal {
            // The kinds of limits are counted when the model decides.
            Refusal::Quota(_) => return,
            Refusal::Suspended => "refused because the tenant is suspended",
            Refusal::AgentSuspended => "refused because an agent is suspended",
            Refusal::Settled => "refused because settled",
            Refusal::Expired => "refused because expired",
            Refusal::TooLong => "refused because too long",
            Refusal::NotCharged => "refused because not charged",
            Refusal::WrongInstant => "refused because of the instant",
        };
        self.tally.note(name);
    }

    fn check_held(&mut self, reservation: &Reservation, balances: &[Balance], hand: &Hand) {
        assert_eq!(View::of_reply(reservation), hand.view);
        let read = figures_of_reply(balances);
        for (key, figures) in &read {
            let known = hand.figures.get(key).unwrap_or_else(|| panic!("{key:?} is not of {hand:#?}"));
            assert!(known == figures || hand.vague.contains(key), "{key:?}: {figures:?}, {hand:#?}");
        }
        // I1: nothing is granted above a HARD limit. A quantity of 0 is granted always.
        let granted = |balance: &&Balance| {
            hand.granted.iter().any(|(resource, units)| *resource == balance.resource && *units > 0)
        };
        // An override may have ended since the window's end, so the balance may show another allowance.
        let runs =
            |balance: &&Balance| millis(balance.window_end.as_ref()).is_none_or(|end| end > self.books.now());
        for balance in balances.iter().filter(granted).filter(runs) {
            assert!(!balance.exceeded || balance.enforcement() != Enforcement::Hard, "{balance:?}");
        }
        for (resource, _) in &hand.granted {
            let wanted = hand.figures.keys().filter(|place| place.resource == *resource);
            wanted.for_each(|key| assert!(read.contains_key(key), "{key:?} is missing in {read:?}"));
        }
        let name = self.names[hand.index].get_or_insert_with(|| reservation.name.clone());
        assert_eq!(*name, reservation.name);
        if let Some(sent) = hand.sent {
            self.sent[sent].first = Some(reservation.clone());
        }
    }

    /// Checks the reply of a ResetUsage. `adjusted`: the counters, and what was added to each. `unknown`: other
    /// counters that the server may have reset.
    pub fn check_reset(&self, reply: &ResetUsageResponse, adjusted: &[(Key, i64)], unknown: &[Key]) {
        let unknown: Vec<_> = unknown.iter().flat_map(|key| places(&self.books, key)).collect();
        let read = reply.balances.iter().zip(&reply.adjusted);
        let read = read.filter(|(balance, _)| !unknown.contains(&place_of_reply(balance)));
        let mut read: Vec<_> = read.map(|(balance, &by)| (place_of_reply(balance), by)).collect();
        let shown =
            adjusted.iter().flat_map(|(key, by)| places(&self.books, key).into_iter().map(|p| (p, *by)));
        let mut wanted: Vec<_> = shown.collect();
        read.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(read, wanted);
    }

    /// Compares all balances and reservations that a client can read.
    pub async fn compare(&mut self) {
        let read = self.world.usage(&self.tenant).await;
        let untouched = self.books.plans[self.books.plan].limits.iter();
        for limit in untouched.filter(|limit| limit.on && limit.per == [false; DIMENSIONS]) {
            let shown = read.iter().any(|balance| balance.limit_id == limit.id);
            assert!(shown, "{} is missing", limit.id);
        }
        assert_eq!(without_zeros(figures_of_reply(&read)), figures_of_books(&self.books));
        self.note_balances(&read);

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
        self.compare_amendments().await;
        if self.changed {
            self.compare_tenant().await;
            self.compare_overrides().await;
        }
    }

    fn note_balances(&mut self, read: &[Balance]) {
        let is_overridden =
            |balance: &Balance| balance.source.as_ref().is_some_and(|source| !source.r#override.is_empty());
        self.tally.note_if(read.iter().any(is_overridden), "an override applied");
    }

    /// Compares the amendments of the entry that was amended last (R4.44).
    async fn compare_amendments(&mut self) {
        let Some(index) = self.amended.take() else { return };
        let name = self.names[index].as_deref().expect("it was answered");
        let read = self.world.get(name).await.expect("it is kept");
        let amounts = |amendment: &Amendment| {
            let amounts = amendment.amounts.iter();
            amounts.map(|amount| (amount.resource.clone(), amount.before, amount.after)).collect::<Vec<_>>()
        };
        let read: Vec<_> = read
            .amendments
            .iter()
            .map(|amendment| (millis(amendment.amend_time.as_ref()), amounts(amendment)))
            .collect();
        let own = self.books.entries[index].amendments.iter().map(|(at, changes)| {
            let mut changes: Vec<_> = changes
                .iter()
                .map(|&(resource, before, after)| (Books::resource(resource).to_owned(), before, after))
                .collect();
            changes.sort_unstable();
            (Some(*at), changes)
        });
        assert_eq!(read, own.collect::<Vec<_>>());
    }

    /// Compares the plan of the tenant, and the plan that it gets later (R4.39).
    async fn compare_tenant(&self) {
        let request = GetTenantRequest { id: self.tenant.clone() };
        let read = done(self.world.admin.clone().get_tenant(request).await).expect("the tenant is there");
        let next = read.next_plan.map(|next| (next.plan, millis(next.effective_time.as_ref())));
        let id = |plan: usize| self.books.plans[plan].id.clone();
        let own = self.books.next.map(|(plan, at)| (id(plan), Some(at)));
        assert_eq!((read.plan, next), (id(self.books.plan), own));
    }

    /// Compares what the overrides do (R4.34).
    async fn compare_overrides(&mut self) {
        let request =
            ListOverridesRequest { tenant: self.tenant.clone(), page_size: 1_000, ..Default::default() };
        let read = done(self.world.admin.clone().list_overrides(request).await).expect("a page");
        let read: Vec<_> = read.overrides.iter().map(|made| (made.id.clone(), made.state())).collect();
        let now = self.books.now();
        let state = |made: &Exception| match made.given {
            _ if self.books.fits(made) != Some(true) => OverrideState::Inert,
            [_, Some(end)] if end <= now => OverrideState::Ended,
            [Some(start), _] if start > now => OverrideState::Scheduled,
            _ => OverrideState::Active,
        };
        let present = self.books.exceptions.iter().filter(|made| !made.deleted);
        let own: Vec<_> = present.map(|made| (made.id.clone(), state(made))).collect();
        assert_eq!(read, own);
        self.tally.note_if(own.iter().any(|(_, state)| *state == OverrideState::Ended), "an override ended");
    }
}

fn check_applied(reply: &RecordResponse, hand: &Hand) {
    assert_eq!(reply.applied.len(), reply.balances.len());
    for (balance, &applied) in reply.balances.iter().zip(&reply.applied) {
        let wanted = (place_of_reply(balance), applied);
        assert!(hand.applied.contains(&wanted), "{wanted:?}, and not {:?}", hand.applied);
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
        Refusal::AgentSuspended => (Code::PermissionDenied, "AGENT_SUSPENDED"),
        Refusal::Settled => (Code::FailedPrecondition, "RESERVATION_SETTLED"),
        Refusal::Expired => (Code::FailedPrecondition, "RESERVATION_EXPIRED"),
        Refusal::NotCharged => (Code::FailedPrecondition, "RESERVATION_NOT_CHARGED"),
        Refusal::TooLong | Refusal::WrongInstant => (Code::InvalidArgument, "INVALID_ARGUMENT"),
    };
    if let Refusal::Quota(limits) = refusal {
        let is_own = |violation: &QuotaViolation| {
            violation.quota_dimensions.get("plan_agent").is_some_and(|agent| !agent.is_empty())
        };
        let mut refused: Vec<(&str, bool)> =
            no.violations.iter().map(|violation| (violation.quota_id.as_str(), is_own(violation))).collect();
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
            let mut wanted: Vec<(&str, i64)> =
                units.into_iter().map(|(resource, units)| (Books::resource(resource), units)).collect();
            let mut granted = granted;
            wanted.sort_unstable();
            granted.sort_unstable();
            assert!(reply.allowed, "{reply:?}");
            assert_eq!(granted, wanted);
        }
        Err(refusal) => {
            assert!(!reply.allowed && granted.is_empty(), "{reply:?}");
            assert_eq!(reply.suspended, matches!(refusal, Refusal::Suspended | Refusal::AgentSuspended));
        }
    }
}
