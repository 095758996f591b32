//! Matches certificate files with key files.

use std::collections::HashMap;

use super::folder::FoundFile;
use crate::app::{CertificateKind, Contents, Field, FieldError, KeyId, Sha256Fingerprint, Violation};

/// A pair to upload, by the indexes of its files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pair {
    pub(super) certificate: usize,
    /// `None`: the key is in the same file.
    pub(super) key: Option<usize>,
    /// The certificate of the key, if there is exactly one.
    pub(super) leaf: Option<Sha256Fingerprint>,
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
}

fn unreadable(field: Field, error: FieldError) -> Left {
    Left::Unreadable(Box::new(Violation { field, error }))
}

/// Groups files into pairs, and returns the remaining files. A key file may be in several pairs.
///
/// A file with certificates and a key is a complete pair. Any other certificate file is matched by its first certificate with a key
/// file: by convention, the leaf comes first. If several pairs have the same leaf, such as `cert.pem` and `fullchain.pem`, the
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
    let (pairs, duplicates) = one_for_each_leaf(files, pairs);
    left.extend(duplicates);

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
    }
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
        let left = match first.filter(|_| uploaded.all(|file| file.is_some())) {
            Some(file) => Left::Duplicate(file),
            None => Left::NoKey,
        };
        (index, left)
    }));
    (pairs, left)
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
    let mut best: HashMap<Sha256Fingerprint, Pair> = HashMap::new();
    for pair in &pairs {
        if let Some(leaf) = pair.leaf {
            let taken = best.entry(leaf).or_insert(*pair);
            if rank(pair) > rank(taken) {
                *taken = *pair;
            }
        }
    }
    let mut left = Vec::new();
    let taken = pairs.into_iter().filter(|pair| {
        let better = pair
            .leaf
            .and_then(|leaf| best.get(&leaf))
            .filter(|better| *better != pair);
        left.extend(better.map(|better| (pair.certificate, Left::Duplicate(better.certificate))));
        better.is_none()
    });
    (taken.collect(), left)
}
