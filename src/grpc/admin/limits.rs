//! Limits of a plan: messages ⇄ domain. Parsing collects every wrong field.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
};

use crate::{
    domain::{
        bounds::{DIMENSIONS_MAX, LIMIT_LABELS_MAX, LIMITS_MAX, THRESHOLD_MAX_PERCENT, THRESHOLDS_MAX},
        carry_over::{CARRY_MAX_PERCENT, Carry},
        faults::Faults,
        id::{ResourceKey, name_fault, new_id_fault, optional_name_fault},
        lineage::Since,
        plan::{Enforcement, Limit, Plan, Policy, Source},
        shape::{Dimension, LabelRule, PerDimension, Shape},
        time::Span,
        timing::{Recurrence, Timing},
        window::{Anchors, Cycle, Fault, Period, interval_of},
    },
    grpc::{
        faults::{label_key_fault, labels_of},
        v1,
    },
};

/// Parses the limits of a plan, and leaves out limits that cannot be built. The store sets `since` of the limits. If
/// the plan has an id already, the id need not follow the rules of new ids.
pub(super) fn parse(
    faults: &mut Faults,
    limits: Vec<v1::Limit>,
    policy: &Policy,
    before: Option<&Plan>,
) -> Vec<Limit> {
    if !faults.is_within("plan.limits", limits.len(), LIMITS_MAX) {
        return Vec::new();
    }
    let kept: HashSet<&str> =
        before.iter().flat_map(|plan| &plan.limits).map(|limit| limit.id.as_str()).collect();
    let mut seen = HashSet::new();
    let mut parsed = Vec::with_capacity(limits.len());
    for (place, limit) in limits.into_iter().enumerate() {
        let mut fields = Fields { faults: &mut *faults, path: format!("plan.limits[{place}]") };
        if !kept.contains(limit.id.as_str()) {
            fields.check("id", new_id_fault(&limit.id));
        }
        if !limit.id.is_empty() && !seen.insert(limit.id.clone()) {
            fields.add("id", "must be unique in the plan");
        }
        parsed.extend(fields.limit(limit, policy));
    }
    parsed
}

/// Returns the message of a limit.
pub(super) fn message(limit: &Limit, policy: &Policy) -> v1::Limit {
    let shape = &limit.shape;
    let PerDimension { agent, user, model } = shape.selectors.clone().map(Option::unwrap_or_default);
    let per = shape.per.into_iter().filter(|(_, counted)| *counted);
    let selected = shape.labels.iter().filter_map(|rule| Some((&rule.key, rule.selected.as_ref()?)));
    let separate = shape.labels.iter().filter(|rule| rule.selected.is_none());
    let (anchor, anchors) = match shape.timing.present {
        Recurrence::OfLimit(cycle) => (v1::Anchor::Limit, cycle.anchors()),
        Recurrence::OfTenant { interval, .. } => {
            (v1::Anchor::Tenant, Anchors { interval: i32::from(interval), ..Anchors::default() })
        }
    };
    let duration = match shape.timing.present {
        Recurrence::OfLimit(cycle) => cycle.rolling_length(),
        Recurrence::OfTenant { .. } => None,
    };
    v1::Limit {
        id: limit.id.clone(),
        resource: policy.resource_id(shape.resource).to_owned(),
        quantity: limit.quantity,
        period: v1::Period::from(shape.timing.period()).into(),
        anchor_day: anchors.anchor_day,
        agent,
        user,
        model,
        per: per.map(|(dimension, _)| v1::Dimension::from(dimension).into()).collect(),
        enforcement: v1::Enforcement::from(limit.enforcement).into(),
        thresholds: limit.thresholds.clone(),
        interval: anchors.interval,
        anchor_weekday: anchors.anchor_weekday,
        anchor_month: anchors.anchor_month,
        anchor_minute: anchors.anchor_minute,
        origin_date: limit.origin_date.clone(),
        anchor: anchor.into(),
        labels: selected.map(|(key, value)| (key.clone(), value.clone())).collect(),
        per_labels: separate.map(|rule| rule.key.clone()).collect(),
        duration: duration
            .map(|Span(millis)| prost_types::Duration { seconds: millis / Span::seconds(1).0, nanos: 0 }),
        carry: limit.carry.map(|carry| v1::Carry {
            percent: carry.percent.unwrap_or(0),
            quantity: carry.quantity.unwrap_or(0),
        }),
    }
}

