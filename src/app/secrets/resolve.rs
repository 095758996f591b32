//! Finds the certificates that the name of a secret means now.

use std::cmp::Reverse;

use super::name::SecretName;
use crate::app::{App, Call, Error};
use crate::clock::Timestamp;
use crate::digest;
use crate::inventory::{
    CertificateId, CertificateKind, CertificateName, Criteria, SoughtDomain, Tags, searchable_names,
};
use crate::store::{Filter, Liveness, Order, Position, StoredCertificate};

/// The certificates that are read at once.
const PAGE: usize = 1000;
/// The most pages that are read for one name.
const MAX_PAGES: usize = 10;

/// The certificates that a name stands for.
#[derive(Debug)]
pub(super) enum Resolved {
    /// A server certificate with its private key.
    KeyPair(Box<StoredCertificate>),
    /// CA certificates, ordered by id. At least one.
    Authorities(Vec<StoredCertificate>),
}

impl Resolved {
    /// The certificates.
    pub(super) fn members(&self) -> &[StoredCertificate] {
        match self {
            Self::KeyPair(certificate) => std::slice::from_ref(certificate.as_ref()),
            Self::Authorities(certificates) => certificates,
        }
    }

    /// The version of the secret. It is the same on every replica and every stream, and a rename does not change it.
    pub(super) fn version(&self) -> String {
        match self.members() {
            [only] => version_of(only.id, only.version),
            members => {
                let texts: Vec<_> = members.iter().map(|one| version_of(one.id, one.version)).collect();
                hex::encode(digest::sha256(texts.join("\n").as_bytes()))
            }
        }
    }
}

/// The version of a secret that is one certificate.
pub(super) fn version_of(id: CertificateId, version: i64) -> String {
    format!("{id}/{version}")
}

/// The outcome of a look-up.
#[derive(Debug)]
pub(super) enum Resolution {
    /// The certificates, and the moment from which on the name can mean another certificate without any change.
    Found(Resolved, Option<Timestamp>),
    /// There is none.
    Unknown,
    /// Several server certificates have the name, and none covers it as a host name.
    Ambiguous,
}

impl App {
    /// Finds the certificates that the name stands for, for this caller.
    pub(super) async fn resolve_secret(
        &self,
        call: &Call,
        name: &SecretName,
        now: Timestamp,
    ) -> Result<Resolution, Error> {
        match name {
            SecretName::Id(id) => self.secret_by_id(call, *id).await,
            SecretName::Authorities(name) => self.authorities_by_name(call, name).await,
            SecretName::Server { name, host } => {
                let mut is_ambiguous = false;
                if let Some(name) = name {
                    let mut named = self.up_to_two_by_name(call, name).await?;
                    is_ambiguous = named.len() > 1;
                    if let (Some(only), false) = (named.pop(), is_ambiguous) {
                        return Ok(Resolution::Found(Resolved::KeyPair(Box::new(only)), None));
                    }
                }
                if let Some(host) = host {
                    let covering = self.certificates_of_host(call, host).await?;
                    if let Some((best, until)) = best_of(covering, host, now) {
                        return Ok(Resolution::Found(Resolved::KeyPair(Box::new(best)), until));
                    }
                }
                Ok(match is_ambiguous {
                    true => Resolution::Ambiguous,
                    false => Resolution::Unknown,
                })
            }
        }
    }

    /// The certificate with this id, if it is live and exists for the caller.
    pub(super) async fn secret_by_id(&self, call: &Call, id: CertificateId) -> Result<Resolution, Error> {
        if id.account != call.caller.account {
            return Ok(Resolution::Unknown);
        }
        for kind in CertificateKind::ALL {
            let found = self.0.store.find(id, kind, None, Liveness::Live).await?;
            if let Some(found) = found.filter(|found| call.reaches(found)) {
                let resolved = match kind {
                    CertificateKind::Server => Resolved::KeyPair(Box::new(found)),
                    CertificateKind::Ca => Resolved::Authorities(vec![found]),
                };
                return Ok(Resolution::Found(resolved, None));
            }
        }
        Ok(Resolution::Unknown)
    }

    async fn authorities_by_name(&self, call: &Call, name: &CertificateName) -> Result<Resolution, Error> {
        let filter = Filter {
            kind: CertificateKind::Ca,
            region: None,
            resource_group: None,
            tags: &Tags::default(),
            liveness: Liveness::Live,
        };
        let mut found = Vec::new();
        let mut after = Position::START;
        loop {
            let page = self.0.store.page(call.reach(), filter, after, PAGE).await?;
            found.extend(page.certificates.into_iter().filter(|one| one.name == *name));
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        found.sort_by_key(|certificate| certificate.id);
        Ok(match found.is_empty() {
            true => Resolution::Unknown,
            false => Resolution::Found(Resolved::Authorities(found), None),
        })
    }

    /// The first two live server certificates with the name. In the order of names, they are the first ones that begin with it.
    async fn up_to_two_by_name(&self, call: &Call, name: &CertificateName) -> Result<Vec<StoredCertificate>, Error> {
        let criteria = Criteria {
            name_prefix: Some(name.as_str().to_owned()),
            ..Criteria::default()
        };
        let mut named = Vec::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let page = self
                .0
                .store
                .search(call.reach(), &criteria, Order::Name, after, 2)
                .await?;
            let is_over = page.certificates.iter().any(|one| one.name != *name);
            named.extend(page.certificates.into_iter().filter(|one| one.name == *name));
            after = page.next;
            if named.len() > 1 || is_over || after.is_none() {
                break;
            }
        }
        named.truncate(2);
        Ok(named)
    }

    /// The live server certificates with a name that covers the host.
    async fn certificates_of_host(&self, call: &Call, host: &SoughtDomain) -> Result<Vec<StoredCertificate>, Error> {
        let criteria = Criteria {
            domain: Some(host.clone()),
            ..Criteria::default()
        };
        let mut found = Vec::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let order = Order::CreateTime;
            let page = self.0.store.search(call.reach(), &criteria, order, after, PAGE).await?;
            found.extend(page.certificates);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

/// The certificate for the host: exact before wildcard, valid before not valid, a valid chain before one that has
/// ended, the later end of the chain first, then the id. Also the next moment at which a certificate begins or ends to be valid.
fn best_of(
    certificates: Vec<StoredCertificate>,
    host: &SoughtDomain,
    now: Timestamp,
) -> Option<(StoredCertificate, Option<Timestamp>)> {
    let is_choice = certificates.len() > 1;
    let bounds = certificates
        .iter()
        .flat_map(|one| [one.facts.not_before, one.facts.not_after, one.facts.chain_not_after]);
    let until = bounds.filter(|bound| is_choice && *bound >= now).min();
    let best = certificates.into_iter().min_by_key(|one| {
        let facts = &one.facts;
        let is_valid = facts.not_before <= now && now <= facts.not_after;
        let has_ended = facts.chain_not_after < now;
        let fit = host.best_match(&searchable_names(facts));
        // `None` would be less than any fit. The search found only certificates that fit.
        (
            fit.is_none(),
            fit,
            !is_valid,
            has_ended,
            Reverse(facts.chain_not_after),
            one.id,
        )
    })?;
    Some((best, until))
}
