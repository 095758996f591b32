//! Which certificates issued each other.

use std::collections::VecDeque;

use crate::certificate::authorities::Authorities;
use crate::certificate::finding::KeyIdentifierPart;
use crate::certificate::issuing::{Issuing, Proof, TooComplex};
use crate::certificate::x509::{Certificate, is_same_name};

/// A certificate and its issuers.
#[derive(Default)]
pub(super) struct Node {
    /// The certificates of issuers. Empty if the certificate is self-signed: every path ends there.
    pub(super) issuers: Vec<Link>,
    /// The link of a self-signed certificate to itself.
    pub(super) own: Option<Link>,
    /// The first certificate in the order with the same subject and key.
    pub(super) entity: usize,
    /// Whether a path leads from the leaf to this certificate.
    pub(super) is_reached: bool,
}

/// A certificate was issued by another.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) issuer: usize,
    pub(super) proof: Proof,
    /// The signature is right, but the authority key identifier says otherwise.
    pub(super) contradiction: Option<KeyIdentifierPart>,
}

impl Node {
    fn of(certificate: &Certificate<'_>, all: &[Certificate<'_>], order: &[usize]) -> Self {
        let is_same = |&&other: &&usize| {
            all[other].spki() == certificate.spki()
                && is_same_name(all[other].openssl.subject_name(), certificate.openssl.subject_name())
        };
        Self {
            // The certificate itself is in the order.
            entity: order.iter().find(is_same).copied().unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl Link {
    fn of(issuer: usize, proof: Proof) -> Self {
        Self {
            issuer,
            proof,
            contradiction: None,
        }
    }
}

/// Finds the issuers of every certificate on a path from the leaf. `order` lists all certificates. It decides which signatures are
/// verified first.
///
/// An authority key identifier that names another issuer costs no signature, unless no other issuer is found. Such issuers are found last,
/// as long as signatures are left.
pub(super) fn issuers(
    certificates: &[Certificate<'_>],
    order: &[usize],
    leaf: usize,
    authorities: &Authorities,
) -> Result<Vec<Node>, TooComplex> {
    let mut search = Search {
        issuing: Issuing::among(certificates, authorities),
        certificates,
        order,
        leaf,
        nodes: certificates
            .iter()
            .map(|certificate| Node::of(certificate, certificates, order))
            .collect(),
        reached: VecDeque::new(),
    };
    search.reach(leaf);
    let mut expanded = VecDeque::new();
    let mut is_exhausted = false;
    loop {
        if let Some(child) = search.reached.pop_front() {
            search.find_issuers(child)?;
            expanded.push_back(child);
        } else if let Some(child) = expanded.pop_front() {
            if search.find_contradicted_issuers(child).is_err() {
                expanded.clear();
                is_exhausted = true;
            }
        } else {
            break;
        }
    }
    search.reach_again();
    // Without the signatures that are left, certkeep does not know whether the other certificates belong to the paths.
    if is_exhausted && !search.nodes.iter().all(|node| node.is_reached) {
        return Err(TooComplex);
    }
    Ok(search.nodes)
}

struct Search<'a> {
    issuing: Issuing<'a>,
    certificates: &'a [Certificate<'a>],
    order: &'a [usize],
    leaf: usize,
    nodes: Vec<Node>,
    reached: VecDeque<usize>,
}

impl Search<'_> {
    fn reach(&mut self, index: usize) {
        if !self.nodes[index].is_reached {
            self.nodes[index].is_reached = true;
            self.reached.push_back(index);
        }
    }

    fn find_issuers(&mut self, child: usize) -> Result<(), TooComplex> {
        // A self-signed certificate is its own issuer.
        let own = self.issuing.proof(child, child)?.map(|proof| Link::of(child, proof));
        if own.is_some_and(|own| own.proof == Proof::Signature) {
            self.nodes[child].own = own;
            return Ok(());
        }
        let mut links = Vec::new();
        for &issuer in self.order {
            if issuer != self.leaf
                && issuer != child
                && let Some(proof) = self.issuing.proof(child, issuer)?
            {
                links.push(Link::of(issuer, proof));
            }
        }
        // A name proves nothing if another key signed.
        if links.iter().any(|link| link.proof == Proof::Signature) {
            links.retain(|link| link.proof == Proof::Signature);
        } else if own.is_some() {
            self.nodes[child].own = own;
            return Ok(());
        }
        for link in links {
            self.add(child, link);
        }
        Ok(())
    }

    fn find_contradicted_issuers(&mut self, child: usize) -> Result<(), TooComplex> {
        if self.nodes[child].own.is_some() {
            return Ok(());
        }
        for &issuer in self.order {
            if (issuer == self.leaf && issuer != child) || self.is_signed_by_another_key(child, issuer) {
                continue;
            }
            let Some(part) = self.issuing.contradicted_proof(child, issuer)? else {
                continue;
            };
            let link = Link {
                contradiction: Some(part),
                ..Link::of(issuer, Proof::Signature)
            };
            if issuer == child {
                self.nodes[child].issuers.clear();
                self.nodes[child].own = Some(link);
                return Ok(());
            }
            // A name proves nothing if another key signed.
            let issuers = &mut self.nodes[child].issuers;
            issuers.retain(|link| link.proof == Proof::Signature);
            self.add(child, link);
        }
        Ok(())
    }

    /// Finds out again what is reached, because links may be gone.
    fn reach_again(&mut self) {
        for node in &mut self.nodes {
            node.is_reached = false;
        }
        self.reach(self.leaf);
        while let Some(child) = self.reached.pop_front() {
            for link in self.nodes[child].issuers.clone() {
                self.reach(link.issuer);
            }
        }
    }

    /// Whether the key that signed is known, and is not the key of this issuer. Then no signature needs to be verified.
    fn is_signed_by_another_key(&self, child: usize, issuer: usize) -> bool {
        let proved = self.nodes[child]
            .issuers
            .iter()
            .filter(|link| link.proof == Proof::Signature);
        let mut keys = proved.map(|link| self.certificates[link.issuer].spki()).peekable();
        keys.peek().is_some() && !keys.any(|key| key == self.certificates[issuer].spki())
    }

    fn add(&mut self, child: usize, link: Link) {
        self.nodes[child].issuers.push(link);
        self.reach(link.issuer);
    }
}
