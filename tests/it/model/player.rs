//! Plays a life on a server and in the model, and compares both.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    asking::{amounts, answered, asks, contract, names_of, send, spoiled, text_of_answer},
    books::{Books, Refusal},
    limit::menu,
    reading::{Figures, View, figures_of_entry, vague_of_entry},
    steps::{Hold, Life, RESOURCES, Step, Units, ZONES},
    waiting::Wish,
};
use crate::harness::{
    call::span,
    v1::{operation::Operation as Asked, *},
    *,
};

/// The expected answer to an operation.
#[derive(Debug)]
pub enum Expected {
    /// A reply with a reservation.
    Held(Box<Hand>),
    /// The first answer again. The field is the index of the request in `Player::sent`.
    Again(usize),
    /// One of these refusals.
    Refused(Vec<Refusal>),
    /// REQUEST_ID_REUSED, because the payload differs.
    Reused,
    /// A verdict of Check.
    Verdict(Result<Vec<Units>, Refusal>),
}

/// A reservation as a reply should show it.
#[derive(Debug)]
pub struct Hand {
    /// Index of its entry in the model.
    pub index: usize,
    /// The reservation without its name.
    pub view: View,
    /// The figures of its counters.
    pub figures: Figures,
    /// The counters whose figures the model does not know.
    pub vague: Figures,
    /// The resources that were granted, with the units that the request asked for.
    pub granted: Vec<(&'static str, i64)>,
    /// The index of the request in `Player::sent`, if it has a request_id.
    pub sent: Option<usize>,
}

/// A request with a request_id, and its answer.
pub struct Sent {
    request: Asked,
    at: i64,
    /// The reservation in the first answer.
    pub first: Option<Reservation>,
}

/// A life that is being played.
pub struct Player<'a> {
    /// The world with the server.
    pub world: &'a World,
    /// Id of the tenant.
    pub tenant: String,
    /// Whether the tenant has the second of its two plans.
    other_plan: bool,
    /// The model of the tenant's books.
    pub books: Books,
    /// The names of the entries' reservations. A name is unknown until the reply.
    pub names: Vec<Option<String>>,
    /// Requests with a request_id that took effect.
    pub sent: Vec<Sent>,
    /// Number of request_ids made so far.
    ids: usize,
    /// All answers, as text.
    pub answers: Vec<String>,
}

/// Plays a life. Any difference from the model fails the test.
pub async fn play(world: &World, life: &Life) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut player =
        Player::begin(world, &format!("life-{}", COUNT.fetch_add(1, Ordering::Relaxed)), life).await;
    for step in &life.steps {
        player.take(step).await;
        player.compare().await;
    }
    world.verify().await;
}

impl<'a> Player<'a> {
    /// Creates the tenant of a life.
    pub async fn begin(world: &'a World, tenant: &str, life: &Life) -> Self {
        world.clock.set(NOON - 10 * DAY);
        for resource in RESOURCES {
            world.declare(resource).await;
        }
        let limits: Vec<_> =
            life.limits.iter().map(|&(index, quantity, how)| menu(index, quantity, how)).collect();
        let books = Books::new(life.zone, limits, world.clock.now());
        world.plan(tenant, &plan_limits(&books)).await.expect("the plan is new");
        world.plan(&format!("{tenant}-other"), &[]).await.expect("the plan is new");
        world.tenant(tenant, tenant, ZONES[life.zone]).await.expect("the tenant is new");
        let tenant = tenant.to_owned();
        Player {
            world,
            tenant,
            other_plan: false,
            books,
            names: Vec::new(),
            sent: Vec::new(),
            ids: 0,
            answers: Vec::new(),
        }
    }
}

fn plan_limits(books: &Books) -> Vec<Limit> {
    books.limits.iter().filter(|limit| limit.on).map(contract).collect()
}

