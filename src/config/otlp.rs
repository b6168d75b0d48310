//! The setting `otlp_endpoint`: the URL of a collector.

/// Checks the URL of a collector: `http` or `https`, with a host, and nothing behind the port.
///
/// # Errors
///
/// What is wrong.
pub(super) fn check_endpoint(text: &str) -> Result<(), String> {
    let wanted = "must be a URL such as http://127.0.0.1:4317, with http or https, and without a path";
    let uri: http::Uri = text.parse().map_err(|_| wanted.to_owned())?;
    let is_plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let has_host = uri
        .authority()
        .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
    match uri.scheme_str() {
        Some("http" | "https") if is_plain && has_host => Ok(()),
        _ => Err(wanted.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_without_a_path() {
        for endpoint in ["http://127.0.0.1:4317", "https://collector.example", "http://[::1]:4317/"] {
            assert_eq!(check_endpoint(endpoint), Ok(()), "{endpoint}");
        }
        let refused = [
            "127.0.0.1:4317",
            "collector",
            "ftp://host:4317",
            "http://",
            "http://host:4317/v1/traces",
            "http://host:4317?x=1",
            "http://user:secret@host:4317",
            "http://ho st",
        ];
        for endpoint in refused {
            let fault = check_endpoint(endpoint).expect_err(endpoint);
            assert!(fault.contains("must be a URL") && !fault.contains("secret"), "{fault}");
        }
    }
}
