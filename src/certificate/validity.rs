//! The validity of a certificate that certkeep does not store.

use super::x509::Certificate;
use super::{Authorities, X509Error};
use crate::clock::Timestamp;

/// The first and the last second of a certificate's validity (RFC 5280 4.1.2.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// The first second.
    pub not_before: Timestamp,
    /// The last second.
    pub not_after: Timestamp,
}

impl Validity {
    /// Reads the validity of a certificate in DER.
    ///
    /// # Errors
    /// [`X509Error`] if it is no certificate.
    pub fn read(der: &[u8]) -> Result<Self, X509Error> {
        let certificate = Certificate::read(der, &Authorities::default())?;
        Ok(Self {
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    }

    /// The seconds in which both are valid.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }
}
