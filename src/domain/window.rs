//! The calendar (to be replaced).
/// Unix milliseconds.
pub type Millis = i64;
