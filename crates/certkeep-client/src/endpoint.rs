//! The URL of a service.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

/// The URL of a service: `http` or `https`, a host, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    text: String,
    uri: Uri,
}

/// The text is no URL of a service.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EndpointError {
    /// It has no scheme, or another one than http and https. The URL with a scheme that keeps secrets.
    #[error("it needs http:// or https://, for example {0}")]
    Scheme(String),
    /// It is no URL with a host.
    #[error("use one such as http://127.0.0.1:50051 or https://certkeep.example:50051")]
    Malformed,
}

impl Endpoint {
    /// Reads a URL. Without a port, 80 and 443 count.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        Self::read(url).ok_or_else(|| {
            let place = url.split_once("://").map_or(url, |(_, place)| place);
            let with = |scheme: &str| Self::read(&format!("{scheme}://{place}"));
            let plain = with("http").filter(|url| !url.is_exposed());
            match plain.or_else(|| with("https")) {
                Some(other) if !place.contains('/') => EndpointError::Scheme(other.text),
                _ => EndpointError::Malformed,
            }
        })
    }

    fn read(url: &str) -> Option<Self> {
        let uri = url.parse::<Uri>().ok()?;
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        let is_url = has_host && matches!(uri.scheme_str(), Some("http" | "https"));
        let text = url.to_owned();
        is_url.then_some(Self { text, uri })
    }

    /// The URL as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether connections use TLS.
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Whether private keys and access keys would travel in plain text over a network: http, and no loopback address.
    pub fn is_exposed(&self) -> bool {
        let host = self.host();
        let is_loopback =
            host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        !self.is_https() && !is_loopback
    }

    /// The same server with the other scheme.
    pub(crate) fn with_other_scheme(&self) -> String {
        let (scheme, other) = match self.is_https() {
            true => ("https", "http"),
            false => ("http", "https"),
        };
        // The scheme of a URL may be in capital letters.
        format!("{other}{}", self.text.get(scheme.len()..).unwrap_or_default())
    }

    /// The host, an IPv6 address without its brackets.
    pub(crate) fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    fn port(&self) -> u16 {
        let default = if self.is_https() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(default)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether two URLs name the same server. Texts that are no URL name the same server if they are equal.
pub fn is_same_server(one: &str, other: &str) -> bool {
    match (Endpoint::parse(one), Endpoint::parse(other)) {
        (Ok(one), Ok(other)) => {
            let parts = |url: &Endpoint| {
                let path = url.uri.path().trim_end_matches('/').to_owned();
                (url.is_https(), url.host().to_ascii_lowercase(), url.port(), path)
            };
            parts(&one) == parts(&other)
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "https://a.example:50051";

    #[test]
    fn only_https_and_loopback_keep_a_secret() {
        for kept in [
            "https://a.example",
            "http://127.0.0.1:50051",
            "http://127.9.9.9",
            "http://LocalHost:1",
            "http://[::1]:50051",
        ] {
            assert!(!Endpoint::parse(kept).unwrap().is_exposed(), "{kept}");
        }
        for exposed in [
            "http://a.example",
            "http://10.0.0.1",
            "http://0.0.0.0",
            "http://[::]",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://127.0.0.1@a.example",
            "http://127.0.0.1:1@a.example",
        ] {
            assert!(Endpoint::parse(exposed).unwrap().is_exposed(), "{exposed}");
        }
    }

    #[test]
    fn urls_of_one_server_are_recognised() {
        for (one, other) in [
            (A, "https://A.EXAMPLE:50051/"),
            ("http://a", "http://a:80"),
            ("https://a:443/", "https://a"),
            ("a", "a"),
        ] {
            assert!(is_same_server(one, other), "{one} {other}");
        }
        for (one, other) in [
            (A, "https://b.example:50051"),
            ("http://a", "https://a"),
            ("http://a:443", "https://a"),
            ("https://a", "https://a:444"),
            ("https://a/x", "https://a/y"),
            ("https://a", "https://a.example"),
            ("a", "b"),
        ] {
            assert!(!is_same_server(one, other), "{one} {other}");
        }
        assert!(Endpoint::parse("https://a").is_ok());
        for wrong in ["", "https://", "https:///x", "http//a"] {
            assert_eq!(Endpoint::parse(wrong), Err(EndpointError::Malformed), "{wrong}");
        }
        for (wrong, right) in [
            ("a", "https://a"),
            ("a:1", "https://a:1"),
            ("grpc://a", "https://a"),
            ("127.0.0.1:50051", "http://127.0.0.1:50051"),
        ] {
            let error = EndpointError::Scheme(right.to_owned());
            assert_eq!(Endpoint::parse(wrong), Err(error), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_has_a_twin_with_the_other_scheme() {
        assert_eq!(
            Endpoint::parse(A).unwrap().with_other_scheme(),
            "http://a.example:50051"
        );
        assert_eq!(
            Endpoint::parse("HTTP://a:1").unwrap().with_other_scheme(),
            "https://a:1"
        );
    }
}
