//! Certificates: parsed, checked types and the rules about them. Pure: no I/O, no clock.

mod account_id;
mod alibaba_regions;
mod chain;
#[cfg(test)]
mod cost;
mod distinguished_name;
mod facts;
mod fingerprint;
mod general_name;
mod id;
mod key_pair;
mod key_type;
mod leaf;
mod name;
mod object_identifier;
mod pem;
mod private_key;
mod public_key;
mod region;
mod rsa_scheme;
mod signature_algorithm;
mod tag;
#[cfg(test)]
mod test_pair;
mod unsupported_key;

pub use account_id::{AccountId, AccountIdError};
pub use chain::{CertificateError, CertificateFault, Chain};
pub use facts::CertificateFacts;
pub use fingerprint::{Fingerprint, Sha1Fingerprint, Sha256Fingerprint};
pub use id::{ServerCertificateId, ServerCertificateIdError};
pub use key_pair::{PairError, UnverifiedPair, VerifiedPair};
pub use name::{NameError, ServerCertificateName};
pub use pem::PemError;
pub use private_key::{PrivateKey, PrivateKeyError};
pub use public_key::{KeyAlgorithm, KeyAlgorithmError};
pub use region::{Language, LanguageError, Region, RegionError, RegionId, Regions};
pub use tag::{Tag, TagError, TagFault, Tags};
pub use unsupported_key::UnsupportedKey;
