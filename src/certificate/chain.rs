//! The certificates of a server: the leaf, and the certificates on the way from the leaf to a root.

use std::fmt;

use super::pem;

/// The label of a certificate (RFC 7468 5.1).
const CERTIFICATE: &str = "CERTIFICATE";

/// The DER encodings of 1 to 20 certificates, in the order in which they are served: the leaf first.
#[derive(Clone, Eq, PartialEq)]
pub struct Chain(Vec<Vec<u8>>);

impl Chain {
    /// A chain from the store. The chain was checked before it was stored.
    pub fn from_stored(certificates: Vec<Vec<u8>>) -> Self {
        Self(certificates)
    }

    /// Certificates in this order.
    pub fn of(der: impl Iterator<Item = Vec<u8>>) -> Self {
        Self(der.collect())
    }

    /// The DER encodings, the leaf first.
    pub fn der(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// The number of certificates.
    #[expect(clippy::len_without_is_empty, reason = "a chain has at least its leaf")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The certificates as PEM text in the strict form of RFC 7468 3, one block after the other.
    pub fn to_pem(&self) -> String {
        let mut text = Vec::new();
        self.write_pem(&mut text);
        // Base64 is ASCII.
        String::from_utf8(text).unwrap_or_default()
    }

    /// Appends the PEM text.
    pub(super) fn write_pem(&self, text: &mut Vec<u8>) {
        for der in self.der() {
            pem::write(CERTIFICATE, der, text);
        }
    }

    /// The length of the PEM text.
    pub(super) fn pem_len(&self) -> usize {
        self.der().map(|der| pem::written_len(CERTIFICATE, der.len())).sum()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} certificates)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_pair;
    use super::*;

    #[test]
    fn is_written_as_openssl_writes_it() {
        let (first, second) = (test_pair::ec(), test_pair::ed25519());
        let chain = Chain::of(
            [&first, &second]
                .map(|pair| pair.certificate.to_der().unwrap())
                .into_iter(),
        );
        let text = [first.certificate_pem(), second.certificate_pem()].concat();
        assert_eq!(chain.to_pem().as_bytes(), text);
    }
}
