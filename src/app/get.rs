//! One certificate with its chain.

use super::target::{Target, TargetCertificate};
use super::{App, Call, Error};
use crate::certificate::stored_leaf;
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
        // The fingerprint of the answer must be that of its PEM, also after a change of the database by hand.
        if let Err(cause) = stored_leaf(&chain, certificate.facts.fingerprint_sha256) {
            return Err(Error::StoredCertificateDamaged {
                kind: request.kind,
                certificate: certificate.id,
                cause,
            });
        }
        Ok((certificate, chain.to_pem()))
    }
}
