//! Certificates: parsed, checked types and the rules about them. Pure: no I/O, no clock.

mod account_id;
mod alibaba_regions;
mod authorities;
mod ca_certificate;
mod chain;
mod contents;
#[cfg(test)]
mod cost;
mod criteria;
mod distinguished_name;
mod domain;
mod facts;
mod finding;
mod fingerprint;
mod general_name;
mod given;
mod id;
mod issuing;
mod key_pair;
mod key_type;
mod kind;
mod leaf;
mod listing;
mod name;
mod object_identifier;
mod path;
mod pem;
mod policy;
mod private_key;
mod public_key;
mod published_keys;
mod region;
mod resource_group;
#[cfg(test)]
mod rfc_9881;
mod rsa_scheme;
mod rules;
mod signature_algorithm;
mod tag;
#[cfg(test)]
mod test_pair;
mod unsupported_key;
mod x509;

pub use account_id::{AccountId, AccountIdError};
pub use authorities::Authorities;
pub use ca_certificate::{CaCertificateError, CaError, UnverifiedCa, VerifiedCa};
pub use chain::Chain;
pub use contents::{Contents, FoundCertificate, KeyId};
pub use criteria::{
    Criteria, CriterionError, ExpiryWindow, SoughtFingerprint, SoughtKeyType, SoughtSerial, parse_issuer,
    parse_name_prefix, parse_spki_sha256,
};
pub use domain::{DomainError, DomainMatch, SoughtDomain};
pub use facts::CertificateFacts;
pub use finding::{Finding, FindingCode, FindingCodeError, Severity};
pub use fingerprint::{Fingerprint, Sha1Fingerprint, Sha256Fingerprint};
pub use given::{CertificateError, TextFault};
pub use id::{CertificateId, CertificateIdError};
pub use key_pair::{PairError, Report, UnverifiedPair, VerifiedPair};
pub use kind::CertificateKind;
pub use listing::{ListedCertificate, Place};
pub use name::{CertificateName, NameError};
pub use pem::PemError;
pub use policy::{Policy, PolicyError};
pub use private_key::{PrivateKey, PrivateKeyError};
pub use public_key::{KeyAlgorithm, KeyAlgorithmError};
pub use region::{Language, LanguageError, Region, RegionError, RegionId, Regions};
pub use resource_group::ResourceGroupId;
pub use rules::EXPIRES_SOON_DAYS;
pub use tag::{Tag, TagError, TagFault, Tags};
pub use unsupported_key::UnsupportedKey;
pub use x509::CertificateFault;
