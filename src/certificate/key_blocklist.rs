//! Lists of compromised keys: those that certkeep knows, and those of an operator.

use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::Policy;
use super::finding::CompromisedKey;
use super::public_key::PublicKey;
use super::published_keys;
use crate::digest;

/// The length of an entry of badkeys' `blocklist.dat`: 15 bytes of a hash, and the number of a collection.
const BADKEYS_ENTRY: usize = 16;

/// A list of keys that an operator holds for compromised.
#[derive(Clone, Eq, PartialEq)]
pub struct KeyBlocklist {
    name: String,
    hashes: Hashes,
}

#[derive(Clone, Eq, PartialEq)]
enum Hashes {
    /// SHA-256 of a `SubjectPublicKeyInfo`, sorted.
    Spki(Vec<[u8; 32]>),
    /// The entries of badkeys' `blocklist.dat`, sorted.
    Badkeys(Vec<[u8; BADKEYS_ENTRY]>),
}

/// Why a file is no list.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyBlocklistError {
    /// A line of a text is neither a hash nor a comment.
    #[error("line {line} is not a SHA-256 of a SubjectPublicKeyInfo: 64 hexadecimal digits")]
    Line {
        /// The number of the line, from 1.
        line: usize,
    },
    /// Binary data are not entries of badkeys' format.
    #[error(
        "the file is neither text with one SHA-256 a line, nor blocklist.dat of badkeys: sorted entries of 16 bytes"
    )]
    Binary,
    /// The list names no key. It may be a file that is not written yet.
    #[error("the file lists no key")]
    Empty,
}

impl KeyBlocklist {
    /// Reads a list with this name. It has one of two formats:
    /// - text: one SHA-256 of a DER `SubjectPublicKeyInfo` a line, as 64 hexadecimal digits. The rest of the line is a comment, and so is a line
    ///   that begins with `#`.
    /// - badkeys' `blocklist.dat` (github.com/badkeys/badkeys, `docs/BLOCKLISTFORMAT.md`).
    ///
    /// In memory, a list takes 32 or 16 bytes for each key.
    pub fn read(name: String, bytes: &[u8]) -> Result<Self, KeyBlocklistError> {
        let hashes = match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Hashes::Spki(spki_hashes(text)?),
            _ => Hashes::Badkeys(badkeys_entries(bytes)?),
        };
        let list = Self { name, hashes };
        if list.keys() == 0 {
            return Err(KeyBlocklistError::Empty);
        }
        Ok(list)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of keys.
    pub fn keys(&self) -> usize {
        match &self.hashes {
            Hashes::Spki(hashes) => hashes.len(),
            Hashes::Badkeys(entries) => entries.len(),
        }
    }

    fn find(&self, key: &PublicKey, spki_sha256: &[u8; 32]) -> Option<CompromisedKey> {
        let collection = match &self.hashes {
            Hashes::Spki(hashes) => {
                hashes.binary_search(spki_sha256).ok()?;
                None
            }
            Hashes::Badkeys(entries) => {
                let hash = badkeys_hash(key);
                let place = entries.partition_point(|entry| entry[..BADKEYS_ENTRY - 1] < hash[..BADKEYS_ENTRY - 1]);
                let (collection, found) = entries.get(place)?.split_last()?;
                if !hash.starts_with(found) {
                    return None;
                }
                Some(*collection)
            }
        };
        let list = self.name.clone();
        Some(CompromisedKey::Blocklist { list, collection })
    }
}

impl fmt::Debug for KeyBlocklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBlocklist({}, {} keys)", self.name, self.keys())
    }
}

/// The list that contains a public key.
pub(super) fn find(key: &PublicKey, lists: &[KeyBlocklist]) -> Option<CompromisedKey> {
    let spki_sha256 = digest::sha256(&key.to_spki()?);
    published_keys::find(&spki_sha256).or_else(|| lists.iter().find_map(|list| list.find(key, &spki_sha256)))
}

/// Whether the key of a certificate in DER is compromised: published, or on a list of the policy. A certificate that cannot be read is not.
pub fn is_compromised(certificate: &[u8], policy: &Policy) -> bool {
    let key = X509Certificate::from_der(certificate)
        .ok()
        .and_then(|(_, certificate)| PublicKey::from_spki(certificate.tbs_certificate.subject_pki.raw).ok());
    key.is_some_and(|key| find(&key, policy.blocklists()).is_some())
}

fn spki_hashes(text: &str) -> Result<Vec<[u8; 32]>, KeyBlocklistError> {
    let mut hashes = Vec::new();
    for (place, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let words = line.split('#').next().unwrap_or_default();
        let hash = words.split_whitespace().next().unwrap_or_default();
        if hash.is_empty() {
            continue;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(hash, &mut bytes).map_err(|_| KeyBlocklistError::Line { line: place + 1 })?;
        hashes.push(bytes);
    }
    hashes.sort_unstable();
    hashes.dedup();
    hashes.shrink_to_fit();
    Ok(hashes)
}

fn badkeys_entries(bytes: &[u8]) -> Result<Vec<[u8; BADKEYS_ENTRY]>, KeyBlocklistError> {
    let (entries, rest) = bytes.as_chunks::<BADKEYS_ENTRY>();
    if !rest.is_empty() || !entries.is_sorted() {
        return Err(KeyBlocklistError::Binary);
    }
    Ok(entries.to_vec())
}

/// The hash by which badkeys knows a key (github.com/badkeys/badkeys, `docs/BLOCKLISTFORMAT.md`, `BKHASH`). The numbers have no leading
/// zeros.
fn badkeys_hash(key: &PublicKey) -> [u8; 32] {
    let without_zeros = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        digest::sha256(&number[zeros..])
    };
    match key {
        PublicKey::Rsa { modulus, .. } => without_zeros(modulus),
        // 4, x, y.
        PublicKey::Ec { point, .. } => without_zeros(&point[1..=point.len() / 2]),
        PublicKey::Edwards { bytes, .. } => without_zeros(bytes),
        PublicKey::MlDsa { bytes, .. } => digest::sha256(bytes),
    }
}

