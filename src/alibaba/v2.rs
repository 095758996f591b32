//! Signature version 1.0, HMAC-SHA1, which the official SDKs call V2. The signature is a parameter of the request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{canonical_query, encoded, secret};
use crate::digest;
use crate::secret::Secret;

/// The string to sign of a request with this method and these parameters: those of its query and of its form, all but `Signature`.
pub fn string_to_sign(method: &str, parameters: &[(&str, &str)]) -> Secret {
    let query = canonical_query(parameters);
    let query = encoded(std::iter::once(query.as_str()));
    let mut text = Zeroizing::new(String::with_capacity(method.len() + "&%2F&".len() + query.len()));
    text.push_str(method);
    text.push_str("&%2F&");
    text.push_str(&query);
    secret(text)
}

/// The signature in base64.
pub fn signature(access_key_secret: &Secret, string_to_sign: &Secret) -> String {
    let key = Zeroizing::new([access_key_secret.expose(), b"&"].concat());
    STANDARD.encode(digest::hmac_sha1(&key, string_to_sign.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Alibaba Cloud's documentation, in both spellings of the timestamp that its pages use.
    #[test]
    fn the_published_example_has_the_published_signature() {
        for (name, expected) in [
            ("TimeStamp", "CT9X0VtwR86fNWSnsc6v8YGOjuE="),
            ("Timestamp", "OLeaidS1JvxuMvnyHOwuJ+uX5qY="),
        ] {
            let string = string_to_sign(
                "GET",
                &[
                    ("AccessKeyId", "testid"),
                    ("Action", "DescribeRegions"),
                    ("Format", "XML"),
                    ("SignatureMethod", "HMAC-SHA1"),
                    ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
                    ("SignatureVersion", "1.0"),
                    ("Version", "2014-05-26"),
                    (name, "2016-02-23T12:46:24Z"),
                ],
            );
            assert_eq!(signature(&Secret::from("testsecret".to_owned()), &string), expected);
        }
    }
}
