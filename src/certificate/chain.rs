//! The certificates of a server: the leaf, and those that lead from it to a root.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use openssl::x509::X509;
use pkcs8::der::asn1::AnyRef;
use pkcs8::der::{Decode, ErrorKind, Tag, Tagged};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::pem::{self, Label, PemError};
use super::unsupported_key::{SUPPORTED_KEYS, UnsupportedKey};

/// The longest text, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// The most certificates of one chain.
const MAX_CERTIFICATES: usize = 20;
/// The bytes that fill the 64 characters of a line (RFC 7468 2).
const PEM_LINE_BYTES: usize = 48;

/// The DER encodings of 1 to 20 certificates, in the order in which they are served: the leaf first.
#[derive(Clone, Eq, PartialEq)]
pub struct Chain(Vec<Vec<u8>>);

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
    /// The text has a private key beside the certificates.
    #[error("server_certificate holds a private key beside the certificate: move it to private_key")]
    PrivateKeyBeside,
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
}

/// What is wrong with one certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateFault {
    /// It is not one DER SEQUENCE.
    #[error("is not encoded in DER")]
    NotDer,
    /// More bytes follow its SEQUENCE.
    #[error("has bytes after its end")]
    TrailingBytes,
    /// It does not have the structure of RFC 5280 4.1.
    #[error("is not an X.509 certificate")]
    Unreadable,
    /// It has an extension twice, which RFC 5280 4.2 forbids.
    #[error("has an extension twice")]
    DuplicateExtension,
    /// Its public key is not encoded as its algorithm asks, or not on its curve.
    #[error("has a broken public key")]
    PublicKey,
}

impl Chain {
    /// Reads the PEM text of 1 to 20 certificates, at most 256 KiB. They are kept in the order given, of which the first is
    /// taken to be the leaf.
    pub(super) fn parse(text: &[u8]) -> Result<Self, CertificateError> {
        if text.trim_ascii().is_empty() {
            return Err(CertificateError::Missing);
        }
        if text.len() > MAX_BYTES {
            return Err(CertificateError::TooLarge { bytes: text.len() });
        }
        let blocks = certificate_blocks(text)?;
        let mut certificates = Vec::with_capacity(blocks.len());
        for (i, block) in blocks.iter().enumerate() {
            let mut der = block.decode().map_err(CertificateError::Pem)?;
            check(&der).map_err(|what| CertificateError::Malformed { index: i + 1, what })?;
            certificates.push(std::mem::take(&mut *der));
        }
        Ok(Self(certificates))
    }

    /// The chain that the store holds: it was checked before it was stored.
    pub fn from_stored(certificates: Vec<Vec<u8>>) -> Self {
        Self(certificates)
    }

    /// The DER encodings, the leaf first.
    pub fn der(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// How many certificates there are.
    #[expect(clippy::len_without_is_empty, reason = "a chain has at least its leaf")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The certificates as PEM text in the strict form of RFC 7468 3, one block after the other.
    pub fn to_pem(&self) -> String {
        let mut text = String::new();
        for der in self.der() {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            for line in der.chunks(PEM_LINE_BYTES) {
                BASE64_STANDARD.encode_string(line, &mut text);
                text.push('\n');
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} certificates)", self.len())
    }
}

/// The CERTIFICATE blocks of a text that has no other.
fn certificate_blocks(text: &[u8]) -> Result<Vec<pem::Block<'_>>, CertificateError> {
    let mut certificates = Vec::new();
    let mut private_key = false;
    for block in pem::blocks(text) {
        let block = block.map_err(CertificateError::Pem)?;
        match block.label {
            Label::Certificate if certificates.len() == MAX_CERTIFICATES => return Err(CertificateError::TooMany),
            Label::Certificate => certificates.push(block),
            Label::TrustedCertificate => return Err(CertificateError::Trusted),
            Label::Pkcs7 => return Err(CertificateError::Pkcs7),
            Label::CertificateRequest => return Err(CertificateError::Request),
            Label::PublicKey => return Err(CertificateError::PublicKey),
            Label::EcParameters => private_key = true,
            label if label.is_private_key() => private_key = true,
            _ => return Err(CertificateError::OtherBlock),
        }
    }
    match (certificates.is_empty(), private_key) {
        (false, false) => Ok(certificates),
        (true, true) => Err(CertificateError::HoldsPrivateKey),
        (false, true) => Err(CertificateError::PrivateKeyBeside),
        (true, false) => Err(CertificateError::Pem(PemError::NoBlock)),
    }
}

