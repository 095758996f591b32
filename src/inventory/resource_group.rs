//! The resource groups of an account.

use std::fmt;

use crate::account::AccountId;
use crate::clock::Timestamp;

const PREFIX: &str = "rg-";

/// The id of a resource group. An account's default group has the id `rg-<account id>`. Every other id is `rg-` and 32
/// hexadecimal digits: 12 for the creation time in milliseconds, and 20 random digits.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ResourceGroupId(String);

impl ResourceGroupId {
    /// A new id.
    pub fn new(created: Timestamp, random: [u8; 10]) -> Self {
        Self(format!("{PREFIX}{:012x}{}", created.millis(), hex::encode(random)))
    }

    /// The id of the account's default group.
    pub fn default_of(account: AccountId) -> Self {
        Self(format!("{PREFIX}{account}"))
    }

    /// Reads a caller's text. `None` if it does not have the form of an id.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let is_id = match digits.len() {
            16 => digits.bytes().all(|byte| byte.is_ascii_digit()),
            32 => digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
            _ => false,
        };
        is_id.then(|| Self(text.to_owned()))
    }

    /// The id from the store, for a certificate of this account. `None` in the store means the default group.
    pub fn from_stored(account: AccountId, id: Option<String>) -> Self {
        id.map_or_else(|| Self::default_of(account), Self)
    }

    /// The id in the form of the store, for a certificate of this account. `None` means the default group.
    pub fn stored(&self, account: AccountId) -> Option<&str> {
        (*self != Self::default_of(account)).then_some(&self.0)
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceGroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let account = AccountId::from_i64(1_231_579_085_529_123);
        let default = ResourceGroupId::default_of(account);
        let other = ResourceGroupId::new(Timestamp::from_millis(0x15d_6fcb_45a3), [0xab; 10]);
        assert_eq!(default.as_str(), "rg-1231579085529123");
        assert_eq!(other.as_str(), "rg-015d6fcb45a3abababababababababab");
        for id in [default, other] {
            assert_eq!(ResourceGroupId::parse(id.as_str()), Some(id.clone()));
            let stored = id.stored(account).map(ToOwned::to_owned);
            assert_eq!(ResourceGroupId::from_stored(account, stored), id);
        }
        for wrong in [
            "",
            "rg-",
            "rg-123157908552912",
            "rg-123157908552912a",
            "rg-015D6FCB45A3ABABABABABABABABABAB",
            "1231579085529123",
        ] {
            assert_eq!(ResourceGroupId::parse(wrong), None, "{wrong}");
        }
    }
}
