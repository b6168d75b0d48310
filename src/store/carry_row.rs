//! What a limit carries over, as it is stored with the limit in the row of a plan.

use serde::{Deserialize, Serialize};

use crate::domain::carry_over::Carry;

/// The caps of a carry-over. A cap that is absent is left out.
#[derive(Serialize, Deserialize)]
pub(super) struct CarryRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    percent: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quantity: Option<i64>,
}

impl From<Carry> for CarryRow {
    /// Makes the row of a carry-over.
    fn from(Carry { percent, quantity }: Carry) -> Self {
        Self { percent, quantity }
    }
}

impl From<CarryRow> for Carry {
    /// Reads a carry-over from its row.
    fn from(CarryRow { percent, quantity }: CarryRow) -> Self {
        Self { percent, quantity }
    }
}
