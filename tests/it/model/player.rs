//! Plays a life on a server and in the model, and compares both.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    asking::{answered, contract, send, text, text_of_answer},
    books::{Books, Refusal},
    limit::{Key, Limit, menu, menu_of_agents},
    plans::Plan,
    policy::Filter,
    reading::{Figures, Place, View},
    steps::{Chosen, Life, RESOURCES, Step, Units, ZONES},
    tally::Tally,
    window::{Span, Window},
};
use crate::harness::{
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
    /// The balances whose figures the model does not know.
    pub vague: Vec<Place>,
    /// What a Record has added to the counter of each balance.
    pub applied: Vec<(Place, i64)>,
    /// The resources that were granted, with the units that the request asked for.
    pub granted: Vec<(&'static str, i64)>,
    /// The index of the request in `Player::sent`, if it has a request_id.
    pub sent: Option<usize>,
}

/// A request with a request_id, and its answer.
pub struct Sent {
    /// The request as it was sent.
    pub request: Asked,
    /// When it was sent.
    pub at: i64,
    /// The reservation in the first answer.
    pub first: Option<Reservation>,
}

/// A life that is being played.
pub struct Player<'a> {
    /// The world with the server.
    pub world: &'a World,
    /// Id of the tenant.
    pub tenant: String,
    /// The model of the tenant's books.
    pub books: Books,
    /// The names of the entries' reservations. A name is unknown until the reply.
    pub names: Vec<Option<String>>,
    /// Requests with a request_id that took effect.
    pub sent: Vec<Sent>,
    /// Number of request_ids made so far.
    pub ids: usize,
    /// All answers, as text.
    pub answers: Vec<String>,
    /// The entry that was amended last, until its amendments are compared.
    pub amended: Option<usize>,
    /// Whether the latest step changed the policy or the tenant.
    pub changed: bool,
    /// How often each step and each outcome occurred.
    pub tally: Tally,
}

/// Plays a life. Any difference from the model fails the test.
pub async fn play(world: &World, life: &Life) -> Tally {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut player =
        Player::begin(world, &format!("life-{}", COUNT.fetch_add(1, Ordering::Relaxed)), life).await;
    for step in &life.steps {
        player.take(step).await;
        player.compare().await;
    }
    world.verify().await;
    player.tally
}

/// Makes the two plans of a menu.
fn plans(ids: [String; 2], chosen: &[Chosen], menu: fn(usize, i64, usize) -> Limit) -> [Plan; 2] {
    let mut place = 0;
    ids.map(|id| {
        let limits = chosen.iter().map(|&(index, quantity, how, on)| {
            let limit = menu(index, quantity, how);
            Limit { on: on[place], ..limit }
        });
        let plan = Plan { id, limits: limits.collect(), refuses: false };
        place += 1;
        plan
    })
}

impl<'a> Player<'a> {
    /// Creates the tenant of a life.
    pub async fn begin(world: &'a World, tenant: &str, life: &Life) -> Self {
        world.clock.set(NOON - 10 * DAY);
        for resource in RESOURCES {
            world.declare(resource).await;
        }
        let of_tenant = plans([tenant.to_owned(), format!("{tenant}-other")], &life.limits, menu);
        let own_ids = [format!("{tenant}-agents"), format!("{tenant}-agents-other")];
        let [one, two] = of_tenant;
        let [three, four] = plans(own_ids, &life.own, menu_of_agents);
        let books = Books::new(life.zone, [one, two, three, four], world.clock.now());
        for plan in &books.plans {
            world.plan(&plan.id, &plan_limits(plan)).await.expect("the plan is new");
        }
        world.tenant(tenant, tenant, ZONES[life.zone]).await.expect("the tenant is new");
        let mut player = Player {
            world,
            tenant: tenant.to_owned(),
            books,
            names: Vec::new(),
            sent: Vec::new(),
            ids: 0,
            answers: Vec::new(),
            amended: None,
            changed: false,
            tally: Tally::default(),
        };
        for (agent, plan) in (1..).zip(life.agents) {
            player.declare(agent, plan).await;
        }
        player
    }
}

/// Returns the limits that are in a plan.
pub fn plan_limits(plan: &Plan) -> Vec<v1::Limit> {
    plan.limits.iter().filter(|limit| limit.on).map(contract).collect()
}

