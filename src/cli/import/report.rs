//! What became of each file.

use std::path::Path;

use serde_json::{Value, json};

use super::super::Failure;
use super::super::print::{self, ListOutput, plain};
use crate::grpc::pb;

/// What became of a pair, or of a file that is part of none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It is stored now.
    Uploaded,
    /// It would be stored: of a dry run.
    Accepted,
    /// The region held its certificate before the import began.
    AlreadyThere,
    /// What the file holds is in another one, which is uploaded.
    Duplicate,
    /// The service refused it, or its files changed.
    Refused,
    NoKey,
    NoCertificate,
    Unreadable,
    /// The service was not available, or the import was told to stop.
    NotSent,
}

impl State {
    /// All, in the order of the summary.
    const ALL: [Self; 9] = [
        Self::Uploaded,
        Self::Accepted,
        Self::AlreadyThere,
        Self::Duplicate,
        Self::Refused,
        Self::NoKey,
        Self::NoCertificate,
        Self::Unreadable,
        Self::NotSent,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Accepted => "accepted",
            Self::AlreadyThere => "already there",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::NoKey => "no key",
            Self::NoCertificate => "no certificate",
            Self::Unreadable => "unreadable",
            Self::NotSent => "not sent",
        }
    }

    /// As programs read it.
    fn code(self) -> String {
        self.as_str().replace(' ', "_")
    }
}

/// A line of the report.
pub(super) struct Entry {
    pub(super) state: State,
    /// The certificate file, and behind it that of the key if it is another.
    pub(super) files: Vec<String>,
    pub(super) id: String,
    pub(super) name: String,
    /// Why it is not stored, as the service's errors name it; empty where none of them fits.
    pub(super) reason: String,
    /// The same for people; of a duplicate, which file it is one of.
    pub(super) message: String,
    pub(super) findings: Vec<pb::Finding>,
}

impl Entry {
    pub(super) fn new<'a>(state: State, files: impl IntoIterator<Item = &'a Path>) -> Self {
        let files = files.into_iter().map(|path| path.display().to_string());
        Self {
            state,
            files: files.collect(),
            id: String::new(),
            name: String::new(),
            reason: String::new(),
            message: String::new(),
            findings: Vec::new(),
        }
    }

    /// With why it is not stored.
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
            "id": self.id,
            "name": self.name,
            "reason": self.reason,
            "message": self.message,
            "findings": self.findings.iter().map(print::code).collect::<Vec<_>>(),
        })
    }
}

/// What became of all, the files by their paths.
pub(super) struct Report {
    pub(super) entries: Vec<Entry>,
    /// How many files hold neither certificate nor private key.
    pub(super) ignored: usize,
    pub(super) was_interrupted: bool,
}

impl Report {
    fn count(&self, state: State) -> usize {
        self.entries.iter().filter(|entry| entry.state == state).count()
    }

    pub(super) fn print(&self, output: ListOutput) -> Result<(), Failure> {
        let counts = State::ALL.map(|state| (state, self.count(state)));
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        match output {
            ListOutput::Table => {
                let mut text: String = self.entries.iter().map(|entry| entry.line() + "\n").collect();
                let counts = counts.map(|(state, count)| format!("{count} {}", state.as_str()));
                let ignored = format!("{} ignored", self.ignored);
                text.push_str(&counts.chain([ignored]).collect::<Vec<_>>().join(", "));
                text.push('\n');
                print::print(&text)
            }
            ListOutput::Json => {
                let mut summary: serde_json::Map<_, _> =
                    counts.map(|(state, count)| (state.code(), json!(count))).collect();
                summary.insert("ignored".to_owned(), json!(self.ignored));
                let entries: Vec<_> = self.entries.iter().map(Entry::json).collect();
                let document = json!({
                    "results": entries,
                    "summary": summary,
                    "interrupted": self.was_interrupted,
                });
                print::print(&format!("{document:#}\n"))
            }
        }
    }

    pub(super) fn exit_code(&self) -> Result<(), Failure> {
        let missed = [State::Refused, State::NoKey, State::NoCertificate, State::Unreadable];
        if self.was_interrupted {
            // 128 and the number of SIGINT, as shells have it.
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
