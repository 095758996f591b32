//! An error with its causes, for the log.

use std::error::Error;

/// The error and all its causes in one line, separated by colons.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some libraries repeat the cause in their own message.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{message}")]
    struct Outer {
        message: &'static str,
        source: io::Error,
    }

    #[test]
    fn every_cause_is_told_once() {
        let text = |message| {
            let source = io::Error::other("disk full");
            causes(&Outer { message, source })
        };
        assert_eq!(text("cannot write"), "cannot write: disk full");
        assert_eq!(text("cannot write: disk full"), "cannot write: disk full");
    }
}