/// Parses the fields of one limit, and collects their faults.
struct Fields<'a> {
    faults: &'a mut Faults,
    /// The path of the limit in the request, such as `plan.limits[2]`.
    path: String,
}

impl Fields<'_> {
    fn add(&mut self, field: impl Display, description: impl Display) {
        self.faults.add(format_args!("{}.{field}", self.path), description);
    }

    fn check(&mut self, field: impl Display, fault: Option<impl Display>) {
        self.faults.check(format_args!("{}.{field}", self.path), fault);
    }

    /// Returns the limit. `None` if its resource or its period is wrong.
    fn limit(&mut self, limit: v1::Limit, policy: &Policy) -> Option<Limit> {
        let resource = self.resource(&limit.resource, policy);
        if limit.quantity < 0 {
            self.add("quantity", "must be 0 or more");
        }
        let period = self.period(limit.period);
        let recurrence = period.and_then(|period| self.recurrence(&limit, period));
        let selectors =
            self.selectors(PerDimension { agent: limit.agent, user: limit.user, model: limit.model });
        let per = self.per(&limit.per, &selectors);
        let labels = self.labels(limit.labels, limit.per_labels);
        let carry = limit.carry.and_then(|carry| self.carry(carry, period));
        let field = format!("{}.enforcement", self.path);
        let enforcement = enforcement(self.faults, &field, limit.enforcement).unwrap_or(Enforcement::Hard);
        let field = format!("{}.thresholds", self.path);
        let thresholds = thresholds(self.faults, &field, limit.thresholds);
        Some(Limit {
            id: limit.id,
            shape: Shape { resource: resource?, timing: Timing::from(recurrence?), selectors, per, labels },
            quantity: limit.quantity,
            enforcement,
            thresholds,
            carry,
            origin_date: limit.origin_date,
            since: Since::default(),
            kept: Vec::new(),
            source: Source::default(),
        })
    }

    fn resource(&mut self, name: &str, policy: &Policy) -> Option<ResourceKey> {
        let found = policy.find_resource(name);
        if let Some(description) = name_fault(name) {
            self.add("resource", description);
        } else if found.is_none() {
            self.add("resource", format_args!("must be a declared resource; {name:?} is not"));
        }
        found
    }

    fn period(&mut self, period: i32) -> Option<Period> {
        let period = v1::Period::try_from(period).ok().and_then(Option::from);
        if period.is_none() {
            self.add(
                "period",
                "must be PERIOD_MINUTE, PERIOD_HOUR, PERIOD_DAY, PERIOD_WEEK, PERIOD_MONTH, PERIOD_YEAR, \
                 PERIOD_LIFETIME or PERIOD_ROLLING",
            );
        }
        period
    }

    /// Returns where windows begin. `None` if a field about it is wrong.
    fn recurrence(&mut self, limit: &v1::Limit, period: Period) -> Option<Recurrence> {
        let anchors = Anchors {
            interval: limit.interval,
            anchor_day: limit.anchor_day,
            anchor_weekday: limit.anchor_weekday,
            anchor_month: limit.anchor_month,
            anchor_minute: limit.anchor_minute,
            origin_date: &limit.origin_date,
        };
        let found = match v1::Anchor::try_from(limit.anchor) {
            Ok(v1::Anchor::Unspecified | v1::Anchor::Limit) => {
                Cycle::new(period, &anchors).map(Recurrence::OfLimit)
            }
            Ok(v1::Anchor::Tenant) => of_tenant(period, &anchors),
            Err(_) => Err(vec![("anchor", "must be ANCHOR_LIMIT or ANCHOR_TENANT")]),
        };
        let found = match (duration(period, limit.duration.as_ref()), found) {
            (Ok(None), found) => found,
            (Ok(Some(cycle)), Ok(_)) => Ok(Recurrence::OfLimit(cycle)),
            (Ok(Some(_)), Err(faults)) => Err(faults),
            (Err(fault), Ok(_)) => Err(vec![fault]),
            (Err(fault), Err(faults)) => Err(faults.into_iter().chain([fault]).collect()),
        };
        match found {
            Ok(recurrence) => Some(recurrence),
            Err(faults) => {
                faults.into_iter().for_each(|(field, description)| self.add(field, description));
                None
            }
        }
    }

    /// Returns what the limit carries over. `None` if a cap is wrong.
    fn carry(&mut self, carry: v1::Carry, period: Option<Period>) -> Option<Carry> {
        if period == Some(Period::Lifetime) {
            self.add("carry", "must be absent for PERIOD_LIFETIME, which has one window");
        } else if period == Some(Period::Rolling) {
            self.add("carry", "must be absent for PERIOD_ROLLING, whose windows do not follow each other");
        } else if carry == v1::Carry::default() {
            self.add(
                "carry",
                "must have `percent` or `quantity`; leave it out if nothing is to be carried over",
            );
        }
        if !(0..=CARRY_MAX_PERCENT).contains(&carry.percent) {
            self.add("carry.percent", "must be a whole percentage, 1 to 100, or 0 for no such cap");
        }
        if carry.quantity < 0 {
            self.add("carry.quantity", "must be 1 or more, or 0 for no such cap");
        }
        let percent = (carry.percent > 0).then_some(carry.percent);
        let quantity = (carry.quantity > 0).then_some(carry.quantity);
        (percent.is_some() || quantity.is_some()).then_some(Carry { percent, quantity })
    }

    fn selectors(&mut self, values: PerDimension<String>) -> PerDimension<Option<String>> {
        for (dimension, value) in values.iter() {
            self.check(dimension.name(), optional_name_fault(value));
        }
        values.map(|value| (!value.is_empty()).then_some(value))
    }

    fn per(&mut self, dimensions: &[i32], selectors: &PerDimension<Option<String>>) -> PerDimension<bool> {
        let mut per = PerDimension::default();
        let field = format_args!("{}.per", self.path);
        if !self.faults.is_within(field, dimensions.len(), DIMENSIONS_MAX) {
            return per;
        }
        for (place, &dimension) in dimensions.iter().enumerate() {
            let dimension: Option<Dimension> = v1::Dimension::try_from(dimension).ok().and_then(Option::from);
            let Some(dimension) = dimension else {
                self.add(
                    format_args!("per[{place}]"),
                    "must be DIMENSION_AGENT, DIMENSION_USER or DIMENSION_MODEL",
                );
                continue;
            };
            if per[dimension] {
                self.add(format_args!("per[{place}]"), "must not be given twice");
            } else if selectors[dimension].is_some() {
                self.add(
                    format_args!("per[{place}]"),
                    "must not be a dimension that the limit has a selector for",
                );
            }
            per[dimension] = true;
        }
        per
    }

    /// Returns the labels that the limit counts separately, sorted by their keys.
    fn labels(&mut self, selected: HashMap<String, String>, separate: Vec<String>) -> Vec<LabelRule> {
        let count = selected.len() + separate.len();
        let field = format!("{}.per_labels", self.path);
        if !self.faults.is_within(&field, count, LIMIT_LABELS_MAX) {
            return Vec::new();
        }
        let selected = labels_of(self.faults, &format!("{}.labels", self.path), selected);
        for (place, key) in separate.iter().enumerate() {
            let path = format!("per_labels[{place}]");
            self.check(&path, label_key_fault(key));
            if separate[..place].contains(key) {
                self.add(&path, "must not be given twice");
            } else if selected.iter().any(|(other, _)| other == key) {
                self.add(&path, "must not be a label that `labels` selects");
            }
        }
        let of_value = |(key, value)| LabelRule { key, selected: Some(value) };
        let each = separate.into_iter().map(|key| LabelRule { key, selected: None });
        let mut rules: Vec<LabelRule> = selected.into_iter().map(of_value).chain(each).collect();
        rules.sort_unstable();
        rules
    }
}

