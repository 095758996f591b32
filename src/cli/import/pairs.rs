//! Matches certificate files with key files.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::folder::FoundFile;
use crate::app::{
    CertificateKind, Contents, Field, FieldError, FoundCertificate, KeyId, Sha256Fingerprint, Violation, has_issued,
};

/// A pair to upload, by the indexes of its files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pair {
    pub(super) certificate: usize,
    /// `None`: the key is in the same file.
    pub(super) key: Option<usize>,
    /// The certificate of the key, if there is exactly one.
    pub(super) leaf: Option<Sha256Fingerprint>,
    /// Issuers that the certificate's file lacks: the index of a file, and of a certificate in it.
    pub(super) issuers: Vec<(usize, usize)>,
    /// The number of certificates from the leaf up to the root, without the root. 0 if the leaf is not known.
    pub(super) path_len: usize,
}

impl Pair {
    /// The indexes of its files: the certificate, the issuers, the key.
    pub(super) fn files(&self) -> impl Iterator<Item = usize> {
        let issuers: BTreeSet<_> = self.issuers.iter().map(|(file, _)| *file).collect();
        [self.certificate].into_iter().chain(issuers).chain(self.key)
    }
}

/// Why a file is not uploaded.
#[derive(Debug)]
pub(super) enum Left {
    /// No key file belongs to one of its certificates.
    NoKey,
    /// No certificate file belongs to its key.
    NoCertificate,
    /// The file is broken, encrypted or unsupported.
    Unreadable(Box<Violation>),
    /// The file with this index contains the same and is uploaded.
    Duplicate(usize),
    /// The certificates of CAs that issued no certificate of the folder.
    Authority,
    /// The certificate of a CA, and its private key, if it has a file of its own.
    AuthorityPair(Option<usize>),
}

fn unreadable(field: Field, error: FieldError) -> Left {
    Left::Unreadable(Box::new(Violation { field, error }))
}

/// Groups files into pairs, and returns the remaining files. A key file may be in several pairs.
///
/// A file with certificates and a key is a complete pair. Any other certificate file is matched by its first certificate with a key
/// file: by convention, the leaf comes first. Issuers that the file lacks come from other files. If several pairs have the same leaf, such as `cert.pem` and `fullchain.pem`, the
/// pair with the most certificates is uploaded.
pub(super) fn pair_up(files: &[FoundFile]) -> (Vec<Pair>, Vec<(usize, Left)>) {
    let mut key_files: HashMap<KeyId, usize> = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        if let (false, Some(Ok(key))) = (holds_certificates(&file.contents), &file.contents.private_key) {
            key_files.entry(*key).or_insert(index);
        }
    }
    let (mut pairs, mut left) = (Vec::new(), Vec::new());
    let (mut lone_certificates, mut lone_keys) = (Vec::new(), Vec::new());
    for (
        index,
        Contents {
            certificates,
            error,
            private_key,
        },
    ) in files.iter().map(|file| &file.contents).enumerate()
    {
        match private_key {
            Some(Err(error)) => left.push((
                index,
                unreadable(Field::PrivateKey, FieldError::PrivateKey(error.clone())),
            )),
            Some(Ok(key)) if holds_certificates(&files[index].contents) => {
                pairs.push(pair(files, index, None, *key));
            }
            Some(Ok(key)) => lone_keys.push((index, *key)),
            None => {
                let key = certificates
                    .iter()
                    .filter_map(|certificate| certificate.key)
                    .find_map(|key| Some((key, *key_files.get(&key)?)));
                match (key, error) {
                    (Some((key, file)), _) => pairs.push(pair(files, index, Some(file), key)),
                    (None, Some(error)) => {
                        let field = Field::Certificate(CertificateKind::Server);
                        left.push((index, unreadable(field, FieldError::Certificate(error.clone()))));
                    }
                    (None, None) => lone_certificates.push(index),
                }
            }
        }
    }
    let (mut pairs, duplicates) = one_for_each_leaf(files, pairs);
    left.extend(duplicates);
    complete(files, &mut pairs);

    let (mut uploaded_keys, mut uploaded_certificates) = (HashMap::new(), HashMap::new());
    for pair in &pairs {
        let key_file = pair.key.unwrap_or(pair.certificate);
        if let Some(Ok(key)) = files[key_file].contents.private_key {
            uploaded_keys.entry(key).or_insert(key_file);
        }
        for certificate in &files[pair.certificate].contents.certificates {
            uploaded_certificates
                .entry(certificate.fingerprint)
                .or_insert(pair.certificate);
        }
        for (file, certificate) in &pair.issuers {
            let fingerprint = files[*file].contents.certificates[*certificate].fingerprint;
            uploaded_certificates.entry(fingerprint).or_insert(*file);
        }
    }
    let of_issuers: HashSet<_> = pairs
        .iter()
        .flat_map(|pair| pair.issuers.iter().map(|(file, _)| *file))
        .collect();
    lone_certificates.retain(|index| !of_issuers.contains(index));
    left.extend(
        lone_keys
            .into_iter()
            .filter_map(|(index, key)| match uploaded_keys.get(&key) {
                Some(file) if *file == index => None,
                Some(file) => Some((index, Left::Duplicate(*file))),
                None => Some((index, Left::NoCertificate)),
            }),
    );
    left.extend(lone_certificates.into_iter().map(|index| {
        // For example a chain file whose certificates are also in the file of the leaf.
        let mut uploaded = files[index]
            .contents
            .certificates
            .iter()
            .map(|certificate| uploaded_certificates.get(&certificate.fingerprint));
        let first = uploaded.next().flatten().copied();
        let are_authorities = files[index]
            .contents
            .certificates
            .iter()
            .all(|certificate| certificate.is_ca);
        let left = match first.filter(|_| uploaded.all(|file| file.is_some())) {
            Some(file) => Left::Duplicate(file),
            None if are_authorities => Left::Authority,
            None => Left::NoKey,
        };
        (index, left)
    }));
    let (authorities, pairs): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|pair| is_of_authority(files, pair));
    let of_authority = |pair: Pair| (pair.certificate, Left::AuthorityPair(pair.key));
    left.extend(authorities.into_iter().map(of_authority));
    (pairs, left)
}

