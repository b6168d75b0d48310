//! When a refused caller may ask again: at the earliest deadline of an open hold on the counter that refused.

use foldhash::{HashMap, HashMapExt};

use super::{Failure, Outcome};
use crate::{
    domain::{
        decide::Reply,
        id::{ReservationId, TenantKey},
        refusal::{Refusal, Retry, Violation},
        reservation::{OnExpiry, Reservation},
        window::{Millis, WINDOW_END_NONE},
    },
    store::{StoreError, Transaction},
};

/// Behind every id of its instant.
pub(super) const LAST_ID: ReservationId = ReservationId([u8::MAX; 16]);

/// Holds of a tenant that are looked through, those that end first.
const HOLDS_SCANNED_MAX: usize = 256;

/// The violations of a batch whose hint depends on open holds.
pub(super) fn collect(outcomes: &mut [Outcome]) -> Vec<(TenantKey, &mut Violation)> {
    let mut waiting = Vec::new();
    for outcome in outcomes {
        let (tenant, violations) = match outcome {
            Ok(answer) => (answer.frame.tenant_key, check_violations(&mut answer.reply)),
            Err(Failure::Refused { refusal: Refusal::QuotaExceeded(violations), frame }) => {
                (frame.tenant_key, Some(violations))
            }
            Err(_) => continue,
        };
        let depends = |violation: &&mut Violation| matches!(violation.retry, Retry::WhenHoldEnds(_));
        waiting.extend(violations.into_iter().flatten().filter(depends).map(|violation| (tenant, violation)));
    }
    waiting
}

/// Looks the holds up, as they are after the batch.
pub(super) async fn resolve(
    transaction: &Transaction,
    now: Millis,
    violations: &mut [(TenantKey, &mut Violation)],
) -> Result<(), StoreError> {
    let mut holds: HashMap<TenantKey, Vec<Reservation>> = HashMap::new();
    for (tenant, violation) in violations {
        if !holds.contains_key(tenant) {
            let found = transaction
                .list_holds_by_deadline(*tenant, Some((now, LAST_ID)), Millis::MAX, HOLDS_SCANNED_MAX)
                .await?;
            holds.insert(*tenant, found);
        }
        let Retry::WhenHoldEnds(window_end) = violation.retry else {
            continue;
        };
        violation.retry = hint(&holds[tenant], violation, now, window_end);
    }
    Ok(())
}

fn hint(holds: &[Reservation], violation: &Violation, now: Millis, window_end: Millis) -> Retry {
    let names = |hold: &&Reservation| hold.lines.iter().any(|line| line.key == violation.balance.key);
    let frees = |hold: &&Reservation| hold.on_expiry == OnExpiry::Release;
    if let Some(hold) = holds.iter().find(|hold| names(hold) && frees(hold)) {
        Retry::At(hold.deadline.min(window_end))
    } else if holds.len() == HOLDS_SCANNED_MAX {
        // It ends later than all that were looked at.
        Retry::At(holds.last().map_or(now, |hold| hold.deadline).min(window_end))
    } else if holds.iter().any(|hold| names(&hold)) {
        // What is held will be charged.
        if window_end == WINDOW_END_NONE { Retry::Never } else { Retry::At(window_end) }
    } else {
        // An operation after it in the batch has freed it.
        Retry::At(now)
    }
}

/// Whether a reply says that something was refused by a limit: to Check.
fn check_violations(reply: &mut Reply) -> Option<&mut Vec<Violation>> {
    match reply {
        Reply::Checked { violations, .. } => Some(violations),
        Reply::Reservation { .. } | Reply::Recorded { .. } | Reply::Reset { .. } => None,
    }
}
