//! Checks where webhooks may be sent: the text of the URL, and the addresses of its host at each connection.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use tokio::{net::lookup_host, time::timeout};

use crate::domain::bounds::URL_LENGTH_MAX_BYTES;

/// Maximum time to look up a host's addresses when a webhook is created or its URL is changed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Places to which webhooks may be sent, in addition to public addresses by `https`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Allows `http`, which anybody on the network path can read.
    pub allow_http: bool,
    /// Allows addresses of this machine, of private networks, and other addresses that are not public.
    pub allow_private: bool,
}

/// Parses a URL, and checks that webhooks may be sent to it.
///
/// # Errors
///
/// What is wrong with the URL, as a text that follows the name of a field.
pub fn parse_url(rules: Rules, text: &str) -> Result<Url, String> {
    if text.len() > URL_LENGTH_MAX_BYTES {
        return Err(format!("must be at most {URL_LENGTH_MAX_BYTES} bytes"));
    }
    let url = Url::parse(text).map_err(|error| format!("must be a URL: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if rules.allow_http => {}
        "http" => return Err("must begin with https:// (webhook_allow_http is false)".to_owned()),
        _ => return Err("must begin with https://".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "must have no user and no password: replies show the URL, and signatures prove the sender"
                .to_owned(),
        );
    }
    if url.fragment().is_some() {
        return Err("must have no fragment, because a fragment is not sent".to_owned());
    }
    if url.port() == Some(0) {
        return Err("must not have port 0".to_owned());
    }
    if let Some(address) = literal(&url) {
        check(rules, address)?;
    }
    Ok(url)
}

/// Looks up the addresses of a URL's host, and refuses the URL if none of them is allowed. If the look-up fails, the
/// URL is accepted, because each attempt looks the host up again.
///
/// # Errors
///
/// What is wrong with the URL, as a text that follows the name of a field.
pub async fn check_host(rules: Rules, url: &Url) -> Result<(), String> {
    let (Some(host), None) = (url.host_str(), literal(url)) else { return Ok(()) };
    let port = url.port_or_known_default().unwrap_or(443);
    match timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => usable(rules, addresses).map(|_| ()),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// Returns the address that a URL contains, if it contains no name. The URL's parser has already rewritten every
/// spelling of an IPv4 address to the usual spelling.
fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn check(rules: Rules, address: IpAddr) -> Result<(), String> {
    if rules.allow_private || is_public(address) {
        Ok(())
    } else {
        Err(format!("must have a public address: {address} is not public"))
    }
}

/// Returns the addresses that are allowed, or an error if there are none.
fn usable(rules: Rules, addresses: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    let mut refused = Err("must have a host with an address".to_owned());
    let mut used = Vec::new();
    for address in addresses {
        match check(rules, address.ip()) {
            Ok(()) => used.push(address),
            Err(reason) => refused = Err(reason),
        }
    }
    if used.is_empty() { refused } else { Ok(used) }
}

/// Resolves names to allowed addresses. The connection is made to one of the checked addresses, so the name cannot get
/// another address in between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver(pub(super) Rules);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.0;
        Box::pin(async move {
            let addresses = lookup_host((name.as_str(), 0)).await?;
            let used = usable(rules, addresses).map_err(io::Error::other)?;
            let used: Addrs = Box::new(used.into_iter());
            Ok(used)
        })
    }
}

