//! Lists the account's fingerprints in pages.

use super::page::{List, page_size};
use super::violation::Violations;
use super::{App, Call, Error, Field};
use crate::account::AccountId;
use crate::certificate::Sha1Fingerprint;
use crate::store::AccountFingerprints;

/// The page to list.
#[derive(Debug)]
pub struct ListAccountFingerprints {
    /// The maximum number of fingerprints in the answer; 0: the default.
    pub page_size: i32,
    /// The token of the page; empty: the first page.
    pub page_token: String,
}

/// A page of fingerprints.
#[derive(Debug, Default)]
pub struct ListedFingerprints {
    /// One fingerprint for each server certificate, oldest first.
    pub fingerprints: Vec<Sha1Fingerprint>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

/// Whether an answer contains the account's fingerprints.
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
    /// The fingerprints in the form of the answer; empty if none were read.
    pub(super) fn listed(&self, call: &Call, read: Option<AccountFingerprints>) -> Result<ListedFingerprints, Error> {
        let Some(AccountFingerprints { fingerprints, next }) = read else {
            return Ok(ListedFingerprints::default());
        };
        Ok(ListedFingerprints {
            fingerprints,
            next_page_token: self.next_page_token(list_of(call.caller.account), next)?,
        })
    }

    /// A page of the fingerprints of the server certificates that exist for the caller, in all regions.
    pub async fn fingerprints(
        &self,
        call: &Call,
        request: &ListAccountFingerprints,
    ) -> Result<ListedFingerprints, Error> {
        let list = list_of(call.caller.account);
        let mut violations = Violations::default();
        let size = violations.check(Field::PageSize, page_size(request.page_size));
        let after = violations.check(Field::PageToken, self.0.page_tokens.read(list, &request.page_token));
        let (Some(size), Some(after)) = (size, after) else {
            return Err(violations.into());
        };
        let page = self.0.store.fingerprint_page(call.reach(), after, size).await?;
        Ok(ListedFingerprints {
            fingerprints: page.fingerprints,
            next_page_token: self.next_page_token(list, page.next)?,
        })
    }
}
