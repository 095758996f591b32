//! The operator's settings for the use cases.

use std::time::Duration;

use super::Policy;
use crate::inventory::{CertificateKind, Regions};

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
    /// The retention time of a deleted certificate. Zero: the certificate is purged immediately.
    pub retention: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            regions: Regions::alibaba(),
            policy: Policy::default(),
            server_certificate_quota: 10_000,
            ca_certificate_quota: 1_000,
            retention: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

impl Settings {
    /// The quota for this kind of certificates.
    pub(super) fn quota(&self, kind: CertificateKind) -> i64 {
        match kind {
            CertificateKind::Server => self.server_certificate_quota,
            CertificateKind::Ca => self.ca_certificate_quota,
        }
    }
}
