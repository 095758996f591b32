//! The operator's settings for the use cases.

use std::time::Duration;

use super::{AliCloud, Policy};
use crate::account::QuotaKind;
use crate::inventory::Regions;

/// The operator's settings.
#[derive(Debug)]
pub struct Settings {
    /// The regions of the service.
    pub regions: Regions,
    /// The findings for which an upload is refused.
    pub policy: Policy,
    /// The maximum number of live server certificates of an account in a region, for accounts without their own quota.
    pub server_certificate_quota: i64,
    /// The maximum number of live CA certificates of an account in a region, for accounts without their own quota.
    pub ca_certificate_quota: i64,
    /// The maximum number of access keys of an account, for accounts without their own quota.
    pub access_key_quota: i64,
    /// The maximum number of calls of an account in a second, on each replica, for accounts without their own quota.
    pub calls_per_second_quota: i64,
    /// The maximum number of calls with an access key or client identity in a second, on each replica, for accounts without their
    /// own quota.
    pub calls_per_second_per_key_quota: i64,
    /// How long the clocks must have shown a time until purges follow it.
    pub purge_wait: Duration,
    /// The retention time of a deleted certificate. Zero: the certificate is purged immediately.
    pub retention: Duration,
    /// The number of earlier versions that a certificate keeps.
    pub version_retention: u32,
    /// The age, from the end of a version, at which it is purged.
    pub version_retention_time: Duration,
    /// The age at which audit events are purged. `None`: they are kept for ever.
    pub audit_retention: Option<Duration>,
    /// Where certificates of Alibaba Cloud are fetched. `None`: none are fetched.
    pub ali_cloud: Option<AliCloud>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            regions: Regions::alibaba(),
            policy: Policy::default(),
            server_certificate_quota: 10_000,
            ca_certificate_quota: 1_000,
            access_key_quota: 1_000,
            calls_per_second_quota: 5_000,
            calls_per_second_per_key_quota: 1_000,
            purge_wait: Duration::from_secs(60 * 60),
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            version_retention: 10,
            version_retention_time: Duration::from_secs(90 * 24 * 60 * 60),
            audit_retention: None,
            ali_cloud: None,
        }
    }
}

impl Settings {
    /// The limit for accounts without their own quota.
    pub(super) fn quota(&self, kind: QuotaKind) -> i64 {
        match kind {
            QuotaKind::ServerCertificates => self.server_certificate_quota,
            QuotaKind::CaCertificates => self.ca_certificate_quota,
            QuotaKind::AccessKeys => self.access_key_quota,
            QuotaKind::CallsPerSecond => self.calls_per_second_quota,
            QuotaKind::CallsPerSecondPerKey => self.calls_per_second_per_key_quota,
        }
    }
}
