//! The id of an account.

use std::fmt;
use std::str::FromStr;

/// The smallest number of 16 decimal digits.
const MIN: i64 = 1_000_000_000_000_000;
/// The largest number of 16 decimal digits.
const MAX: i64 = 9_999_999_999_999_999;

/// The id of an account: a number of 16 decimal digits, without meaning. [`Display`](fmt::Display) writes the digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AccountId(i64);

/// A text that is not an account id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AccountIdError;

impl AccountId {
    /// The service's own account. It has the operators' access keys and no certificate. Its number has one digit, so that no
    /// caller's text is this id.
    pub const OPERATORS: Self = Self(0);

    /// A new id from random bytes, 1000000000000000 to 9999999999999999. The distribution is uniform except for a bias of 1 in
    /// 2,000.
    pub const fn from_random(random: [u8; 8]) -> Self {
        const COUNT: u64 = (MAX - MIN + 1).cast_unsigned();
        Self(MIN + (u64::from_be_bytes(random) % COUNT).cast_signed())
    }

    /// The id from the number in the store.
    pub const fn from_i64(id: i64) -> Self {
        Self(id)
    }

    /// The number in the store.
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AccountId {
    type Err = AccountIdError;

    /// Reads only the form that [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AccountIdError);
        }
        match text.parse() {
            Ok(id @ MIN..=MAX) => Ok(Self(id)),
            _ => Err(AccountIdError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_random_bytes_give_16_digits() {
        assert_eq!(AccountId::from_random([0; 8]).to_string(), "1000000000000000");
        assert_eq!(
            AccountId::from_random(8_999_999_999_999_999_u64.to_be_bytes()).to_string(),
            "9999999999999999"
        );
        assert_eq!(AccountId::from_random([0xff; 8]).to_string().len(), 16);
    }

    #[test]
    fn reads_only_what_it_writes() {
        assert_eq!(
            "1234567890123456".parse(),
            Ok(AccountId::from_i64(1_234_567_890_123_456))
        );
        for wrong in [
            "",
            "123456789012345",
            "12345678901234567",
            "0234567890123456",
            "+234567890123456",
            "１234567890123",
        ] {
            assert_eq!(wrong.parse::<AccountId>(), Err(AccountIdError), "{wrong}");
        }
    }
}
