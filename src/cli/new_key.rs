//! The secret of a new access key: to a file, or to standard output.

use std::path::PathBuf;

use clap::Args;
use prost::Message;

use super::Failure;
use super::print::{self, ListOutput, line, lines, millis, moment, role, scope};
use crate::clock;
use crate::grpc::pb;
use crate::secret::{Existing, Secret};

#[derive(Args)]
pub(super) struct NewKeyArgs {
    /// New file for the access key: one line, `<id>.<secret>`, mode 0600. `--access-key-file` accepts it. Default: standard output,
    /// which then has this line only.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Output format. Without --secret-file, the JSON contains the secret.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

/// The answer to a call that creates a key.
pub(super) trait Created: Message {
    /// The name of the message in the schema.
    const NAME: &'static str;
    /// The key, and its secret.
    fn key(&mut self) -> (Option<&pb::AccessKey>, &mut String);
    /// The lines before the key.
    fn before(&self) -> Vec<String> {
        Vec::new()
    }
}

impl NewKeyArgs {
    /// Refuses a file that exists, before a key is created whose secret could not be written.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match &self.secret_file {
            Some(file) if file.exists() => Err(Failure::usage(format!("{} exists: name a new file", file.display()))),
            _ => Ok(()),
        }
    }

    /// Writes the secret and prints the key.
    pub(super) fn print<T: Created>(&self, mut answer: T) -> Result<(), Failure> {
        if let (None, Some(document)) = (&self.secret_file, self.output.document()) {
            return document.print(T::NAME, &answer);
        }
        let (key, secret) = answer.key();
        let id = key.map(|key| key.access_key_id.clone()).unwrap_or_default();
        let secret = Secret::from(std::mem::take(secret));
        let text = Secret::from([id.as_bytes(), b".", secret.expose(), b"\n"].concat());
        let Some(file) = &self.secret_file else {
            return print::print(&String::from_utf8_lossy(text.expose()));
        };
        text.write(file, Existing::Keep).map_err(|error| {
            Failure::refused(format!(
                "the access key {id} was created, and it cannot be written to {}: {error}; disable and delete it, and create another \
                 one",
                file.display()
            ))
        })?;
        match self.output.document() {
            Some(document) => document.print(T::NAME, &answer),
            None => {
                let mut shown = answer.before();
                if let Some(key) = answer.key().0 {
                    shown.extend(key_lines(key));
                }
                shown.push(line("written to", &file.display().to_string()));
                lines(&shown)
            }
        }
    }
}

/// A key without its last use.
pub(super) fn key_lines(key: &pb::AccessKey) -> Vec<String> {
    vec![
        line("access key", &key.access_key_id),
        line("role", &role(key.role())),
        line("state", state(key)),
        line("scope", &scope(key.scope.as_ref())),
        line("description", &key.description),
        line("created", &moment(key.create_time)),
        line("created by", &key.created_by),
        line("expires", &moment(key.expire_time)),
        line("can sign", if key.can_sign { "yes" } else { "no" }),
    ]
}

/// Whether a key works.
pub(super) fn state(key: &pb::AccessKey) -> &'static str {
    let has_expired = key.expire_time.is_some() && millis(key.expire_time) <= clock::now().millis();
    match (key.disabled, has_expired) {
        (true, _) => "disabled",
        (false, true) => "expired",
        (false, false) => "enabled",
    }
}