/// The leaf of a pair, and its index in the certificate's file.
fn leaf<'a>(files: &'a [FoundFile], pair: &Pair) -> Option<(usize, &'a FoundCertificate)> {
    let leaf = pair.leaf?;
    let mut certificates = files[pair.certificate].contents.certificates.iter().enumerate();
    certificates.find(|(_, certificate)| certificate.fingerprint == leaf)
}

/// Whether the leaf is the certificate of a CA. `openssl req -x509` marks a server's own certificate as a CA's too, but that has names.
fn is_of_authority(files: &[FoundFile], pair: &Pair) -> bool {
    leaf(files, pair).is_some_and(|(_, leaf)| {
        let has_names = leaf
            .facts
            .as_ref()
            .is_some_and(|facts| !facts.subject_alternative_names.is_empty());
        leaf.is_ca && !has_names
    })
}

/// Finds the issuers of each leaf in all files.
fn complete(files: &[FoundFile], pairs: &mut [Pair]) {
    /// The service accepts at most 20 certificates.
    const MAX_CERTIFICATES: usize = 20;
    let mut by_subject: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
    let mut known = HashSet::new();
    // Files of issuers alone come first.
    let mut order: Vec<_> = (0..files.len()).collect();
    order.sort_by_key(|file| {
        !files[*file]
            .contents
            .certificates
            .iter()
            .all(|certificate| certificate.is_ca)
    });
    for file in order {
        for (place, certificate) in files[file].contents.certificates.iter().enumerate() {
            if let (true, Some(facts)) = (certificate.is_ca, &certificate.facts)
                && known.insert(certificate.fingerprint)
            {
                by_subject.entry(&facts.subject).or_default().push((file, place));
            }
        }
    }
    let at = |(file, place): (usize, usize)| &files[file].contents.certificates[place];
    for pair in pairs {
        let Some((_, mut child)) = leaf(files, pair) else {
            continue;
        };
        let own: HashSet<_> = files[pair.certificate]
            .contents
            .certificates
            .iter()
            .map(|own| own.fingerprint)
            .collect();
        let mut seen = HashSet::from([child.fingerprint]);
        pair.path_len = 1;
        while let Some(facts) = &child.facts {
            let candidates = by_subject.get(facts.issuer.as_str()).into_iter().flatten();
            let rank = |candidate: &(usize, usize)| {
                let facts = at(*candidate).facts.as_ref();
                let is_root = facts.is_some_and(|facts| facts.subject == facts.issuer);
                (
                    is_root,
                    own.contains(&at(*candidate).fingerprint),
                    facts.map(|facts| facts.not_after),
                )
            };
            let issuers = candidates
                .copied()
                .filter(|candidate| has_issued(&at(*candidate).der, &child.der));
            let Some(issuer) = issuers.max_by_key(rank) else { break };
            // Roots are not served.
            if rank(&issuer).0 || own.len() + pair.issuers.len() >= MAX_CERTIFICATES {
                break;
            }
            child = at(issuer);
            if !seen.insert(child.fingerprint) {
                break;
            }
            pair.path_len += 1;
            if !own.contains(&child.fingerprint) {
                pair.issuers.push(issuer);
            }
        }
    }
}

fn holds_certificates(contents: &Contents) -> bool {
    !contents.certificates.is_empty() || contents.error.is_some()
}

fn pair(files: &[FoundFile], certificate: usize, key: Option<usize>, id: KeyId) -> Pair {
    let mut leaves = files[certificate]
        .contents
        .certificates
        .iter()
        .filter(|certificate| certificate.key == Some(id))
        .map(|certificate| certificate.fingerprint);
    let leaf = leaves.next();
    Pair {
        certificate,
        key,
        // The server refuses two different leaves.
        leaf: leaf.filter(|leaf| leaves.all(|other| other == *leaf)),
        issuers: Vec::new(),
        path_len: 0,
    }
}

/// The best pair of each leaf, and the certificate files of the other pairs.
fn one_for_each_leaf(files: &[FoundFile], pairs: Vec<Pair>) -> (Vec<Pair>, Vec<(usize, Left)>) {
    let rank = |pair: &Pair| {
        let Contents {
            certificates, error, ..
        } = &files[pair.certificate].contents;
        (error.is_none(), certificates.len(), std::cmp::Reverse(pair.certificate))
    };
    let mut best: HashMap<Sha256Fingerprint, &Pair> = HashMap::new();
    for pair in &pairs {
        if let Some(leaf) = pair.leaf {
            let taken = best.entry(leaf).or_insert(pair);
            if rank(pair) > rank(taken) {
                *taken = pair;
            }
        }
    }
    let better_than = |pair: &Pair| {
        pair.leaf
            .and_then(|leaf| best.get(&leaf))
            .filter(|better| **better != pair)
    };
    let better: Vec<_> = pairs
        .iter()
        .map(|pair| better_than(pair).map(|better| better.certificate))
        .collect();
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    for (pair, better) in pairs.into_iter().zip(better) {
        match better {
            Some(better) => left.push((pair.certificate, Left::Duplicate(better))),
            None => taken.push(pair),
        }
    }
    (taken, left)
}
