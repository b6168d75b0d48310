//! Decides a step in the model, and makes the request and the expected answer.

use super::{
    asking::{amounts, asks, labels_of, names_chosen, names_of, spoiled},
    books::{Books, Entry, Refusal, State},
    player::{Expected, Hand, Player, Sent},
    reading::{View, figures_of_entry, places, vague_of_entry},
    steps::{Hold, Served, Step, Units, Who},
    waiting::Wish,
};
use crate::harness::{
    call::span,
    v1::{operation::Operation as Asked, *},
    *,
};

/// A request with its expected answer.
type Prepared = (Asked, Expected);

/// How a request names a reservation: name, tenant and request_id.
type Address = (String, String, String);

impl Player<'_> {
    /// Decides a step in the model. `None` if the step is not possible here.
    pub fn prepare(&mut self, step: &Step) -> Option<Prepared> {
        match step {
            Step::Reserve(hold) => Some(self.prepare_reserve(hold)),
            Step::Check(hold) => {
                let request = self.world.check(&self.tenant).with(|request| {
                    [request.agent, request.user, request.model] = names_of(hold.who);
                    request.labels = labels_of(hold.who);
                    request.amounts = asks(hold);
                    request.allow_partial = hold.partial;
                });
                Some((Asked::Check(request.request), Expected::Verdict(self.books.grant(hold))))
            }
            Step::Commit(target, used, served) => self.prepare_commit(*target, used, *served),
            Step::Release(target) => self.prepare_release(*target),
            Step::Extend(target, added, ttl, keyed) => self.prepare_extend(*target, added, *ttl, *keyed),
            Step::Record(who, changes, ago, keyed) => Some(self.prepare_record(*who, changes, *ago, *keyed)),
            Step::Amend(target, figures) => self.prepare_amend(*target, figures),
            Step::Replay(which) => {
                let index = self.recent(*which)?;
                Some((self.sent[index].request.clone(), Expected::Again(index)))
            }
            Step::Reuse(which) => {
                let index = self.recent(*which)?;
                Some((spoiled(self.sent[index].request.clone()), Expected::Reused))
            }
            other => unreachable!("not an operation: {other:?}"),
        }
    }

    /// Returns the wish of a step that may be refused because of quota.
    pub fn wish(&self, step: &Step) -> Option<Wish> {
        match step {
            Step::Reserve(hold) | Step::Check(hold) => Some(Wish::Hold(hold.clone())),
            Step::Extend(target, added, ttl, _) => {
                Some(Wish::Extend(self.target(*target)?, added.clone(), *ttl))
            }
            _ => None,
        }
    }

    fn prepare_reserve(&mut self, hold: &Hold) -> Prepared {
        let request_id = self.next_id(hold.keyed);
        let request = self.world.reserve(&self.tenant).ttl(hold.ttl).with(|request| {
            request.request_id = request_id.clone().unwrap_or_default();
            [request.agent, request.user, request.model] = names_of(hold.who);
            request.labels = labels_of(hold.who);
            request.amounts = asks(hold);
            request.allow_partial = hold.partial;
            if hold.charge {
                request.on_expiry = OnExpiry::Charge.into();
            }
        });
        let asked = Asked::Reserve(request.request);
        match self.books.reserve(hold, request_id) {
            Ok(index) => {
                self.names.push(None);
                self.note_granted(hold, index);
                let granted = hold.amounts.iter().map(|&(resource, units, _)| (resource, units)).collect();
                self.expect_held(asked, index, granted)
            }
            Err(refusal) => {
                self.note_quota(&refusal, hold.who);
                (asked, Expected::Refused(vec![refusal]))
            }
        }
    }

    fn note_granted(&mut self, hold: &Hold, index: usize) {
        let granted = &self.books.entries[index].amounts;
        let in_part = hold.amounts.iter().any(|(resource, asked, _)| granted[resource].0 < *asked);
        self.tally.note("granted");
        self.tally.note_if(in_part, "granted in part");
        self.tally.note_if(hold.amounts.iter().any(|(_, asked, _)| *asked == 0), "granted zero");
    }

    /// Counts a refusal because of quota.
    fn note_quota(&mut self, refusal: &Refusal, who: Who) {
        let Refusal::Quota(limits) = refusal else { return };
        let applying: Vec<_> =
            (0..2).flat_map(|resource| self.books.applying(resource, who, self.books.now())).collect();
        let refused = || applying.iter().filter(|(found, _)| limits.contains(&found.name()));
        let labelled = refused().any(|(_, key)| key.names[3..].iter().any(Option::is_some));
        let now = self.books.now();
        let overridden = refused().any(|(found, key)| self.books.terms(*found, key, now).exception.is_some());
        let tally = &mut self.tally;
        tally.note_if(
            limits.iter().any(|(id, own)| !own && !id.is_empty()),
            "refused by a limit of the tenant",
        );
        tally.note_if(limits.iter().any(|(_, own)| *own), "refused by a limit of an agent");
        tally.note_if(limits.contains(&("", false)), "refused because uncovered");
        tally.note_if(labelled, "refused with a label");
        tally.note_if(overridden, "refused under an override");
    }

    fn prepare_record(&mut self, who: Who, changes: &[Units], ago: Option<i64>, keyed: bool) -> Prepared {
        let now = self.books.now();
        let at = now - ago.unwrap_or(0);
        let mut keys = changes.iter().flat_map(|(resource, _)| self.books.counters(*resource, who, at));
        // A negative quantity is cut at zero. The model must know where that is.
        let changes: Vec<Units> = if keys.any(|key| self.books.is_unknown(&key)) {
            changes.iter().map(|(resource, change)| (*resource, change.abs())).collect()
        } else {
            changes.to_vec()
        };
        let request_id = self.next_id(keyed);
        let request = self.world.record(&self.tenant).with(|request| {
            request.request_id = request_id.clone().unwrap_or_default();
            [request.agent, request.user, request.model] = names_of(who);
            request.labels = labels_of(who);
            request.amounts = amounts(&changes);
            request.occurred_time = ago.map(|_| timestamp(at));
        });
        let asked = Asked::Record(request.request);
        match self.books.record(who, &changes, ago, request_id) {
            Ok(index) => {
                self.names.push(None);
                let mut lines = self.books.entries[index].lines.keys();
                let is_over = lines.any(|key| !key.runs(now));
                self.tally.note_if(ago.is_some(), "a Record of before");
                self.tally.note_if(is_over, "a Record of another window");
                self.expect_held(asked, index, vec![])
            }
            Err(refusal) => (asked, Expected::Refused(vec![refusal])),
        }
    }

    fn prepare_commit(&mut self, target: usize, used: &[Units], served: Served) -> Option<Prepared> {
        let index = self.target(target)?;
        let (reservation, tenant, reserve_request_id) = self.address(index)?;
        let entry = &self.books.entries[index];
        let (used, served) = match &entry.commit {
            // A Record cannot be committed. These amounts always differ from its own amounts, so the Commit is refused.
            _ if entry.record => (vec![(0, 777)], served),
            // Otherwise hardly any Commit would be a repeat.
            Some((used, who)) if target.is_multiple_of(3) => {
                (used.clone(), [Some(who[0]), Some(who[1]), Some(who[2])])
            }
            _ => (used.to_vec(), served),
        };
        if self.books.is_same_otherwise(index, &used) {
            return None;
        }
        let [agent, user, model] = names_chosen(&served);
        let asked = Asked::Commit(CommitRequest {
            reservation,
            tenant,
            reserve_request_id,
            amounts: amounts(&used),
            agent,
            user,
            model,
        });
        Some(match self.books.commit(index, &used, served) {
            Ok(true) => {
                self.tally.note("a Commit again");
                let first = self.books.entries[index].first.clone().expect("it was committed");
                self.expect(asked, index, &first, vec![])
            }
            Ok(false) => {
                let entry = &self.books.entries[index];
                self.tally.note_if(entry.late, "a late Commit");
                self.tally.note_if(entry.served.is_some(), "a Commit of another subject");
                self.expect_held(asked, index, vec![])
            }
            Err(refusals) => (asked, Expected::Refused(refusals)),
        })
    }

    fn prepare_release(&mut self, target: usize) -> Option<Prepared> {
        let index = self.target(target)?;
        let (reservation, tenant, reserve_request_id) = self.address(index)?;
        let asked = Asked::Release(ReleaseRequest { reservation, tenant, reserve_request_id });
        Some(match self.books.release(index) {
            Ok(()) => self.expect_held(asked, index, vec![]),
            Err(refusals) => (asked, Expected::Refused(refusals)),
        })
    }

    fn prepare_amend(&mut self, target: usize, figures: &[Units]) -> Option<Prepared> {
        let index = self.target(target)?;
        let (reservation, tenant, reserve_request_id) = self.address(index)?;
        let request = self.world.amend(&reservation).with(|request| {
            (request.tenant, request.reserve_request_id) = (tenant, reserve_request_id);
            request.amounts = amounts(figures);
        });
        let asked = Asked::Amend(request.request);
        Some(match self.books.amend(index, figures) {
            Ok(changed) => {
                let entry = &self.books.entries[index];
                let what = match entry.state {
                    State::Expired => "an Amend of a charge at a deadline",
                    _ if entry.record => "an Amend of a Record",
                    _ => "an Amend of a Commit",
                };
                self.tally.note(if changed { what } else { "an Amend again" });
                let after_reset = entry.lines.values().any(|line| line.gone != 0);
                self.tally.note_if(changed && after_reset, "an Amend after a reset");
                self.amended = Some(index);
                self.expect_held(asked, index, vec![])
            }
            Err(refusals) => (asked, Expected::Refused(refusals)),
        })
    }

    fn prepare_extend(
        &mut self,
        target: usize,
        added: &[Units],
        ttl: Option<i64>,
        keyed: bool,
    ) -> Option<Prepared> {
        if added.is_empty() && ttl.is_none() {
            return None;
        }
        let index = self.target(target)?;
        if added.iter().any(|(resource, _)| self.books.is_vague(index, *resource)) {
            return None;
        }
        let (reservation, tenant, reserve_request_id) = self.address(index)?;
        let request_id = self.next_id(keyed);
        let request = self.world.extend(&reservation).with(|request| {
            (request.tenant, request.reserve_request_id) = (tenant, reserve_request_id);
            request.request_id = request_id.clone().unwrap_or_default();
            request.ttl = ttl.map(span);
            request.amounts = amounts(added);
        });
        let asked = Asked::Extend(request.request);
        Some(match self.books.extend(index, added, ttl) {
            Ok(()) => self.expect_held(asked, index, added.to_vec()),
            Err(refusals) => (asked, Expected::Refused(refusals)),
        })
    }

    /// Expects the present state of the reservation in the model.
    fn expect_held(&mut self, asked: Asked, index: usize, granted: Vec<Units>) -> Prepared {
        let entry = self.books.entries[index].clone();
        self.expect(asked, index, &entry, granted)
    }

    /// Expects this state of the reservation. Adds a request with a request_id to `sent`.
    fn expect(&mut self, asked: Asked, index: usize, entry: &Entry, granted: Vec<Units>) -> Prepared {
        let (view, figures) = (View::of_entry(entry), figures_of_entry(&self.books, entry));
        let vague = vague_of_entry(&self.books, entry);
        let charged = entry
            .lines
            .iter()
            .flat_map(|(key, line)| places(&self.books, key).into_iter().map(|place| (place, line.charged)));
        let applied = charged.collect();
        let keyed = match &asked {
            Asked::Reserve(request) => !request.request_id.is_empty(),
            Asked::Extend(request) => !request.request_id.is_empty(),
            Asked::Record(request) => !request.request_id.is_empty(),
            Asked::Commit(_) | Asked::Release(_) | Asked::Amend(_) | Asked::Check(_) => false,
        };
        let sent = keyed.then_some(self.sent.len());
        if keyed {
            self.sent.push(Sent { request: asked.clone(), at: self.books.now(), first: None });
        }
        let granted =
            granted.into_iter().map(|(resource, units)| (Books::resource(resource), units)).collect();
        (asked, Expected::Held(Box::new(Hand { index, view, figures, vague, applied, granted, sent })))
    }

    /// Returns the index of the entry that a step means.
    fn target(&self, target: usize) -> Option<usize> {
        let index = target.checked_rem(self.books.entries.len())?;
        (self.books.is_kept(index) && !self.books.is_unclear(index)).then_some(index)
    }

    /// Returns how a request names a reservation. Every second entry is named by its request_id if it has one.
    fn address(&self, index: usize) -> Option<Address> {
        let entry = &self.books.entries[index];
        let recent = self.books.now() < entry.made + DAY;
        let by_request = entry.request_id.clone().filter(|_| recent);
        let by_request = by_request.map(|id| (String::new(), self.tenant.clone(), id));
        let by_name = self.names[index].clone().map(|name| (name, String::new(), String::new()));
        if index.is_multiple_of(2) { by_name.or(by_request) } else { by_request.or(by_name) }
    }

    fn recent(&self, which: usize) -> Option<usize> {
        let index = which.checked_rem(self.sent.len())?;
        (self.books.now() < self.sent[index].at + DAY).then_some(index)
    }

    fn next_id(&mut self, keyed: bool) -> Option<String> {
        self.ids += usize::from(keyed);
        keyed.then(|| format!("request-{}", self.ids))
    }
}
