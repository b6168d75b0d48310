//! Limits in few words.

use super::v1::{Dimension, Enforcement, Limit, Period};

/// So many a day; its id is `day`.
pub fn day(resource: &str, quantity: i64) -> Limit {
    limit("day", resource, quantity, Period::Day)
}

/// So many a month; its id is `month`.
pub fn month(resource: &str, quantity: i64) -> Limit {
    limit("month", resource, quantity, Period::Month)
}

/// So many for ever; its id is `lifetime`.
pub fn lifetime(resource: &str, quantity: i64) -> Limit {
    limit("lifetime", resource, quantity, Period::Lifetime)
}

fn limit(id: &str, resource: &str, quantity: i64, period: Period) -> Limit {
    Limit { id: id.into(), resource: resource.into(), quantity, period: period.into(), ..Limit::default() }
}

/// What makes a limit special.
pub trait LimitExt: Sized {
    /// Another id.
    fn named(self, id: &str) -> Self;
    /// SOFT.
    fn soft(self) -> Self;
    /// OBSERVE.
    fn observe(self) -> Self;
    /// Only for this agent.
    fn agent(self, agent: &str) -> Self;
    /// Only for this user.
    fn user(self, user: &str) -> Self;
    /// Only for this model.
    fn model(self, model: &str) -> Self;
    /// Each value of these counts apart.
    fn per(self, dimensions: &[Dimension]) -> Self;
    /// The day of the month on which it starts.
    fn anchor(self, day: i32) -> Self;
    /// Thresholds, in percent.
    fn thresholds(self, percentages: &[i32]) -> Self;
}

impl LimitExt for Limit {
    fn named(self, id: &str) -> Self {
        Self { id: id.into(), ..self }
    }

    fn soft(self) -> Self {
        Self { enforcement: Enforcement::Soft.into(), ..self }
    }

    fn observe(self) -> Self {
        Self { enforcement: Enforcement::Observe.into(), ..self }
    }

    fn agent(self, agent: &str) -> Self {
        Self { agent: agent.into(), ..self }
    }

    fn user(self, user: &str) -> Self {
        Self { user: user.into(), ..self }
    }

    fn model(self, model: &str) -> Self {
        Self { model: model.into(), ..self }
    }

    fn per(self, dimensions: &[Dimension]) -> Self {
        Self { per: dimensions.iter().map(|&dimension| dimension.into()).collect(), ..self }
    }

    fn anchor(self, day: i32) -> Self {
        Self { anchor_day: day, ..self }
    }

    fn thresholds(self, percentages: &[i32]) -> Self {
        Self { thresholds: percentages.to_vec(), ..self }
    }
}
