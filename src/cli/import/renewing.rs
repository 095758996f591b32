//! Which pairs of a folder are new, and which stored certificates they renew.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::folder::FoundFile;
use super::pairs::Pair;
use crate::app::{CertificateFacts, Sha256Fingerprint, comparable_names};
use crate::grpc::{self, pb};

/// A certificate in the region.
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) etag: String,
    /// SHA-256 of the leaf.
    fingerprint: String,
    /// Empty unless the import renews.
    names: BTreeSet<String>,
    expiry: i64,
    key_type: pb::KeyAlgorithm,
    chain_length: i32,
}

impl Stored {
    pub(super) fn of(certificate: pb::ServerCertificate, is_renewing: bool) -> Self {
        let names = match is_renewing {
            true => comparable_names(&certificate.subject_alternative_names, &certificate.common_name),
            false => BTreeSet::new(),
        };
        Self {
            names,
            expiry: certificate.expire_time_stamp,
            key_type: certificate.key_algorithm(),
            chain_length: certificate.chain_length,
            id: certificate.server_certificate_id,
            name: certificate.server_certificate_name,
            etag: certificate.etag,
            fingerprint: certificate.fingerprint_sha256,
        }
    }
}

/// The certificate to renew.
pub(super) struct Target {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) etag: String,
}

/// A call that renews certificates with the same old leaf.
pub(super) struct Renewal {
    pub(super) target: Target,
    /// The ids and names of the other certificates in the region.
    pub(super) others: Vec<(String, String)>,
    /// The length of the present chain, if only the chain is new. Nothing is renewed unless it gets longer.
    pub(super) chain_length: Option<i32>,
}

impl Renewal {
    fn of(target: &Stored, others: &[&Stored], chain_length: Option<i32>) -> Self {
        let target = Target {
            id: target.id.clone(),
            name: target.name.clone(),
            etag: target.etag.clone(),
        };
        let others = others.iter().map(|other| (other.id.clone(), other.name.clone()));
        Self {
            target,
            others: others.collect(),
            chain_length,
        }
    }
}

/// The steps of the import for a pair. A pair has several steps if it renews certificates with different leaves.
pub(super) enum Step<'a> {
    Upload,
    Renew(Renewal),
    AlreadyThere(&'a Stored),
    /// This file or certificate has the same names and the same key type, and expires later.
    Older(String),
}

/// A pair of the folder with its leaf.
struct Candidate<'a> {
    /// The index of the pair.
    pair: usize,
    fingerprint: String,
    expiry: i64,
    key_type: pb::KeyAlgorithm,
    /// The path of its certificate file.
    file: &'a FoundFile,
}

/// The pairs of the folder and the stored certificates with the same names.
#[derive(Default)]
struct Namesakes<'a> {
    candidates: Vec<Candidate<'a>>,
    stored: Vec<&'a Stored>,
}

/// The steps for each pair, at least one.
pub(super) fn steps<'a>(
    files: &[FoundFile],
    pairs: Vec<Pair>,
    stored: &'a [Stored],
    is_renewing: bool,
) -> Vec<(Pair, Step<'a>)> {
    let mut by_leaf: HashMap<&str, Vec<&Stored>> = HashMap::new();
    for one in stored {
        by_leaf.entry(&one.fingerprint).or_default().push(one);
    }
    let mut renewing: HashMap<usize, Vec<Step<'_>>> = HashMap::new();
    if is_renewing {
        for namesakes in namesakes(files, &pairs, stored) {
            namesakes.add_steps(&mut renewing);
        }
    }
    let mut steps = Vec::with_capacity(pairs.len());
    for (index, pair) in pairs.into_iter().enumerate() {
        let of_renewal = renewing.remove(&index).unwrap_or_default();
        let existing = pair.leaf.and_then(|leaf| by_leaf.get(leaf.to_string().as_str()));
        let is_longer = |stored: &&&Stored| (stored.chain_length as i64) < pair.path_len as i64;
        let is_older = of_renewal.iter().any(|step| matches!(step, Step::Older(_)));
        match existing {
            Some(stored) if !is_older => {
                let short: Vec<_> = stored.iter().filter(is_longer).copied().collect();
                match short.is_empty() {
                    true => steps.extend(stored.last().map(|stored| (pair.clone(), Step::AlreadyThere(stored)))),
                    false => steps.extend(short.into_iter().map(|short| {
                        let renewal = Renewal::of(short, &[], Some(short.chain_length));
                        (pair.clone(), Step::Renew(renewal))
                    })),
                }
            }
            None if of_renewal.is_empty() => steps.push((pair.clone(), Step::Upload)),
            Some(_) | None => {}
        }
        steps.extend(of_renewal.into_iter().map(|step| (pair.clone(), step)));
    }
    steps
}