/// Returns whether an address is public, by IANA's registries of special-purpose addresses
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>, and -ipv6-).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    let special = match (a, b, c) {
        // This network, private, loopback, link-local, private, private.
        (0 | 10 | 127, _, _) | (169, 254, _) | (172, 16..=31, _) | (192, 168, _) => true,
        // Shared address space of carriers; protocol assignments; benchmarks.
        (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _) => true,
        // Documentation; the former 6to4 relay.
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) | (192, 88, 99) => true,
        // The host's services for a machine in Azure. Nobody else uses this address.
        (168, 63, 129) => d == 16,
        // Multicast, reserved, broadcast.
        (224..=255, _, _) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = || {
        let ([g1, g2], [h1, h2]) = (g.to_be_bytes(), h.to_be_bytes());
        Ipv4Addr::new(g1, g2, h1, h2)
    };
    match (a, b, c, d, e, f) {
        // IPv4-mapped addresses, and NAT64: check the IPv4 address inside.
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => is_public_v4(embedded()),
        // Protocols (Teredo among them), documentation, 6to4, documentation.
        (0x2001, 0..=0x1ff, ..) | (0x2001, 0xdb8, ..) | (0x2002, ..) | (0x3fff, 0..=0xfff, ..) => false,
        // Global unicast. Everything else is local, multicast or unassigned.
        (0x2000..=0x3fff, ..) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Rules = Rules { allow_http: false, allow_private: false };
    const LOOSE: Rules = Rules { allow_http: true, allow_private: true };

    #[test]
    fn a_url_must_be_https_and_have_a_public_address() {
        for url in
            ["https://hooks.example.com/tope?x=1", "https://8.8.8.8/", "https://[2606:4700::1111]:8443/a"]
        {
            assert!(parse_url(STRICT, url).is_ok(), "{url}");
        }
        let cases = [
            ("", "must be a URL"),
            ("hooks.example.com", "must be a URL"),
            ("/tope", "must be a URL"),
            ("https://", "must be a URL"),
            ("https://a b/", "must be a URL"),
            ("http://hooks.example.com/", "must begin with https"),
            ("ftp://hooks.example.com/", "must begin with https"),
            ("file:///etc/passwd", "must begin with https"),
            ("javascript:alert(1)", "must begin with https"),
            ("https://me:secret@hooks.example.com/", "must have no user"),
            ("https://me@hooks.example.com/", "must have no user"),
            ("https://hooks.example.com/#a", "must have no fragment"),
            ("https://hooks.example.com:0/", "must not have port 0"),
        ];
        for (url, said) in cases {
            let fault = parse_url(STRICT, url).expect_err(url);
            assert!(fault.starts_with(said), "{url}: {fault}");
        }
        let long = format!("https://hooks.example.com/{}", "x".repeat(URL_LENGTH_MAX_BYTES));
        assert_eq!(parse_url(STRICT, &long), Err("must be at most 2048 bytes".to_owned()));
    }

    #[test]
    fn no_spelling_of_a_private_address_is_public() {
        let hosts = [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "168.63.129.16",
            "100.64.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[ff02::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[2001:db8::1]",
            "[::127.0.0.1]",
        ];
        for host in hosts {
            let url = format!("https://{host}/");
            let fault = parse_url(STRICT, &url).expect_err(&url);
            assert!(fault.starts_with("must have a public address"), "{url}: {fault}");
            assert!(parse_url(LOOSE, &url).is_ok(), "{url}");
        }
        for host in [
            "172.32.0.1",
            "100.128.0.1",
            "168.63.129.17",
            "[64:ff9b::8.8.8.8]",
            "[::ffff:8.8.8.8]",
            "[2a00:1450::1]",
        ] {
            assert!(parse_url(STRICT, &format!("https://{host}/")).is_ok(), "{host}");
        }
    }

    #[test]
    fn addresses_that_are_not_allowed_are_left_out() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mixed = [address("127.0.0.1:1"), address("8.8.8.8:1"), address("[::1]:1")];
        assert_eq!(usable(STRICT, mixed.into_iter()), Ok(vec![address("8.8.8.8:1")]));
        assert_eq!(usable(LOOSE, mixed.into_iter()), Ok(mixed.to_vec()));
        let private = [address("127.0.0.1:1")];
        assert!(usable(STRICT, private.into_iter()).is_err());
        assert!(usable(LOOSE, [].into_iter()).is_err());
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused() {
        let url = parse_url(STRICT, "https://localhost/").expect("a name may be anything");
        check_host(STRICT, &url).await.expect_err("it is this machine");
        check_host(LOOSE, &url).await.expect("it is allowed");
        let nowhere = parse_url(STRICT, "https://nowhere.invalid/").expect("a name");
        check_host(STRICT, &nowhere).await.expect("it may have an address later");
    }
}