/// Whether bytes are one certificate. The framing is checked here, since OpenSSL accepts bytes after the SEQUENCE.
fn check(der: &[u8]) -> Result<(), CertificateFault> {
    match AnyRef::from_der(der) {
        Ok(outer) if outer.tag() == Tag::Sequence => {}
        Err(error) if matches!(error.kind(), ErrorKind::TrailingData { .. }) => {
            return Err(CertificateFault::TrailingBytes);
        }
        Ok(_) | Err(_) => return Err(CertificateFault::NotDer),
    }
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateFault::Unreadable)?;
    if !rest.is_empty() {
        return Err(CertificateFault::TrailingBytes);
    }
    certificate
        .extensions_map()
        .map_err(|_| CertificateFault::DuplicateExtension)?;
    X509::from_der(der).map_err(|_| CertificateFault::Unreadable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use openssl::x509::X509Extension;

    use super::super::test_pair::{self, der, pem};
    use super::*;

    fn parse(text: &[u8]) -> Result<usize, CertificateError> {
        Chain::parse(text).map(|chain| chain.len())
    }

    fn malformed(index: usize, what: CertificateFault) -> Result<usize, CertificateError> {
        Err(CertificateError::Malformed { index, what })
    }

    #[test]
    fn certificates_keep_their_order() {
        let (first, second) = (test_pair::ec(), test_pair::ed25519());
        let text = [second.certificate_pem(), b"text\r\n".to_vec(), first.certificate_pem()].concat();
        let chain = Chain::parse(&text).unwrap();
        let der: Vec<_> = [&second, &first].map(|pair| pair.certificate.to_der().unwrap()).into();
        assert_eq!(chain.der().collect::<Vec<_>>(), der);
        assert_eq!(
            chain.to_pem().as_bytes(),
            [second.certificate_pem(), first.certificate_pem()].concat(),
            "written as OpenSSL does"
        );
    }

    #[test]
    fn the_old_label_is_read() {
        let der = test_pair::ec().certificate.to_der().unwrap();
        assert_eq!(parse(&pem("X509 CERTIFICATE", &der)), Ok(1));
    }

    #[test]
    fn nothing_is_missing_and_too_much_is_too_large() {
        for text in [&b""[..], b" \r\n\t"] {
            assert_eq!(parse(text), Err(CertificateError::Missing));
        }
        let largest = 256 * 1024;
        assert_eq!(
            parse(&vec![b'x'; largest]),
            Err(CertificateError::Pem(PemError::NoBlock))
        );
        assert_eq!(
            parse(&vec![b'x'; largest + 1]),
            Err(CertificateError::TooLarge { bytes: largest + 1 })
        );
    }

    #[test]
    fn twenty_are_read_and_twenty_one_are_not() {
        let one = test_pair::ec().certificate_pem();
        assert_eq!(parse(&one.repeat(20)), Ok(20));
        assert_eq!(parse(&one.repeat(21)), Err(CertificateError::TooMany));
        assert_eq!(
            parse(&pem("CERTIFICATE", b"x").repeat(21)),
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
            ("PRIVATE KEY", CertificateError::PrivateKeyBeside),
            ("ENCRYPTED PRIVATE KEY", CertificateError::PrivateKeyBeside),
            ("EC PARAMETERS", CertificateError::PrivateKeyBeside),
        ] {
            let text = [certificate.clone(), pem(label, b"x")].concat();
            assert_eq!(parse(&text), Err(error), "{label}");
        }
        assert_eq!(
            parse(&test_pair::rsa().key_pem()),
            Err(CertificateError::HoldsPrivateKey)
        );
    }

    #[test]
    fn der_is_not_pem() {
        let der = test_pair::ec().certificate.to_der().unwrap();
        assert_eq!(parse(&der), Err(CertificateError::Pem(PemError::NoBlock)));
    }

    #[test]
    fn a_broken_certificate_is_named_by_its_place() {
        let good = test_pair::ec().certificate;
        let good_der = good.to_der().unwrap();
        let content = &good_der[4..];
        let longer_length = [&[0x30, 0x83, 0], &good_der[2..]].concat();
        let indefinite = [&[0x30, 0x80], content, &[0, 0]].concat();
        for (bad, what) in [
            (vec![], CertificateFault::NotDer),
            (good_der[..good_der.len() - 1].to_vec(), CertificateFault::NotDer),
            (longer_length, CertificateFault::NotDer),
            (indefinite, CertificateFault::NotDer),
            (der(0x31, content), CertificateFault::NotDer),
            ([&good_der[..], &[0]].concat(), CertificateFault::TrailingBytes),
            (der(0x30, &[content, &[5, 0]].concat()), CertificateFault::Unreadable),
            (der(0x30, &[5, 0]), CertificateFault::Unreadable),
        ] {
            let text = [good.to_pem().unwrap(), pem("CERTIFICATE", &bad)].concat();
            assert_eq!(parse(&text), malformed(2, what), "{}", hex::encode(bad));
        }
    }

    #[test]
    fn an_extension_must_not_stand_twice() {
        let key = test_pair::ec().key;
        let mut builder = test_pair::builder(&key);
        for name in ["a.example", "b.example"] {
            let san = der(0x30, &der(0x82, name.as_bytes()));
            let oid = openssl::asn1::Asn1Object::from_str("2.5.29.17").unwrap();
            let san = openssl::asn1::Asn1OctetString::new_from_bytes(&san).unwrap();
            builder
                .append_extension(X509Extension::new_from_der(&oid, false, &san).unwrap())
                .unwrap();
        }
        let text = test_pair::sign(builder, &key).to_pem().unwrap();
        assert_eq!(parse(&text), malformed(1, CertificateFault::DuplicateExtension));
    }
}
