//! The opaque names of reservations.

use data_encoding::BASE64URL_NOPAD;

pub(super) use crate::domain::id::reservation_name;
use crate::domain::id::{ReservationId, TenantKey};

/// Parses a reservation's name. `None` if Reserve never returns such a name.
pub(super) fn parse_reservation_name(name: &str) -> Option<(TenantKey, ReservationId)> {
    let bytes: [u8; 24] = BASE64URL_NOPAD.decode(name.as_bytes()).ok()?.try_into().ok()?;
    let (mut tenant, mut id) = ([0; 8], [0; 16]);
    tenant.copy_from_slice(&bytes[..8]);
    id.copy_from_slice(&bytes[8..]);
    Some((TenantKey(i64::from_be_bytes(tenant)), ReservationId(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_what_it_was_made_of() {
        let (tenant, id) = (TenantKey(0x0123_4567_89ab_cdef), ReservationId([9; 16]));
        let name = reservation_name(tenant, id);
        assert_eq!(parse_reservation_name(&name), Some((tenant, id)));
        for other in ["", "x", &name[1..], &format!("{name}A"), "ääääääääääääääää"] {
            assert_eq!(parse_reservation_name(other), None, "{other}");
        }
    }
}
