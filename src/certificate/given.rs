//! The certificates of a text, as they were given.

use super::pem::{self, Block, Label, PemError};
use super::unsupported_key::{SUPPORTED_KEYS, UnsupportedKey};
use super::x509::CertificateFault;

/// The longest text, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// The most certificates of one text.
const MAX_CERTIFICATES: usize = 20;

/// Why a text of certificates is refused, whichever field holds it. Each is a predicate of that field.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TextFault {
    /// The text is longer than 256 KiB.
    #[error("has {bytes} bytes: give at most 262144")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// The text is not PEM, or broken PEM.
    #[error(transparent)]
    Pem(PemError),
    /// The text has a certificate with OpenSSL's trust settings.
    #[error("holds a TRUSTED CERTIFICATE, which only OpenSSL reads: convert it with openssl x509")]
    Trusted,
    /// The text has a PKCS #7 bundle.
    #[error("holds a PKCS #7 bundle: convert it with openssl pkcs7 -print_certs")]
    Pkcs7,
    /// The text has a certificate signing request.
    #[error("holds a certificate request: give the certificate that the authority issued for it")]
    Request,
    /// The text has a bare public key.
    #[error("holds a bare public key: give the certificate that contains it")]
    PublicKey,
    /// The text has a block of another kind.
    #[error("holds a block that is not a certificate: leave only CERTIFICATE blocks")]
    OtherBlock,
}

/// Why the text of the certificates is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// There is no text.
    #[error("server_certificate is empty: give the certificate and its chain as PEM text")]
    Missing,
    /// There are more than 20 certificates.
    #[error(
        "server_certificate holds more than 20 certificates: give the server's own and those that lead to its root"
    )]
    TooMany,
    /// The text is not one of certificates.
    #[error("server_certificate {0}")]
    Text(TextFault),
    /// The text is a private key.
    #[error("server_certificate holds a private key, not a certificate: are the two fields swapped?")]
    HoldsPrivateKey,
    /// The text has a private key beside the certificates, which is not the one of `private_key`.
    #[error(
        "server_certificate holds another private key than private_key: leave only the one that belongs to the certificate"
    )]
    OtherPrivateKey,
    /// A certificate cannot be read.
    #[error("certificate {index} of server_certificate {what}: get it from its authority again")]
    Malformed {
        /// Which certificate, counted from 1.
        index: usize,
        /// What is wrong with it.
        what: CertificateFault,
    },
    /// The leaf's key is not of a supported kind.
    #[error("the certificate is for {0}, which is not supported: use {supported}", supported = SUPPORTED_KEYS)]
    UnsupportedKey(UnsupportedKey),
    /// Two certificates are for the private key.
    #[error(
        "certificates {first} and {second} of server_certificate are both for private_key: leave the one that shall be served"
    )]
    LeafAmbiguous {
        /// Which the one is, counted from 1.
        first: usize,
        /// Which the other is.
        second: usize,
    },
    /// A certificate does not lead from the leaf to a root.
    #[error(
        "certificate {index} of server_certificate is on no path from the server's own to a root: remove it, or add the one that is missing \
         between; it is {subject}"
    )]
    Unrelated {
        /// Which certificate, counted from 1.
        index: usize,
        /// Its subject (RFC 4514), cut at 64 characters.
        subject: String,
    },
    /// Too many of the certificates may have issued each other, or they have too many names and constraints.
    #[error(
        "the certificates of server_certificate are too entangled to be checked: give only the server's own and those that lead to its root"
    )]
    TooComplex,
}

/// Why a text of certificates is not read. The fields that hold one say it each in their own words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unread {
    /// There is no text.
    Missing,
    /// There are more than 20 certificates.
    TooMany,
    /// There is a private key, and no certificate.
    HoldsPrivateKey,
    /// The text is not one of certificates.
    Text(TextFault),
}

impl From<Unread> for CertificateError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Missing => Self::Missing,
            Unread::TooMany => Self::TooMany,
            Unread::HoldsPrivateKey => Self::HoldsPrivateKey,
            Unread::Text(fault) => Self::Text(fault),
        }
    }
}

