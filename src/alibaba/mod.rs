//! The signatures of Alibaba Cloud's RPC APIs, as published: how a request becomes the string to sign, and the string a signature.
//! The server that verifies a request and the client that signs one use the same functions.
//!
//! [`cas`] is such a client. The path of a request is `/`. A canonical string may contain a private key, so it is a [`Secret`].

pub mod acs3;
mod breaker;
pub mod cas;
pub mod v2;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// All but the unreserved characters (RFC 3986 2.3).
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The texts one after the other, each percent-encoded as RFC 3986 says: a space is `%20`.
fn encoded<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Zeroizing<String> {
    let parts = texts.flat_map(|text| utf8_percent_encode(text, &RESERVED));
    // The exact length: a text that grows would leave copies in memory.
    let mut all = Zeroizing::new(String::with_capacity(parts.clone().map(str::len).sum()));
    parts.for_each(|part| all.push_str(part));
    all
}

/// The parameters sorted by name, encoded, as `name=value` joined by `&`.
fn canonical_query(parameters: &[(&str, &str)]) -> Zeroizing<String> {
    let mut sorted = parameters.to_vec();
    sorted.sort_unstable();
    let pairs: Vec<_> = sorted
        .into_iter()
        .map(|(name, value)| (encoded(std::iter::once(name)), encoded(std::iter::once(value))))
        .collect();
    let len = pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut query = Zeroizing::new(String::with_capacity(len));
    for (number, (name, value)) in pairs.iter().enumerate() {
        if number > 0 {
            query.push('&');
        }
        query.push_str(name);
        query.push('=');
        query.push_str(value);
    }
    query
}

fn secret(mut text: Zeroizing<String>) -> Secret {
    Secret::from(std::mem::take(&mut *text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_sorted_and_encoded_as_rfc_3986_says() {
        let query = canonical_query(&[("b", "a b+c*d~e"), ("Tag.1.Key", "证-_."), ("a", ""), ("B", "/=&%\n")]);
        assert_eq!(*query, "B=%2F%3D%26%25%0A&Tag.1.Key=%E8%AF%81-_.&a=&b=a%20b%2Bc%2Ad~e");
    }
}
