//! Lists the account's fingerprints in pages.

use super::page::{List, page_size};
use super::violation::Violations;
use super::{App, Call, Error, Field, Role};
use crate::account::AccountId;
use crate::certificate::Sha1Fingerprint;
use crate::store::AccountFingerprints;

/// Which page.
#[derive(Debug)]
pub struct ListAccountFingerprints {
    /// How many to answer at most; 0 means the default.
    pub page_size: i32,
    /// Where the last page ended; empty: at the start.
    pub page_token: String,
}

/// A page of fingerprints.
#[derive(Debug, Default)]
pub struct ListedFingerprints {
    /// One for each server certificate, oldest first.
    pub fingerprints: Vec<Sha1Fingerprint>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

/// Whether an answer has the account's fingerprints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AnswerFingerprints {
    Yes,
    No,
}

pub(super) fn list_of(account: AccountId) -> List<'static> {
    List {
        name: "ListAccountFingerprints",
        account,
        filter: &[],
    }
}

impl App {
    /// The answer's form of the fingerprints that were read; empty if none were.
    pub(super) fn listed(&self, call: &Call, read: Option<AccountFingerprints>) -> ListedFingerprints {
        let Some(AccountFingerprints { fingerprints, next }) = read else {
            return ListedFingerprints::default();
        };
        ListedFingerprints {
            fingerprints,
            next_page_token: self.next_page_token(list_of(call.caller.account), next),
        }
    }

    /// A page of the fingerprints of the account's certificates, over all regions.
    pub async fn fingerprints(
        &self,
        call: &Call,
        request: &ListAccountFingerprints,
    ) -> Result<ListedFingerprints, Error> {
        call.caller.require(Role::Reader)?;
        let account = call.caller.account;
        let list = list_of(account);
        let mut violations = Violations::default();
        let size = violations.check(Field::PageSize, page_size(request.page_size));
        let after = violations.check(Field::PageToken, self.0.page_tokens.read(list, &request.page_token));
        let (Some(size), Some(after)) = (size, after) else {
            return Err(violations.into());
        };
        let page = self.0.store.fingerprint_page(account, after, size).await?;
        Ok(ListedFingerprints {
            fingerprints: page.fingerprints,
            next_page_token: self.next_page_token(list, page.next),
        })
    }
}
