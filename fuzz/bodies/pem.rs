//! PEM text.

use certkeep::app::FieldError;
use certkeep::certificate::{Contents, Policy, Sha256Fingerprint};
use certkeep::secret::Secret;

use super::{AT, MAX_CERTIFICATES, again, cost};

/// The input is a text. It is given as the certificates, with and without the same text as the key. Its line ends must not
/// matter. The report must find the same certificates as [`Contents`], which `certkeep import` uses to search files.
pub fn pem(text: &[u8]) {
    if text.len() > MAX_CERTIFICATES {
        return;
    }
    let contents = cost::within_limit(|| Contents::of(text));
    if let Some(error) = &contents.error {
        assert!(!again::words(FieldError::Certificate(error.clone())).contains(char::is_control));
    }
    let lines: Vec<_> = text
        .iter()
        .map(|byte| if *byte == b'\r' { b'\n' } else { *byte })
        .collect();
    let mark = b"\xef\xbb\xbf";
    let marked = if text.starts_with(mark) {
        text.to_vec()
    } else {
        [mark, text].concat()
    };
    for other in [lines, marked, [text, b"\n"].concat()] {
        assert_eq!(Contents::of(&other), contents);
    }

    let policy = Policy::default();
    for key in [Secret::from(Vec::new()), Secret::from(text.to_vec())] {
        let report = again::report(text, &key, AT, &policy);
        if report.error.certificate.is_empty() {
            assert_eq!(contents.error, None);
            let chain = report.chain.as_ref().expect("certificates without a fault have a leaf");
            for der in chain.der() {
                let fingerprint = Sha256Fingerprint::of_der(der);
                assert!(
                    contents
                        .certificates
                        .iter()
                        .any(|found| found.fingerprint == fingerprint)
                );
            }
        }
    }
    let none = Secret::from(Vec::new());
    match again::verify(text, &none, AT, &policy) {
        Some((pair, first)) => again::pair(&pair, &first, AT, &policy),
        None => again::chain(&again::report(text, &none, AT, &policy), &none, AT, &policy),
    }
}
