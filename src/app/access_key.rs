//! The text of an access key: `<id>.<secret>`.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::Error;
use crate::digest;
use crate::secret::Secret;

const ID_PREFIX: &str = "ck";
const ID_RANDOM_LEN: usize = 10;
const SECRET_LEN: usize = 32;
/// The maximum length of an id. certkeep makes no longer ids. The limit counts because a caller's id is looked up and logged.
const MAX_ID_LEN: usize = 64;
/// The maximum length of a key. certkeep makes no longer keys. The limit counts because a caller's secret is hashed.
const MAX_LEN: usize = 256;

/// An access key in the form that its holder has. The id is public. The secret has 256 random bits, in base64url.
pub struct AccessKeyText {
    id: String,
    secret: Secret,
}

impl AccessKeyText {
    /// A new random id.
    pub(super) fn random_id() -> Result<String, Error> {
        let id = digest::random::<ID_RANDOM_LEN>()?;
        Ok(format!("{ID_PREFIX}{}", hex::encode(id)))
    }

    /// A new random key.
    pub(super) fn random() -> Result<Self, Error> {
        let secret = digest::random_secret::<SECRET_LEN>()?;
        Ok(Self {
            id: Self::random_id()?,
            secret: Secret::from(BASE64_URL_SAFE_NO_PAD.encode(secret.as_slice())),
        })
    }

    /// Reads the value of an `authorization` header, `Bearer <id>.<secret>`. `None`: the value is not an access key.
    pub fn from_authorization(value: &str) -> Option<Self> {
        let (scheme, text) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| Self::parse(text.trim()))?
    }

    /// Reads `<id>.<secret>`.
    fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let plausible = text.len() <= MAX_LEN
            && id.starts_with(ID_PREFIX)
            && id.len() <= MAX_ID_LEN
            && !secret.is_empty()
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        plausible.then(|| Self {
            id: id.to_owned(),
            secret: Secret::from(secret.to_owned()),
        })
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The SHA-256 of the secret. The database stores this hash instead of the secret.
    pub(super) fn secret_sha256(&self) -> [u8; 32] {
        digest::sha256(self.secret.expose())
    }

    /// The secret, in base64url.
    pub(super) fn into_secret(self) -> Secret {
        self.secret
    }

    /// The line `<id>.<secret>`, for a file that only its holder may read.
    pub fn to_line(&self) -> Secret {
        Secret::from([self.id.as_bytes(), b".", self.secret.expose(), b"\n"].concat())
    }
}

impl fmt::Debug for AccessKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.<redacted>", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_is_read_again() {
        let fresh = AccessKeyText::random().unwrap();
        let line = String::from_utf8(fresh.to_line().expose().to_vec()).unwrap();
        let read = AccessKeyText::parse(line.trim_end()).unwrap();
        assert_eq!(read.id(), fresh.id());
        assert_eq!(read.secret_sha256(), fresh.secret_sha256());
        assert_eq!(line.trim_end().len(), 22 + 1 + 43);
        assert_eq!(format!("{read:?}"), format!("{}.<redacted>", fresh.id()));
    }

    #[test]
    fn text_that_is_not_an_access_key_is_refused() {
        for text in [
            "",
            ".",
            "ck1",
            "ck1.",
            ".secret",
            "id.secret",
            "ck 1.secret",
            "ck\u{0}1.secret",
            &format!("ck{}.secret", "1".repeat(63)),
            &format!("ck1.{}", "x".repeat(256)),
        ] {
            assert!(AccessKeyText::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn the_scheme_of_an_authorization_is_bearer_in_any_case() {
        let id = |value| AccessKeyText::from_authorization(value).map(|key| key.id().to_owned());
        for value in ["Bearer ck1.secret", "bearer  ck1.secret ", "BEARER ck1.secret"] {
            assert_eq!(id(value).as_deref(), Some("ck1"), "{value}");
        }
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic ck1.secret",
            "ck1.secret",
            "Bearerck1.secret",
        ] {
            assert_eq!(id(value), None, "{value}");
        }
    }
}