fn namesakes<'a>(
    files: &'a [FoundFile],
    pairs: &[Pair],
    stored: &'a [Stored],
) -> impl Iterator<Item = Namesakes<'a>> + use<'a> {
    let mut all: HashMap<BTreeSet<String>, Namesakes<'_>> = HashMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        let file = &files[pair.certificate];
        let Some((leaf, facts)) = leaf(file, pair) else {
            continue;
        };
        let names = comparable_names(&facts.subject_alternative_names, &facts.common_name);
        all.entry(names).or_default().candidates.push(Candidate {
            pair: index,
            fingerprint: leaf.to_string(),
            expiry: facts.not_after.millis(),
            key_type: grpc::key_algorithm(facts.key_algorithm),
            file,
        });
    }
    // A certificate without names renews nothing.
    all.remove(&BTreeSet::new());
    for one in stored {
        if let Some(namesakes) = all.get_mut(&one.names) {
            namesakes.stored.push(one);
        }
    }
    all.into_values()
}

fn leaf<'a>(file: &'a FoundFile, pair: &Pair) -> Option<(Sha256Fingerprint, &'a CertificateFacts)> {
    let leaf = pair.leaf?;
    let mut certificates = file.contents.certificates.iter();
    let found = certificates.find(|certificate| certificate.fingerprint == leaf)?;
    Some((leaf, found.facts.as_ref()?))
}

impl Namesakes<'_> {
    /// Adds the steps of the pairs that are older, or that renew certificates.
    fn add_steps(&self, steps: &mut HashMap<usize, Vec<Step<'_>>>) {
        let newest_like = |one: &Candidate<'_>| {
            let alike = self.candidates.iter().filter(|other| other.key_type == one.key_type);
            alike
                .max_by_key(|other| other.expiry)
                .filter(|other| other.expiry > one.expiry)
        };
        let mut newest = Vec::new();
        for one in &self.candidates {
            match newest_like(one) {
                Some(newer) => {
                    let newer = newer.file.path.display().to_string();
                    steps.insert(one.pair, vec![Step::Older(newer)]);
                }
                None => newest.push(one),
            }
        }
        let mut renewals: HashMap<(usize, &str), Vec<&Stored>> = HashMap::new();
        for stored in &self.stored {
            // A site may have a certificate of each key type, so the type stays if possible.
            let renews = |one: &&&Candidate<'_>| {
                stored.expiry < one.expiry
                    && (stored.key_type == one.key_type
                        || self.stored.iter().all(|other| other.key_type != one.key_type))
            };
            let rank = |one: &&&Candidate<'_>| (stored.key_type == one.key_type, one.expiry, Reverse(one.pair));
            if let Some(new) = newest.iter().filter(renews).max_by_key(rank) {
                let group = renewals.entry((new.pair, stored.fingerprint.as_str()));
                group.or_default().push(stored);
            }
        }
        for ((pair, _), group) in renewals {
            let [first, others @ ..] = &group[..] else { continue };
            let renewal = Renewal::of(first, others, None);
            steps.entry(pair).or_default().push(Step::Renew(renewal));
        }
        for one in newest {
            let newer = self
                .stored
                .iter()
                .find(|stored| stored.key_type == one.key_type && stored.expiry > one.expiry);
            let is_stored = self.stored.iter().any(|stored| stored.fingerprint == one.fingerprint);
            if let (Some(newer), false) = (newer, is_stored || steps.contains_key(&one.pair)) {
                steps.insert(one.pair, vec![Step::Older(newer.id.clone())]);
            }
        }
    }
}
