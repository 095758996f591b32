//! The authorization header.

use certkeep::app::AccessKeyText;

use super::cost;

/// An accepted header has a short id of letters and digits, and its line is accepted again as the same key. The scheme has no case.
pub fn authorization(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let read = cost::within_limit(|| AccessKeyText::from_authorization(&text));
    let Some(key) = read else { return };
    let id = key.id();
    assert!(id.starts_with("ck") && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let line = key.to_line();
    let line = std::str::from_utf8(line.expose())
        .expect("the header was text")
        .trim_end_matches('\n');
    assert!(line.len() <= 256);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let again = AccessKeyText::from_authorization(&format!("{scheme} {line}")).expect("the same key");
        assert_eq!(again.id(), id);
        assert_eq!(again.to_line().expose(), key.to_line().expose());
    }
    assert!(AccessKeyText::from_authorization(line).is_none_or(|other| other.id() != id));
}
