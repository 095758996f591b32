//! The result of an import, per file.

use std::path::Path;

use serde_json::{Value, json};

use super::super::Failure;
use super::super::print::{self, ListOutput, plain};
use crate::app::FileFormat;
use crate::grpc::pb;

/// The result for a pair, or for a file that is in no pair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// The pair is stored.
    Uploaded,
    /// The pair would be stored (dry run).
    Accepted,
    /// A stored certificate has the pair now.
    Renewed,
    /// A stored certificate would get the pair (dry run).
    ToBeRenewed,
    /// The region contained the certificate before the import.
    AlreadyThere,
    /// A newer pair with the same names is in the folder or in the region.
    Older,
    /// Another file contains the same and is uploaded.
    Duplicate,
    /// The server refused the pair, or a file changed.
    Refused,
    NoKey,
    NoCertificate,
    Unreadable,
    /// The server was unavailable, or the import was interrupted.
    NotSent,
    /// The file has only certificates of CAs.
    Authority,
    /// The pair of a CA.
    AuthorityPair,
    /// The file holds neither a certificate nor a private key.
    Ignored,
}

impl State {
    /// All states, in the order of the summary. It always tells the last one.
    const ALL: [Self; 15] = [
        Self::Uploaded,
        Self::Accepted,
        Self::Renewed,
        Self::ToBeRenewed,
        Self::AlreadyThere,
        Self::Older,
        Self::Duplicate,
        Self::Refused,
        Self::NoKey,
        Self::NoCertificate,
        Self::Unreadable,
        Self::NotSent,
        Self::Authority,
        Self::AuthorityPair,
        Self::Ignored,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Accepted => "accepted",
            Self::Renewed => "renewed",
            Self::ToBeRenewed => "to be renewed",
            Self::AlreadyThere => "already there",
            Self::Older => "older",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::NoKey => "no key",
            Self::NoCertificate => "no certificate",
            Self::Unreadable => "unreadable",
            Self::NotSent => "not sent",
            Self::Authority => "CA certificate",
            Self::AuthorityPair => "CA pair",
            Self::Ignored => "ignored",
        }
    }

    /// The state in JSON.
    fn code(self) -> String {
        self.as_str().replace(' ', "_").to_lowercase()
    }
}

/// A line of the report.
pub(super) struct Entry {
    pub(super) state: State,
    /// The certificate file, then the files of issuers, then the key file if it is another file.
    pub(super) files: Vec<String>,
    /// The format of a file that is not taken.
    pub(super) format: Option<FileFormat>,
    pub(super) id: String,
    pub(super) name: String,
    /// The reason of the server's error. Empty if there is none.
    pub(super) reason: String,
    /// The message of the error. For a duplicate, the other file. For an older pair, the newer one.
    pub(super) message: String,
    pub(super) findings: Vec<pb::Finding>,
}

impl Entry {
    pub(super) fn new<'a>(state: State, files: impl IntoIterator<Item = &'a Path>) -> Self {
        let files = files.into_iter().map(|path| path.display().to_string());
        Self {
            state,
            files: files.collect(),
            format: None,
            id: String::new(),
            name: String::new(),
            reason: String::new(),
            message: String::new(),
            findings: Vec::new(),
        }
    }

    /// Adds the certificate.
    pub(super) fn about(self, id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            ..self
        }
    }

    /// Adds the reason and the message.
    pub(super) fn because(self, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
            ..self
        }
    }

    fn line(&self) -> String {
        let mut line = format!("{:<14}  {}", self.state.as_str(), self.files.join(" + "));
        let why = match (self.reason.as_str(), self.message.as_str()) {
            ("", message) => message.to_owned(),
            (reason, message) => format!("{reason}: {message}"),
        };
        let warnings = self.findings.iter();
        let warnings = match warnings
            .filter(|finding| finding.severity() == pb::Severity::Warning)
            .count()
        {
            0 => String::new(),
            1 => "1 warning".to_owned(),
            count => format!("{count} warnings"),
        };
        for part in [&self.id, &why, &warnings] {
            if !part.is_empty() {
                line.push_str(&format!("  {part}"));
            }
        }
        plain(&line)
    }

    fn json(&self) -> Value {
        json!({
            "state": self.state.code(),
            "files": self.files,
            "format": self.format.map(|format| format.to_string()).unwrap_or_default(),
            "id": self.id,
            "name": self.name,
            "reason": self.reason,
            "message": self.message,
            "findings": self.findings.iter().map(print::code).collect::<Vec<_>>(),
        })
    }
}

/// The results of all files, sorted by path.
pub(super) struct Report {
    pub(super) entries: Vec<Entry>,
    pub(super) was_interrupted: bool,
}

impl Report {
    fn count(&self, state: State) -> usize {
        self.entries.iter().filter(|entry| entry.state == state).count()
    }

    pub(super) fn print(&self, output: ListOutput) -> Result<(), Failure> {
        let counts = State::ALL.map(|state| (state, self.count(state)));
        let counts = counts
            .into_iter()
            .filter(|(state, count)| *count > 0 || *state == State::Ignored);
        match output.document() {
            None if self.entries.is_empty() => Ok(()),
            None => {
                let mut text: String = self.entries.iter().map(|entry| entry.line() + "\n").collect();
                let counts = counts.map(|(state, count)| format!("{count} {}", state.as_str()));
                text.push_str(&counts.collect::<Vec<_>>().join(", "));
                text.push('\n');
                print::print(&text)
            }
            Some(format) => {
                let summary: serde_json::Map<_, _> =
                    counts.map(|(state, count)| (state.code(), json!(count))).collect();
                let entries: Vec<_> = self.entries.iter().map(Entry::json).collect();
                let document = json!({
                    "results": entries,
                    "summary": summary,
                    "interrupted": self.was_interrupted,
                });
                format.print_value(document)
            }
        }
    }

    pub(super) fn exit_code(&self) -> Result<(), Failure> {
        let missed = [State::Refused, State::NoKey, State::NoCertificate, State::Unreadable];
        if self.was_interrupted {
            // 128 plus the number of SIGINT, as in shells.
            Err(Failure::silent(130))
        } else if self.count(State::NotSent) > 0 {
            Err(Failure::silent(3))
        } else if missed.iter().any(|state| self.count(*state) > 0) {
            Err(Failure::silent(1))
        } else {
            Ok(())
        }
    }
}