/// Parses the enforcement in a field. `None` if it is unset or wrong.
pub(super) fn enforcement(faults: &mut Faults, field: &str, enforcement: i32) -> Option<Enforcement> {
    match v1::Enforcement::try_from(enforcement) {
        Ok(given) => given.into(),
        Err(_) => {
            faults.add(field, "must be ENFORCEMENT_HARD, ENFORCEMENT_SOFT or ENFORCEMENT_OBSERVE");
            None
        }
    }
}

/// Parses the thresholds in a field, and sorts them.
pub(super) fn thresholds(faults: &mut Faults, field: &str, mut thresholds: Vec<i32>) -> Vec<i32> {
    if !faults.is_within(field, thresholds.len(), THRESHOLDS_MAX) {
        return Vec::new();
    }
    for (place, percent) in thresholds.iter().enumerate() {
        let path = format_args!("{field}[{place}]");
        if !(1..=THRESHOLD_MAX_PERCENT).contains(percent) {
            faults.add(path, "must be a whole percentage, 1 to 1,000");
        } else if thresholds[..place].contains(percent) {
            faults.add(path, "must not be given twice");
        }
    }
    thresholds.sort_unstable();
    thresholds
}

/// Returns the cycle of windows with this duration. `None`: the period has none, and the duration is absent.
fn duration(period: Period, given: Option<&prost_types::Duration>) -> Result<Option<Cycle>, Fault> {
    if period != Period::Rolling {
        let must_be = "must be absent unless the period is PERIOD_ROLLING";
        return if given.is_none() { Ok(None) } else { Err(("duration", must_be)) };
    }
    let given = given.cloned().and_then(|given| std::time::Duration::try_from(given).ok());
    let whole = given.filter(|given| given.subsec_nanos() == 0);
    Cycle::rolling(whole.map(Span::from).unwrap_or_default()).map(Some)
}

