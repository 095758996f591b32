//! Pages of lists: their size, and tokens for the next page that only the same list accepts.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::{App, Error, FieldError};
use crate::account::AccountId;
use crate::digest;
use crate::seal;
use crate::secret::Secret;
use crate::store::Position;

const FORMAT: u8 = 1;
const SALT_LEN: usize = 16;

/// The maximum number of entries in a page (AIP-158).
pub(super) fn page_size(asked: i32) -> Result<usize, FieldError> {
    const DEFAULT: usize = 100;
    const MAX: usize = 1000;
    match usize::try_from(asked) {
        Err(_) => Err(FieldError::PageSize),
        Ok(0) => Ok(DEFAULT),
        Ok(size) => Ok(size.min(MAX)),
    }
}

/// Writes and reads page tokens. A token has a format, a salt and a nonce, and then, encrypted with AES-256-GCM, a position and a sort
/// key. It is encrypted because the position can be that of a certificate outside the caller's scope. The key is that of the list, with
/// its account and filter, and of the salt: no other list can read the token. Each token has a random salt of 16 octets, because each
/// message of a watch has a token: with one key for all of them, random nonces could repeat (NIST SP 800-38D 8.3).
#[derive(Debug)]
pub struct PageTokens {
    key: Secret,
}

/// The list that a token belongs to.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// The name of the call.
    pub name: &'static str,
    /// The account that is listed.
    pub account: AccountId,
    /// The filters, in the order of the request.
    pub filter: &'a [&'a str],
}

impl PageTokens {
    /// Tokens with keys that are derived from this key.
    pub fn new(key: Secret) -> Self {
        Self { key }
    }

    /// The token of the position after which the next page begins.
    pub fn write(&self, list: List<'_>, position: Position) -> Result<String, Error> {
        self.write_sorted(list, position, &[])
    }

    /// The token of a position in a list that is ordered by a sort key and then by position.
    pub(super) fn write_sorted(&self, list: List<'_>, position: Position, sort_key: &[u8]) -> Result<String, Error> {
        let (created_ms, random) = (position.created_ms.to_be_bytes(), position.random.to_be_bytes());
        let body = [&created_ms[..], &random, sort_key].concat();
        let salt = digest::random::<SALT_LEN>().map_err(Error::internal)?;
        let mut token = [&[FORMAT][..], &salt].concat();
        seal::encrypt(&self.key_of(list, salt), &[FORMAT], &body, &mut token)?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(token))
    }

    /// The position after which the page begins. An empty token is the start.
    pub fn read(&self, list: List<'_>, token: &str) -> Result<Position, FieldError> {
        if token.is_empty() {
            return Ok(Position::START);
        }
        match self.read_sorted(list, token) {
            Ok((position, sort_key)) if sort_key.is_empty() => Ok(position),
            _ => Err(FieldError::PageToken),
        }
    }

    /// The position and the sort key of a token that is not empty.
    pub(super) fn read_sorted(&self, list: List<'_>, token: &str) -> Result<(Position, Vec<u8>), FieldError> {
        let parts = || {
            let token = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
            let (salt, sealed) = token.strip_prefix(&[FORMAT])?.split_first_chunk()?;
            let body = seal::decrypt(&self.key_of(list, *salt), &[FORMAT], sealed).ok()?;
            let (created_ms, rest) = body.split_first_chunk()?;
            let (random, sort_key) = rest.split_first_chunk()?;
            let position = Position {
                created_ms: i64::from_be_bytes(*created_ms),
                random: i64::from_be_bytes(*random),
            };
            Some((position, sort_key.to_vec()))
        };
        parts().ok_or(FieldError::PageToken)
    }

    /// The key of a list's tokens with this salt.
    fn key_of(&self, list: List<'_>, salt: [u8; SALT_LEN]) -> [u8; 32] {
        let account = list.account.as_i64().to_be_bytes();
        let mut bound = salt.to_vec();
        let parts = [list.name.as_bytes(), &account];
        for part in parts.into_iter().chain(list.filter.iter().map(|part| part.as_bytes())) {
            bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bound.extend_from_slice(part);
        }
        digest::hmac_sha256(self.key.expose(), &bound)
    }
}

impl App {
    /// The token of the next page; empty if there is none.
    pub(super) fn next_page_token(&self, list: List<'_>, next: Option<Position>) -> Result<String, Error> {
        next.map_or(Ok(String::new()), |position| self.0.page_tokens.write(list, position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_have_a_default_and_a_limit() {
        let sizes = [0, 1, 1000, 1001, i32::MAX].map(|asked| page_size(asked).unwrap());
        assert_eq!(sizes, [100, 1, 1000, 1000, 1000]);
        assert!(matches!(page_size(-1), Err(FieldError::PageSize)));
    }

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
        let position = Position {
            created_ms: 1,
            random: -2,
        };
        let token = tokens.write(list("describe", 1, &["r"]), position).unwrap();
        assert_eq!(tokens.read(list("describe", 1, &["r"]), &token).unwrap(), position);
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
    fn a_token_does_not_show_its_position() {
        let tokens = PageTokens::new(Secret::from(vec![7; 32]));
        let token = tokens.write_sorted(list("search", 1, &[]), Position::START, b"www.example.com");
        let token = BASE64_URL_SAFE_NO_PAD.decode(token.unwrap()).unwrap();
        assert!(
            !token
                .windows(8)
                .any(|octets| octets == b"example." || octets == i64::MIN.to_be_bytes())
        );
    }

    #[test]
    fn other_texts_are_refused() {
        let tokens = PageTokens::new(Secret::from(vec![7; 32]));
        let list = list("describe", 1, &[]);
        let token = tokens.write(list, Position::START).unwrap();
        for wrong in ["x", "====", &token[1..], &format!("{token}A"), &token.replace('A', "B")] {
            assert!(tokens.read(list, wrong).is_err(), "{wrong}");
        }
        assert_eq!(tokens.read(list, "").unwrap(), Position::START);
    }
}
