//! The part of a reservation's body that contains its corrections by Amend. Fields may be added; tags never change
//! their meaning.

use prost::Message;

use crate::domain::{
    amendment::{Amended, AmendedAmount, Amendment, FirstCharge},
    id::ResourceKey,
    time::Time,
};

#[derive(Clone, PartialEq, Message)]
pub(super) struct AmendedBody {
    #[prost(message, optional, tag = "1")]
    first: Option<FirstBody>,
    #[prost(message, repeated, tag = "2")]
    latest: Vec<AmendmentBody>,
}

#[derive(Clone, PartialEq, Message)]
struct FirstBody {
    #[prost(sint64, repeated, tag = "1")]
    committed: Vec<i64>,
    #[prost(sint64, repeated, tag = "2")]
    charged: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct AmendmentBody {
    #[prost(int64, tag = "1")]
    at: i64,
    #[prost(string, tag = "2")]
    operator: String,
    #[prost(string, tag = "3")]
    reason: String,
    #[prost(message, repeated, tag = "4")]
    changes: Vec<ChangeBody>,
}

#[derive(Clone, PartialEq, Message)]
struct ChangeBody {
    #[prost(int32, tag = "1")]
    resource: i32,
    #[prost(sint64, tag = "2")]
    before: i64,
    #[prost(sint64, tag = "3")]
    after: i64,
}

impl AmendedBody {
    /// Makes the body of a reservation's corrections.
    pub(super) fn of(amended: &Amended) -> Self {
        let first = |first: &FirstCharge| FirstBody {
            committed: first.committed.clone(),
            charged: first.charged.clone(),
        };
        Self {
            first: amended.first.as_ref().map(first),
            latest: amended.latest.iter().map(AmendmentBody::of).collect(),
        }
    }

    /// Returns the corrections that the body contains.
    pub(super) fn into_amended(self) -> Amended {
        let first = |FirstBody { committed, charged }| FirstCharge { committed, charged };
        Amended {
            first: self.first.map(first),
            latest: self.latest.into_iter().map(AmendmentBody::into_amendment).collect(),
        }
    }
}

impl AmendmentBody {
    fn of(amendment: &Amendment) -> Self {
        let change = |change: &AmendedAmount| ChangeBody {
            resource: change.resource.0,
            before: change.before,
            after: change.after,
        };
        Self {
            at: amendment.at.0,
            operator: amendment.operator.clone(),
            reason: amendment.reason.clone(),
            changes: amendment.changes.iter().map(change).collect(),
        }
    }

    fn into_amendment(self) -> Amendment {
        let change = |ChangeBody { resource, before, after }| AmendedAmount {
            resource: ResourceKey(resource),
            before,
            after,
        };
        Amendment {
            at: Time(self.at),
            operator: self.operator,
            reason: self.reason,
            changes: self.changes.into_iter().map(change).collect(),
        }
    }
}
