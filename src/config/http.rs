//! The setting `http`: an address, or `off`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The address of the HTTP listener. `None`: there is no such listener, and the text is `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpAddress(pub Option<SocketAddr>);

impl TryFrom<String> for HttpAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_http(&text)
    }
}

impl From<HttpAddress> for String {
    fn from(address: HttpAddress) -> Self {
        address.0.map_or_else(|| "off".to_owned(), |address| address.to_string())
    }
}

/// Parses an address and a port, or `off`.
pub(super) fn parse_http(text: &str) -> Result<HttpAddress, String> {
    match text {
        "off" => Ok(HttpAddress(None)),
        text => text.parse().map(|address| HttpAddress(Some(address))).map_err(|_| {
            "must be an IP address and a port, such as 127.0.0.1:50052 or [::]:50052, or off".to_owned()
        }),
    }
}
