//! R4.46: a random life of a tenant whose limit carries over agrees with a small model, step by step. The model looks
//! for the time of a retry hint hour by hour.

use std::{collections::BTreeMap, time::Duration};

use crate::harness::*;

/// The quantity of the limit per day.
const QUANTITY: i64 = 100;
/// The caps of the carry-over: a percentage, and units.
const CAPS: (i32, i64) = (60, 45);
/// Number of steps of a life.
const STEPS: usize = 220;

/// A hold that is not settled. It may have expired.
struct Open {
    name: String,
    day: i64,
    /// The deadline, in hours since the first midnight.
    deadline: i64,
    units: i64,
    charges: bool,
}

#[derive(Default)]
struct Model {
    /// Hours since the first midnight.
    now: i64,
    committed: BTreeMap<i64, i64>,
    carried: BTreeMap<i64, i64>,
    open: Vec<Open>,
}

impl Model {
    fn today(&self) -> i64 {
        self.now.div_euclid(24)
    }

    /// Returns committed and reserved of a day, at an hour.
    fn figures(&self, day: i64, at: i64) -> (i64, i64) {
        let of_day = || self.open.iter().filter(|hold| hold.day == day);
        let charged = of_day().filter(|hold| hold.charges && hold.deadline <= at).map(|hold| hold.units);
        let held = of_day().filter(|hold| hold.deadline > at).map(|hold| hold.units);
        (self.committed.get(&day).copied().unwrap_or(0) + charged.sum::<i64>(), held.sum())
    }

    /// Returns what a day has by carry-over. If nothing has used the day: what an operation at this hour would store.
    fn carried(&self, day: i64, at: i64) -> i64 {
        if let Some(stored) = self.carried.get(&day) {
            return *stored;
        }
        if day == 0 {
            return 0;
        }
        let (committed, reserved) = self.figures(day - 1, at);
        let unused = (QUANTITY - committed - reserved).max(0);
        unused.min(QUANTITY * i64::from(CAPS.0) / 100).min(CAPS.1)
    }

    fn passes(&self, units: i64, at: i64) -> bool {
        let day = at.div_euclid(24);
        let (committed, reserved) = self.figures(day, at);
        committed + reserved + units <= QUANTITY + self.carried(day, at)
    }

    /// Notes that an operation uses the counter of today.
    fn touch(&mut self) {
        let carried = self.carried(self.today(), self.now);
        self.carried.insert(self.today(), carried);
    }

    /// Returns in how many hours a request passes, if nothing else happens.
    fn hint(&self, units: i64) -> Option<i64> {
        (1..=96).find(|hours| self.passes(units, self.now + hours))
    }
}

/// Reserves as the model says, or is refused with the hint that the model found.
async fn reserve(world: &World, model: &mut Model, units: i64, ttl: i64, charges: bool, case: &str) {
    let call = world.reserve("acme").tokens(units).ttl(ttl * HOUR);
    let reply = if charges { call.charged_on_expiry().await } else { call.await };
    let passes = model.passes(units, model.now);
    model.touch();
    match reply {
        Ok(reply) => {
            assert!(passes, "{case}: {units} units were granted");
            let (day, deadline) = (model.today(), model.now + ttl);
            model.open.push(Open { name: reply.name().to_owned(), day, deadline, units, charges });
        }
        Err(no) => {
            assert!(!passes, "{case}: {units} units were refused: {no:?}");
            let hours = model.hint(units).map(|hours| u64::try_from(hours).expect("later"));
            assert_eq!(
                no.retry,
                hours.map(|hours| Duration::from_secs(hours * 3_600)),
                "{case}: {units} units"
            );
        }
    }
}

/// Settles a hold, which may have expired.
async fn settle(world: &World, model: &mut Model, place: usize, spent: Option<i64>, case: &str) {
    let hold = model.open.swap_remove(place);
    match spent {
        Some(spent) => drop(world.commit(&hold.name).tokens(spent).await.expect(case)),
        None => drop(world.release(&hold.name).await.expect(case)),
    }
    *model.committed.entry(hold.day).or_default() += spent.unwrap_or(0);
}

both! {
    async fn a_life_agrees_with_the_model(world: World) {
        world.tenant_with("acme", &[day("tokens", QUANTITY).carrying(CAPS.0, CAPS.1)]).await;
        let mut model = Model { now: 12, ..Model::default() };
        let mut chance = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |bound: i64| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            i64::try_from(chance >> 1).expect("63 bits") % bound
        };
        for step in 0..STEPS {
            let case = format!("step {step} at hour {}", model.now);
            match below(10) {
                0..=2 => {
                    model.now += below(15) + 1;
                    world.clock.set(NOON + (model.now - 12) * HOUR);
                }
                3 => {
                    let units = below(50);
                    world.record("acme").tokens(units).await.expect(&case);
                    model.touch();
                    *model.committed.entry(model.today()).or_default() += units;
                }
                4..=6 => {
                    let (units, ttl, charges) = (below(150) + 1, below(24) + 1, below(3) == 0);
                    reserve(world, &mut model, units, ttl, charges, &case).await;
                }
                7..=8 if !model.open.is_empty() => {
                    let count = i64::try_from(model.open.len()).expect("few");
                    let place = usize::try_from(below(count)).expect("few");
                    let spent = (below(3) > 0).then(|| below(model.open[place].units + 10));
                    settle(world, &mut model, place, spent, &case).await;
                }
                _ if below(6) == 0 => world.restart().await,
                _ => {}
            }
            let usage = world.usage("acme").await;
            let balance = usage.balance("day");
            let (today, now) = (model.today(), model.now);
            assert_eq!(figures(balance), model.figures(today, now), "{case}");
            assert_eq!(balance.carried, model.carried(today, now), "{case}");
        }
        assert!(model.today() > 10, "the life is long enough: {} days", model.today());
    }
}
