//! One certificate with its chain.

use super::target::{Target, TargetCertificate};
use super::{App, Call, Error};
use crate::certificate::{Chain, Sha1Fingerprint, StoredPairError, stored_leaf};
use crate::inventory::CertificateKind;
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
        check_chain(request.kind, &certificate, &chain)?;
        Ok((certificate, chain.to_pem()))
    }
}

/// Refuses a chain whose leaf has other fingerprints than its row, also after a change of the database by hand. Every chain that leaves
/// certkeep without a private key passes here. Certificates after the leaf are not compared: the row has no hash of them.
pub(super) fn check_chain(kind: CertificateKind, stored: &StoredCertificate, chain: &Chain) -> Result<(), Error> {
    let facts = &stored.facts;
    let checked = stored_leaf(chain, facts.fingerprint_sha256).and_then(|leaf| {
        match Sha1Fingerprint::of_der(leaf) == facts.fingerprint {
            true => Ok(()),
            false => Err(StoredPairError::Fingerprint),
        }
    });
    checked.map_err(|cause| Error::StoredCertificateDamaged {
        kind,
        certificate: stored.id,
        cause,
    })
}
