//! The chain of MACs over a trail.
//!
//! The MAC of a seal is HMAC-SHA256 under the service key `audit`, over
//!
//! | octets | content |
//! | --- | --- |
//! | 4 | `seal` |
//! | 32 | the MAC of the seal before; zeros for the first seal of a trail |
//! | 8 | the account |
//! | 1 | the trail: 1 certificates, 2 access |
//! | n | the events |
//!
//! An event is its fields and an octet 0. A field is the number of its column in one octet, the length of its value in 4 octets, and the
//! value. Numbers are big-endian, in 8 octets. Columns that are null are left out, so that a later column does not change the MAC of older
//! events. The numbers of the columns never change.

use super::{AuditSubject, StoredAuditEvent, Trail};
use crate::account::AccountId;
use crate::digest;
use crate::secret::Secret;

/// The MAC of a seal.
pub type ChainMac = [u8; 32];

/// The MAC before the first seal of a trail.
pub const CHAIN_START: ChainMac = [0; 32];

/// The MAC of a seal over these events, which follow the seal with the MAC `before`.
pub fn seal_mac<'a>(
    key: &Secret,
    account: AccountId,
    trail: Trail,
    before: &ChainMac,
    events: impl IntoIterator<Item = &'a StoredAuditEvent>,
) -> ChainMac {
    let mut text = b"seal".to_vec();
    text.extend_from_slice(before);
    text.extend_from_slice(&account.as_i64().to_be_bytes());
    text.push(number(trail));
    for event in events {
        encode(event, &mut text);
    }
    digest::hmac_sha256(key.expose(), &text)
}

/// The MAC that shows that certkeep purged the events of a trail up to the seal at `purged`, which has the MAC `seal`.
pub fn purge_mac(key: &Secret, account: AccountId, trail: Trail, purged: i64, seal: &ChainMac) -> ChainMac {
    let mut text = b"purge".to_vec();
    text.extend_from_slice(&account.as_i64().to_be_bytes());
    text.push(number(trail));
    text.extend_from_slice(&purged.to_be_bytes());
    text.extend_from_slice(seal);
    digest::hmac_sha256(key.expose(), &text)
}

fn number(trail: Trail) -> u8 {
    match trail {
        Trail::Certificates => 1,
        Trail::Access => 2,
    }
}

fn encode(event: &StoredAuditEvent, text: &mut Vec<u8>) {
    let mut field = |column: u8, value: &[u8]| {
        text.push(column);
        text.extend_from_slice(&(value.len() as u32).to_be_bytes()); // A column has at most 1 GB.
        text.extend_from_slice(value);
    };
    // The columns of both tables.
    field(1, &event.position.to_be_bytes());
    field(2, &event.occurred_us.to_be_bytes());
    field(3, event.request_id.as_bytes());
    field(4, event.principal.as_bytes());
    if let Some(address) = &event.address {
        field(5, address.as_bytes());
    }
    if let Some(version) = event.version {
        field(6, &version.to_be_bytes());
    }
    if let Some(detail) = &event.detail {
        field(7, detail.as_bytes());
    }
    match &event.subject {
        AuditSubject::Certificate {
            id,
            kind,
            change,
            revision,
        } => {
            field(16, &id.created.millis().to_be_bytes());
            field(17, &id.random.to_be_bytes());
            field(18, kind.as_str().as_bytes());
            field(19, change.as_bytes());
            field(20, &revision.to_be_bytes());
        }
        AuditSubject::Access {
            method,
            outcome,
            reason,
            resource_type,
            resource_id,
            count,
        } => {
            field(32, method.as_bytes());
            field(33, outcome.as_bytes());
            field(34, reason.as_bytes());
            field(35, resource_type.as_bytes());
            field(36, resource_id.as_bytes());
            field(37, &count.to_be_bytes());
        }
    }
    text.push(0);
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn event() -> StoredAuditEvent {
        StoredAuditEvent {
            account: AccountId::from_i64(1_000_000_000_000_000),
            position: 1,
            occurred_us: 1_700_000_000_000_001,
            request_id: Uuid::from_u128(1),
            principal: "ck1".into(),
            address: Some("192.0.2.1/32".into()),
            version: None,
            detail: Some(r#"{"name": ["a", "b"]}"#.into()),
            subject: AuditSubject::Access {
                method: "UpdateResourceGroup".into(),
                outcome: "done".into(),
                reason: String::new(),
                resource_type: "resource_group".into(),
                resource_id: "rg-1".into(),
                count: 1,
            },
        }
    }

    fn mac(events: &[StoredAuditEvent]) -> ChainMac {
        let account = AccountId::from_i64(1_000_000_000_000_000);
        seal_mac(&Secret::from(vec![7; 32]), account, Trail::Access, &CHAIN_START, events)
    }

    /// Old seals stay valid only if the encoding never changes.
    #[test]
    fn the_encoding_of_an_event_is_frozen() {
        let mut text = Vec::new();
        encode(&event(), &mut text);
        assert_eq!(
            hex::encode(digest::sha256(&text)),
            "697673941ebe324e821d53ab7ca426a5863daea1a851b738d9fd2809e93f0e1f"
        );
        assert_eq!(
            hex::encode(mac(&[event()])),
            "1ce53adcad878d7566520d7f69c0fc4152e045c8604e2b3916fbfe3d4104f36a"
        );
    }

    #[test]
    fn each_change_of_an_event_changes_the_mac() {
        let other = |change: fn(&mut StoredAuditEvent)| {
            let mut event = event();
            change(&mut event);
            mac(&[event])
        };
        for changed in [
            other(|event| event.position = 2),
            other(|event| event.occurred_us += 1),
            other(|event| event.request_id = Uuid::from_u128(2)),
            other(|event| event.principal.clear()),
            other(|event| event.address = None),
            other(|event| event.version = Some(0)),
            other(|event| event.detail = None),
            other(|event| {
                if let AuditSubject::Access { count, .. } = &mut event.subject {
                    *count = 2;
                }
            }),
            // The octets of two fields move from one to the other.
            other(|event| {
                if let AuditSubject::Access { reason, outcome, .. } = &mut event.subject {
                    std::mem::swap(reason, outcome);
                }
            }),
        ] {
            assert_ne!(changed, mac(&[event()]));
        }
        assert_ne!(mac(&[]), mac(&[event()]));
        assert_ne!(mac(&[event(), event()]), mac(&[event()]));
    }
}
