//! The id of a certificate.

use std::fmt;

use crate::account::AccountId;
use crate::clock::Timestamp;

/// The id of a server or CA certificate, written
/// `<account id>_<hexadecimal milliseconds of its creation>_<int32>_<int32>`. Both int32 can be negative. The store has
/// the parts, not the text. An id does not tell the kind of its certificate.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificateId {
    /// The account that owns the certificate.
    pub account: AccountId,
    /// When the id was made.
    pub created: Timestamp,
    /// 64 random bits. The first int32 is the upper half.
    pub random: i64,
}

/// A text that is not the id of a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CertificateIdError;

impl CertificateId {
    /// A new id of the certificate that `account` uploads at `created`; `random` makes it unique.
    pub const fn new(account: AccountId, created: Timestamp, random: [u8; 8]) -> Self {
        Self {
            account,
            created,
            random: i64::from_be_bytes(random),
        }
    }

    /// Reads only the form that [`Display`](fmt::Display) writes. So one certificate has exactly one id.
    pub fn parse(text: &str) -> Result<Self, CertificateIdError> {
        let id = parts(text).ok_or(CertificateIdError)?;
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(CertificateIdError)
        }
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i] = self.random.to_be_bytes();
        let (first, second) = (i32::from_be_bytes([a, b, c, d]), i32::from_be_bytes([e, g, h, i]));
        write!(f, "{}_{:x}_{first}_{second}", self.account, self.created.millis())
    }
}

fn parts(text: &str) -> Option<CertificateId> {
    let mut parts = text.split('_');
    let account = parts.next()?.parse().ok()?;
    let created = u64::from_str_radix(parts.next()?, 16).ok()?;
    let first: i32 = parts.next()?.parse().ok()?;
    let second: i32 = parts.next()?.parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    let random = (i64::from(first) << 32) | i64::from(second.cast_unsigned());
    Some(CertificateId {
        account,
        created: Timestamp::from_millis(created.cast_signed()),
        random,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(random: [u8; 8]) -> CertificateId {
        CertificateId::new(
            AccountId::from_i64(1_231_579_085_529_123),
            Timestamp::from_millis(0x15d_6fcb_45a3),
            random,
        )
    }

    #[test]
    fn writes_the_parts() {
        assert_eq!(
            id([0x4f, 0x2b, 0x6c, 0x01, 0x80, 0, 0, 0]).to_string(),
            "1231579085529123_15d6fcb45a3_1328245761_-2147483648"
        );
    }

    #[test]
    fn reads_what_it_writes() {
        for random in [
            [0; 8],
            [0xff; 8],
            [0x80, 0, 0, 0, 0, 0, 0, 1],
            [0, 0, 0, 1, 0xff, 0, 0, 0],
        ] {
            let id = id(random);
            assert_eq!(CertificateId::parse(&id.to_string()), Ok(id));
        }
    }

    #[test]
    fn reads_nothing_else() {
        for wrong in [
            "",
            "1231579085529123_15d6fcb45a3_1",
            "1231579085529123_15d6fcb45a3_1_2_3",
            "1231579085529123_15D6FCB45A3_1_2",
            "1231579085529123_015d6fcb45a3_1_2",
            "1231579085529123_15d6fcb45a3_+1_2",
            "1231579085529123_15d6fcb45a3_01_2",
            "1231579085529123_15d6fcb45a3_-0_2",
            "1231579085529123_15d6fcb45a3_2147483648_2",
            "123157908552912_15d6fcb45a3_1_2",
            " 1231579085529123_15d6fcb45a3_1_2",
        ] {
            assert_eq!(CertificateId::parse(wrong), Err(CertificateIdError), "{wrong}");
        }
    }
}
