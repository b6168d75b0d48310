//! A batch: lock → load → decide → save → commit, repeated or split where the database demands it.

use std::{ops::Range, sync::Arc, time::Duration};

use foldhash::{HashMap, HashMapExt, HashSet};

use super::{
    Answer, Failure, Frame, Outcome, Request, TenantRef, hints,
    load::{Loader, Look},
    memory::Memory,
    pace::{Pace, Phase},
};
use crate::{
    clock::Clock,
    domain::{
        books::{Books, Changes, Remembered},
        calendar::Calendar,
        decide::{Context, Reply, Stop, Touched, decide, touch},
        id::{ReservationId, TenantKey},
        operation::{Operation, Target},
        plan::{Plan, Policy},
        refusal::Refusal,
        tenant::Tenant,
        window::Millis,
    },
    policy::PolicyCache,
    store::{Store, StoreError, Transaction},
};

/// How often a batch is repeated that ran into another transaction.
const SERIALIZATION_RETRIES_MAX: u32 = 8;

/// How often a batch is repeated that lost its database.
const UNAVAILABLE_RETRIES_MAX: u32 = 3;

/// How many batches look request_ids up after one of them was known: clients that repeat themselves do so for a while.
const LOOKING_BATCHES: u32 = 64;

/// Pause before the first repeat; doubled for each further one.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// One operation of a batch.
pub(super) struct Item {
    /// The id of the reservation that it may make: minted before the first attempt, so that a repeat finds it.
    pub(super) id: ReservationId,
    /// What is asked.
    pub(super) request: Request,
    /// What came of it. One that is there before the batch keeps the operation out of it.
    pub(super) outcome: Option<Outcome>,
}

/// Runs batches, one at a time.
pub(super) struct Batcher {
    store: Store,
    policies: Arc<PolicyCache>,
    clock: Clock,
    calendar: Calendar,
    memory: Memory,
    /// For so many batches request_ids are looked up before they are taken for new.
    looking: u32,
}

/// The tenants of a batch.
#[derive(Default)]
struct Refs<'a> {
    ids: Vec<&'a str>,
    keys: Vec<TenantKey>,
    /// Keys that ids are supposed to stand for.
    supposed: Vec<(&'a str, TenantKey)>,
}

/// What a batch knows once its tenants are locked.
pub(super) struct Session<'a> {
    pub(super) transaction: &'a Transaction,
    pub(super) policy: Arc<Policy>,
    pub(super) now: Millis,
    pub(super) books: HashMap<TenantKey, Books>,
    keys: HashMap<String, TenantKey>,
    names: HashMap<TenantKey, Arc<str>>,
}

impl Batcher {
    pub(super) fn new(store: Store, policies: Arc<PolicyCache>, clock: Clock) -> Self {
        Self { store, policies, clock, calendar: Calendar::default(), memory: Memory::default(), looking: 0 }
    }

    pub(super) fn mint(&self) -> ReservationId {
        self.clock.mint()
    }

    /// Gives every item an outcome.
    pub(super) async fn run(&mut self, items: &mut [Item]) {
        let all = 0..items.len();
        let mut ranges = vec![all];
        while let Some(range) = ranges.pop() {
            match self.settle(&mut items[range.clone()]).await {
                Ok(()) => {}
                // Somewhere in it is an operation that the database refuses: its neighbours shall not suffer.
                Err(StoreError::Permanent(_) | StoreError::KnownRequest | StoreError::Corrupt(_))
                    if range.len() > 1 =>
                {
                    let [first, second] = halves(range);
                    ranges.push(second);
                    ranges.push(first);
                }
                Err(error) => fail(&mut items[range], &error),
            }
        }
    }

    /// Has items decided in one transaction, repeated within bounds.
    async fn settle(&mut self, items: &mut [Item]) -> Result<(), StoreError> {
        let (mut collisions, mut losses) = (0, 0);
        loop {
            let look = match (losses, self.looking) {
                (0, 0) => Look::Nowhere,
                (0, _) => Look::AtRequests,
                // The outcome of the commit may be unknown.
                (_, _) => Look::AtOwn,
            };
            let error = match self.attempt(items, look).await {
                Ok(()) => {
                    self.looking = self.looking.saturating_sub(1);
                    return Ok(());
                }
                // Its key was forgotten: the repeat looks for it by its id.
                Err(StoreError::TenantMoved) => continue,
                Err(StoreError::KnownRequest) if look == Look::Nowhere => {
                    self.looking = LOOKING_BATCHES;
                    continue;
                }
                Err(error) => error,
            };
            let repeats = match &error {
                StoreError::Serialization(_) if collisions < SERIALIZATION_RETRIES_MAX => &mut collisions,
                StoreError::Unavailable(_) if losses < UNAVAILABLE_RETRIES_MAX => &mut losses,
                _ => return Err(error),
            };
            tracing::warn!(
                transaction.name = "batch",
                transaction.operations = items.len(),
                error = &error as &dyn std::error::Error,
                "batch is repeated"
            );
            tokio::time::sleep(RETRY_PAUSE * (1 << *repeats)).await;
            *repeats += 1;
        }
    }

