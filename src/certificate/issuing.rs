//! Finds the issuer of a certificate. Names and key identifiers give the candidates, the signature proves the issuer.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use openssl::pkey::{PKey, Public};
use openssl::x509::{X509Name, X509NameRef};
use x509_parser::extensions::{AuthorityKeyIdentifier, GeneralName, ParsedExtension};

use super::authorities::Authorities;
use super::finding::KeyIdentifierPart;
use super::public_key::{KeyAlgorithm, PublicKey, PublicKeyError};
use super::signature_algorithm::{self, Strength};
use super::unsupported_key::UnsupportedKey;
use super::x509::{Certificate, MAX_NAME_ATTRIBUTES, count_attributes, is_same_name};

/// The maximum number of signatures to verify for one request. An expensive signature counts more than once.
const MAX_SIGNATURES: u32 = 40;
/// The maximum size in bits of an RSA key that verifies signatures.
const MAX_RSA_BITS: u32 = 8192;
/// The maximum length in bytes of the exponent of an RSA key that verifies signatures. The cost grows with the length.
const MAX_RSA_EXPONENT_BYTES: usize = 8;

/// The request needs more steps than allowed: too many signatures to verify, or too many paths to compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooComplex;

/// How certkeep knows that one certificate issued another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Proof {
    /// The signature is right.
    Signature,
    /// Names, key identifiers and the type of the key fit. The signature cannot be verified.
    Names,
}

/// Whether one certificate issued another, both in DER: the names fit, and the signature is right or cannot be verified.
pub fn has_issued(issuer: &[u8], child: &[u8]) -> bool {
    let authorities = Authorities::default();
    let read = [child, issuer].map(|der| Certificate::read(der, &authorities));
    let [Ok(child), Ok(issuer)] = read else { return false };
    let both = [child, issuer];
    Issuing::among(&both, &authorities)
        .proof(0, 1)
        .is_ok_and(|proof| proof.is_some())
}

