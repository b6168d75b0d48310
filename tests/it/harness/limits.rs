//! Short functions that make limits.

use super::v1::{Anchor, Carry, Dimension, Enforcement, Limit, Period};

/// Makes the limit `day` of `quantity` units a day.
pub fn day(resource: &str, quantity: i64) -> Limit {
    limit("day", resource, quantity, Period::Day)
}

/// Makes the limit `month` of `quantity` units a month.
pub fn month(resource: &str, quantity: i64) -> Limit {
    limit("month", resource, quantity, Period::Month)
}

/// Makes the limit `lifetime` of `quantity` units for ever.
pub fn lifetime(resource: &str, quantity: i64) -> Limit {
    limit("lifetime", resource, quantity, Period::Lifetime)
}

/// Makes the limit `limit` of `quantity` tokens in a window of this period.
pub fn every(period: Period, quantity: i64) -> Limit {
    limit("limit", "tokens", quantity, period)
}

/// Makes the limit `limit` of `quantity` tokens in windows that begin with the first use, and last `millis`
/// milliseconds.
pub fn rolling(millis: i64, quantity: i64) -> Limit {
    Limit { duration: Some(super::call::span(millis)), ..every(Period::Rolling, quantity) }
}

fn limit(id: &str, resource: &str, quantity: i64, period: Period) -> Limit {
    Limit { id: id.into(), resource: resource.into(), quantity, period: period.into(), ..Limit::default() }
}

/// Methods that change one field of a limit.
pub trait LimitExt: Sized {
    /// Sets the limit's id.
    fn named(self, id: &str) -> Self;
    /// Makes the limit SOFT.
    fn soft(self) -> Self;
    /// Makes the limit OBSERVE.
    fn observe(self) -> Self;
    /// Selects this agent only.
    fn agent(self, agent: &str) -> Self;
    /// Selects this user only.
    fn user(self, user: &str) -> Self;
    /// Selects this model only.
    fn model(self, model: &str) -> Self;
    /// Makes the limit count each value of these dimensions separately.
    fn per(self, dimensions: &[Dimension]) -> Self;
    /// Sets the day of the month on which the window starts.
    fn anchor(self, day: i32) -> Self;
    /// Selects calls that have this label.
    fn label(self, key: &str, value: &str) -> Self;
    /// Makes the limit count each value of this label separately.
    fn per_label(self, key: &str) -> Self;
    /// Sets the number of periods in a window.
    fn interval(self, interval: i32) -> Self;
    /// Carries over at most this percentage and this quantity. 0: no such cap.
    fn carrying(self, percent: i32, quantity: i64) -> Self;
    /// Takes the anchors from the tenant.
    fn of_tenant(self) -> Self;
    /// Sets the thresholds, in percent.
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

    fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    fn per_label(mut self, key: &str) -> Self {
        self.per_labels.push(key.into());
        self
    }

    fn interval(self, interval: i32) -> Self {
        Self { interval, ..self }
    }

    fn carrying(self, percent: i32, quantity: i64) -> Self {
        Self { carry: Some(Carry { percent, quantity }), ..self }
    }

    fn of_tenant(self) -> Self {
        Self { anchor: Anchor::Tenant.into(), ..self }
    }

    fn thresholds(self, percentages: &[i32]) -> Self {
        Self { thresholds: percentages.to_vec(), ..self }
    }
}