/// Makes the recurrence of a limit whose anchors follow from the tenant. Returns every field that is wrong.
fn of_tenant(period: Period, anchors: &Anchors<'_>) -> Result<Recurrence, Vec<Fault>> {
    let mut faults = Vec::new();
    if period == Period::Lifetime {
        faults.push(("anchor", "must not be ANCHOR_TENANT for PERIOD_LIFETIME, which has one window"));
    }
    if period == Period::Rolling {
        faults.push((
            "anchor",
            "must not be ANCHOR_TENANT for PERIOD_ROLLING, which begins with the first use",
        ));
    }
    let given = [
        ("anchor_day", anchors.anchor_day),
        ("anchor_weekday", anchors.anchor_weekday),
        ("anchor_month", anchors.anchor_month),
        ("anchor_minute", anchors.anchor_minute),
    ];
    for (field, _) in given.into_iter().filter(|(_, number)| *number != 0) {
        faults.push((field, "must be 0 with ANCHOR_TENANT, which takes the anchors from the tenant"));
    }
    if !anchors.origin_date.is_empty() {
        faults.push((
            "origin_date",
            "must be empty with ANCHOR_TENANT, which takes the anchors from the tenant",
        ));
    }
    match interval_of(period, anchors.interval) {
        Ok(interval) if faults.is_empty() => Ok(Recurrence::OfTenant { period, interval }),
        Ok(_) => Err(faults),
        Err(fault) => Err(faults.into_iter().chain([fault]).collect()),
    }
}
