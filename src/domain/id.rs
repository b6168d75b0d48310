//! Ids: plain names that people choose, and the keys under which rows are kept.

use data_encoding::BASE64URL_NOPAD;

use super::bounds::NAME_LENGTH_MAX_BYTES;

/// The key of a tenant's rows. Its upper 31 bits are a hash of the tenant's name, so that the lane of an
/// operation is the same whether it names the tenant or a reservation of it; the lower 32 are random, so
/// that a name that is used again starts clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantKey(pub i64);

impl TenantKey {
    /// The key of a new tenant.
    pub fn mint(name: &str, random: u32) -> Self {
        Self((i64::from(name_hash(name)) << 32) | i64::from(random))
    }

    /// What lanes are chosen by. Equal to [`name_hash`] of the name it was minted for.
    pub fn hash(self) -> u32 {
        u32::try_from((self.0 >> 32) & 0x7fff_ffff).unwrap_or(0)
    }
}

/// 31 bits of FNV-1a, folded. Stored in keys: it must never change.
pub fn name_hash(name: &str) -> u32 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u32::try_from((hash ^ (hash >> 33)) & 0x7fff_ffff).unwrap_or(0)
}

/// The key of a resource: the policy revision that declared it. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey(pub i32);

/// The key of a plan: the policy revision that made it. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlanKey(pub i32);

/// The id of a reservation, or of an adjustment: a UUID of version 7, made by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReservationId(pub [u8; 16]);

impl ReservationId {
    /// One of several ids that stand for what one operation made. The last four bytes of an id are chance, so this takes
    /// none that another operation has.
    pub fn part(self, number: u32) -> Self {
        let mut id = self.0;
        id[12..].copy_from_slice(&number.to_be_bytes());
        Self(id)
    }
}

/// The name of a reservation: the tenant's key and the reservation's id, so that it is found without an index over all
/// tenants.
pub fn reservation_name(tenant: TenantKey, id: ReservationId) -> String {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&tenant.0.to_be_bytes());
    bytes[8..].copy_from_slice(&id.0);
    BASE64URL_NOPAD.encode(&bytes)
}

/// What is wrong with a name, if anything: it must be 1-128 bytes without control characters.
pub fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() { Some("must not be empty") } else { optional_name_fault(name) }
}

/// Like [`name_fault`], for a name that may be absent (empty).
pub fn optional_name_fault(name: &str) -> Option<&'static str> {
    if name.len() > NAME_LENGTH_MAX_BYTES { Some("must be at most 128 bytes") } else { text_fault(name) }
}

/// Text must not have control characters.
pub fn text_fault(text: &str) -> Option<&'static str> {
    // ASCII is by far the most frequent: look at its bytes, and at characters only when there are others.
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
}
