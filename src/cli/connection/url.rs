//! The URL of a server.

use std::net::IpAddr;

use http::Uri;

/// Checks the URL of a server. The error is the rule.
pub(in crate::cli) fn check_url(url: &str) -> Result<(), &'static str> {
    let parsed = url.parse::<Uri>().ok();
    match parsed.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()) {
        Some(_) => Ok(()),
        None => Err("use one such as http://127.0.0.1:50051 or https://certkeep.example:50051"),
    }
}

/// Whether this URL sends private keys and access keys in plain text over a network: http, and no loopback address.
pub(in crate::cli) fn is_exposed(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return true };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    uri.scheme_str() != Some("https") && !is_loopback
}

/// Whether two URLs name the same server.
pub(in crate::cli) fn is_same(one: &str, other: &str) -> bool {
    let parts = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        let default_port = match uri.scheme_str()? {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let path = uri.path().trim_end_matches('/').to_owned();
        let host = uri.host()?.to_ascii_lowercase();
        Some((default_port, host, uri.port_u16().unwrap_or(default_port), path))
    };
    match (parts(one), parts(other)) {
        (Some(one), Some(other)) => one == other,
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
            assert!(!is_exposed(kept), "{kept}");
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
            assert!(is_exposed(exposed), "{exposed}");
        }
    }

    #[test]
    fn urls_of_one_server_are_recognised() {
        for (one, other) in [
            (A, "https://A.EXAMPLE:50051/"),
            ("http://a", "http://a:80"),
            ("https://a:443/", "https://a"),
        ] {
            assert!(is_same(one, other), "{one} {other}");
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
            assert!(!is_same(one, other), "{one} {other}");
        }
        assert!(check_url("https://a").is_ok());
        for wrong in ["", "a", "a:1", "ftp://a", "https://", "https:///x", "http//a"] {
            assert!(check_url(wrong).is_err(), "{wrong}");
        }
    }
}