    async fn attempt(&mut self, items: &mut [Item], look: Look) -> Result<(), StoreError> {
        let open: Vec<usize> = (0..items.len()).filter(|&place| !is_kept_out(&items[place])).collect();
        if open.is_empty() {
            return Ok(());
        }
        let mut pace = Pace::start();
        let transaction = self.store.begin_write("batch").await?;
        pace.mark(Phase::Begin);
        let outcomes = self.decide(&transaction, items, &open, look, &mut pace).await;
        match outcomes {
            Ok((outcomes, remembered)) => {
                transaction.commit().await?;
                pace.mark(Phase::Commit);
                pace.log(open.len());
                remembered.into_iter().for_each(|(tenant, known)| self.memory.put(tenant, known));
                for (place, outcome) in open.into_iter().zip(outcomes) {
                    items[place].outcome = Some(outcome);
                }
                Ok(())
            }
            Err(error) => {
                // The first error is the one to tell; a connection that cannot roll back is given up by its pool.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }

    /// Everything between BEGIN and COMMIT.
    async fn decide(
        &mut self,
        transaction: &Transaction,
        items: &[Item],
        open: &[usize],
        look: Look,
        pace: &mut Pace,
    ) -> Result<(Vec<Outcome>, Vec<(TenantKey, Remembered)>), StoreError> {
        let mut session = self.lock(transaction, items, open).await?;
        pace.mark(Phase::Lock);
        let mut work: Vec<(TenantKey, &Item)> = Vec::with_capacity(open.len());
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(open.len());
        for &place in open {
            let item = &items[place];
            let known = session.find_tenant(&item.request.tenant);
            outcomes.push(known.is_none().then(|| Err(session.unknown(&item.request))));
            work.extend(known.map(|key| (key, item)));
        }
        let mut loader = Loader { session: &mut session, calendar: &mut self.calendar };
        let named = loader.load_reservations(&work, look).await?;
        let touched = loader.load_counters(&work, &named).await?;
        loader.sweep().await?;
        pace.mark(Phase::Load);

        let mut decided = Vec::with_capacity(work.len());
        for ((tenant, item), touched) in work.iter().zip(&touched) {
            decided.push(self.decide_one(&mut session, *tenant, item, touched.as_deref()).await?);
        }
        if look == Look::Nowhere {
            refuse_known_requests(transaction, &work, &decided).await?;
        }
        pace.mark(Phase::Decide);
        let mut violations = hints::collect(&mut decided);
        let (changes, remembered) = session.take_changes();
        if !changes.is_empty() {
            transaction.save(&changes, || self.clock.mint()).await?;
        }
        hints::resolve(transaction, session.now, &mut violations).await?;
        pace.mark(Phase::Save);
        let mut decided = decided.into_iter();
        let outcome =
            |outcome: Option<Outcome>| outcome.or_else(|| decided.next()).unwrap_or(Err(Failure::Internal));
        Ok((outcomes.into_iter().map(outcome).collect(), remembered))
    }

    /// Locks the tenants, and then reads policy and time.
    async fn lock<'a>(
        &mut self,
        transaction: &'a Transaction,
        items: &[Item],
        open: &[usize],
    ) -> Result<Session<'a>, StoreError> {
        let refs = self.refs(items, open);
        let tenants = transaction.lock_tenants(&refs.ids, &refs.keys).await?;
        self.check(&refs, &tenants)?;
        let (revision, database_now) = transaction.read_head(self.clock.now().is_none()).await?;
        let policy = self.policies.get(transaction, revision).await?;
        let clock_now = self.clock.now().or(database_now).unwrap_or(0);
        let latest = tenants.iter().map(|tenant| tenant.decided_at).max().unwrap_or(clock_now);
        if latest > clock_now {
            tracing::error!(
                clock.now = clock_now,
                clock.decided_at = latest,
                "the clock is behind what was decided before; time stands still until it catches up"
            );
        }
        let mut session = Session {
            transaction,
            policy,
            now: clock_now.max(latest),
            books: HashMap::with_capacity(tenants.len()),
            keys: HashMap::with_capacity(tenants.len()),
            names: HashMap::with_capacity(tenants.len()),
        };
        for tenant in tenants {
            let plan = session.policy.plans.get(&tenant.plan).cloned();
            let plan: Arc<Plan> =
                plan.ok_or_else(|| StoreError::Corrupt("a tenant's plan is missing".to_owned()))?;
            session.keys.insert(tenant.id.clone(), tenant.key);
            session.names.insert(tenant.key, Arc::from(tenant.id.as_str()));
            let known = self.memory.take(tenant.key);
            session.books.insert(tenant.key, Books::open(tenant, plan, known));
        }
        Ok(session)
    }

    /// Which rows have to be locked: by key, as far as keys are known.
    fn refs<'a>(&self, items: &'a [Item], open: &[usize]) -> Refs<'a> {
        let mut refs = Refs::default();
        for &place in open {
            match &items[place].request.tenant {
                TenantRef::Key(key) => refs.keys.push(*key),
                TenantRef::Id(id) => match self.memory.key_of(id) {
                    Some(key) => {
                        refs.keys.push(key);
                        refs.supposed.push((id, key));
                    }
                    None => refs.ids.push(id),
                },
            }
        }
        refs.ids.sort_unstable();
        refs.ids.dedup();
        refs.keys.sort_unstable();
        refs.keys.dedup();
        refs
    }

    /// Whether the tenants have the ids that their keys were supposed to stand for.
    fn check(&mut self, refs: &Refs<'_>, tenants: &[Tenant]) -> Result<(), StoreError> {
        let ids: HashMap<TenantKey, &str> =
            tenants.iter().map(|tenant| (tenant.key, tenant.id.as_str())).collect();
        let mut wrong = false;
        for (id, key) in &refs.supposed {
            if ids.get(key) != Some(id) {
                self.memory.unlearn(id);
                wrong = true;
            }
        }
        refs.ids.iter().filter_map(|id| tenants.iter().find(|tenant| tenant.id == **id)).for_each(|tenant| {
            self.memory.learn(&tenant.id, tenant.key);
        });
        if wrong { Err(StoreError::TenantMoved) } else { Ok(()) }
    }

    /// Decides one operation, loading what it turns out to need.
    async fn decide_one(
        &mut self,
        session: &mut Session<'_>,
        tenant: TenantKey,
        item: &Item,
        touched: Option<&[Touched]>,
    ) -> Result<Outcome, StoreError> {
        loop {
            let frame = session.frame(tenant);
            let (policy, now) = (Arc::clone(&session.policy), session.now);
            let Some(books) = session.books.get_mut(&tenant) else {
                return Ok(Err(Failure::Internal));
            };
            let mut context = Context { policy: &policy, calendar: &mut self.calendar, now };
            match decide(books, &mut context, &item.request.operation, item.id, touched) {
                Ok(reply) => {
                    books.tenant.decided_at = now;
                    return Ok(Ok(Answer { reply, frame }));
                }
                Err(Stop::Refused(refusal)) => {
                    return Ok(Err(Failure::Refused { refusal, frame: Box::new(frame) }));
                }
                Err(Stop::Missing(keys)) => {
                    let keys = keys.into_iter().map(|key| (tenant, key)).collect();
                    Loader { session, calendar: &mut self.calendar }.find_counters(keys).await?;
                }
            }
        }
    }
}

