//! Page tokens: a place in a list, bound to the call that gave it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::FieldError;
use crate::account::AccountId;
use crate::digest;
use crate::secret::Secret;
use crate::store::Position;

const FORMAT: u8 = 1;
const MAC_LEN: usize = 32;

/// Makes and reads page tokens: format, place and a MAC over both, the list, the account and its filter.
#[derive(Debug)]
pub struct PageTokens {
    key: Secret,
}

/// Which list a token is for.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// The call's name.
    pub name: &'static str,
    /// Whose list.
    pub account: AccountId,
    /// What it is filtered by, in the request's order.
    pub filter: &'a [&'a str],
}

impl PageTokens {
    /// Tokens under the MAC of a key.
    pub fn new(key: Secret) -> Self {
        Self { key }
    }

    /// The token of a place, behind which the next page begins.
    pub fn write(&self, list: List<'_>, position: Position) -> String {
        self.write_place(list, position, &[])
    }

    /// The token of a place that has a sort key before its position.
    pub(super) fn write_place(&self, list: List<'_>, position: Position, sort_key: &[u8]) -> String {
        let mut token = vec![FORMAT];
        token.extend_from_slice(&position.created_ms.to_be_bytes());
        token.extend_from_slice(&position.random.to_be_bytes());
        token.extend_from_slice(sort_key);
        let mac = self.mac(list, &token);
        token.extend_from_slice(&mac);
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// The place behind which the page begins; an empty token is the start.
    pub fn read(&self, list: List<'_>, token: &str) -> Result<Position, FieldError> {
        if token.is_empty() {
            return Ok(Position::START);
        }
        match self.read_place(list, token) {
            Ok((position, sort_key)) if sort_key.is_empty() => Ok(position),
            _ => Err(FieldError::PageToken),
        }
    }

    /// The place of a token that is not empty, and its sort key.
    pub(super) fn read_place(&self, list: List<'_>, token: &str) -> Result<(Position, Vec<u8>), FieldError> {
        let Ok(token) = BASE64_URL_SAFE_NO_PAD.decode(token) else {
            return Err(FieldError::PageToken);
        };
        let parts = token.split_last_chunk::<MAC_LEN>().and_then(|(body, mac)| {
            let (created_ms, rest) = body.strip_prefix(&[FORMAT])?.split_first_chunk()?;
            let (random, sort_key) = rest.split_first_chunk()?;
            let position = Position {
                created_ms: i64::from_be_bytes(*created_ms),
                random: i64::from_be_bytes(*random),
            };
            Some((body, mac, position, sort_key.to_vec()))
        });
        let Some((body, mac, position, sort_key)) = parts else {
            return Err(FieldError::PageToken);
        };
        if !digest::constant_time_eq(&self.mac(list, body), mac) {
            return Err(FieldError::PageToken);
        }
        Ok((position, sort_key))
    }

    fn mac(&self, list: List<'_>, body: &[u8]) -> [u8; MAC_LEN] {
        let account = list.account.as_i64().to_be_bytes();
        let mut bound = Vec::new();
        let parts = [list.name.as_bytes(), &account, body];
        for part in parts.into_iter().chain(list.filter.iter().map(|part| part.as_bytes())) {
            bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bound.extend_from_slice(part);
        }
        digest::hmac_sha256(self.key.expose(), &bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<'a>(name: &'static str, account: i64, filter: &'a [&'a str]) -> List<'a> {
        List {
            name,
            account: AccountId::from_i64(account),
            filter,
        }
    }

    #[test]
    fn a_token_is_read_by_the_list_that_wrote_it_only() {
        let tokens = PageTokens::new(Secret::from(vec![7; 32]));
        let place = Position {
            created_ms: 1,
            random: -2,
        };
        let token = tokens.write(list("describe", 1, &["r"]), place);
        assert_eq!(tokens.read(list("describe", 1, &["r"]), &token).unwrap(), place);
        for other in [
            list("list", 1, &["r"]),
            list("describe", 2, &["r"]),
            list("describe", 1, &["", "r"]),
        ] {
            assert!(tokens.read(other, &token).is_err());
        }
        let other_key = PageTokens::new(Secret::from(vec![8; 32]));
        assert!(other_key.read(list("describe", 1, &["r"]), &token).is_err());
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let tokens = PageTokens::new(Secret::from(vec![7; 32]));
        let list = list("describe", 1, &[]);
        let token = tokens.write(list, Position::START);
        for wrong in ["x", "====", &token[1..], &format!("{token}A"), &token.replace('A', "B")] {
            assert!(tokens.read(list, wrong).is_err(), "{wrong}");
        }
        assert_eq!(tokens.read(list, "").unwrap(), Position::START);
    }
}
