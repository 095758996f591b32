//! A change, and the state of its certificate before and after it.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::{CertificateId, CertificateKind, EventMark, StoredCertificate};
use crate::account::AccountId;
use crate::inventory::{CertificateName, RegionId, ResourceGroupId, Tags};
use crate::store::{Present, StoredEvent};

/// A committed change of a certificate.
#[derive(Clone, Debug)]
pub(in crate::app) struct Change {
    /// The event: its position in the account, and the request.
    pub(in crate::app) mark: EventMark,
    /// The certificate.
    pub(in crate::app) id: CertificateId,
    /// The kind of the certificate.
    pub(in crate::app) kind: CertificateKind,
    /// The kind of the change.
    pub(in crate::app) change: ChangeKind,
    /// The version after the change.
    pub(in crate::app) version: i64,
    /// When it happened, in microseconds since 1970.
    pub(in crate::app) occurred_us: i64,
    /// The state before. `None`: the certificate did not exist.
    pub(in crate::app) before: Option<Arc<FilterState>>,
    /// The state after. `None`: the certificate is purged.
    pub(in crate::app) after: Option<Arc<FilterState>>,
    /// The certificate as it was when the change was read: the state after this change, or after a later one. `None`: it is purged.
    pub(in crate::app) certificate: Option<Arc<StoredCertificate>>,
}

impl Change {
    /// The approximate size, in octets.
    pub(super) fn octets(&self) -> usize {
        const FIXED: usize = 512;
        let states = [&self.before, &self.after].into_iter().flatten();
        let tags = states.flat_map(|state| state.tags.iter());
        let tags = tags.map(|tag| tag.key().len() + tag.value().len());
        FIXED + self.certificate.as_deref().map_or(0, StoredCertificate::octets) + tags.sum::<usize>()
    }
}

/// The kind of a change of a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::app) enum ChangeKind {
    Uploaded,
    Renewed,
    RolledBack,
    Renamed,
    Tagged,
    Moved,
    Deleted,
    Undeleted,
    Purged,
    Rejected,
}

impl ChangeKind {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "uploaded" => Self::Uploaded,
            "renewed" => Self::Renewed,
            "rolled_back" => Self::RolledBack,
            "renamed" => Self::Renamed,
            "tagged" => Self::Tagged,
            "moved" => Self::Moved,
            "deleted" => Self::Deleted,
            "undeleted" => Self::Undeleted,
            "purged" => Self::Purged,
            "rejected" => Self::Rejected,
            _ => return None,
        })
    }
}

/// The values of a certificate that filters and scopes look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::app) struct FilterState {
    /// The region never changes.
    pub(in crate::app) region: RegionId,
    pub(in crate::app) name: CertificateName,
    pub(in crate::app) resource_group: ResourceGroupId,
    pub(in crate::app) tags: Tags,
    /// Whether the certificate is live. Otherwise it is deleted, and can be undeleted.
    pub(in crate::app) is_live: bool,
}

impl FilterState {
    /// The values of a stored certificate.
    pub(in crate::app) fn of(stored: &StoredCertificate) -> Self {
        Self {
            region: stored.region.clone(),
            name: stored.name.clone(),
            resource_group: stored.resource_group.clone(),
            tags: stored.tags.clone(),
            is_live: stored.deleted.is_none(),
        }
    }
}

/// The state of a certificate on the way back from the last event of a chunk to the first.
struct Walk {
    certificate: Option<Arc<StoredCertificate>>,
    state: Option<Arc<FilterState>>,
}

