//! X.509 certificates and their private keys: parsed and checked types, and their rules. Pure: no I/O, no clock, no
//! protocol.

mod authorities;
mod ca_certificate;
mod chain;
mod client_certificate;
mod contents;
#[cfg(test)]
mod cost;
mod der_form;
mod der_reader;
mod distinguished_name;
mod factors;
mod facts;
mod file_format;
mod finding;
mod finding_code;
mod fingerprint;
mod general_name;
mod given;
mod issuing;
mod key_blocklist;
mod key_pair;
mod key_pair_format;
mod key_type;
mod leaf;
mod listing;
mod object_identifier;
mod path;
mod path_search;
mod pem;
mod policy;
mod private_key;
mod public_key;
mod published_keys;
#[cfg(test)]
mod rfc_9881;
mod rsa_scheme;
mod rules;
mod signature_algorithm;
mod spiffe_id;
mod stored_pair;
#[cfg(test)]
pub(crate) mod test_pair;
mod text;
mod text_notes;
mod unsupported_key;
mod validity;
mod verified_certificate;
mod x509;

pub use authorities::Authorities;
pub use ca_certificate::{CaCertificateError, CaError, UnverifiedCa, VerifiedCa};
pub use chain::Chain;
pub use client_certificate::{ClientCertificate, is_host_name};
pub use contents::{Contents, FoundCertificate, KeyId};
pub use distinguished_name::{is_distinguished_name, text_of_der};
pub use facts::CertificateFacts;
pub use file_format::{FileFormat, FileFormatError, FormatCause, PemFile};
pub use finding::{
    CaMark, ClientFamily, CompromisedKey, DroppedBlock, Encoding, ExponentError, Finding, FindingKind, KeyFlaw,
    KeyIdentifierPart, NameKind, SanError, SerialError, WeakHash,
};
pub use finding_code::{FindingCode, FindingCodeError, Severity};
pub use fingerprint::{Fingerprint, Sha1Fingerprint, Sha256Fingerprint};
pub use given::{CertificateError, TextError};
pub use issuing::has_issued;
pub use key_blocklist::{KeyBlocklist, KeyBlocklistError, is_compromised};
pub use key_pair::{MAX_SEARCHABLE_NAMES, PairError, Report, UnverifiedPair, VerifiedPair};
pub use key_pair_format::{EncodeError, EncodedPair, KeyPairFormat};
pub use listing::{ListedCertificate, Place};
pub use pem::PemError;
pub use policy::{Policy, PolicyError};
use private_key::Weaknesses;
pub use private_key::{MlDsaForm, PrivateKey, PrivateKeyError};
pub use public_key::{KeyAlgorithm, KeyAlgorithmError};
pub use rules::{ENVOY_VERSIONS, EXPIRES_SOON_DAYS, EnvoyVersion};
pub use spiffe_id::{SpiffeId, is_spiffe_pattern};
pub use stored_pair::{StoredPair, StoredPairError, stored_facts, stored_leaf};
pub use unsupported_key::UnsupportedKey;
pub use validity::Validity;
pub use verified_certificate::VerifiedCertificate;
pub use x509::X509Error;
