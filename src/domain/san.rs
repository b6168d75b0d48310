//! Names in the certificates of clients that may stand for a key (R7.9).

/// Maximum length of a name.
pub const SAN_LENGTH_MAX_BYTES: usize = 512;

/// The kinds of names. The text of a name shows its kind, so names of different kinds are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanKind {
    /// A URI, such as `spiffe://example.org/backend`.
    Uri,
    /// An e-mail address, such as `backend@example.org`.
    Email,
    /// The name of a host.
    Dns,
}

impl SanKind {
    /// Returns the kind of a name. A URI has a colon, and an e-mail address an `@`.
    pub fn of(name: &str) -> Self {
        match name {
            name if name.contains(':') => SanKind::Uri,
            name if name.contains('@') => SanKind::Email,
            _ => SanKind::Dns,
        }
    }
}

/// Returns what is wrong with a name. Names are compared byte for byte, so a name with a wildcard would not stand for
/// others.
pub fn san_fault(name: &str) -> Option<&'static str> {
    let is_host = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    if name.is_empty() || name.len() > SAN_LENGTH_MAX_BYTES {
        return Some("must have 1 to 512 bytes");
    }
    if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*') {
        return Some("must have only visible ASCII characters, and no `*`");
    }
    let right = match SanKind::of(name) {
        SanKind::Uri => name.split_once(':').is_some_and(|(scheme, rest)| {
            scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
                && !rest.is_empty()
        }),
        SanKind::Email => name.rsplit_once('@').is_some_and(|(local, host)| {
            !local.is_empty() && !host.is_empty() && is_host(host) && !local.contains('@')
        }),
        SanKind::Dns => is_host(name),
    };
    (!right).then_some("must be a URI, the name of a host, or an e-mail address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_form_of_its_kind() {
        let right = [
            ("spiffe://example.org/backend", SanKind::Uri),
            ("urn:a", SanKind::Uri),
            ("https://me@a.example/b?c=d#e", SanKind::Uri),
            ("backend.example", SanKind::Dns),
            ("backend", SanKind::Dns),
            ("me+tope@a.example", SanKind::Email),
        ];
        for (name, kind) in right {
            assert_eq!((san_fault(name), SanKind::of(name)), (None, kind), "{name}");
        }
        let long = "a".repeat(513);
        for wrong in [
            "",
            &long,
            "*.example",
            "a b",
            "bäckend.example",
            "a/b",
            "://a",
            "1a:b",
            "a:",
            "@a",
            "a@",
            "a@b@c",
            "a\0",
        ] {
            assert!(san_fault(wrong).is_some(), "{wrong:?}");
        }
    }
}
