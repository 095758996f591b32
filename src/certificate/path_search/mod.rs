//! Finds the best path from the leaf towards a root. The order of the certificates in the text does not matter.

mod graph;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::authorities::Authorities;
use super::finding::KeyIdentifierPart;
use super::issuing::{Proof, TooComplex};
use super::path::Path;
use super::rules::{self, Position, Refusals, TooManyNames};
use super::signature_algorithm::Strength;
use super::x509::Certificate;
use crate::clock::Timestamp;
use graph::{Link, Node};

/// The maximum number of paths to compare, each from the leaf to any certificate. If every certificate is signed by one key, there are
/// at most 1902 among 20 certificates. More paths need certificates whose signatures cannot be verified.
const MAX_PATHS: usize = 2048;

impl From<TooManyNames> for TooComplex {
    fn from(_: TooManyNames) -> Self {
        Self
    }
}

/// A path from the leaf. The fields are in the order in which paths are compared: the best path is the smallest. A longer path is
/// never better than the path that it continues.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Candidate {
    /// The number of signatures that anybody can forge.
    forgeries: usize,
    /// The number of reasons for which clients refuse the path.
    refusals: usize,
    /// The number of other signatures that certkeep does not verify.
    doubts: usize,
    /// Whether the path ends at a missing issuer.
    ends_in_the_open: bool,
    length: usize,
    /// The earliest notAfter of the issuers in milliseconds, without that of the root.
    end: Reverse<i64>,
    /// The positions of the certificates in the order of their DER. The root, if the text has it, is the last.
    places: Vec<usize>,
    /// Whether no issuer can continue the path.
    is_complete: bool,
}

/// Finds the paths from the leaf. `refusals` judges them at the time `at`. `certificates` must not contain a certificate twice.
pub(super) fn from_leaf<'a>(
    certificates: &'a [Certificate<'a>],
    leaf: usize,
    at: Timestamp,
    refusals: &mut Refusals<'a>,
    authorities: &Authorities,
) -> Result<Path, TooComplex> {
    let mut order: Vec<_> = (0..certificates.len()).collect();
    order.sort_by_key(|&index| certificates[index].der);
    let nodes = graph::issuers(certificates, &order, leaf, authorities)?;
    let mut paths = Paths::from_leaf(leaf, certificates, &nodes, &order, refusals);
    let best = paths.next()?.ok_or(TooComplex)?;

    // The certificates of the other paths, the best path first. If there are too many paths, the order of the DER decides.
    let mut rest = Vec::new();
    let reached: Vec<_> = order.iter().copied().filter(|&index| nodes[index].is_reached).collect();
    let mut append = |found: &[usize]| {
        for index in found {
            if !best.contains(index) && !rest.contains(index) {
                rest.push(*index);
            }
        }
        best.len() + rest.len() == reached.len()
    };
    while let Ok(Some(other)) = paths.next()
        && !append(&other)
    {}
    append(&reached);

    let mut path = Path {
        contradictions: contradictions(&best, &nodes),
        is_self_signed: nodes[leaf].own.is_some(),
        unrelated: (0..certificates.len())
            .filter(|&index| !nodes[index].is_reached)
            .collect(),
        main: best,
        ..Path::default()
    };
    path.root = path.main.pop_if(|last| *last != leaf && nodes[*last].own.is_some());
    let is_valid = !path.issuers().any(|index| rules::is_outside(&certificates[index], at));
    for index in rest {
        let place = match nodes[index].own {
            Some(_) => &mut path.other_roots,
            None if is_valid && rules::has_expired(&certificates[index], at) => &mut path.expired,
            None => &mut path.others,
        };
        place.push(index);
    }
    Ok(path)
}

/// The certificates of a path whose authority key identifier contradicts their issuer. A self-signed leaf is its own issuer.
fn contradictions(path: &[usize], nodes: &[Node]) -> Vec<(usize, KeyIdentifierPart)> {
    let part = |(place, &child): (usize, &usize)| {
        let Node { issuers, own, .. } = &nodes[child];
        let mut links = issuers.iter().chain(own);
        let issuer = path.get(place + 1).unwrap_or(&path[0]);
        let link = links.find(|link| link.issuer == *issuer)?;
        Some((child, link.contradiction?))
    };
    path.iter().enumerate().filter_map(part).collect()
}

