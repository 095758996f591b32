//! Finds the issuer of a certificate. Names and key identifiers give the candidates, the signature proves the issuer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use openssl::pkey::{PKey, Public};
use x509_parser::extensions::{AuthorityKeyIdentifier, GeneralName, ParsedExtension};

use super::authorities::Authorities;
use super::public_key::{KeyAlgorithm, PublicKey};
use super::signature_algorithm::Strength;
use super::x509::Certificate;

/// The maximum number of signatures to verify for one request. An expensive signature counts more than once.
const MAX_SIGNATURES: u32 = 40;
/// The maximum size in bits of an RSA key that verifies signatures.
const MAX_RSA_BITS: u32 = 8192;
/// The maximum length in bytes of the exponent of an RSA key that verifies signatures. The cost grows with the length.
const MAX_RSA_EXPONENT_BYTES: usize = 8;

/// The request needs more signatures to be verified than `MAX_SIGNATURES`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooComplex;

/// Verifies signatures. Verifies each signature once.
pub(super) struct Issuing<'a> {
    certificates: &'a [Certificate<'a>],
    authorities: &'a Authorities,
    /// The keys by the index of the issuer. `None` if signatures by this key are not verified.
    keys: HashMap<usize, Option<VerifyingKey>>,
    /// The results by the index of the child and the issuer's `SubjectPublicKeyInfo`. Cross-signed issuers have the
    /// same `SubjectPublicKeyInfo`.
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

    /// Whether `issuer` issued `child`. Both may be the same certificate.
    pub(super) fn is_issued(&mut self, child: usize, issuer: usize) -> Result<bool, TooComplex> {
        let (of, by) = (&self.certificates[child], &self.certificates[issuer]);
        if !of.names_as_issuer(by) || !key_identifiers_allow(by, of) {
            return Ok(false);
        }
        // No library verifies MD2 any more. So names and key identifiers are trusted.
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
        // A cached signature counts like any other signature, because the cache must not change which certificates are
        // accepted.
        self.left = self.left.checked_sub(key.price).ok_or(TooComplex)?;
        Ok(*entry.insert(self.authorities.signed(of, by, &key.key)))
    }
}

/// Whether a certificate is signed by its own key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SelfSignature {
    /// The certificate names another certificate or key as its issuer.
    None,
    /// The certificate is signed by its own key.
    Right,
    /// The certificate names itself as its issuer, but its own key did not sign it.
    Wrong,
    /// The certificate names itself as its issuer, but the signature cannot be verified.
    Unproved,
}

impl SelfSignature {
    /// A certificate that names itself as its issuer is self-signed, unless its key identifiers say otherwise (RFC 5280
    /// 4.2.1.1). If another key of the same CA signed the certificate, the certificate must name that key.
    pub(super) fn of(certificate: &Certificate<'_>, authorities: &Authorities) -> Self {
        if !certificate.is_self_issued() || !key_identifiers_allow(certificate, certificate) {
            return Self::None;
        }
        // A certificate has only one signature, so a long modulus is acceptable. OpenSSL refuses long exponents.
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

/// The key of an issuer, and the number of signatures for which one signature by this key counts.
struct VerifyingKey {
    key: PKey<Public>,
    price: u32,
}

impl VerifyingKey {
    /// The key of the certificate, if its algorithm is accepted and verification is cheap enough.
    fn of(certificate: &Certificate<'_>) -> Option<Self> {
        let key = certificate.public_key().ok()?;
        if let PublicKey::Rsa { exponent, .. } = key
            && (key.size() > MAX_RSA_BITS || exponent.len() > MAX_RSA_EXPONENT_BYTES)
        {
            return None;
        }
        // One unit is about a third of a millisecond.
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

/// Whether the authority key identifier of the child (RFC 5280 4.2.1.1) matches the issuer. A part that is missing in
/// the child or in the issuer is not compared.
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
