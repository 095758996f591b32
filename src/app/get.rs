//! One certificate with its chain.

use super::target::{Target, TargetCertificate};
use super::{App, Call, Error};
use crate::store::StoredCertificate;

impl App {
    /// The certificate and its chain in PEM.
    pub async fn get(&self, call: &Call, request: &TargetCertificate) -> Result<(StoredCertificate, String), Error> {
        let target = Target::parse(self, call, request)?;
        let found = self
            .0
            .store
            .find_with_chain(target.id, request.kind, target.region.as_ref())
            .await?;
        let found = found.filter(|(certificate, _)| call.reaches(certificate));
        let (certificate, chain) = found.ok_or_else(|| target.not_found())?;
        Ok((certificate, chain.to_pem()))
    }
}