impl Session<'_> {
    pub(super) fn find_tenant(&self, tenant: &TenantRef) -> Option<TenantKey> {
        match tenant {
            TenantRef::Id(id) => self.keys.get(id).copied(),
            TenantRef::Key(key) => self.books.contains_key(key).then_some(*key),
        }
    }

    fn frame(&self, tenant: TenantKey) -> Frame {
        let name = self.names.get(&tenant).cloned().unwrap_or_else(|| Arc::from(""));
        Frame { tenant_key: tenant, tenant: name, policy: Arc::clone(&self.policy), now: self.now }
    }

    /// No tenant, or none any more whose reservation this could be.
    fn unknown(&self, request: &Request) -> Failure {
        let (refusal, name) = match &request.tenant {
            TenantRef::Id(id) => (Refusal::TenantNotFound(id.clone()), id.as_str()),
            TenantRef::Key(_) => (Refusal::ReservationNotFound(String::new()), ""),
        };
        let frame = Frame {
            tenant_key: TenantKey(0),
            tenant: Arc::from(name),
            policy: Arc::clone(&self.policy),
            now: self.now,
        };
        Failure::Refused { refusal, frame: Box::new(frame) }
    }

    fn take_changes(&mut self) -> (Vec<Changes>, Vec<(TenantKey, Remembered)>) {
        let now = self.now;
        let books = std::mem::take(&mut self.books);
        let mut all = Vec::with_capacity(books.len());
        let mut remembered = Vec::with_capacity(books.len());
        for (tenant, mut books) in books {
            books.tenant.decided_at = books.tenant.decided_at.max(now);
            let (changes, known) = books.into_changes();
            remembered.push((tenant, known));
            all.push(changes);
        }
        all.retain(|changes| !changes.is_empty());
        (all, remembered)
    }
}