/// The changes of consecutive events. The certificates have their present state. From there, the states after each event follow, if the
/// later events are undone one by one.
pub(super) fn changes(account: AccountId, events: &mut [StoredEvent]) -> Vec<Change> {
    let mut walks: HashMap<CertificateId, Walk> = HashMap::new();
    let mut changes: Vec<_> = events
        .iter_mut()
        .rev()
        .filter_map(|event| {
            if let Some(present) = event.present.take() {
                walks.insert(event.id, Walk::start(account, event, present));
            }
            let walk = walks.get_mut(&event.id)?;
            let kind = ChangeKind::from_name(&event.change)?;
            let detail = event.detail.as_deref().map(serde_json::from_str::<Value>);
            let detail = detail.and_then(Result::ok).unwrap_or_default();
            let (before, after) = walk.step_back(account, kind, &detail);
            Some(Change {
                mark: event.mark,
                id: event.id,
                kind: event.kind,
                change: kind,
                version: event.version,
                occurred_us: event.occurred_us,
                before,
                after,
                certificate: walk.certificate.clone(),
            })
        })
        .collect();
    changes.reverse();
    changes
}

impl Walk {
    /// The state after the last event of a chunk. If that is the purge, the state before it.
    fn start(account: AccountId, event: &StoredEvent, present: Present) -> Self {
        let certificate = present.certificate.map(Arc::new);
        let of_row = certificate.as_deref().map(FilterState::of);
        // The detail of the purge stands in for the row.
        let detail = event.detail.as_deref().filter(|_| event.change == "purged");
        let detail = detail.and_then(|detail| serde_json::from_str::<Value>(detail).ok());
        let field = |later: Option<String>, name: &str| {
            let later = later.and_then(|json| serde_json::from_str(&json).ok());
            later.or_else(|| Some(detail.as_ref()?.get(name)?.get(0)?.clone()))
        };
        let region = field(present.region, "region_id");
        let name = field(present.name, "name");
        let group = field(present.resource_group, "resource_group_id");
        let tags = field(present.tags, "tags");
        let state = || {
            let row = of_row.as_ref();
            Some(FilterState {
                region: row
                    .map(|row| row.region.clone())
                    .or_else(|| Some(RegionId::from_stored(region?.as_str()?.to_owned())))?,
                name: name
                    .as_ref()
                    .and_then(name_of)
                    .or_else(|| row.map(|row| row.name.clone()))?,
                resource_group: group
                    .as_ref()
                    .map(|group| group_of(account, group))
                    .or_else(|| row.map(|row| row.resource_group.clone()))?,
                tags: tags.as_ref().map(tags_of).or_else(|| row.map(|row| row.tags.clone()))?,
                is_live: present.is_live,
            })
        };
        let state = state().map(Arc::new);
        if state.is_none() {
            tracing::error!(certificate = %event.id, "the event trail lacks the last state of a purged certificate");
        }
        Self { certificate, state }
    }

    /// The states before and after an event. The walk goes on with the state before it.
    fn step_back(
        &mut self,
        account: AccountId,
        kind: ChangeKind,
        detail: &Value,
    ) -> (Option<Arc<FilterState>>, Option<Arc<FilterState>>) {
        let after = match kind {
            ChangeKind::Purged => None,
            _ => self.state.clone(),
        };
        if let Some(state) = &mut self.state {
            let old = |name: &str| detail.get(name)?.get(0);
            match kind {
                ChangeKind::Renamed => {
                    if let Some(name) = old("name").and_then(name_of) {
                        Arc::make_mut(state).name = name;
                    }
                }
                ChangeKind::Moved => {
                    if let Some(group) = old("resource_group_id") {
                        Arc::make_mut(state).resource_group = group_of(account, group);
                    }
                }
                ChangeKind::Tagged => {
                    if let Some(tags) = old("tags") {
                        Arc::make_mut(state).tags = tags_of(tags);
                    }
                }
                ChangeKind::Deleted => Arc::make_mut(state).is_live = true,
                ChangeKind::Undeleted => Arc::make_mut(state).is_live = false,
                ChangeKind::Uploaded => self.state = None,
                ChangeKind::Purged | ChangeKind::Renewed | ChangeKind::RolledBack | ChangeKind::Rejected => {}
            }
        }
        (self.state.clone(), after)
    }
}

fn name_of(json: &Value) -> Option<CertificateName> {
    Some(CertificateName::from_stored(json.as_str()?.to_owned()))
}

