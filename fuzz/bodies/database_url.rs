//! The database URL, in both forms.

use certkeep::store::check_database_url;

use super::cost;

/// A password that no error may show.
const PASSWORD: &str = "hunter2hunter2";

/// No error shows a part of the URL.
pub fn database_url(input: &[u8]) {
    let input = &input[..input.len().min(16 * 1024)];
    let text = String::from_utf8_lossy(input);
    for url in [
        text.clone().into_owned(),
        format!("postgres://u:{PASSWORD}@{text}"),
        format!("password={PASSWORD} {text}"),
        format!("{text} password='{PASSWORD}'"),
        format!("{text}&password={PASSWORD}"),
    ] {
        if let Err(error) = cost::within_limit(|| check_database_url(&url)) {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(PASSWORD), "an error shows the password");
        }
    }
}