/// The paths from the leaf, the best first.
struct Paths<'a, 'r> {
    certificates: &'a [Certificate<'a>],
    nodes: &'r [Node],
    /// All certificates in the order of their DER, and the place of each in this order.
    order: &'r [usize],
    places: Vec<usize>,
    refusals: &'r mut Refusals<'a>,
    candidates: BinaryHeap<Reverse<Candidate>>,
    /// The number of paths that may still be compared.
    left: usize,
}

impl<'a, 'r> Paths<'a, 'r> {
    fn from_leaf(
        leaf: usize,
        certificates: &'a [Certificate<'a>],
        nodes: &'r [Node],
        order: &'r [usize],
        refusals: &'r mut Refusals<'a>,
    ) -> Self {
        let mut places = vec![0; order.len()];
        for (place, &index) in order.iter().enumerate() {
            places[index] = place;
        }
        let start = Candidate {
            forgeries: 0,
            refusals: 0,
            doubts: 0,
            ends_in_the_open: false,
            length: 1,
            end: Reverse(i64::MAX),
            places: vec![places[leaf]],
            is_complete: false,
        };
        let mut paths = Self {
            certificates,
            nodes,
            order,
            places,
            refusals,
            candidates: BinaryHeap::new(),
            left: MAX_PATHS,
        };
        paths.add(start, &[leaf]);
        paths
    }

    /// Adds a path, and finds out whether it ends.
    fn add(&mut self, mut candidate: Candidate, path: &[usize]) {
        let is_self_signed = path.last().is_some_and(|&last| self.nodes[last].own.is_some());
        candidate.is_complete = is_self_signed || self.continuations(path).is_empty();
        candidate.ends_in_the_open = candidate.is_complete && !is_self_signed;
        self.candidates.push(Reverse(candidate));
    }

    /// The certificates of the next path. The root, if the text has it, is the last. `None` if there are no more paths, or too many.
    fn next(&mut self) -> Result<Option<Vec<usize>>, TooManyNames> {
        while let Some(Reverse(candidate)) = self.candidates.pop() {
            let path: Vec<_> = candidate.places.iter().map(|&place| self.order[place]).collect();
            if candidate.is_complete {
                return Ok(Some(path));
            }
            for link in self.continuations(&path) {
                if self.left == 0 {
                    return Ok(None);
                }
                self.left -= 1;
                let longer = self.extend(&candidate, &path, link)?;
                self.add(longer, &[&path[..], &[link.issuer]].concat());
            }
        }
        Ok(None)
    }

    /// The links that continue the path. A path needs only one certificate of each subject and key.
    fn continuations(&self, path: &[usize]) -> Vec<Link> {
        let issuers = path
            .last()
            .map(|&last| &self.nodes[last].issuers[..])
            .unwrap_or_default();
        let is_new = |link: &&Link| {
            let entity = self.nodes[link.issuer].entity;
            path.iter().all(|&index| self.nodes[index].entity != entity)
        };
        issuers.iter().filter(is_new).copied().collect()
    }

    fn extend(&mut self, candidate: &Candidate, path: &[usize], link: Link) -> Result<Candidate, TooManyNames> {
        let issuer = link.issuer;
        let is_root = self.nodes[issuer].own.is_some();
        let position = if is_root { Position::Root } else { Position::Between };
        let contradictions = usize::from(link.contradiction.is_some());
        let refusals = contradictions + self.refusals.of_issuer(path, issuer, position)?;
        // Nobody verifies the signature of a root.
        let is_forgeable = !is_root && self.is_forgeable(issuer);
        // A forgeable signature of an issuer is already counted.
        let is_doubtful = link.proof == Proof::Names && path.last().is_none_or(|&child| !self.is_forgeable(child));
        let mut longer = Candidate {
            forgeries: candidate.forgeries + usize::from(is_forgeable),
            refusals: candidate.refusals + refusals,
            doubts: candidate.doubts + usize::from(is_doubtful),
            length: candidate.length + 1,
            ..candidate.clone()
        };
        longer.places.push(self.places[issuer]);
        if !is_root {
            longer.end = longer.end.max(Reverse(self.certificates[issuer].not_after().millis()));
        }
        Ok(longer)
    }

    fn is_forgeable(&self, index: usize) -> bool {
        matches!(
            self.certificates[index].signature_strength,
            Strength::Forgeable | Strength::Unverifiable
        )
    }
}