/// The blocks of a text with certificates.
pub(super) struct Given<'a> {
    /// 1 to 20.
    pub(super) certificates: Vec<Block<'a>>,
    /// Private keys that were pasted in, and the parameters of their curves.
    pub(super) keys: Vec<Block<'a>>,
}

impl<'a> Given<'a> {
    /// Reads the PEM text of 1 to 20 certificates, at most 256 KiB. Nothing is decoded yet.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, Unread> {
        if text.trim_ascii().is_empty() {
            return Err(Unread::Missing);
        }
        if text.len() > MAX_BYTES {
            return Err(Unread::Text(TextFault::TooLarge { bytes: text.len() }));
        }
        let mut given = Self {
            certificates: Vec::new(),
            keys: Vec::new(),
        };
        for block in pem::blocks(text) {
            let block = block.map_err(|error| Unread::Text(TextFault::Pem(error)))?;
            match block.label {
                Label::Certificate if given.certificates.len() == MAX_CERTIFICATES => {
                    return Err(Unread::TooMany);
                }
                Label::Certificate => given.certificates.push(block),
                Label::TrustedCertificate => return Err(Unread::Text(TextFault::Trusted)),
                Label::Pkcs7 => return Err(Unread::Text(TextFault::Pkcs7)),
                Label::CertificateRequest => return Err(Unread::Text(TextFault::Request)),
                Label::PublicKey => return Err(Unread::Text(TextFault::PublicKey)),
                Label::EcParameters => given.keys.push(block),
                label if label.is_private_key() => given.keys.push(block),
                _ => return Err(Unread::Text(TextFault::OtherBlock)),
            }
        }
        match (given.certificates.is_empty(), given.keys.is_empty()) {
            (false, _) => Ok(given),
            (true, false) => Err(Unread::HoldsPrivateKey),
            (true, true) => Err(Unread::Text(TextFault::Pem(PemError::NoBlock))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_pair::{self, pem};
    use super::*;

    fn read(text: &[u8]) -> Result<usize, Unread> {
        Given::read(text).map(|given| given.certificates.len())
    }

    #[test]
    fn the_old_label_is_read() {
        let der = test_pair::ec().certificate.to_der().unwrap();
        assert_eq!(read(&pem("X509 CERTIFICATE", &der)), Ok(1));
    }

    #[test]
    fn nothing_is_missing_and_too_much_is_too_large() {
        for text in [&b""[..], b" \r\n\t"] {
            assert_eq!(read(text), Err(Unread::Missing));
        }
        let largest = 256 * 1024;
        assert_eq!(
            read(&vec![b'x'; largest]),
            Err(Unread::Text(TextFault::Pem(PemError::NoBlock)))
        );
        assert_eq!(
            read(&vec![b'x'; largest + 1]),
            Err(Unread::Text(TextFault::TooLarge { bytes: largest + 1 }))
        );
    }

    #[test]
    fn twenty_are_read_and_twenty_one_are_not() {
        let one = test_pair::ec().certificate_pem();
        assert_eq!(read(&one.repeat(20)), Ok(20));
        assert_eq!(read(&one.repeat(21)), Err(Unread::TooMany));
        assert_eq!(
            read(&pem("CERTIFICATE", b"x").repeat(21)),
            Err(Unread::TooMany),
            "before any parsing"
        );
    }

    #[test]
    fn every_other_block_has_its_own_answer() {
        let certificate = test_pair::ec().certificate_pem();
        for (label, error) in [
            ("TRUSTED CERTIFICATE", TextFault::Trusted),
            ("PKCS7", TextFault::Pkcs7),
            ("CERTIFICATE REQUEST", TextFault::Request),
            ("NEW CERTIFICATE REQUEST", TextFault::Request),
            ("PUBLIC KEY", TextFault::PublicKey),
            ("DH PARAMETERS", TextFault::OtherBlock),
        ] {
            let text = [certificate.clone(), pem(label, b"x")].concat();
            assert_eq!(read(&text), Err(Unread::Text(error)), "{label}");
        }
        assert_eq!(read(&test_pair::rsa().key_pem()), Err(Unread::HoldsPrivateKey));
    }

    #[test]
    fn der_is_not_pem() {
        let der = test_pair::ec().certificate.to_der().unwrap();
        assert_eq!(read(&der), Err(Unread::Text(TextFault::Pem(PemError::NoBlock))));
    }
}