/// Verifies signatures. Verifies each signature once.
pub(super) struct Issuing<'a> {
    certificates: &'a [Certificate<'a>],
    identifiers: Vec<Identifiers<'a>>,
    authorities: &'a Authorities,
    /// The keys by the index of the issuer. `None` if OpenSSL cannot decode the key.
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
            identifiers: certificates.iter().map(Identifiers::of).collect(),
            authorities,
            keys: HashMap::new(),
            verdicts: HashMap::new(),
            left: MAX_SIGNATURES,
        }
    }

    /// How `issuer` is known to have issued `child`, if names and key identifiers fit. Both may be the same certificate.
    pub(super) fn proof(&mut self, child: usize, issuer: usize) -> Result<Option<Proof>, TooComplex> {
        let is_named = self.names(child, issuer);
        // An empty name says nothing (RFC 5280 4.1.2.4 forbids it). So the signature alone decides.
        let may_be_named = is_named || has_empty_issuer(&self.certificates[child]);
        if !may_be_named || self.contradiction(child, issuer).is_some() {
            return Ok(None);
        }
        if !self.is_verifiable(child, issuer) {
            return Ok((is_named && self.can_have_signed(child, issuer)).then_some(Proof::Names));
        }
        Ok(self.is_signed(child, issuer)?.then_some(Proof::Signature))
    }

    /// The part of the key identifiers that contradicts, if the signature proves that `issuer` issued `child` in spite of it.
    pub(super) fn contradicted_proof(
        &mut self,
        child: usize,
        issuer: usize,
    ) -> Result<Option<KeyIdentifierPart>, TooComplex> {
        if !self.names(child, issuer) || !self.is_verifiable(child, issuer) {
            return Ok(None);
        }
        match self.contradiction(child, issuer) {
            Some(part) if self.is_signed(child, issuer)? => Ok(Some(part)),
            _ => Ok(None),
        }
    }

    fn names(&self, child: usize, issuer: usize) -> bool {
        self.certificates[child].names_as_issuer(&self.certificates[issuer])
    }

    fn contradiction(&self, child: usize, issuer: usize) -> Option<KeyIdentifierPart> {
        let (identifiers, by) = (&self.identifiers, &self.certificates[issuer]);
        identifiers[child].contradiction(&identifiers[issuer], by)
    }

    /// Whether the signature can be verified. No library verifies MD2 any more. OpenSSL verifies no signature of a certificate that
    /// names two signature algorithms (RFC 5280 4.1.1.2).
    fn is_verifiable(&self, child: usize, issuer: usize) -> bool {
        let child = &self.certificates[child];
        child.signature_strength != Strength::Unverifiable
            && child.fields.signature_algorithm == child.fields.tbs_certificate.signature
            && unverified_key(&self.certificates[issuer]).is_none()
    }

    /// Whether the key of the issuer is of the type of the signature. The child may name two signature algorithms.
    fn can_have_signed(&self, child: usize, issuer: usize) -> bool {
        let child = &self.certificates[child].fields;
        let key = &self.certificates[issuer].fields.public_key().algorithm;
        [&child.tbs_certificate.signature, &child.signature_algorithm]
            .into_iter()
            .any(|signature| signature_algorithm::is_made_by(signature, key))
    }

    fn is_signed(&mut self, child: usize, issuer: usize) -> Result<bool, TooComplex> {
        let (of, by) = (&self.certificates[child], &self.certificates[issuer]);
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

fn has_empty_issuer(certificate: &Certificate<'_>) -> bool {
    certificate.fields.issuer().iter_rdn().next().is_none()
}

/// The key of an issuer whose signatures certkeep does not verify: the algorithm is not supported, or verification costs too much.
pub(super) fn unverified_key(issuer: &Certificate<'_>) -> Option<UnsupportedKey> {
    match issuer.public_key() {
        Err(PublicKeyError::Unsupported(key)) => Some(key.clone()),
        Ok(PublicKey::Rsa { exponent, .. }) if exponent.len() > MAX_RSA_EXPONENT_BYTES => {
            Some(UnsupportedKey::RsaExponent)
        }
        Ok(key @ PublicKey::Rsa { .. }) if key.size() > MAX_RSA_BITS => {
            Some(UnsupportedKey::RsaSize { bits: key.size() })
        }
        Ok(_) | Err(PublicKeyError::Malformed) => None,
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
        let identifiers = Identifiers::of(certificate);
        if !certificate.is_self_issued() || identifiers.contradiction(&identifiers, certificate).is_some() {
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

/// A key that verifies signatures, and the number of signatures for which one signature by this key counts.
struct VerifyingKey {
    key: PKey<Public>,
    price: u32,
}

impl VerifyingKey {
    fn of(certificate: &Certificate<'_>) -> Option<Self> {
        let key = certificate.public_key().ok()?;
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

/// The key identifiers of a certificate.
struct Identifiers<'a> {
    /// RFC 5280 4.2.1.1.
    authority: Option<&'a AuthorityKeyIdentifier<'a>>,
    /// RFC 5280 4.2.1.2.
    subject: Option<&'a [u8]>,
    /// The `authorityCertIssuer`, decoded by OpenSSL when it is needed. `None` if it is no name that a certificate can have.
    authority_issuer: OnceCell<Option<X509Name>>,
}

impl<'a> Identifiers<'a> {
    fn of(certificate: &'a Certificate<'_>) -> Self {
        let mut identifiers = Self {
            authority: None,
            subject: None,
            authority_issuer: OnceCell::new(),
        };
        for extension in certificate.fields.iter_extensions() {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(identifier) => identifiers.authority = Some(identifier),
                ParsedExtension::SubjectKeyIdentifier(identifier) => identifiers.subject = Some(identifier.0),
                _ => {}
            }
        }
        identifiers
    }

    /// The part of the authority key identifier that contradicts the certificate of the issuer. A part that is missing in the
    /// child or in the issuer is not compared.
    fn contradiction(&self, issuer: &Self, certificate: &Certificate<'_>) -> Option<KeyIdentifierPart> {
        let authority = self.authority?;
        if let (Some(wanted), Some(found)) = (&authority.key_identifier, issuer.subject)
            && wanted.0 != found
        {
            return Some(KeyIdentifierPart::KeyIdentifier);
        }
        let is_other_serial = authority
            .authority_cert_serial
            .is_some_and(|serial| serial != certificate.fields.raw_serial());
        if is_other_serial || !self.may_name(certificate.openssl.issuer_name()) {
            return Some(KeyIdentifierPart::IssuerAndSerial);
        }
        None
    }

    /// Whether the `authorityCertIssuer` is this name (RFC 5280 7.1), or missing.
    fn may_name(&self, issuer: &X509NameRef) -> bool {
        let names = self
            .authority
            .and_then(|authority| authority.authority_cert_issuer.as_ref());
        let name = names.into_iter().flatten().find_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name),
            _ => None,
        });
        let Some(name) = name else { return true };
        let decoded = self.authority_issuer.get_or_init(|| {
            // OpenSSL takes a microsecond for each attribute. No issuer has a longer name.
            let attributes = count_attributes(name.as_raw())?;
            (attributes <= MAX_NAME_ATTRIBUTES).then(|| X509Name::from_der(name.as_raw()).ok())?
        });
        decoded.as_ref().is_some_and(|name| is_same_name(name, issuer))
    }
}
