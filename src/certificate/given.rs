//! The certificates of a text, as they were given.

use super::pem::{self, Block, Label, PemError};
use super::unsupported_key::{SUPPORTED_KEYS, UnsupportedKey};
use super::x509::CertificateFault;

/// The longest text, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// The most certificates of one text.
const MAX_CERTIFICATES: usize = 20;

/// Why the text of the certificates is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// There is no text.
    #[error("server_certificate is empty: give the certificate and its chain as PEM text")]
    Missing,
    /// The text is longer than 256 KiB.
    #[error("server_certificate has {bytes} bytes: give at most 262144")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// There are more than 20 certificates.
    #[error(
        "server_certificate holds more than 20 certificates: give the server's own and those that lead to its root"
    )]
    TooMany,
    /// The text is not PEM, or broken PEM.
    #[error("server_certificate {0}")]
    Pem(PemError),
    /// The text is a private key.
    #[error("server_certificate holds a private key, not a certificate: are the two fields swapped?")]
    HoldsPrivateKey,
    /// The text has a private key beside the certificates, which is not the one of `private_key`.
    #[error(
        "server_certificate holds another private key than private_key: leave only the one that belongs to the certificate"
    )]
    OtherPrivateKey,
    /// The text has a certificate with OpenSSL's trust settings.
    #[error("server_certificate holds a TRUSTED CERTIFICATE, which only OpenSSL reads: convert it with openssl x509")]
    Trusted,
    /// The text has a PKCS #7 bundle.
    #[error("server_certificate holds a PKCS #7 bundle: convert it with openssl pkcs7 -print_certs")]
    Pkcs7,
    /// The text has a certificate signing request.
    #[error("server_certificate holds a certificate request: give the certificate that the authority issued for it")]
    Request,
    /// The text has a bare public key.
    #[error("server_certificate holds a bare public key: give the certificate that contains it")]
    PublicKey,
    /// The text has a block of another kind.
    #[error("server_certificate holds a block that is not a certificate: leave only CERTIFICATE blocks")]
    OtherBlock,
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

/// The blocks of a text with certificates.
pub(super) struct Given<'a> {
    /// 1 to 20.
    pub(super) certificates: Vec<Block<'a>>,
    /// Private keys that were pasted in, and the parameters of their curves.
    pub(super) keys: Vec<Block<'a>>,
}

impl<'a> Given<'a> {
    /// Reads the PEM text of 1 to 20 certificates, at most 256 KiB. Nothing is decoded yet.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, CertificateError> {
        if text.trim_ascii().is_empty() {
            return Err(CertificateError::Missing);
        }
        if text.len() > MAX_BYTES {
            return Err(CertificateError::TooLarge { bytes: text.len() });
        }
        let mut given = Self {
            certificates: Vec::new(),
            keys: Vec::new(),
        };
        for block in pem::blocks(text) {
            let block = block.map_err(CertificateError::Pem)?;
            match block.label {
                Label::Certificate if given.certificates.len() == MAX_CERTIFICATES => {
                    return Err(CertificateError::TooMany);
                }
                Label::Certificate => given.certificates.push(block),
                Label::TrustedCertificate => return Err(CertificateError::Trusted),
                Label::Pkcs7 => return Err(CertificateError::Pkcs7),
                Label::CertificateRequest => return Err(CertificateError::Request),
                Label::PublicKey => return Err(CertificateError::PublicKey),
                Label::EcParameters => given.keys.push(block),
                label if label.is_private_key() => given.keys.push(block),
                _ => return Err(CertificateError::OtherBlock),
            }
        }
        match (given.certificates.is_empty(), given.keys.is_empty()) {
            (false, _) => Ok(given),
            (true, false) => Err(CertificateError::HoldsPrivateKey),
            (true, true) => Err(CertificateError::Pem(PemError::NoBlock)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_pair::{self, pem};
    use super::*;

    fn read(text: &[u8]) -> Result<usize, CertificateError> {
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
            assert_eq!(read(text), Err(CertificateError::Missing));
        }
        let largest = 256 * 1024;
        assert_eq!(
            read(&vec![b'x'; largest]),
            Err(CertificateError::Pem(PemError::NoBlock))
        );
        assert_eq!(
            read(&vec![b'x'; largest + 1]),
            Err(CertificateError::TooLarge { bytes: largest + 1 })
        );
    }

    #[test]
    fn twenty_are_read_and_twenty_one_are_not() {
        let one = test_pair::ec().certificate_pem();
        assert_eq!(read(&one.repeat(20)), Ok(20));
        assert_eq!(read(&one.repeat(21)), Err(CertificateError::TooMany));
        assert_eq!(
            read(&pem("CERTIFICATE", b"x").repeat(21)),
            Err(CertificateError::TooMany),
            "before any parsing"
        );
    }

    #[test]
    fn every_other_block_has_its_own_answer() {
        let certificate = test_pair::ec().certificate_pem();
        for (label, error) in [
            ("TRUSTED CERTIFICATE", CertificateError::Trusted),
            ("PKCS7", CertificateError::Pkcs7),
            ("CERTIFICATE REQUEST", CertificateError::Request),
            ("NEW CERTIFICATE REQUEST", CertificateError::Request),
            ("PUBLIC KEY", CertificateError::PublicKey),
            ("DH PARAMETERS", CertificateError::OtherBlock),
        ] {
            let text = [certificate.clone(), pem(label, b"x")].concat();
            assert_eq!(read(&text), Err(error), "{label}");
        }
        assert_eq!(
            read(&test_pair::rsa().key_pem()),
            Err(CertificateError::HoldsPrivateKey)
        );
    }

    #[test]
    fn der_is_not_pem() {
        let der = test_pair::ec().certificate.to_der().unwrap();
        assert_eq!(read(&der), Err(CertificateError::Pem(PemError::NoBlock)));
    }
}
