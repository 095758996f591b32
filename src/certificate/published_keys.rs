//! Private keys that everybody knows, because RFCs and well-known software contain them.

use std::fmt;
use std::sync::LazyLock;

use super::public_key::PublicKey;
use crate::digest;

/// The list that `tools/published-keys` generates. The head of the list describes its format.
const LIST: &str = include_str!("published_keys.txt");

static KEYS: LazyLock<Vec<(Hash, PublishedKey)>> = LazyLock::new(|| read(LIST));

/// SHA-256 of a `SubjectPublicKeyInfo`.
type Hash = [u8; 32];

/// The place where a private key is published. [`Display`](fmt::Display) writes the package and the file in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PublishedKey {
    kind: &'static str,
    package: &'static str,
    version: &'static str,
    path: &'static str,
}

impl PublishedKey {
    /// The place where the private key of this public key is published, if the list contains the key.
    pub(super) fn of(key: &PublicKey) -> Option<Self> {
        let hash = digest::sha256(&key.to_spki()?);
        let place = KEYS.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
        Some(KEYS[place].1)
    }
}

impl fmt::Display for PublishedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            package,
            version,
            path,
        } = self;
        write!(f, "{kind} {package} {version}, {path}")
    }
}

/// The keys of a list, in the order of the list. A test checks that every line of the built-in list is read.
fn read(list: &'static str) -> Vec<(Hash, PublishedKey)> {
    let mut sources = Vec::new();
    let mut keys = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<_> = line.splitn(6, ' ').collect();
        if let ["source", _, kind, package, version, _] = words[..] {
            sources.push((kind, package, version));
        } else {
            keys.extend(key(line, &sources));
        }
    }
    keys
}

fn key(line: &'static str, sources: &[(&'static str, &'static str, &'static str)]) -> Option<(Hash, PublishedKey)> {
    let (hash, rest) = line.split_once(' ')?;
    let (source, path) = rest.split_once(' ')?;
    let mut bytes = Hash::default();
    hex::decode_to_slice(hash, &mut bytes).ok()?;
    let &(kind, package, version) = sources.get(source.parse::<usize>().ok()?)?;
    let key = PublishedKey {
        kind,
        package,
        version,
        path,
    };
    Some((bytes, key))
}

#[cfg(test)]
mod tests {
    use openssl::pkey::PKey;

    use super::*;
    use crate::certificate::test_pair;

    /// The public key of RFC 8410 10.1. RFC 8410 10.3 prints its private key.
    const RFC_8410: &str = "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

    fn of(spki: &[u8]) -> Option<PublishedKey> {
        PublishedKey::of(&PublicKey::from_spki(spki).unwrap())
    }

    #[test]
    fn the_list_is_read_whole_and_sorted() {
        let lines = LIST.lines().filter(|line| !line.starts_with('#'));
        let (sources, keys): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("source "));
        assert_eq!(keys.len(), KEYS.len());
        assert!(KEYS.is_sorted_by(|(one, _), (next, _)| one < next), "each stands once");
        for (place, source) in sources.iter().enumerate() {
            let words: Vec<_> = source.split(' ').collect();
            assert_eq!(words[1], place.to_string());
            let has_keys = KEYS
                .iter()
                .any(|(_, key)| [key.kind, key.package, key.version] == words[2..5]);
            assert!(has_keys, "{source}");
        }
        assert!(KEYS.iter().all(|(_, key)| !key.path.is_empty()));
        assert!(LIST.len() < 150_000, "{}", LIST.len());
    }

    #[test]
    fn keys_of_rfcs_are_known_and_new_ones_are_not() {
        let published = of(&hex::decode(RFC_8410).unwrap()).unwrap().to_string();
        assert!(published.starts_with("crate ed25519 "), "{published}");
        for key in [
            PKey::generate_ed25519().unwrap(),
            test_pair::rsa_key(1024),
            test_pair::ec().key,
        ] {
            assert_eq!(of(&key.public_key_to_der().unwrap()), None);
        }
    }
}