/// A request_id that was taken for new and is not shows when its row is inserted. That of a refused operation is not
/// inserted: it has to be looked for, since a first reply comes before any refusal.
async fn refuse_known_requests(
    transaction: &Transaction,
    work: &[(TenantKey, &Item)],
    decided: &[Outcome],
) -> Result<(), StoreError> {
    let refused = work.iter().zip(decided).filter(|(_, outcome)| outcome.is_err());
    let ids: HashSet<(TenantKey, &str)> = refused
        .filter_map(|((tenant, item), _)| Some((*tenant, item.request.operation.request()?.id.as_str())))
        .collect();
    let ids: Vec<_> = ids.into_iter().collect();
    if transaction.find_requests(&ids).await?.is_empty() { Ok(()) } else { Err(StoreError::KnownRequest) }
}

fn is_kept_out(item: &Item) -> bool {
    item.outcome.is_some()
}

fn halves(range: Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [range.start..middle, middle..range.end]
}

fn fail(items: &mut [Item], error: &StoreError) {
    tracing::error!(
        transaction.name = "batch",
        transaction.operations = items.len(),
        error = error as &dyn std::error::Error,
        "batch failed"
    );
    let failure = match error {
        StoreError::Unavailable(_) | StoreError::Unreachable(_) | StoreError::Serialization(_) => {
            Failure::DatabaseUnavailable
        }
        StoreError::Permanent(_)
        | StoreError::KnownRequest
        | StoreError::TenantMoved
        | StoreError::Unusable(_)
        | StoreError::Corrupt(_) => Failure::Internal,
    };
    for item in items.iter_mut().filter(|item| item.outcome.is_none()) {
        item.outcome = Some(Err(failure.clone()));
    }
}

/// The counters of an operation that names its resources and subject itself.
pub(super) fn touched_by(
    books: &Books,
    session: (&Policy, Millis),
    calendar: &mut Calendar,
    operation: &Operation,
) -> Option<Result<Vec<Touched>, Refusal>> {
    let (policy, now) = session;
    let tenant = (&books.tenant, books.plan.as_ref());
    let touched = match operation {
        Operation::Reserve(reserve) => {
            let names = reserve.amounts.iter().map(|ask| ask.resource.as_str());
            touch(tenant, (policy, calendar), &reserve.subject, names, now)
        }
        Operation::Check(check) => {
            let names = check.amounts.iter().map(|ask| ask.resource.as_str());
            touch(tenant, (policy, calendar), &check.subject, names, now)
        }
        Operation::Record(record) => {
            let names = record.amounts.iter().map(|units| units.resource.as_str());
            touch(tenant, (policy, calendar), &record.subject, names, now)
        }
        Operation::Commit(_) | Operation::Release(_) | Operation::Extend(_) | Operation::Reset(_) => {
            return None;
        }
    };
    Some(touched.map_err(Refusal::Invalid))
}

/// The request_id by which an operation names a reservation.
pub(super) fn request_of_target(operation: &Operation) -> Option<&str> {
    match operation.target() {
        Some(Target::Request(id)) => Some(id),
        Some(Target::Id(_)) | None => None,
    }
}

/// Whether a reply says that something was refused by a limit: to Check.
pub(super) fn check_violations(reply: &mut Reply) -> Option<&mut Vec<crate::domain::refusal::Violation>> {
    match reply {
        Reply::Checked { violations, .. } => Some(violations),
        Reply::Reservation { .. } | Reply::Recorded { .. } | Reply::Reset { .. } => None,
    }
}
