//! The events of an account's two audit trails, as they are stored.

use tokio_postgres::Row;
use uuid::Uuid;

use super::{Error, Statement, Store};
use crate::account::AccountId;
use crate::inventory::{CertificateId, CertificateKind};

/// An audit trail of an account. Its positions begin at 1 and have no gaps.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Trail {
    /// The changes of certificates: the table `event`.
    Certificates,
    /// Everything else: the table `audit_event`.
    Access,
}

impl Trail {
    /// Both trails.
    pub const ALL: [Self; 2] = [Self::Certificates, Self::Access];

    /// The trail's name in the database and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::Access => "access",
        }
    }

    /// The trail of this name.
    pub(super) fn from_name(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|trail| trail.as_str() == name);
        found.ok_or(Error::Row("stream"))
    }
}

/// The state of a trail.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrailState {
    /// The position of the last event. 0: there was no event yet.
    pub position: i64,
    /// Events up to this position are no longer kept.
    pub purged: i64,
    /// The MAC over `purged` and its seal. `None` if nothing was purged.
    pub purge_mac: Option<Vec<u8>>,
}

/// A stored audit event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredAuditEvent {
    /// The account whose trail has the event.
    pub account: AccountId,
    /// Its place in its trail.
    pub position: i64,
    /// When it was written, in microseconds since 1970.
    pub occurred_us: i64,
    /// The request.
    pub request_id: Uuid,
    /// Who called. Empty: the service itself, or a command on its host.
    pub principal: String,
    /// The caller's address with the length of its network, such as `192.0.2.1/32`.
    pub address: Option<String>,
    /// The version of the certificate.
    pub version: Option<i64>,
    /// The old and the new values, as JSON: `{"name": ["old", "new"]}`.
    pub detail: Option<String>,
    /// What the event is about. It tells the trail.
    pub subject: AuditSubject,
}

/// What an audit event is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuditSubject {
    /// A change of a certificate.
    Certificate {
        /// The certificate.
        id: CertificateId,
        /// Its kind.
        kind: CertificateKind,
        /// The change, such as `renamed`.
        change: String,
        /// The revision of the certificate after the change.
        revision: i64,
    },
    /// Something else.
    Access {
        /// The method, or the command.
        method: String,
        /// `done`, `denied` or `delivered`.
        outcome: String,
        /// The reason of a denial.
        reason: String,
        /// The type of the resource, such as `access_key`. Can be empty.
        resource_type: String,
        /// The id of the resource. Can be empty.
        resource_id: String,
        /// The number of calls that the event stands for.
        count: i64,
    },
}

/// The columns of a certificate event.
macro_rules! certificate_event {
    () => {
        "select account_id, position, created_ms, random, certificate_kind, kind, revision, version, principal, request_id,
           address::text as address, (extract(epoch from occurred_at) * 1000000)::bigint as occurred_us, detail::text as detail "
    };
}
pub(super) use certificate_event;

/// The columns of another event.
macro_rules! access_event {
    () => {
        "select account_id, position, method, outcome, reason, resource_type, resource_id, version, count, principal, request_id,
           address::text as address, (extract(epoch from occurred_at) * 1000000)::bigint as occurred_us, detail::text as detail "
    };
}
pub(super) use access_event;

impl StoredAuditEvent {
    /// The trail that has the event.
    pub fn trail(&self) -> Trail {
        match self.subject {
            AuditSubject::Certificate { .. } => Trail::Certificates,
            AuditSubject::Access { .. } => Trail::Access,
        }
    }

    pub(super) fn read(trail: Trail, row: &Row) -> Result<Self, Error> {
        let account = AccountId::from_i64(row.get("account_id"));
        let subject = match trail {
            Trail::Certificates => AuditSubject::Certificate {
                id: CertificateId {
                    account,
                    created: crate::clock::Timestamp::from_millis(row.get("created_ms")),
                    random: row.get("random"),
                },
                kind: CertificateKind::from_name(row.get("certificate_kind")).ok_or(Error::Row("event"))?,
                change: row.get("kind"),
                revision: row.get("revision"),
            },
            Trail::Access => AuditSubject::Access {
                method: row.get("method"),
                outcome: row.get("outcome"),
                reason: row.get("reason"),
                resource_type: row.get("resource_type"),
                resource_id: row.get("resource_id"),
                count: row.get("count"),
            },
        };
        Ok(Self {
            account,
            position: row.get("position"),
            occurred_us: row.get("occurred_us"),
            request_id: row.get("request_id"),
            principal: row.get("principal"),
            address: row.get("address"),
            version: row.get("version"),
            detail: row.get("detail"),
            subject,
        })
    }
}