impl Player<'_> {
    /// Plays one step of the life.
    pub async fn take(&mut self, step: &Step) {
        match step {
            Step::Batch(steps) => self.operate(steps).await,
            Step::Advance(by) => {
                self.books.clock += by;
                self.world.clock.advance(*by);
            }
            Step::TurnBack(by) => {
                // A Record comes first, so that the latest decision about the tenant is at the present instant.
                self.operate(&[Step::Record([0; 3], vec![(2, 1)], false)]).await;
                self.books.clock -= by;
                self.world.clock.advance(-by);
            }
            Step::Suspend(suspended) => {
                let state = if *suspended { TenantState::Suspended } else { TenantState::Active };
                self.world.set_state(&self.tenant, state).await;
                self.books.suspended = *suspended;
            }
            Step::ChangeLimits(changes) => {
                for (limit, &(quantity, enforcement)) in self.books.limits.iter_mut().zip(changes) {
                    (limit.quantity, limit.enforcement) = (quantity, enforcement);
                }
                self.write_plan().await;
            }
            // A plan is changed at the clock's time, which may be before the latest decision about its tenants. The
            // model does not cover this case.
            Step::Reshape(..) if self.books.clock < self.books.decided => {}
            Step::Reshape(on, moves) => {
                self.books.expire();
                self.books.reshape(on);
                self.other_plan ^= moves;
                self.write_plan().await;
                self.world.set_plan(&self.tenant, &self.plan()).await;
            }
            Step::Reset(resource, limit) => {
                self.books.expire();
                let limit = limit.and_then(|limit| self.books.limit(limit));
                self.books.reset(*resource, limit);
                let resources: Vec<&str> = resource.iter().map(|&index| RESOURCES[index]).collect();
                let reply = self.world.reset_only(&self.tenant, &resources, limit.as_slice()).await;
                self.answers.push(format!("{:?}", reply.expect("the tenant is there")));
            }
            operation => self.operate(std::slice::from_ref(operation)).await,
        }
        self.books.expire();
    }

    fn plan(&self) -> String {
        let other = if self.other_plan { "-other" } else { "" };
        format!("{}{other}", self.tenant)
    }

    async fn write_plan(&self) {
        let limits = plan_limits(&self.books);
        self.world.change_plan(&self.plan(), &limits).await.expect("the plan is there");
    }

    /// Sends one operation by its own rpc, and several as a Batch.
    async fn operate(&mut self, steps: &[Step]) {
        self.books.expire();
        let mut wish = None;
        let mut prepared: Vec<(Asked, Expected)> = Vec::new();
        for step in steps {
            let wished = self.wish(step);
            if let Some(operation) = self.prepare(step) {
                prepared.push(operation);
                wish = wished;
            }
        }
        let (asked, expected): (Vec<Asked>, Vec<Expected>) = prepared.into_iter().unzip();
        let answers = match <[Asked; 1]>::try_from(asked) {
            Ok([alone]) => vec![send(self.world, alone).await],
            Err(asked) if asked.is_empty() => vec![],
            Err(asked) => {
                let operations =
                    asked.into_iter().map(|asked| Operation { operation: Some(asked) }).collect();
                let results = self.world.batch(operations).await.expect("each stands for itself");
                results.into_iter().map(answered).collect()
            }
        };
        assert_eq!(answers.len(), expected.len());
        // Only the hint of the last operation is checked, because in the model earlier operations do not know the later
        // operations of the Batch.
        if let (Some(last), Some(wish)) = (answers.last(), wish) {
            self.books.check_hint(last, &wish);
        }
        self.answers.extend(answers.iter().map(text_of_answer));
        for (answer, expected) in answers.into_iter().zip(expected) {
            self.check(answer, expected);
        }
    }

    /// Decides a step in the model. `None` if the step is not possible here.
    fn prepare(&mut self, step: &Step) -> Option<(Asked, Expected)> {
        match step {
            Step::Reserve(hold) => Some(self.prepare_reserve(hold)),
            Step::Check(hold) => {
                let request = self.world.check(&self.tenant).with(|request| {
                    [request.agent, request.user, request.model] = names_of(hold.who);
                    request.amounts = asks(hold);
                    request.allow_partial = hold.partial;
                });
                Some((Asked::Check(request.request), Expected::Verdict(self.books.grant(hold))))
            }
            Step::Commit(target, used) => self.prepare_commit(*target, used),
            Step::Release(target) => self.prepare_release(*target),
            Step::Extend(target, added, ttl, keyed) => self.prepare_extend(*target, added, *ttl, *keyed),
            Step::Record(who, changes, keyed) => {
                let request_id = self.next_id(*keyed);
                let request = self.world.record(&self.tenant).with(|request| {
                    request.request_id = request_id.clone().unwrap_or_default();
                    [request.agent, request.user, request.model] = names_of(*who);
                    request.amounts = amounts(changes);
                });
                let index = self.books.record(*who, changes, request_id);
                self.names.push(None);
                Some(self.expect_held(Asked::Record(request.request), index, vec![]))
            }
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
    fn wish(&self, step: &Step) -> Option<Wish> {
        match step {
            Step::Reserve(hold) | Step::Check(hold) => Some(Wish::Hold(hold.clone())),
            Step::Extend(target, added, ttl, _) => {
                Some(Wish::Extend(self.target(*target)?, added.clone(), *ttl))
            }
            _ => None,
        }
    }

    fn prepare_reserve(&mut self, hold: &Hold) -> (Asked, Expected) {
        let request_id = self.next_id(hold.keyed);
        let request = self.world.reserve(&self.tenant).ttl(hold.ttl).with(|request| {
            request.request_id = request_id.clone().unwrap_or_default();
            [request.agent, request.user, request.model] = names_of(hold.who);
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
                let granted = hold.amounts.iter().map(|&(resource, units, _)| (resource, units)).collect();
                self.expect_held(asked, index, granted)
            }
            Err(refusal) => (asked, Expected::Refused(vec![refusal])),
        }
    }

    fn prepare_commit(&mut self, target: usize, used: &[Units]) -> Option<(Asked, Expected)> {
        let index = self.target(target)?;
        let (reservation, tenant, reserve_request_id) = self.address(index)?;
        let entry = &self.books.entries[index];
        // A Record cannot be committed. These amounts always differ from its own amounts, so the Commit is refused.
        let used = if entry.record { vec![(0, 777)] } else { used.to_vec() };
        if self.books.is_same_otherwise(index, &used) {
            return None;
        }
        let amounts = amounts(&used);
        let asked = Asked::Commit(CommitRequest {
            reservation,
            tenant,
            reserve_request_id,
            amounts,
            ..CommitRequest::default()
        });
        Some(match self.books.commit(index, &used) {
            Ok(()) => self.expect_held(asked, index, vec![]),
            Err(refusals) => (asked, Expected::Refused(refusals)),
        })
    }

    fn prepare_release(&mut self, target: usize) -> Option<(Asked, Expected)> {
        let index = self.target(target)?;
        let (reservation, tenant, reserve_request_id) = self.address(index)?;
        let asked = Asked::Release(ReleaseRequest { reservation, tenant, reserve_request_id });
        Some(match self.books.release(index) {
            Ok(()) => self.expect_held(asked, index, vec![]),
            Err(refusals) => (asked, Expected::Refused(refusals)),
        })
    }

    fn prepare_extend(
        &mut self,
        target: usize,
        added: &[Units],
        ttl: Option<i64>,
        keyed: bool,
    ) -> Option<(Asked, Expected)> {
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

    /// Expects the present state of the reservation in the model. Adds a request with a request_id to `sent`.
    fn expect_held(&mut self, asked: Asked, index: usize, granted: Vec<Units>) -> (Asked, Expected) {
        let entry = &self.books.entries[index];
        let (view, figures) = (View::of_entry(entry), figures_of_entry(&self.books, entry));
        let vague = vague_of_entry(&self.books, entry);
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
        (asked, Expected::Held(Box::new(Hand { index, view, figures, vague, granted, sent })))
    }

    fn target(&self, target: usize) -> Option<usize> {
        let index = target.checked_rem(self.books.entries.len())?;
        self.books.is_kept(index).then_some(index)
    }

    /// Returns how a request names a reservation: name, tenant and request_id. Every second entry is named by its
    /// request_id if it has a request_id.
    fn address(&self, index: usize) -> Option<(String, String, String)> {
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
