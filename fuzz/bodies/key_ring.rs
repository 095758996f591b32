//! The file of the key ring.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use certkeep::config::KeyProviders;
use certkeep::seal::{KeyRing, KeyRingError};
use certkeep::secret::Secret;

use super::cost;

/// The ring of a text. Without providers, nothing waits.
pub fn ring(text: &[u8]) -> Result<KeyRing, KeyRingError> {
    let (text, providers) = (Secret::from(text.to_vec()), KeyProviders::default());
    let read = pin!(KeyRing::of_text(&text, &providers));
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read,
        Poll::Pending => panic!("a ring without providers waits"),
    }
}

/// Comments, empty lines and white space at the ends of lines change nothing. An accepted ring has each id once, and a line more makes
/// another ring. No error shows a key.
pub fn key_ring(input: &[u8]) {
    // A duplicate is found by comparing each line with all lines before it.
    let input = &input[..input.len().min(16 * 1024)];
    let read = cost::within_limit(|| ring(input));
    let padded = [
        b"# x\n\n",
        &input
            .split(|byte| *byte == b'\n')
            .collect::<Vec<_>>()
            .join(&b" \r\n"[..])[..],
        b"\n#",
    ]
    .concat();
    let again = ring(&padded);
    match (read, again) {
        (Ok(read), Ok(again)) => {
            let ids: Vec<_> = read.ids().collect();
            assert!(!ids.is_empty() && read.first_id() == ids[0]);
            assert_eq!(ids, again.ids().collect::<Vec<_>>());
            for id in &ids {
                assert_eq!(read.check_value(*id), again.check_value(*id));
                assert_eq!(ids.iter().filter(|other| *other == id).count(), 1);
            }
            let twice = [
                input,
                b"\n",
                ids[0].to_string().as_bytes(),
                b" ",
                "ab".repeat(32).as_bytes(),
            ]
            .concat();
            assert!(matches!(ring(&twice), Err(KeyRingError::Twice(id)) if id == ids[0]));
        }
        (Err(error), Err(_)) => {
            let shown = format!("{error} {error:?}");
            let long = input
                .split(|byte| !byte.is_ascii_hexdigit())
                .filter(|part| part.len() >= 32);
            for part in long {
                let part = String::from_utf8_lossy(part);
                assert!(!shown.contains(&*part), "an error shows a key");
            }
        }
        (read, again) => panic!("white space and comments matter: {read:?}, {again:?}"),
    }
}