impl Store {
    /// The states of the account's trails, in the order of [`Trail::ALL`].
    pub async fn audit_trails(&self, account: AccountId) -> Result<[TrailState; 2], Error> {
        const STATEMENT: Statement = Statement {
            name: "store::audit_trails",
            sql: "-- store::audit_trails
                  select name, position, purged, purge_mac from stream where account_id = $1",
        };
        let mut states = [TrailState::default(), TrailState::default()];
        for row in self.read(STATEMENT, &[&account.as_i64()]).await? {
            states[Trail::from_name(row.get("name"))? as usize] = TrailState {
                position: row.get("position"),
                purged: row.get("purged"),
                purge_mac: row.get("purge_mac"),
            };
        }
        Ok(states)
    }

    /// At most `size` events of a trail from this position on, in the order of their positions.
    pub async fn audit_events_from(
        &self,
        account: AccountId,
        trail: Trail,
        position: i64,
        size: usize,
    ) -> Result<Vec<StoredAuditEvent>, Error> {
        const CERTIFICATES: Statement = Statement {
            name: "store::certificate_events_from",
            sql: concat!(
                "-- store::certificate_events_from\n",
                certificate_event!(),
                "from event where account_id = $1 and position >= $2 order by position limit $3"
            ),
        };
        const ACCESS: Statement = Statement {
            name: "store::access_events_from",
            sql: concat!(
                "-- store::access_events_from\n",
                access_event!(),
                "from audit_event where account_id = $1 and position >= $2 order by position limit $3"
            ),
        };
        let statement = match trail {
            Trail::Certificates => CERTIFICATES,
            Trail::Access => ACCESS,
        };
        let rows = self
            .read(statement, &[&account.as_i64(), &position, &(size as i64)])
            .await?;
        rows.iter().map(|row| StoredAuditEvent::read(trail, row)).collect()
    }

    /// At most `size` events of a trail before this position, the newest first.
    pub async fn audit_events_before(
        &self,
        account: AccountId,
        trail: Trail,
        position: i64,
        size: usize,
    ) -> Result<Vec<StoredAuditEvent>, Error> {
        const CERTIFICATES: Statement = Statement {
            name: "store::certificate_events_before",
            sql: concat!(
                "-- store::certificate_events_before\n",
                certificate_event!(),
                "from event where account_id = $1 and position < $2 order by position desc limit $3"
            ),
        };
        const ACCESS: Statement = Statement {
            name: "store::access_events_before",
            sql: concat!(
                "-- store::access_events_before\n",
                access_event!(),
                "from audit_event where account_id = $1 and position < $2 order by position desc limit $3"
            ),
        };
        let statement = match trail {
            Trail::Certificates => CERTIFICATES,
            Trail::Access => ACCESS,
        };
        let rows = self
            .read(statement, &[&account.as_i64(), &position, &(size as i64)])
            .await?;
        rows.iter().map(|row| StoredAuditEvent::read(trail, row)).collect()
    }

    /// At most `size` certificate events of this certificate before this position, the newest first.
    pub async fn events_of_certificate_before(
        &self,
        id: CertificateId,
        position: i64,
        size: usize,
    ) -> Result<Vec<StoredAuditEvent>, Error> {
        // The inner query takes the index of the certificate. Its events are few.
        const STATEMENT: Statement = Statement {
            name: "store::events_of_certificate_before",
            sql: concat!(
                "-- store::events_of_certificate_before\n",
                certificate_event!(),
                "from (
                   select * from event where account_id = $1 and created_ms = $2 and random = $3 offset 0
                 ) as event
                 where position < $4 order by position desc limit $5"
            ),
        };
        let (account, created, random) = super::id_columns(id);
        let params: super::Params<'_> = &[&account, &created, &random, &position, &(size as i64)];
        let rows = self.read(STATEMENT, params).await?;
        rows.iter()
            .map(|row| StoredAuditEvent::read(Trail::Certificates, row))
            .collect()
    }

    /// At most `size` other events about the resource of this id before this position, the newest first. The id is not empty.
    pub async fn access_events_of_resource_before(
        &self,
        account: AccountId,
        resource_id: &str,
        position: i64,
        size: usize,
    ) -> Result<Vec<StoredAuditEvent>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::access_events_of_resource_before",
            sql: concat!(
                "-- store::access_events_of_resource_before\n",
                access_event!(),
                "from audit_event where account_id = $1 and resource_id = $2 and resource_id <> '' and position < $3
                 order by position desc limit $4"
            ),
        };
        let params: super::Params<'_> = &[&account.as_i64(), &resource_id, &position, &(size as i64)];
        let rows = self.read(STATEMENT, params).await?;
        rows.iter()
            .map(|row| StoredAuditEvent::read(Trail::Access, row))
            .collect()
    }
}
