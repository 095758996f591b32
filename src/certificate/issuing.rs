//! Which certificate issued which: guessed by names and key identifiers, proved by a signature.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use openssl::pkey::{PKey, Public};
use x509_parser::extensions::{AuthorityKeyIdentifier, GeneralName, ParsedExtension};

use super::authorities::Authorities;
use super::public_key::{KeyAlgorithm, PublicKey};
use super::signature_algorithm::Strength;
use super::x509::Certificate;

/// The most signatures that are verified for one request; of the dear ones fewer.
const MAX_SIGNATURES: u32 = 40;
/// The longest RSA key whose signatures are verified.
const MAX_RSA_BITS: u32 = 8192;
/// The longest RSA exponent whose signatures are verified, in bytes: the cost grows with its length.
const MAX_RSA_EXPONENT_BYTES: usize = 8;

/// More signatures would have to be verified than are for one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooComplex;

/// Verifies signatures, each once.
pub(super) struct Issuing<'a> {
    certificates: &'a [Certificate<'a>],
    authorities: &'a Authorities,
    /// By issuer; `None`: its signatures are not verified.
    keys: HashMap<usize, Option<VerifyingKey>>,
    /// By child and the issuer's `SubjectPublicKeyInfo`: cross-signed issuers share it.
    verdicts: HashMap<(usize, &'a [u8]), bool>,
    left: u32,
}

impl<'a> Issuing<'a> {
    pub(super) fn among(certificates: &'a [Certificate<'a>], authorities: &'a Authorities) -> Self {
        Self {
            certificates,
            authorities,
            keys: HashMap::new(),
            verdicts: HashMap::new(),
            left: MAX_SIGNATURES,
        }
    }

    /// Whether `issuer` issued `child`; both may be the same.
    pub(super) fn is_issued(&mut self, child: usize, issuer: usize) -> Result<bool, TooComplex> {
        let (of, by) = (&self.certificates[child], &self.certificates[issuer]);
        if !of.names_as_issuer(by) || !key_identifiers_allow(by, of) {
            return Ok(false);
        }
        // Nothing verifies MD2 any more: names and key identifiers are believed.
        if of.signature_strength == Strength::Unverifiable {
            return Ok(true);
        }
        let entry = match self.verdicts.entry((child, by.spki())) {
            Entry::Occupied(verdict) => return Ok(*verdict.get()),
            Entry::Vacant(entry) => entry,
        };
        let key = self.keys.entry(issuer).or_insert_with(|| VerifyingKey::of(by));
        let Some(key) = key else {
            return Ok(*entry.insert(false));
        };
        // A signature that is remembered counts like any other: what is accepted must not depend on it.
        self.left = self.left.checked_sub(key.price).ok_or(TooComplex)?;
        Ok(*entry.insert(self.authorities.signed(of, by, &key.key)))
    }
}

/// What a certificate's signature tells of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SelfSignature {
    /// It is another's, as the certificate says.
    None,
    /// It is the certificate's own.
    Right,
    /// It should be the certificate's own, and is not.
    Wrong,
    /// It should be the certificate's own, and can not be verified.
    Unproved,
}

impl SelfSignature {
    /// A certificate that names itself as its issuer is self-signed, unless its key identifiers say otherwise (RFC 5280 4.2.1.1): one
    /// that an authority's other key signed has to name that key.
    pub(super) fn of(certificate: &Certificate<'_>, authorities: &Authorities) -> Self {
        if !certificate.is_self_issued() || !key_identifiers_allow(certificate, certificate) {
            return Self::None;
        }
        // A certificate has one signature, so that a long modulus is no matter; OpenSSL takes no long exponents.
        let is_verified = match certificate.public_key() {
            Ok(PublicKey::Rsa { exponent, .. }) => exponent.len() <= MAX_RSA_EXPONENT_BYTES,
            Ok(_) => true,
            Err(_) => false,
        };
        if !is_verified || certificate.signature_strength == Strength::Unverifiable {
            return Self::Unproved;
        }
        let key = certificate.openssl.public_key();
        if key.is_ok_and(|key| authorities.signed(certificate, certificate, &key)) {
            Self::Right
        } else {
            Self::Wrong
        }
    }
}

/// The key of an issuer, and for how many signatures one of its counts.
struct VerifyingKey {
    key: PKey<Public>,
    price: u32,
}

impl VerifyingKey {
    /// The key, if it is of an accepted algorithm and cheap enough.
    fn of(certificate: &Certificate<'_>) -> Option<Self> {
        let key = certificate.public_key().ok()?;
        if let PublicKey::Rsa { exponent, .. } = key
            && (key.size() > MAX_RSA_BITS || exponent.len() > MAX_RSA_EXPONENT_BYTES)
        {
            return None;
        }
        // In thirds of a millisecond, about.
        let price = match key.algorithm() {
            KeyAlgorithm::EcdsaP521 => 5,
            KeyAlgorithm::EcdsaP384 => 2,
            KeyAlgorithm::Rsa | KeyAlgorithm::RsaPss if key.size() > MAX_RSA_BITS / 2 => 2,
            KeyAlgorithm::Rsa
            | KeyAlgorithm::RsaPss
            | KeyAlgorithm::EcdsaP256
            | KeyAlgorithm::EcdsaSecp256k1
            | KeyAlgorithm::Ed25519
            | KeyAlgorithm::Ed448
            | KeyAlgorithm::MlDsa44
            | KeyAlgorithm::MlDsa65
            | KeyAlgorithm::MlDsa87 => 1,
        };
        Some(Self {
            key: certificate.openssl.public_key().ok()?,
            price,
        })
    }
}

/// Whether the child's authority key identifier (RFC 5280 4.2.1.1) fits the issuer, as far as both say something.
fn key_identifiers_allow(issuer: &Certificate<'_>, child: &Certificate<'_>) -> bool {
    let Some(authority) = authority_key_identifier(child) else {
        return true;
    };
    if let (Some(wanted), Some(found)) = (&authority.key_identifier, subject_key_identifier(issuer))
        && wanted.0 != found
    {
        return false;
    }
    let names = authority.authority_cert_issuer.iter().flatten();
    let mut names = names.filter_map(|name| match name {
        GeneralName::DirectoryName(name) => Some(name),
        _ => None,
    });
    match (authority.authority_cert_serial, names.next()) {
        (Some(serial), Some(name)) => {
            serial == issuer.fields.raw_serial() && name.as_raw() == issuer.fields.issuer().as_raw()
        }
        _ => true,
    }
}

fn authority_key_identifier<'a>(certificate: &'a Certificate<'_>) -> Option<&'a AuthorityKeyIdentifier<'a>> {
    certificate
        .fields
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(identifier) => Some(identifier),
            _ => None,
        })
}

fn subject_key_identifier<'a>(certificate: &'a Certificate<'_>) -> Option<&'a [u8]> {
    certificate
        .fields
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0),
            _ => None,
        })
}
