//! The fingerprints of all server certificates of an account.

use super::list::Filter;
use super::read::{Liveness, Position};
use super::{Error, Statement, Store};
use crate::account::AccountId;
use crate::certificate::Sha1Fingerprint;
use crate::inventory::{CertificateKind, Scope, Tags};

const LEN: usize = 20;
/// The maximum number of fingerprints in an answer of 3 MiB: each takes 59 characters and 2 bytes of protobuf. The upload
/// statement reads one more.
const MAX: usize = 50_000;
/// The same for a caller with a scope. Their certificates are read as a whole.
const MAX_OF_SCOPE: usize = 1000;

/// Fingerprints of an account's server certificates, ordered by creation time and id.
#[derive(Debug)]
pub struct AccountFingerprints {
    /// The fingerprints, duplicates kept.
    pub fingerprints: Vec<Sha1Fingerprint>,
    /// The start of the next page, if there are more fingerprints.
    pub next: Option<Position>,
}

impl AccountFingerprints {
    /// Adds the fingerprint of a certificate that would be the newest.
    pub fn and(mut self, fingerprint: Sha1Fingerprint) -> Self {
        match self.next {
            None if self.fingerprints.len() < MAX => self.fingerprints.push(fingerprint),
            None => self.next = Some(Position::END),
            Some(_) => {}
        }
        self
    }

    /// All fingerprints of an account. `None` if they exceed the size of an answer.
    pub(super) fn whole(fingerprints: Vec<Sha1Fingerprint>) -> Option<Self> {
        (fingerprints.len() <= MAX).then_some(Self {
            fingerprints,
            next: None,
        })
    }
}

/// Reads fingerprints from their concatenated octets.
pub(super) fn fingerprints(octets: &[u8]) -> Result<Vec<Sha1Fingerprint>, Error> {
    let (fingerprints, rest) = octets.as_chunks::<LEN>();
    if !rest.is_empty() {
        return Err(Error::Row("certificate"));
    }
    let fingerprints = fingerprints.iter().map(|octets| Sha1Fingerprint::from_bytes(*octets));
    Ok(fingerprints.collect())
}

impl Store {
    /// The first fingerprints of the account and the scope, up to the size of an answer.
    pub async fn account_fingerprints(&self, account: AccountId, scope: &Scope) -> Result<AccountFingerprints, Error> {
        self.fingerprint_page((account, scope), Position::START, MAX).await
    }

    /// At most `size` fingerprints of the account and the scope after the position `after`. For a scope with limits, the page can be
    /// shorter, or empty, before the last page.
    pub async fn fingerprint_page(
        &self,
        (account, scope): (AccountId, &Scope),
        after: Position,
        size: usize,
    ) -> Result<AccountFingerprints, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::fingerprint_page",
            sql: "-- store::fingerprint_page
                  select created_ms, random, fingerprint from certificate
                  where account_id = $1 and kind = 'server' and (created_ms, random) > ($2, $3) and deleted_at is null
                  order by created_ms, random limit $4",
        };
        // The index of the statement does not have the columns of a scope.
        if !scope.is_everything() {
            let filter = Filter {
                kind: CertificateKind::Server,
                region: None,
                resource_group: None,
                tags: &Tags::default(),
                liveness: Liveness::Live,
            };
            let page = self
                .page((account, scope), filter, after, size.min(MAX_OF_SCOPE))
                .await?;
            return Ok(AccountFingerprints {
                fingerprints: page.certificates.iter().map(|one| one.facts.fingerprint).collect(),
                next: page.next,
            });
        }
        // One extra row tells whether there is a next page.
        let limit = size as i64 + 1;
        let rows = self
            .read(
                STATEMENT,
                &[&account.as_i64(), &after.created_ms, &after.random, &limit],
            )
            .await?;
        let page = &rows[..rows.len().min(size)];
        let fingerprints = page
            .iter()
            .map(|row| row.get::<_, &[u8]>(2).try_into().map(Sha1Fingerprint::from_bytes))
            .collect::<Result<_, _>>()
            .map_err(|_| Error::Row("certificate"))?;
        let next = match page.last() {
            Some(last) if rows.len() > size => Some(Position {
                created_ms: last.get(0),
                random: last.get(1),
            }),
            _ => None,
        };
        Ok(AccountFingerprints { fingerprints, next })
    }
}
