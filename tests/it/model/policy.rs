//! The model of administration: changes of plans, agents and calendars, and resets.

use super::{
    books::Books,
    limit::{Anchors, Calendar, Key, Limit},
    steps::{DIMENSIONS, Names},
    window::Span,
};

/// A tenant and a limit change their calendars at most this often. At most 20 calendars are kept (R4.30).
const CHANGES_MAX: usize = 18;

/// Which counters a ResetUsage chooses.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Index of the resource. `None`: all resources.
    pub resource: Option<usize>,
    /// Index of the limit among all limits of the tenant and its agents, modulo their number.
    pub limit: Option<usize>,
    /// Names that the counters must count separately.
    pub names: Names,
}

impl Books {
    /// Changes which limits apply. Counters that no limit counted until now start at zero (R4.26).
    pub fn change(&mut self, at: i64, change: impl FnOnce(&mut Self)) {
        let idle: Vec<Key> =
            self.running(at).into_iter().filter(|key| self.reading(key).is_empty()).collect();
        change(self);
        for key in idle.into_iter().filter(|key| !self.reading(key).is_empty()).collect::<Vec<_>>() {
            self.forgive(key.clone(), at);
            self.returned.insert(key);
        }
    }

    /// Sets which limits are in a plan. A limit that is added goes on as a limit of the same shape and anchors that the
    /// plan has, rather as one that is removed, and keeps the history of its anchors. Others have no history.
    pub fn shape(&mut self, plan: usize, on: &[bool]) {
        let limits = &mut self.plans[plan].limits;
        let before: Vec<Limit> = limits.iter().filter(|limit| limit.on).cloned().collect();
        limits.iter_mut().zip(on).for_each(|(limit, on)| limit.on = *on);
        let stays: Vec<&'static str> = limits.iter().filter(|limit| limit.on).map(|limit| limit.id).collect();
        for limit in limits.iter_mut().filter(|limit| limit.on) {
            if before.iter().any(|old| old.id == limit.id) {
                continue;
            }
            let alike = || before.iter().filter(|old| old.is_like(limit));
            let ancestor = alike().find(|old| !stays.contains(&old.id)).or_else(|| alike().next());
            limit.past = ancestor.map_or_else(Vec::new, |old| old.past.clone());
        }
    }

    /// Changes the anchors of a limit (R4.30). Returns whether that is possible.
    pub fn anchor(&mut self, plan: usize, place: usize, choice: usize) -> bool {
        let now = self.now();
        let limits = &mut self.plans[plan].limits;
        let Some(place) = place.checked_rem(limits.len()) else { return false };
        let limit = &mut limits[place];
        let Some(anchors) = limit.anchors.choose(choice).filter(|anchors| *anchors != limit.anchors) else {
            return false;
        };
        if !limit.on || limit.past.len() >= CHANGES_MAX {
            return false;
        }
        limit.past.push((now, limit.anchors));
        limit.anchors = anchors;
        true
    }

    /// Changes the calendar of the tenant (R4.30). Returns whether that is possible.
    pub fn recalendar(&mut self, change: impl FnOnce(&mut Calendar)) -> bool {
        let mut calendar = *self.calendars.last().expect("a tenant has a calendar");
        let before = (calendar.zone, calendar.anchor_time);
        change(&mut calendar);
        let is_possible =
            self.calendars.len() < CHANGES_MAX && before != (calendar.zone, calendar.anchor_time);
        if is_possible {
            self.calendars.push(Calendar { since: self.now(), ..calendar });
        }
        is_possible
    }

    /// Returns when a scheduled change of plan takes place if the request gives no time (R4.39).
    pub fn end_of_month(&self) -> i64 {
        let is_month =
            |limit: &&Limit| matches!(limit.anchors, Anchors::Own(Span::Month(..)) | Anchors::Tenant);
        let mut limits = self.plans[self.plan].limits.iter().filter(|limit| limit.on);
        let calendar = Anchors::Own(Span::Month(1, 0));
        let months = Limit { anchors: calendar, past: vec![], ..super::limit::menu(0, 0, 0) };
        limits.find(is_month).unwrap_or(&months).window(&self.calendars, self.now()).end
    }

    /// Returns the id of the limit that a reset names.
    pub fn limit_of(&self, filter: &Filter) -> Option<&'static str> {
        let ids = self.limit_ids();
        Some(ids[filter.limit?.checked_rem(ids.len())?])
    }

    /// Resets usage. Returns the counters, and the units that were added to each.
    pub fn reset(&mut self, filter: &Filter) -> Vec<(Key, i64)> {
        let now = self.now();
        let limit = self.limit_of(filter);
        let matches = |key: &Key| {
            let is_named = match limit {
                Some(id) => self.reading(key).iter().any(|found| found.limit.id == id),
                None => match key.window.span {
                    Span::Lifetime => false,
                    Span::Meter => filter.resource.is_some(),
                    Span::Day(_) | Span::Month(..) => true,
                },
            };
            let mut names = (0..DIMENSIONS).map(|dimension| (filter.names[dimension], key.names[dimension]));
            is_named
                && filter.resource.is_none_or(|only| key.resource == only)
                && names.all(|(wanted, name)| wanted.is_none() || wanted == name)
        };
        let chosen: Vec<Key> = self.running(now).into_iter().filter(matches).collect();
        let mut adjusted = Vec::new();
        for key in chosen {
            let (committed, _) = self.figures(&key);
            if committed != 0 {
                self.forgive(key.clone(), now);
                adjusted.push((key, -committed));
            }
        }
        self.decided = now;
        adjusted
    }

    /// Sets a counter to zero. What was charged until now is gone.
    fn forgive(&mut self, key: Key, at: i64) {
        let (committed, _) = self.figures(&key);
        for line in self.entries.iter_mut().filter_map(|entry| entry.lines.get_mut(&key)) {
            line.gone = line.charged;
        }
        self.adjustments.push((key, -committed));
        self.zeroed = at;
    }

    /// Returns the counters whose windows are running at an instant.
    pub fn running(&self, at: i64) -> Vec<Key> {
        let lines = self.entries.iter().flat_map(|entry| entry.lines.keys());
        let mut keys: Vec<Key> = lines.filter(|key| key.runs(at)).cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}
