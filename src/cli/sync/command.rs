//! The command that runs after a change: at most one at a time.

use std::collections::BTreeSet;
use std::process::ExitStatus;

use tokio::process::{Child, Command as Process};

use super::report;
use super::state::State;

/// The command of `--exec`, and its process.
pub(super) struct Command {
    text: Option<String>,
    running: Option<Child>,
    /// Whether the last run failed. Then the next run waits for a change or for its time.
    waits_after: Option<BTreeSet<String>>,
}

impl Command {
    pub(super) fn new(text: Option<String>) -> Self {
        Self {
            text,
            running: None,
            waits_after: None,
        }
    }

    /// Starts the command if something changed and it does not run. Without a command, the changes are done.
    pub(super) fn start(&mut self, state: &mut State) {
        let Some(text) = &self.text else {
            state.changed.clear();
            return;
        };
        if self.running.is_some() || state.changed.is_empty() || self.waits_after.as_ref() == Some(&state.changed) {
            return;
        }
        let ids: Vec<_> = state.changed.iter().map(String::as_str).collect();
        let name = |id: &&str| {
            state
                .certificates
                .get(*id)
                .map(|kept| kept.name.as_str())
                .unwrap_or_default()
        };
        let names: Vec<_> = ids.iter().map(name).collect();
        let mut process = Process::new("/bin/sh");
        process
            .args(["-c", text])
            .env("CERTKEEP_CHANGED", ids.join(" "))
            .env("CERTKEEP_CHANGED_NAMES", names.join("\n"))
            // The command does not need the access key.
            .env_remove("CERTKEEP_ACCESS_KEY")
            .stdin(std::process::Stdio::null());
        match process.spawn() {
            Ok(child) => {
                self.running = Some(child);
                state.running = std::mem::take(&mut state.changed);
            }
            Err(error) => {
                report(&format!("the command could not be started: {error}"));
                self.waits_after = Some(state.changed.clone());
            }
        }
    }

    /// Waits until the running command has ended. Waits for ever if none runs.
    pub(super) async fn ended(&mut self, state: &mut State) {
        let Some(child) = &mut self.running else {
            return std::future::pending().await;
        };
        let status = child.wait().await;
        self.running = None;
        let changed = std::mem::take(&mut state.running);
        if status.as_ref().is_ok_and(ExitStatus::success) {
            self.waits_after = None;
            return;
        }
        match status {
            Ok(status) => report(&format!("the command failed: {status}")),
            Err(error) => report(&format!("the command could not be waited for: {error}")),
        }
        state.changed.extend(changed.iter().cloned());
        self.waits_after = Some(changed);
    }

    /// Waits until no command runs.
    pub(super) async fn finish(&mut self, state: &mut State) {
        if self.running.is_some() {
            self.ended(state).await;
        }
    }

    /// Allows a failed command to run again.
    pub(super) fn try_again(&mut self) {
        self.waits_after = None;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.waits_after.is_some()
    }

    /// Whether the command has run for all changes.
    pub(super) fn is_done(&self, state: &State) -> bool {
        self.running.is_none() && state.changed.is_empty()
    }
}
