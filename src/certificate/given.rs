//! Finds the certificates in a PEM text.

use super::der_form::DerForm;
use super::finding::DroppedBlock;
use super::pem::{self, Block, Label, PemError};
use super::text;
use super::text_notes::TextNotes;
use super::unsupported_key::UnsupportedKey;
use super::x509::X509Error;

/// The longest text, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// The maximum number of certificates in one text.
const MAX_CERTIFICATES: usize = 20;

/// Why a text of certificates cannot be used: the part that server and CA certificates share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TextError {
    /// The text is longer than 256 KiB.
    TooLarge {
        /// The length of the text in bytes.
        bytes: usize,
    },
    /// The text is not PEM.
    Pem(PemError),
    /// The text contains a certificate with OpenSSL's trust settings.
    Trusted,
    /// The text contains a PKCS #7 bundle.
    Pkcs7,
    /// The text contains a PKCS #12 key store.
    Pkcs12,
    /// The text contains a certificate signing request.
    Request,
    /// The text contains a bare public key and no certificate.
    PublicKey,
    /// The text contains a block of another kind.
    OtherBlock,
}

/// The error of a server certificate and its chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateError {
    /// The text is empty.
    Missing,
    /// There are more than 20 certificates.
    TooMany,
    /// The text cannot be used.
    Text(TextError),
    /// The text contains a private key and no certificate.
    HoldsPrivateKey,
    /// The text contains a private key that differs from the private key that was given separately.
    OtherPrivateKey,
    /// A certificate cannot be read.
    Malformed {
        /// Which certificate, counted from 1.
        index: usize,
        /// The error of this certificate.
        error: X509Error,
    },
    /// certkeep does not support the leaf's key.
    UnsupportedKey(UnsupportedKey),
    /// The text contains two server certificates and their private keys.
    TwoPairs,
    /// Two different certificates belong to the private key.
    LeafAmbiguous {
        /// Which certificate, counted from 1.
        first: usize,
        /// Which other certificate.
        second: usize,
    },
    /// A certificate is on no path from the leaf to a root.
    Unrelated {
        /// Which certificate, counted from 1.
        index: usize,
        /// Its subject (RFC 4514), cut at 64 characters.
        subject: String,
        /// Whether it has the name of the issuer that is missing. Then it is for another key.
        has_name_of_issuer: bool,
    },
    /// Too many of the certificates may have issued each other, or they have too many names and name constraints.
    TooComplex,
}

/// Why a text contains no certificates to read. Server and CA certificates each have their own error for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unread {
    /// The text is empty.
    Missing,
    /// There are more than 20 certificates.
    TooMany,
    /// The text contains a private key and no certificate.
    HoldsPrivateKey,
    /// The text cannot be used.
    Text(TextError),
}

impl From<Unread> for CertificateError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Missing => Self::Missing,
            Unread::TooMany => Self::TooMany,
            Unread::HoldsPrivateKey => Self::HoldsPrivateKey,
            Unread::Text(error) => Self::Text(error),
        }
    }
}

/// The PEM blocks of a text with certificates.
pub(super) struct Given<'a> {
    /// 1 to 20 certificates.
    pub(super) certificates: Vec<Block<'a>>,
    /// Private keys in the same text, and the parameters of their curves.
    pub(super) keys: Vec<Block<'a>>,
    /// Wrong labels, and the blocks that are left out.
    pub(super) notes: TextNotes,
}

impl<'a> Given<'a> {
    /// Splits a plain text of 1 to 20 certificates and at most 256 KiB. Decodes nothing yet.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, Unread> {
        if text.trim_ascii().is_empty() {
            return Err(Unread::Missing);
        }
        if text.len() > MAX_BYTES {
            return Err(Unread::Text(TextError::TooLarge { bytes: text.len() }));
        }
        let mut given = Self {
            certificates: Vec::new(),
            keys: Vec::new(),
            notes: TextNotes::default(),
        };
        for block in pem::blocks(text) {
            let block = block.map_err(|error| Unread::Text(TextError::Pem(error)))?;
            if given.notes.see(&block) {
                continue;
            }
            match block.label {
                Label::Certificate if given.certificates.len() == MAX_CERTIFICATES => {
                    return Err(Unread::TooMany);
                }
                Label::Certificate => given.certificates.push(block),
                Label::TrustedCertificate => return Err(Unread::Text(TextError::Trusted)),
                Label::Pkcs7 => return Err(Unread::Text(TextError::Pkcs7)),
                Label::Pkcs12 => return Err(Unread::Text(TextError::Pkcs12)),
                Label::CertificateRequest => return Err(Unread::Text(TextError::Request)),
                Label::EcParameters => given.keys.push(block),
                label if label.is_private_key() => given.keys.push(block),
                _ => return Err(Unread::Text(TextError::OtherBlock)),
            }
        }
        let holds_key = given.keys.iter().any(|block| block.label.is_private_key());
        if !holds_key && !given.keys.is_empty() {
            given.keys.clear();
            given.notes.drop(DroppedBlock::EcParameters);
        }
        match (given.certificates.is_empty(), holds_key, given.notes.first_dropped()) {
            (false, ..) => Ok(given),
            (true, true, _) => Err(Unread::HoldsPrivateKey),
            (true, false, Some(DroppedBlock::PublicKey)) => Err(Unread::Text(TextError::PublicKey)),
            (true, false, Some(_)) => Err(Unread::Text(TextError::OtherBlock)),
            (true, false, None) => Err(Unread::Text(without_block(text))),
        }
    }
}

