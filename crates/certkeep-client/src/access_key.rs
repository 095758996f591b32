//! The secret that a caller proves itself with.

use std::fmt;

use http::HeaderValue;
use zeroize::Zeroizing;

/// An access key, `<id>.<secret>`. It is wiped when it is dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct AccessKey(Zeroizing<String>);

/// The text is no access key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this is no access key: it is one line, <id>.<secret>")]
pub struct AccessKeyError;

impl AccessKey {
    /// Reads one line, `<id>.<secret>`. White space around it does not count.
    pub fn parse(text: &str) -> Result<Self, AccessKeyError> {
        let text = text.trim();
        let is_key = text.bytes().all(|byte| byte.is_ascii_graphic())
            && text
                .split_once('.')
                .is_some_and(|(id, secret)| !id.is_empty() && !secret.is_empty());
        match is_key {
            true => Ok(Self(Zeroizing::new(text.to_owned()))),
            false => Err(AccessKeyError),
        }
    }

    /// The value of the header `authorization`.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&Zeroizing::new(format!("Bearer {}", *self.0))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_key_is_one_line_and_never_shown() {
        let key = AccessKey::parse(" ck1.secret\n").unwrap();
        assert_eq!(format!("{key:?}"), "<redacted>");
        let header = key.header().unwrap();
        assert_eq!(header, "Bearer ck1.secret");
        assert_eq!(format!("{header:?}"), "Sensitive");
        for wrong in [
            "",
            "ck1",
            "ck1.",
            ".secret",
            "ck1.sec ret",
            "ck1.a\nck2.b",
            "ck1.sécret",
        ] {
            assert_eq!(AccessKey::parse(wrong), Err(AccessKeyError), "{wrong}");
        }
    }
}