impl Player<'_> {
    /// Plays one step of the life.
    pub async fn take(&mut self, step: &Step) {
        self.changed = false;
        let scheduled = self.books.next;
        match step {
            Step::Batch(steps) => {
                self.tally.note("Batch");
                self.operate(steps).await;
            }
            Step::Advance(by) => {
                self.tally.note("Advance");
                self.advance(*by);
            }
            Step::TurnBack(by) => {
                self.tally.note("TurnBack");
                // A Record comes first, so that the latest decision about the tenant is at the present instant.
                self.operate(&[Step::Record([0; 5], vec![(2, 1)], None, false)]).await;
                self.books.clock -= by;
                self.world.clock.advance(-by);
            }
            Step::Change(change) => {
                if self.makes_room() {
                    self.books.pass();
                    self.change(change).await;
                    self.changed = true;
                }
            }
            Step::Reset(filter) => {
                if self.makes_room() {
                    self.books.pass();
                    self.reset(filter).await;
                }
            }
            operation => self.operate(std::slice::from_ref(operation)).await,
        }
        self.books.pass();
        if let (Some((plan, _)), None, Step::Advance(_)) = (scheduled, self.books.next, step) {
            assert_eq!(self.books.plan, plan);
            self.tally.note("a plan changed at its instant");
        }
        self.note_windows();
    }

    /// Counts a window that runs from the end of one calendar to the beginning of another one (R4.30).
    fn note_windows(&mut self) {
        let limits = self.books.plans[self.books.plan].limits.iter().filter(|limit| limit.on);
        let mut windows = limits.map(|limit| limit.window(&self.books.calendars, self.books.now()));
        // A day has 23 to 25 hours, and a month has 28 to 31 days.
        let is_between = windows.any(|Window { span, start, end }| match span {
            Span::Day(_) => (end - start - DAY).abs() > HOUR,
            Span::Month(..) => !(28 * DAY - HOUR..=31 * DAY + HOUR).contains(&(end - start)),
            Span::Meter | Span::Lifetime => false,
        });
        self.tally.note_if(is_between, "a window between two calendars");
    }

    fn advance(&mut self, by: i64) {
        self.books.clock += by;
        self.world.clock.advance(by);
    }

    /// Prepares for a step that may set counters to zero. Returns whether the step is possible.
    ///
    /// Two cases are left out. Administration decides at the clock's time, which may be before the latest decision about
    /// the tenant. And of two resets of a counter in the same millisecond the server notes one (R4.27).
    fn makes_room(&mut self) -> bool {
        if self.books.clock < self.books.decided {
            return false;
        }
        if self.books.zeroed == self.books.now() {
            self.advance(1);
        }
        true
    }

    async fn reset(&mut self, filter: &Filter) {
        let limit = self.books.limit_of(filter);
        let running = self.books.running(self.books.now()).into_iter();
        let unknown: Vec<Key> = running.filter(|key| self.books.is_unknown(key)).collect();
        let mut adjusted = self.books.reset(filter);
        adjusted.retain(|(key, _)| !unknown.contains(key));
        self.tally.note("Reset");
        self.tally.note_if(!adjusted.is_empty(), "a reset of usage");
        self.tally.note_if(!adjusted.is_empty() && limit.is_some(), "a reset of a limit");
        self.tally.note_if(adjusted.is_empty(), "a reset of nothing");
        let reply = self.send_reset(filter, limit).await;
        self.check_reset(&reply, &adjusted, &unknown);
        self.answers.push(text(&reply));
    }

    /// Sends one operation by its own rpc, and several as a Batch.
    async fn operate(&mut self, steps: &[Step]) {
        self.books.pass();
        let mut wish = None;
        let mut prepared: Vec<(Asked, Expected)> = Vec::new();
        for step in steps {
            let wished = self.wish(step);
            if let Some(operation) = self.prepare(step) {
                self.tally.note(step.name());
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
            match self.books.check_hint(last, &wish) {
                Some(Some(_)) => self.tally.note("a hint of a number of seconds"),
                Some(None) => self.tally.note("a hint of never"),
                None => {}
            }
        }
        self.answers.extend(answers.iter().map(text_of_answer));
        for (answer, expected) in answers.into_iter().zip(expected) {
            self.check(answer, expected);
        }
    }
}