/// The default group is null.
fn group_of(account: AccountId, json: &Value) -> ResourceGroupId {
    ResourceGroupId::from_stored(account, json.as_str().map(str::to_owned))
}

fn tags_of(json: &Value) -> Tags {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pairs = json.as_object().into_iter().flatten();
    let mut pairs: Vec<_> = pairs.map(|(key, value)| (key.clone(), text(value))).collect();
    pairs.sort_unstable();
    Tags::from_stored(pairs)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::clock::Timestamp;

    const ACCOUNT: i64 = 1_000_000_000_000_000;

    fn event(position: i64, change: &str, detail: Option<&str>) -> StoredEvent {
        StoredEvent {
            mark: EventMark {
                position,
                request_id: Uuid::from_u128(1),
            },
            id: CertificateId::new(AccountId::from_i64(ACCOUNT), Timestamp::from_millis(1), [0; 8]),
            kind: CertificateKind::Server,
            change: change.to_owned(),
            version: 1,
            occurred_us: 0,
            detail: detail.map(str::to_owned),
            present: None,
        }
    }

    /// The states before and after each event, as short texts.
    fn states(mut events: Vec<StoredEvent>, present: Present) -> Vec<[String; 2]> {
        events.last_mut().unwrap().present = Some(present);
        let text = |state: Option<Arc<FilterState>>| match state {
            None => "-".to_owned(),
            Some(state) => {
                let tags: Vec<_> = state.tags.iter().map(|tag| tag.value().to_owned()).collect();
                let live = if state.is_live { "live" } else { "deleted" };
                format!(
                    "{} {} {} {live}",
                    state.name.as_str(),
                    state.resource_group,
                    tags.concat()
                )
            }
        };
        changes(AccountId::from_i64(ACCOUNT), &mut events)
            .into_iter()
            .map(|change| [text(change.before), text(change.after)])
            .collect()
    }

    /// The certificate is purged: every state follows from the events.
    #[test]
    fn later_events_are_undone_one_by_one() {
        let events = vec![
            event(1, "uploaded", None),
            event(2, "renamed", Some(r#"{"name": ["a", "b"]}"#)),
            event(3, "moved", Some(r#"{"resource_group_id": [null, "rg-x"]}"#)),
            event(4, "tagged", Some(r#"{"tags": [{"k": "1"}, {"k": "2"}]}"#)),
            event(5, "deleted", None),
            event(
                6,
                "purged",
                Some(
                    r#"{"region_id": ["r", null], "name": ["b", null], "resource_group_id": ["rg-x", null], "tags": [{"k": "old"}, null]}"#,
                ),
            ),
        ];
        let present = Present {
            certificate: None,
            name: None,
            resource_group: None,
            // The last change of the tags counts, and not the row of the purge.
            tags: Some(r#"{"k": "2"}"#.to_owned()),
            region: Some(r#""r""#.to_owned()),
            is_live: false,
        };
        let group = format!("rg-{ACCOUNT}");
        let expected = [
            "-".to_owned(),
            format!("a {group} 1 live"),
            format!("b {group} 1 live"),
            "b rg-x 1 live".to_owned(),
            "b rg-x 2 live".to_owned(),
            "b rg-x 2 deleted".to_owned(),
            "-".to_owned(),
        ];
        let expected: Vec<_> = expected
            .windows(2)
            .map(|pair| [pair[0].clone(), pair[1].clone()])
            .collect();
        assert_eq!(states(events, present), expected);
    }

    #[test]
    fn a_chunk_that_ends_before_later_changes_has_the_values_before_them() {
        let present = Present {
            certificate: None,
            name: Some(r#""b""#.to_owned()),
            resource_group: Some("null".to_owned()),
            tags: Some("{}".to_owned()),
            region: Some(r#""r""#.to_owned()),
            is_live: true,
        };
        let renamed = event(7, "renamed", Some(r#"{"name": ["a", "b"]}"#));
        let group = format!("rg-{ACCOUNT}");
        assert_eq!(
            states(vec![renamed], present),
            [[format!("a {group}  live"), format!("b {group}  live")]]
        );
    }
}
