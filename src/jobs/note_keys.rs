//! note-keys: writes when keys were last used, so that no call needs a write for it.

use super::tools::{Course, JobError, Tools};
use crate::{access::Access, domain::time::Time};

pub(super) async fn run(tools: &Tools, _now: Option<Time>, course: &Course) -> Result<(), JobError> {
    if let Access::Keys(keyring) = &tools.access {
        let noted = keyring.note_used().await?;
        course.count("keys", noted);
    }
    Ok(())
}
