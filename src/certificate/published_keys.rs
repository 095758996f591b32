//! Private keys that everybody knows, because RFCs and well-known software contain them.

use std::fmt;
use std::sync::LazyLock;

use super::finding::CompromisedKey;

/// The list that `tools/published-keys` generates. The head of the list describes its format.
const LIST: &str = include_str!("published_keys.txt");

static KEYS: LazyLock<Vec<(Hash, PublishedKey)>> = LazyLock::new(|| read(LIST));

/// The sorted first bytes of the hashes of keys in the collections of badkeys. `badkeys/README.md` describes the file.
static COLLECTED: (&[[u8; 8]], &[u8]) = include_bytes!("badkeys/published_keys.bin").as_chunks();

/// SHA-256 of a `SubjectPublicKeyInfo`.
type Hash = [u8; 32];

/// The place where a private key is published. [`Display`](fmt::Display) writes the package and the file in it.
#[derive(Clone, Copy, Debug)]
struct PublishedKey {
    kind: &'static str,
    package: &'static str,
    version: &'static str,
    path: &'static str,
}

/// The place where a private key is published, if it is known. `hash` is of the `SubjectPublicKeyInfo` in the form of
/// [`PublicKey::to_spki`](super::public_key::PublicKey::to_spki).
pub(super) fn find(hash: &Hash) -> Option<CompromisedKey> {
    if let Ok(place) = KEYS.binary_search_by_key(hash, |(hash, _)| *hash) {
        return Some(CompromisedKey::Package(KEYS[place].1.to_string()));
    }
    let (start, _) = hash.split_first_chunk()?;
    COLLECTED
        .0
        .binary_search(start)
        .is_ok()
        .then_some(CompromisedKey::Collection)
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
    use crate::certificate::public_key::PublicKey;
    use crate::certificate::test_pair;
    use crate::digest;

    /// The public key of RFC 8410 10.1. RFC 8410 10.3 prints its private key.
    const RFC_8410: &str = "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

    fn of(spki: &[u8]) -> Option<CompromisedKey> {
        find(&digest::sha256(&PublicKey::from_spki(spki).unwrap().to_spki().unwrap()))
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
    fn the_collected_keys_are_whole_and_sorted() {
        let (keys, rest) = COLLECTED;
        assert_eq!((keys.len(), rest), (149_401, &[][..]));
        assert!(keys.is_sorted_by(|one, next| one < next), "each stands once");
        assert!(include_str!("badkeys/README.md").contains("149,401"));
    }

    #[test]
    fn keys_of_rfcs_are_known_and_new_ones_are_not() {
        let published = of(&hex::decode(RFC_8410).unwrap());
        assert!(
            matches!(&published, Some(CompromisedKey::Package(place)) if place.starts_with("crate ed25519 ")),
            "{published:?}"
        );
        for key in [
            PKey::generate_ed25519().unwrap(),
            test_pair::rsa_key(1024),
            test_pair::ec().key,
        ] {
            assert_eq!(of(&key.public_key_to_der().unwrap()), None);
        }
    }

    /// The start of the hash of each test key of RFC 9500: RSA of 1024, 2048 and 4096 bits, P-256, P-384 and P-521.
    #[test]
    fn the_test_keys_of_rfc_9500_are_known() {
        for start in [
            "9a9e5b0f404f4e2d",
            "8fb6bad671cfe698",
            "96465ea5dc9bb2da",
            "b2b04340cfaee616",
            "c4c10105a0be0ed4",
            "acb1b8327fef995e",
        ] {
            let start = hex::decode(start).unwrap();
            assert!(COLLECTED.0.iter().any(|key| key[..] == start));
        }
        // RFC 9500 2.3, P-256.
        let spki = "3059301306072a8648ce3d020106082a8648ce3d03010703420004422548f88fb782ffb5eca3744452c72a1e558fbd6f73be5e48e93232\
                    cc45c5b16c4cd10c4cb8d5b8a17139e94882c8992572993425f41419ab7e90a42a494272";
        assert_eq!(of(&hex::decode(spki).unwrap()), Some(CompromisedKey::Collection));
    }
}
