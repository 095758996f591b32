//! Remarkable facts about the blocks of a text.

use super::FindingKind;
use super::finding::DroppedBlock;
use super::pem::{Block, Label};
use super::rules::Findings;

/// What is noted about the blocks of a text, each thing once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct TextNotes {
    /// The labels that mislabelled blocks should have.
    right_labels: Vec<&'static str>,
    dropped: Vec<DroppedBlock>,
}

impl TextNotes {
    /// Notes a wrong label, and whether the block is left out. The answer is whether it is.
    pub(super) fn see(&mut self, block: &Block<'_>) -> bool {
        let name = block.label.name();
        if block.is_mislabelled && !self.right_labels.contains(&name) {
            self.right_labels.push(name);
        }
        match block.label {
            Label::Harmless(kind) => {
                self.drop(kind);
                true
            }
            _ => false,
        }
    }

    /// Notes that blocks of this kind are left out.
    pub(super) fn drop(&mut self, kind: DroppedBlock) {
        if !self.dropped.contains(&kind) {
            self.dropped.push(kind);
        }
    }

    /// The first kind that is left out.
    pub(super) fn first_dropped(&self) -> Option<DroppedBlock> {
        self.dropped.first().copied()
    }

    /// Adds the notes about another text.
    pub(super) fn add(&mut self, other: Self) {
        for name in other.right_labels {
            if !self.right_labels.contains(&name) {
                self.right_labels.push(name);
            }
        }
        for kind in other.dropped {
            self.drop(kind);
        }
    }

    pub(super) fn tell(&self, findings: &mut Findings<'_>) {
        for right in &self.right_labels {
            findings.note(FindingKind::LabelWrong { right }, None);
        }
        for block in &self.dropped {
            findings.note(FindingKind::BlockDropped { block: *block }, None);
        }
    }
}
