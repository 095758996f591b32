//! Searches of an account's live server certificates: any criteria, one of three orders, in pages.
//!
//! The cost of a page does not depend on how much is stored. Six criteria are selective: the two fingerprints, the serial
//! number, the key, the domain, and a compromised key. Each has an index. A search first asks these indexes for ids ([`lookup`]). If a criterion
//! matches at most 2,000 certificates, those certificates are read, checked against all criteria and sorted. Otherwise the
//! search walks the index of the order from the end of the last page ([`walk`]). It checks each row against all criteria, and
//! reads at most 10,000 rows for a page. A page that ends at this limit can be empty; the next page continues there.
//!
//! The counts decide this, never the planner's statistics (docs/decisions/0007).

mod criteria;
mod lookup;
mod page;
mod walk;

use super::read::{Position, StoredCertificate};
use super::{Error, Store};
use crate::account::AccountId;
use crate::inventory::{Criteria, Scope};
use criteria::Parameters;

/// The order of found certificates. Equal ones are ordered by creation time, then by the random part of the id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// By the time of creation.
    CreateTime,
    /// By the earliest end of the certificates that are served.
    ExpireTime,
    /// By name, compared by code point.
    Name,
}

/// The value by which a certificate is sorted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SortKey {
    /// The position alone.
    CreateTime,
    /// The end of the validity, in milliseconds since 1970.
    ExpireTime(i64),
    /// The name.
    Name(String),
}

/// The certificate after which a page begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor {
    /// Its sort key.
    pub key: SortKey,
    /// Its position among the certificates with the same sort key.
    pub position: Position,
}

/// A page of found certificates.
#[derive(Debug)]
pub struct FoundPage {
    /// The certificates, in the order of the search.
    pub certificates: Vec<StoredCertificate>,
    /// Where the next page begins, if there can be more.
    pub next: Option<Cursor>,
}

impl Cursor {
    /// Before the first certificate that can match.
    fn start(order: Order, criteria: &Criteria) -> Self {
        let key = match order {
            Order::CreateTime => SortKey::CreateTime,
            Order::ExpireTime => SortKey::ExpireTime(criteria.expiry.map_or(i64::MIN, |window| window.from)),
            Order::Name => SortKey::Name(criteria.name_prefix.clone().unwrap_or_default()),
        };
        Self {
            key,
            position: Position::START,
        }
    }

    fn of(order: Order, certificate: &StoredCertificate) -> Self {
        let key = match order {
            Order::CreateTime => SortKey::CreateTime,
            Order::ExpireTime => SortKey::ExpireTime(certificate.facts.chain_not_after.millis()),
            Order::Name => SortKey::Name(certificate.name.as_str().to_owned()),
        };
        Self {
            key,
            position: certificate.id.into(),
        }
    }
}

impl Store {
    /// At most `size` live server certificates of the account and the scope that match all criteria, after a cursor or from the first. A page
    /// with fewer certificates, or none, can still have a next page.
    pub async fn search(
        &self,
        (account, scope): (AccountId, &Scope),
        criteria: &Criteria,
        order: Order,
        after: Option<Cursor>,
        size: usize,
    ) -> Result<FoundPage, Error> {
        let after = after.unwrap_or_else(|| Cursor::start(order, criteria));
        let parameters = Parameters::of((account, scope), criteria, &after, size);
        let rows = match self.selective_ids(&parameters).await? {
            Some(ids) => {
                self.read(page::OF_IDS, &parameters.of_page_of_ids(&ids, &order))
                    .await?
            }
            None => self.read(walk::along(order), &parameters.of_page()).await?,
        };
        page::of_rows(&rows, order, size)
    }
}
