//! Ids: the names that people choose, and the keys of rows.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use super::bounds::NAME_LENGTH_MAX_BYTES;

/// The internal key of a tenant. Its upper 31 bits are a hash of the tenant's id, so an operation reaches the same
/// lane whether it names the tenant or one of the tenant's reservations. The lower 32 bits are random, so a tenant
/// that gets the id of a deleted tenant has no old rows (R4.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantKey(pub i64);

impl TenantKey {
    /// Returns the key of a new tenant; `random` becomes its lower 32 bits.
    pub fn mint(name: &str, random: u32) -> Self {
        Self((i64::from(name_hash(name)) << 32) | i64::from(random))
    }

    /// Returns the hash by which a lane is chosen. It equals [`name_hash`] of the name for which the key was minted.
    pub fn hash(self) -> u32 {
        u32::try_from((self.0 >> 32) & 0x7fff_ffff).unwrap_or(0)
    }
}

/// Hashes a name by FNV-1a, folded to 31 bits. Stored keys contain the hash, so the function must never change.
pub fn name_hash(name: &str) -> u32 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u32::try_from((hash ^ (hash >> 33)) & 0x7fff_ffff).unwrap_or(0)
}

/// The key of a resource: the policy revision that declared it. Keys are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey(pub i32);

/// The key of a plan: the policy revision that created it. Keys are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlanKey(pub i32);

/// The id of a reservation or of an adjustment: a UUID of version 7, made by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReservationId(pub [u8; 16]);

impl ReservationId {
    /// Sorts after every reservation's id.
    pub const MAX: Self = Self([u8::MAX; 16]);

    /// Returns the id of the row with this number, among the rows that one operation makes: `number` replaces the last
    /// four bytes. These bytes are random in minted ids. The other twelve bytes are different for each operation.
    pub fn part(self, number: u32) -> Self {
        let mut id = self.0;
        id[12..].copy_from_slice(&number.to_be_bytes());
        Self(id)
    }
}

/// The name by which clients know a reservation. Its text is the tenant's key and the reservation's id in base64url.
/// The name contains the tenant, so no index over all tenants is needed to find the reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReservationName {
    /// The key of the reservation's tenant.
    pub tenant: TenantKey,
    /// The id of the reservation within its tenant.
    pub id: ReservationId,
}

impl ReservationName {
    /// Parses the text of a name. `None` if Reserve never returns such a text. Two texts never give the same name.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 24] = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()?;
        let (mut tenant, mut id) = ([0; 8], [0; 16]);
        tenant.copy_from_slice(&bytes[..8]);
        id.copy_from_slice(&bytes[8..]);
        Some(Self { tenant: TenantKey(i64::from_be_bytes(tenant)), id: ReservationId(id) })
    }
}

impl fmt::Display for ReservationName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.tenant.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.id.0);
        BASE64URL_NOPAD.encode_display(&bytes).fmt(formatter)
    }
}

/// Returns what is wrong with a name, if anything. A name must have 1-128 bytes without control characters.
pub fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() { Some("must not be empty") } else { optional_name_fault(name) }
}

/// Returns what is wrong with a name that may be absent, like [`name_fault`]. An absent name is the empty text.
pub fn optional_name_fault(name: &str) -> Option<&'static str> {
    if name.len() > NAME_LENGTH_MAX_BYTES { Some("must be at most 128 bytes") } else { text_fault(name) }
}

/// Returns what is wrong with the id of a new resource, plan, tenant, agent, override, webhook or limit. Beyond the rules
/// of [`name_fault`], each character must be visible, and the ends must not be blank (R4.21). Nothing is normalized:
/// ids are compared byte for byte.
pub fn new_id_fault(id: &str) -> Option<String> {
    let hidden = id.chars().find(|&character| character.is_control() || is_invisible(character));
    let blank = || {
        let ends = [id.chars().next(), id.chars().next_back()];
        ends.into_iter().flatten().find(|character| character.is_whitespace())
    };
    if id.is_empty() || id.len() > NAME_LENGTH_MAX_BYTES {
        name_fault(id).map(str::to_owned)
    } else if let Some(character) = hidden {
        Some(format!("must not contain U+{:04X}, an invisible character", u32::from(character)))
    } else {
        blank().map(|character| format!("must not begin or end with U+{:04X}, a blank", u32::from(character)))
    }
}

/// Returns whether a character has no width or changes the direction of the text around it. The list is
/// Default_Ignorable_Code_Point of Unicode 16, which contains every Bidi_Control, and the separators of lines and
/// paragraphs.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Returns the fault of a text that contains control characters.
pub fn text_fault(text: &str) -> Option<&'static str> {
    // Almost all text is ASCII, and checking bytes is cheaper than checking characters. So characters are checked only
    // in other text.
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    (!plain && text.chars().any(char::is_control)).then_some("must not contain control characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_of_a_key_is_the_lane_of_its_name() {
        for name in ["acme", "globex", "a", "ü", "a-rather-long-name-of-a-tenant"] {
            for random in [0, 1, u32::MAX] {
                let key = TenantKey::mint(name, random);
                assert!(key.0 >= 0, "{name}");
                assert_eq!(key.hash(), name_hash(name), "{name}");
            }
        }
    }

    #[test]
    fn each_character_of_a_new_id_is_visible() {
        let blank = "must not begin or end with U+0020, a blank";
        let cases = [
            ("acme", None),
            ("Zürich 8", None),
            ("", Some("must not be empty")),
            (" ", Some(blank)),
            ("a ", Some(blank)),
            (" a", Some(blank)),
            ("a\u{200b}", Some("must not contain U+200B, an invisible character")),
            ("a\u{202e}b", Some("must not contain U+202E, an invisible character")),
            ("a\nb", Some("must not contain U+000A, an invisible character")),
            ("\u{e0061}", Some("must not contain U+E0061, an invisible character")),
        ];
        for (id, fault) in cases {
            assert_eq!(new_id_fault(id).as_deref(), fault, "{id:?}");
        }
        assert_eq!(new_id_fault(&"x".repeat(129)).as_deref(), Some("must be at most 128 bytes"));
    }

    #[test]
    fn names_have_bounds() {
        let longest = "x".repeat(128);
        let too_long = "x".repeat(129);
        let cases = [
            ("acme", None),
            ("Zürich 8", None),
            (longest.as_str(), None),
            (too_long.as_str(), Some("must be at most 128 bytes")),
            ("", Some("must not be empty")),
            ("a\0b", Some("must not contain control characters")),
            ("a\nb", Some("must not contain control characters")),
            ("a\u{7f}", Some("must not contain control characters")),
            ("a\u{85}", Some("must not contain control characters")),
        ];
        for (name, fault) in cases {
            assert_eq!(name_fault(name), fault, "{name:?}");
        }
    }

    #[test]
    fn the_text_of_a_reservation_name_is_parsed_to_the_same_name() {
        let name = ReservationName { tenant: TenantKey(0x0123_4567_89ab_cdef), id: ReservationId([9; 16]) };
        let text = name.to_string();
        assert_eq!(text, "ASNFZ4mrze8JCQkJCQkJCQkJCQkJCQkJ");
        assert_eq!(ReservationName::parse(&text), Some(name));
        for other in ["", "x", &text[1..], &format!("{text}A"), "ääääääääääääääää"] {
            assert_eq!(ReservationName::parse(other), None, "{other}");
        }
    }
}
