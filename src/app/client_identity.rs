//! Client identities: operators create, list and delete them.

use super::manage_access_keys::OF_ACCOUNTS;
use super::new_scope::NewScope;
use super::page::{List, page_size};
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError, Role};
use crate::account::{AccountId, IdentityKind, IdentityName};
use crate::certificate::{SpiffeId, is_distinguished_name, is_host_name, is_spiffe_pattern};
use crate::store::{ClientIdentity, Position};

/// The longest value, in octets. The table's index cannot have longer ones.
const MAX_VALUE_LEN: usize = 2048;

/// A client identity to create.
#[derive(Debug)]
pub struct NewClientIdentity {
    /// The kind of the name; `None`: not given or unknown.
    pub kind: Option<IdentityKind>,
    /// The value of the name.
    pub value: String,
    /// The id of the account.
    pub account_id: String,
    /// The role; `None`: not given or unknown.
    pub role: Option<Role>,
    /// The part of the account that exists for the identity.
    pub scope: NewScope,
}

/// A page of client identities.
#[derive(Debug)]
pub struct ListedClientIdentities {
    /// The client identities, in the order of their names.
    pub identities: Vec<ClientIdentity>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

/// Why a text is not the value of a client identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdentityError {
    /// The text is neither a SPIFFE ID nor a pattern.
    SpiffeId,
    /// The text is not a host name.
    DnsName,
    /// The text is not a subject in the form in which certkeep writes subjects.
    Subject,
}

impl App {
    /// Creates a client identity. Repeated with the same settings, the call returns the existing one.
    pub async fn create_client_identity(&self, call: &Call, new: &NewClientIdentity) -> Result<ClientIdentity, Error> {
        let mut violations = Violations::default();
        let name = name(&mut violations, new.kind, &new.value);
        let account = match new.account_id.as_str() {
            "" => Err(FieldError::Required),
            text => Ok(text.parse::<AccountId>().map_err(|_| Error::AccountNotFound)),
        };
        let account = violations.check(Field::AccountId, account);
        let role = new.role.filter(|role| OF_ACCOUNTS.contains(role));
        let role = violations.check(Field::Role, role.ok_or(FieldError::Role(OF_ACCOUNTS)));
        let scope = self.parse_scope(&new.scope, &mut violations)?;
        let (Some(name), Some(account), Some(role), true) = (name, account, role, violations.is_empty()) else {
            return Err(violations.into());
        };
        let (account, store) = (account?, &self.0.store);
        if !store.has_account_of_all_accounts(account).await? {
            return Err(Error::AccountNotFound);
        }
        self.find_groups_of_scope(account, &scope).await?;
        let created = store
            .create_client_identity(&call.actor(), account, &name, role, &scope)
            .await?;
        let existing = self
            .client_identity(&name)
            .await?
            .ok_or(Error::ClientIdentityNotFound)?;
        let is_the_same = (existing.account, existing.role, &existing.scope) == (account, role, &scope);
        match created || is_the_same {
            true => Ok(existing),
            false => Err(Error::ClientIdentityExists),
        }
    }

    /// A page of the client identities of an account, or of all accounts if `account_id` is empty.
    pub async fn list_client_identities(
        &self,
        call: &Call,
        account_id: &str,
        asked_size: i32,
        page_token: &str,
    ) -> Result<ListedClientIdentities, Error> {
        let list = List {
            name: "ListClientIdentities",
            account: call.caller.account,
            filter: &[account_id],
        };
        let mut violations = Violations::default();
        let size = violations.check(Field::PageSize, page_size(asked_size));
        let after = match page_token {
            "" => Ok(None),
            token => self.0.page_tokens.read_sorted(list, token).and_then(|(_, key)| {
                let name = from_sort_key(&key);
                name.map(Some).ok_or(FieldError::PageToken)
            }),
        };
        let after = violations.check(Field::PageToken, after);
        let (Some(size), Some(after)) = (size, after) else {
            return Err(violations.into());
        };
        let account = match account_id {
            "" => None,
            text => Some(text.parse().map_err(|_| Error::AccountNotFound)?),
        };
        // One extra row tells whether there is a next page.
        let mut identities = self
            .0
            .store
            .list_client_identities(account, after.as_ref(), size + 1)
            .await?;
        let has_more = identities.len() > size;
        identities.truncate(size);
        let next = identities.last().filter(|_| has_more).map(|last| {
            let key = sort_key(&last.name);
            self.0.page_tokens.write_sorted(list, Position::START, &key)
        });
        Ok(ListedClientIdentities {
            identities,
            next_page_token: next.transpose()?.unwrap_or_default(),
        })
    }

