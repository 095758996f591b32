//! The values of the settings for traces.

use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// An http or https URL with a host.
pub(super) struct HttpUrl(pub(super) http::Uri);

impl HttpUrl {
    pub(super) const WANTED: &str = "an http or https URL with a host, for example http://127.0.0.1:4317";
}

impl FromStr for HttpUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let url: http::Uri = text.parse().map_err(|_| ())?;
        let is_http = matches!(url.scheme_str(), Some("http" | "https"));
        let has_host = url.host().is_some_and(|host| !host.is_empty());
        if is_http && has_host { Ok(Self(url)) } else { Err(()) }
    }
}

/// Headers as OTEL_EXPORTER_OTLP_HEADERS writes them: `name=value` with percent-encoded values, separated by commas.
#[derive(Default)]
pub(super) struct Headers(pub(super) HeaderMap);

impl Headers {
    pub(super) const WANTED: &str = "headers, for example authorization=Bearer%20TOKEN,tenant=a";
}

impl FromStr for Headers {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut headers = HeaderMap::new();
        for header in text.split(',') {
            let (name, value) = header.split_once('=').ok_or(())?;
            let name: HeaderName = name.trim().parse().map_err(|_| ())?;
            let value: Vec<u8> = percent_decode_str(value.trim()).collect();
            let mut value = HeaderValue::from_bytes(&value).map_err(|_| ())?;
            // Debug output hides it then.
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(Self(headers))
    }
}

/// A number from 0 to 1.
pub(super) struct Ratio(pub(super) f64);

impl Ratio {
    pub(super) const WANTED: &str = "a number from 0 to 1, for example 0.1";
}

impl FromStr for Ratio {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let ratio: f64 = text.parse().map_err(|_| ())?;
        if (0.0..=1.0).contains(&ratio) {
            Ok(Self(ratio))
        } else {
            Err(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let Headers(headers) = "authorization=Bearer%20hunter2, x-tenant = a".parse().unwrap();
        assert_eq!(headers["authorization"], "Bearer hunter2");
        assert_eq!(headers["x-tenant"], "a");
        assert!(!format!("{headers:?}").contains("hunter2"));
        for wrong in ["", "name", "na me=value", "name=a%0Ab", "name=value,"] {
            assert!(wrong.parse::<Headers>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_ratio_is_from_0_to_1() {
        for (text, ratio) in [("0", Some(0.0)), ("0.25", Some(0.25)), ("1", Some(1.0))] {
            assert_eq!(text.parse().ok().map(|Ratio(ratio)| ratio), ratio);
        }
        for wrong in ["", "-0.1", "1.1", "NaN", "half"] {
            assert!(wrong.parse::<Ratio>().is_err(), "{wrong}");
        }
    }
}
