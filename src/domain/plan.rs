//! The policy: resources, and plans with their limits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono_tz::Tz;

use super::{
    agent::Agent,
    carry_over::Carry,
    codes::codes,
    id::{PlanKey, ResourceKey},
    lineage::{Lineage, Since},
    shape::Shape,
    time::Time,
};

/// What a limit does when its allowance is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// The limit refuses Reserve and Extend.
    Hard,
    /// The limit lets Reserve and Extend pass, and the balance shows the excess.
    Soft,
    /// The limit lets Reserve and Extend pass, and counts the calls that a HARD limit would have refused.
    Observe,
}

codes!(Enforcement as i32: Hard = 1 "HARD", Soft = 2 "SOFT", Observe = 3 "OBSERVE");

/// What happens to a Reserve, Extend or Check on a declared resource that no limit of the plan covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Uncovered {
    /// The operation passes. A meter counts the usage.
    #[default]
    Meter,
    /// The operation is refused, unless its quantity is 0 (R4.42).
    Refuse,
}

codes!(Uncovered as i16: Meter = 1, Refuse = 2);

/// How much of one resource may be spent in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// A stable id, unique within its plan.
    pub id: String,
    /// Decides which counters the limit reads.
    pub shape: Shape,
    /// Units that may be spent per window.
    pub quantity: i64,
    /// What happens when the quantity is used up.
    pub enforcement: Enforcement,
    /// Percentages of the quantity at which events are emitted, ascending.
    pub thresholds: Vec<i32>,
    /// What is carried over to the next window. `None`: nothing.
    pub carry: Option<Carry>,
    /// The date from which windows of several periods are counted, as the operator gave it, or empty. The shape has the
    /// cycle that follows from it.
    pub origin_date: String,
    /// Since when the plan has counted every counter of this shape without a gap.
    pub since: Since,
    /// Narrower shapes that the plan has counted without a gap since an earlier instant.
    pub kept: Vec<Lineage>,
    /// Where the limit comes from.
    pub source: Source,
}

/// Where a limit comes from, as balances report it (R4.35).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The id of the plan. Empty: the limit was not read as part of a policy.
    pub plan: Arc<str>,
    /// The agent that has the plan. `None`: the tenant has the plan.
    pub agent: Option<Arc<Agent>>,
    /// The override that replaces values of the limit. `None`: the limit applies as the plan gives it.
    pub replaced_by: Option<OverrideSource>,
}

/// The override that replaces values of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideSource {
    /// The id of the override.
    pub id: Arc<str>,
    /// When the override no longer applies. [`Time::NEVER`]: it has no end.
    pub end: Time,
}

/// A named set of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The internal key of the plan, by which rows refer to it.
    pub key: PlanKey,
    /// The id that people chose.
    pub id: String,
    /// A name for people to read.
    pub display_name: String,
    /// The limits in the order in which they were given.
    pub limits: Vec<Arc<Limit>>,
    /// What happens to resources that no limit covers.
    pub uncovered: Uncovered,
    /// When the plan was created.
    pub created_at: Time,
    /// When the plan was last changed.
    pub updated_at: Time,
}

impl Plan {
    /// Returns whether a limit of the plan carries over.
    pub fn carries_over(&self) -> bool {
        self.limits.iter().any(|limit| limit.carry.is_some())
    }

    /// Returns the plan with its id as the source of its limits.
    fn with_source(mut self) -> Self {
        let id: Arc<str> = Arc::from(self.id.as_str());
        for limit in &mut self.limits {
            Arc::make_mut(limit).source.plan = Arc::clone(&id);
        }
        self
    }
}

/// A kind of thing that is spent, such as `tokens`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The internal key of the resource, by which rows refer to it.
    pub key: ResourceKey,
    /// The id that people chose.
    pub id: String,
    /// A name for people to read.
    pub display_name: String,
    /// What one unit is, for people to read.
    pub unit: String,
    /// Whether it was deleted. Its usage can still be read, and its holds settled.
    pub deleted: bool,
    /// When the resource was declared.
    pub created_at: Time,
    /// When the resource was last changed.
    pub updated_at: Time,
}

/// The id of the settings in events and errors, since there is one row of settings.
pub const SETTINGS_ID: &str = "policy";

/// The settings of the policy, which hold for tenants that calls create (R4.38).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicySettings {
    /// The plan of such a tenant. `None`: calls create no tenants.
    pub default_plan: Option<PlanKey>,
    /// The time zone of such a tenant.
    pub default_zone: Tz,
    /// When the settings were last changed. `None`: they were never changed.
    pub updated_at: Option<Time>,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self { default_plan: None, default_zone: Tz::UTC, updated_at: None }
    }
}

/// All resources and plans, and the settings, at one revision. A policy is immutable, and lanes and readers share it.
#[derive(Debug, Default)]
pub struct Policy {
    /// Grows by one with each change to a resource, a plan, the settings or a key.
    pub revision: i64,
    /// Every resource, including the deleted resources.
    pub resources: BTreeMap<ResourceKey, Resource>,
    /// Every plan that exists, by key.
    pub plans: BTreeMap<PlanKey, Arc<Plan>>,
    /// The default plan and the default zone.
    pub settings: PolicySettings,
    /// The revision at the last change of keys. 0: there never was a key.
    pub keys_revision: i64,
    resource_keys: HashMap<String, ResourceKey>,
    plan_keys: HashMap<String, PlanKey>,
}

impl Policy {
    /// Makes a policy of the rows of one revision.
    pub fn new(revision: i64, resources: Vec<Resource>, plans: Vec<Plan>) -> Self {
        let declared = resources.iter().filter(|resource| !resource.deleted);
        let resource_keys = declared.map(|resource| (resource.id.clone(), resource.key)).collect();
        let plan_keys = plans.iter().map(|plan| (plan.id.clone(), plan.key)).collect();
        Self {
            revision,
            resources: resources.into_iter().map(|resource| (resource.key, resource)).collect(),
            plans: plans.into_iter().map(|plan| (plan.key, Arc::new(plan.with_source()))).collect(),
            settings: PolicySettings::default(),
            keys_revision: 0,
            resource_keys,
            plan_keys,
        }
    }

    /// Returns the policy with other settings. A default plan that does not exist counts as no default plan: a server
    /// of the previous release may have deleted it.
    #[must_use]
    pub fn with_settings(mut self, settings: PolicySettings) -> Self {
        let default_plan = settings.default_plan.filter(|key| self.plans.contains_key(key));
        self.settings = PolicySettings { default_plan, ..settings };
        self
    }

    /// Finds the key of the resource with this id, unless it was deleted.
    pub fn find_resource(&self, id: &str) -> Option<ResourceKey> {
        self.resource_keys.get(id).copied()
    }

    /// Finds the plan with this id.
    pub fn find_plan(&self, id: &str) -> Option<&Arc<Plan>> {
        self.plan_keys.get(id).and_then(|key| self.plans.get(key))
    }

    /// Returns the id of a resource, which may be deleted. Empty: no such resource.
    pub fn resource_id(&self, key: ResourceKey) -> &str {
        self.resources.get(&key).map_or("", |resource| &resource.id)
    }
}