/// The error of a text without a block. It may be the base64 of another format.
fn without_block(text: &[u8]) -> TextError {
    match text::decode_base64(text).and_then(|octets| DerForm::of(&octets)) {
        Some(DerForm::Pkcs7) => TextError::Pkcs7,
        Some(DerForm::Pkcs12) => TextError::Pkcs12,
        _ => TextError::Pem(PemError::NoBlock),
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
            Err(Unread::Text(TextError::Pem(PemError::NoBlock)))
        );
        assert_eq!(
            read(&vec![b'x'; largest + 1]),
            Err(Unread::Text(TextError::TooLarge { bytes: largest + 1 }))
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
            ("TRUSTED CERTIFICATE", TextError::Trusted),
            ("PKCS7", TextError::Pkcs7),
            ("CERTIFICATE REQUEST", TextError::Request),
            ("NEW CERTIFICATE REQUEST", TextError::Request),
            ("PKCS12", TextError::Pkcs12),
            ("A", TextError::OtherBlock),
        ] {
            let text = [certificate.clone(), pem(label, b"x")].concat();
            assert_eq!(read(&text), Err(Unread::Text(error)), "{label}");
        }
        assert_eq!(read(&test_pair::rsa().key_pem()), Err(Unread::HoldsPrivateKey));
    }

    #[test]
    fn a_block_that_is_neither_a_secret_nor_a_certificate_is_left_out() {
        let certificate = test_pair::ec().certificate_pem();
        for (label, kind, alone) in [
            ("PUBLIC KEY", DroppedBlock::PublicKey, TextError::PublicKey),
            ("DH PARAMETERS", DroppedBlock::DhParameters, TextError::OtherBlock),
            ("X9.42 DH PARAMETERS", DroppedBlock::DhParameters, TextError::OtherBlock),
            ("X509 CRL", DroppedBlock::Crl, TextError::OtherBlock),
            ("DSA PARAMETERS", DroppedBlock::DsaParameters, TextError::OtherBlock),
            ("EC PARAMETERS", DroppedBlock::EcParameters, TextError::OtherBlock),
        ] {
            let block = pem(label, b"x");
            for text in [[&certificate[..], &block].concat(), [&block[..], &certificate].concat()] {
                let given = Given::read(&text).map_err(|_| label).unwrap();
                assert_eq!((given.certificates.len(), given.keys.len()), (1, 0));
                assert_eq!(given.notes.first_dropped(), Some(kind));
            }
            assert_eq!(read(&block), Err(Unread::Text(alone)), "{label}");
        }
    }

    #[test]
    fn base64_of_another_format_is_named() {
        use base64::Engine;
        let pkcs12 = [&hex::decode("3082100002010330820f").unwrap()[..], &[7; 60]].concat();
        let pkcs7 = [&hex::decode("3082100006092a864886f70d010702a0").unwrap()[..], &[7; 60]].concat();
        for (octets, error) in [
            (pkcs12, TextError::Pkcs12),
            (pkcs7, TextError::Pkcs7),
            (vec![7; 60], TextError::Pem(PemError::NoBlock)),
        ] {
            let text = base64::prelude::BASE64_STANDARD.encode(octets);
            assert_eq!(read(text.as_bytes()), Err(Unread::Text(error)));
        }
    }

    #[test]
    fn der_is_not_pem() {
        let der = test_pair::ec().certificate.to_der().unwrap();
        assert_eq!(read(&der), Err(Unread::Text(TextError::Pem(PemError::NoBlock))));
    }
}
