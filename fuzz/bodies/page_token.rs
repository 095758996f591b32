//! Page tokens.

use certkeep::account::AccountId;
use certkeep::app::{List, PageTokens};
use certkeep::secret::Secret;
use certkeep::store::Position;

use super::cost;
use super::tree;

/// A token.
pub const TOKEN: u8 = 0xa0;
/// A part of the filter.
pub const FILTER: u8 = 0xa1;
/// An account and a position: three numbers of 8 bytes.
pub const PLACE: u8 = 0xa2;

/// An accepted token must be equal to the written token of its position. Another list must refuse a token.
pub fn page_token(input: &[u8]) {
    let (mut token, mut filter, mut numbers) = (String::new(), Vec::new(), [0; 3]);
    for (tag, content) in tree::values(input) {
        match tag {
            TOKEN => token = String::from_utf8_lossy(content).into_owned(),
            FILTER => filter.push(String::from_utf8_lossy(content)),
            PLACE => {
                for (number, bytes) in numbers.iter_mut().zip(content.as_chunks().0) {
                    *number = i64::from_be_bytes(*bytes);
                }
            }
            _ => {}
        }
    }
    let filter: Vec<_> = filter.iter().map(|part| &**part).collect();
    let [account, created_ms, random] = numbers;
    let list = List {
        name: "List",
        account: AccountId::from_i64(account),
        filter: &filter,
    };
    let tokens = PageTokens::new(Secret::from(vec![7; 32]));
    let read = |list, token: &str| cost::within_limit(|| tokens.read(list, token)).ok();
    let write = |position| tokens.write(list, position).expect("OpenSSL encrypts");

    match read(list, &token) {
        Some(position) if token.is_empty() => assert_eq!(position, Position::START),
        Some(position) => assert_eq!(read(list, &write(position)), Some(position)),
        None => {}
    }

    let position = Position { created_ms, random };
    let written = write(position);
    assert_eq!(read(list, &written), Some(position));
    let mut longer = filter.clone();
    longer.push("");
    let joined = filter.concat();
    let joined = [joined.as_str()];
    for other in [
        List { name: "Lis", ..list },
        List {
            account: AccountId::from_i64(account ^ 1),
            ..list
        },
        List {
            filter: &longer,
            ..list
        },
        List {
            filter: &joined,
            ..list
        },
    ] {
        // Joining a single part changes nothing.
        let is_other = other.filter.iter().ne(list.filter) || other.name != list.name || other.account != list.account;
        assert_eq!(read(other, &written).is_none(), is_other);
    }
    // A token with any changed character must be invalid.
    let place = usize::from(random.to_be_bytes()[7]) % written.len();
    let mut bytes = written.into_bytes();
    bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(bytes).expect("ASCII");
    assert_eq!(read(list, &changed), None);
}
