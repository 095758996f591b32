//! The key types that Envoy serves, by its version. `tests/integration/envoy_keys.rs` asks the real Envoy.

use super::Findings;
use crate::certificate::FindingKind;
use crate::certificate::public_key::{KeyAlgorithm, PublicKey};
use crate::certificate::x509::Certificate;

/// A version of Envoy, and the keys that it loads and serves in handshakes.
#[derive(Debug)]
pub struct EnvoyVersion {
    /// The version, without its last part.
    pub name: &'static str,
    algorithms: &'static [KeyAlgorithm],
}

/// The smallest RSA key that Envoy loads.
const MIN_RSA_BITS: u32 = 2048;

/// The versions of Envoy that certkeep is tested with.
pub const ENVOY_VERSIONS: [EnvoyVersion; 2] = [
    EnvoyVersion {
        name: "1.36",
        algorithms: &[
            KeyAlgorithm::Rsa,
            KeyAlgorithm::EcdsaP256,
            KeyAlgorithm::EcdsaP384,
            KeyAlgorithm::EcdsaP521,
            KeyAlgorithm::Ed25519,
        ],
    },
    EnvoyVersion {
        name: "1.40",
        algorithms: &[
            KeyAlgorithm::Rsa,
            KeyAlgorithm::EcdsaP256,
            KeyAlgorithm::EcdsaP384,
            KeyAlgorithm::EcdsaP521,
            KeyAlgorithm::Ed25519,
        ],
    },
];

impl EnvoyVersion {
    /// Whether this version loads keys of this algorithm and size, and serves them to clients that accept them.
    pub fn serves(&self, algorithm: KeyAlgorithm, bits: u32) -> bool {
        self.algorithms.contains(&algorithm) && (algorithm != KeyAlgorithm::Rsa || bits >= MIN_RSA_BITS)
    }
}

/// Notes the versions that do not serve the key of a server certificate.
pub(super) fn key(leaf: &Certificate<'_>, key: Option<&PublicKey>, findings: &mut Findings<'_>) {
    let Some(key) = key else { return };
    let (algorithm, bits) = (key.algorithm(), key.size());
    let versions = ENVOY_VERSIONS.iter().filter(|version| !version.serves(algorithm, bits));
    let versions: Vec<_> = versions.map(|version| version.name).collect();
    if !versions.is_empty() {
        let kind = FindingKind::KeyTypeUnsupportedByEnvoy {
            algorithm,
            bits,
            versions,
        };
        findings.note(kind, Some(leaf));
    }
}
