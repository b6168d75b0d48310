//! The text of cursors. A cursor is the id of a log and a place in this log. Clients must not interpret the text of a
//! cursor.

use data_encoding::BASE64URL_NOPAD;

use crate::events::Cursor;

/// The first byte of a cursor: the version of its layout.
const CURSOR_VERSION: u8 = 1;

/// Returns the text of a cursor.
pub(super) fn cursor(cursor: Cursor) -> String {
    let bytes = [&[CURSOR_VERSION][..], &cursor.log_id, &cursor.sequence.to_be_bytes()].concat();
    BASE64URL_NOPAD.encode(&bytes)
}

/// Parses the text of a cursor. `None` if the text is not a cursor.
pub(super) fn parse_cursor(text: &str) -> Option<Cursor> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    let (log_id, sequence) = bytes.strip_prefix(&[CURSOR_VERSION])?.split_first_chunk::<16>()?;
    let sequence = i64::from_be_bytes(sequence.try_into().ok()?);
    (sequence >= 0).then_some(Cursor { log_id: *log_id, sequence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stands_for_a_place_in_a_log() {
        let place = Cursor { log_id: [7; 16], sequence: 1_234 };
        let text = cursor(place);
        assert_eq!(parse_cursor(&text), Some(place));
        let negative = cursor(Cursor { sequence: -1, ..place });
        for other in ["", "x", &text[1..], &format!("{text}A"), &negative, "ääää"] {
            assert_eq!(parse_cursor(other), None, "{other}");
        }
    }
}
