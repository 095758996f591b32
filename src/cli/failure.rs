//! A failed command: its text for people, its JSON for programs, and the exit code for scripts.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::document::json_text;
use super::print;
use super::service_error::ServiceError;
use crate::telemetry::causes;

/// A failed command: the text to print, and the exit code for scripts.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    /// The first line is the message. The lines of a service's error follow.
    pub(super) text: String,
    /// The error of the service, if the service caused the failure.
    service_error: Option<Box<ServiceError>>,
}

impl Failure {
    /// The service refused the call, or the command failed.
    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self::new(1, text)
    }

    /// The command line is wrong. clap exits with the same code.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self::new(2, text)
    }

    /// The service can't be reached or is unavailable, or another call holds the resource. Nothing was changed. A retry may help.
    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(3, text)
    }

    /// It is unknown whether the call took effect. The user must check before a retry.
    pub(super) fn unknown(text: impl Into<String>) -> Self {
        Self::new(4, text)
    }

    /// Whether a retry may help.
    pub(super) fn is_unavailable(&self) -> bool {
        self.code == 3
    }

    /// Standard output already has everything.
    pub(super) fn silent(code: u8) -> Self {
        Self::new(code, "")
    }

    /// An error and its causes.
    pub(super) fn from_error(error: &dyn std::error::Error) -> Self {
        Self::refused(causes(error))
    }

    fn new(code: u8, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            service_error: None,
        }
    }

    /// Adds the error of the service.
    pub(super) fn because_of(self, error: ServiceError) -> Self {
        Self {
            service_error: Some(Box::new(error)),
            ..self
        }
    }

    /// Prints the failure on standard error, as text or as one line of JSON. If that is closed, nobody can read it.
    pub(super) fn report(&self, arguments: &[OsString]) {
        if self.text.is_empty() {
            return;
        }
        if wants_document(arguments) {
            let _ = writeln!(io::stderr(), "{}", json_text(&self.json()));
        } else {
            print::error(&self.text);
        }
    }

    fn json(&self) -> Value {
        let nothing = ServiceError::default();
        let error = self.service_error.as_deref().unwrap_or(&nothing);
        let message = match self.service_error {
            Some(_) => self.text.lines().next().unwrap_or_default(),
            None => self.text.as_str(),
        };
        json!({"error": {
            "exitCode": self.code,
            "message": message,
            "code": error.code,
            "reason": error.reason,
            "violations": error.violations.iter().map(|wrong| json!({
                "field": wrong.field,
                "reason": wrong.reason,
                "message": wrong.message,
            })).collect::<Value>(),
            "findings": error.findings_json(),
            "metadata": error.metadata,
            "requestId": error.request_id,
        }})
    }
}

/// Whether the command line asks for an answer that programs read. Errors then have the same form.
fn wants_document(arguments: &[OsString]) -> bool {
    let texts: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let flags = texts.iter().position(|text| text == "--").unwrap_or(texts.len());
    let is_document = |value: &str| ["json", "jsonl", "yaml"].contains(&value);
    let texts = &texts[..flags];
    texts
        .iter()
        .any(|text| text.strip_prefix("--output=").is_some_and(is_document))
        || texts
            .windows(2)
            .any(|pair| pair[0] == "--output" && is_document(&pair[1]))
}

/// Prints a help text, or says what is wrong with the command line. Returns the exit code.
pub(super) fn of_arguments(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    if error.use_stderr() && wants_document(arguments) {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim();
        Failure::new(code, text).report(arguments);
    } else {
        // If the output is closed, nobody can read the text.
        let _ = error.print();
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_json() {
        let wants = |line: &str| wants_document(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in [
            "get a --output json",
            "get a --output=yaml",
            "watch --output jsonl --region x",
        ] {
            assert!(wants(line), "{line}");
        }
        for line in [
            "get a",
            "get a --output table",
            "get json",
            "get --out json",
            "get -- --output json",
        ] {
            assert!(!wants(line), "{line}");
        }
        let failure = Failure::usage("a \u{202e} b\n  c");
        assert_eq!(
            json_text(&failure.json()),
            r#"{"error":{"code":"","exitCode":2,"findings":[],"message":"a \u202e b\n  c","metadata":{},"reason":"","requestId":"","violations":[]}}"#
        );
    }
}