#[cfg(test)]
mod tests {
    use openssl::bn::BigNumContext;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;

    use super::*;
    use crate::certificate::key_type::MlDsa;
    use crate::certificate::test_pair::{self, ec_key, ml_dsa_key, rsa_key};

    fn read(bytes: &[u8]) -> Result<KeyBlocklist, KeyBlocklistError> {
        KeyBlocklist::read("list".to_owned(), bytes)
    }

    fn public(key: &PKey<openssl::pkey::Private>) -> PublicKey {
        PublicKey::from_spki(&key.public_key_to_der().unwrap()).unwrap()
    }

    fn listed(collection: Option<u8>) -> Option<CompromisedKey> {
        let list = "list".to_owned();
        Some(CompromisedKey::Blocklist { list, collection })
    }

    #[test]
    fn a_text_lists_hashes_of_public_keys() {
        let keys = [test_pair::ec().key, rsa_key(1024), test_pair::ed25519().key];
        let hashes = keys
            .each_ref()
            .map(|key| hex::encode(digest::sha256(&key.public_key_to_der().unwrap())));
        let text = format!(
            "\u{feff}# a comment\n\n{}\r\n  {}   # why\n{}  -",
            hashes[0],
            hashes[1].to_uppercase(),
            hashes[0]
        );
        let lists = [read(text.as_bytes()).unwrap()];
        assert_eq!(find(&public(&keys[0]), &lists), listed(None));
        assert_eq!(find(&public(&keys[1]), &lists), listed(None));
        assert_eq!(find(&public(&keys[2]), &lists), None);
        assert_eq!(find(&public(&keys[0]), &[]), None);
        // The encoding of the key does not matter.
        let pss = PublicKey::from_spki(&test_pair::rsa_pss_spki(&keys[1], &[])).unwrap();
        assert_eq!(find(&pss, &lists), listed(None));
        assert_eq!(format!("{lists:?}"), "[KeyBlocklist(list, 2 keys)]");
    }

    #[test]
    fn a_list_of_badkeys_has_hashes_of_numbers() {
        let keys = [
            rsa_key(1024),
            ec_key(Nid::X9_62_PRIME256V1),
            ec_key(Nid::SECP521R1),
            test_pair::ed25519().key,
            PKey::generate_ed448().unwrap(),
            ml_dsa_key(MlDsa::MlDsa44).0,
        ];
        let value = |key: &PKey<openssl::pkey::Private>| match (key.rsa(), key.ec_key()) {
            (Ok(rsa), _) => rsa.n().to_vec(),
            (_, Ok(ec)) => {
                let (mut x, mut y) = (openssl::bn::BigNum::new().unwrap(), openssl::bn::BigNum::new().unwrap());
                let mut context = BigNumContext::new().unwrap();
                let point = ec.public_key();
                point
                    .affine_coordinates(ec.group(), &mut x, &mut y, &mut context)
                    .unwrap();
                x.to_vec()
            }
            _ => {
                let raw = key.raw_public_key().unwrap();
                // A number has no leading zeros, but ML-DSA keys are bytes.
                let number = openssl::bn::BigNum::from_slice(&raw).unwrap().to_vec();
                if raw.len() > 1000 { raw } else { number }
            }
        };
        let mut entries: Vec<_> = keys
            .iter()
            .zip(1..)
            .map(|(key, collection)| {
                let mut entry = [collection; BADKEYS_ENTRY];
                entry[..15].copy_from_slice(&digest::sha256(&value(key))[..15]);
                entry
            })
            .collect();
        entries.sort_unstable();
        let lists = [read(&entries.concat()).unwrap()];
        for (key, collection) in keys.iter().zip(1..) {
            assert_eq!(find(&public(key), &lists), listed(Some(collection)));
            assert_eq!(
                find(&public(key), &[read(&entries[1..].concat()).unwrap()]).is_none(),
                entries[0][15] == collection
            );
        }
        assert_eq!(find(&public(&test_pair::ec().key), &lists), None);
    }

    #[test]
    fn other_files_are_refused() {
        let hash = "ab".repeat(32);
        for (text, line) in [
            ("hello".to_owned(), 1),
            (format!("{hash}\n{}", &hash[1..]), 2),
            (format!("# {hash}\n\n{hash}ab"), 3),
            ("-----BEGIN PUBLIC KEY-----".to_owned(), 1),
        ] {
            assert_eq!(read(text.as_bytes()), Err(KeyBlocklistError::Line { line }), "{text}");
        }
        for empty in [&b""[..], b"# none yet\n", b"\xef\xbb\xbf \n\n"] {
            assert_eq!(read(empty), Err(KeyBlocklistError::Empty));
        }
        for binary in [&[0xff; 15][..], &[[0xff; 16], [0xfe; 16]].concat(), &[0; 17]] {
            assert_eq!(read(binary), Err(KeyBlocklistError::Binary));
        }
    }
}