    /// Deletes a client identity.
    pub async fn delete_client_identity(
        &self,
        call: &Call,
        kind: Option<IdentityKind>,
        value: &str,
    ) -> Result<(), Error> {
        let mut violations = Violations::default();
        let Some(name) = name(&mut violations, kind, value) else {
            return Err(violations.into());
        };
        // The account, for the audit trail.
        let existing = self
            .client_identity(&name)
            .await?
            .ok_or(Error::ClientIdentityNotFound)?;
        let store = &self.0.store;
        match store
            .delete_client_identity(&call.actor(), existing.account, &name)
            .await?
        {
            true => Ok(()),
            false => Err(Error::ClientIdentityNotFound),
        }
    }

    async fn client_identity(&self, name: &IdentityName) -> Result<Option<ClientIdentity>, Error> {
        let names = std::slice::from_ref(name);
        let found = self.0.store.client_identities_of_all_accounts(names).await?;
        Ok(found.into_iter().next().map(|found| found.identity))
    }
}

fn name(violations: &mut Violations, kind: Option<IdentityKind>, value: &str) -> Option<IdentityName> {
    let kind = violations.check(Field::IdentityKind, kind.ok_or(FieldError::Choice));
    let value = match (kind, value) {
        (_, "") => Err(FieldError::Required),
        (Some(kind), value) => checked_value(kind, value).map_err(FieldError::Identity),
        (None, _) => return None,
    };
    let value = violations.check(Field::IdentityValue, value);
    Some(IdentityName {
        kind: kind?,
        value: value?,
    })
}

/// The value in the form in which a certificate's names are compared.
fn checked_value(kind: IdentityKind, value: &str) -> Result<String, IdentityError> {
    let fits = value.len() <= MAX_VALUE_LEN;
    match kind {
        IdentityKind::SpiffeId if fits && (SpiffeId::parse(value).is_some() || is_spiffe_pattern(value)) => {
            Ok(value.to_owned())
        }
        IdentityKind::SpiffeId => Err(IdentityError::SpiffeId),
        IdentityKind::DnsName if is_host_name(value) => Ok(value.to_ascii_lowercase()),
        IdentityKind::DnsName => Err(IdentityError::DnsName),
        IdentityKind::Subject if fits && is_distinguished_name(value) => Ok(value.to_owned()),
        IdentityKind::Subject => Err(IdentityError::Subject),
    }
}

fn sort_key(name: &IdentityName) -> Vec<u8> {
    format!("{}:{}", name.kind.as_str(), name.value).into_bytes()
}

fn from_sort_key(key: &[u8]) -> Option<IdentityName> {
    let (kind, value) = std::str::from_utf8(key).ok()?.split_once(':')?;
    Some(IdentityName {
        kind: IdentityKind::from_name(kind)?,
        value: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_the_form_of_its_kind() {
        use IdentityKind::{DnsName, SpiffeId as Spiffe, Subject};
        for (kind, value, stored) in [
            (Spiffe, "spiffe://o/web", Some("spiffe://o/web")),
            (Spiffe, "spiffe://o/*", Some("spiffe://o/*")),
            (Spiffe, "spiffe://o", None),
            (Spiffe, "web.example", None),
            (DnsName, "Web.example", Some("web.example")),
            (DnsName, "*.example", None),
            (DnsName, "spiffe://o/web", None),
            (Subject, "CN=web,O=Example", Some("CN=web,O=Example")),
            (Subject, "CN=web, O=Example", None),
            (Subject, "web", None),
        ] {
            assert_eq!(checked_value(kind, value).ok().as_deref(), stored, "{value}");
        }
        assert!(checked_value(Subject, &format!("CN={}", "a".repeat(2046))).is_err());
    }

    #[test]
    fn a_sort_key_is_read_as_it_is_written() {
        let name = IdentityName {
            kind: IdentityKind::SpiffeId,
            value: "spiffe://o/web:1".to_owned(),
        };
        assert_eq!(from_sort_key(&sort_key(&name)), Some(name));
        assert_eq!(from_sort_key(b"other:x"), None);
    }
}
