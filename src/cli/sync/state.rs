//! The state that `certkeep sync` keeps between two processes: a file beside the certificates.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// The state of a folder. It has no secret.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct State {
    /// The filters of the watch that the token belongs to.
    pub(super) filter: String,
    pub(super) resume_token: String,
    /// By id.
    pub(super) certificates: BTreeMap<String, Kept>,
    /// The certificates that changed since the command last succeeded.
    pub(super) changed: BTreeSet<String>,
    /// The changed certificates that the command runs for. In the file they are among `changed`, because a process that is killed leaves
    /// its command undone.
    pub(super) running: BTreeSet<String>,
    /// The mode and the owner of the files.
    pub(super) access: String,
    /// The names of the links.
    pub(super) links: BTreeSet<String>,
}

/// A certificate in the folder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Kept {
    /// The version in the folder; 0: none.
    pub(super) version: i64,
    pub(super) name: String,
    /// Whether it was deleted or matches no longer. Its files are kept.
    pub(super) is_gone: bool,
}

impl State {
    pub(super) fn to_text(&self) -> String {
        let certificate = |(id, kept): (&String, &Kept)| {
            let value = json!({"version": kept.version, "name": kept.name, "gone": kept.is_gone});
            (id.clone(), value)
        };
        let certificates: serde_json::Map<_, _> = self.certificates.iter().map(certificate).collect();
        let value = json!({
            "filter": self.filter,
            "resume_token": self.resume_token,
            "certificates": certificates,
            "changed": self.changed.union(&self.running).collect::<Vec<_>>(),
            "access": self.access,
            "links": self.links,
        });
        format!("{value:#}\n")
    }

    /// Reads a state. A file that is damaged is no state: everything is then looked at again.
    pub(super) fn from_text(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let set = |value: &Value| value.as_array().into_iter().flatten().map(string).collect();
        let kept = |value: &Value| Kept {
            version: value["version"].as_i64().unwrap_or_default(),
            name: string(&value["name"]),
            is_gone: value["gone"] == true,
        };
        let certificates = value["certificates"].as_object().into_iter().flatten();
        Self {
            filter: string(&value["filter"]),
            resume_token: string(&value["resume_token"]),
            certificates: certificates.map(|(id, value)| (id.clone(), kept(value))).collect(),
            changed: set(&value["changed"]),
            running: BTreeSet::new(),
            access: string(&value["access"]),
            links: set(&value["links"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let kept = Kept {
            version: 3,
            name: "www \"1\"".into(),
            is_gone: true,
        };
        let state = State {
            filter: "f".into(),
            resume_token: "t".into(),
            certificates: [("id".to_owned(), kept)].into(),
            changed: ["id".to_owned()].into(),
            running: BTreeSet::new(),
            access: "640 None".into(),
            links: ["web".to_owned()].into(),
        };
        assert_eq!(State::from_text(&state.to_text()), state);
        let running = State {
            changed: BTreeSet::new(),
            running: ["id".to_owned()].into(),
            ..State::from_text(&state.to_text())
        };
        assert_eq!(State::from_text(&running.to_text()), state);
        assert_eq!(State::from_text("damaged"), State::default());
    }
}
