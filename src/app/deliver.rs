//! Hands out the private key of a server certificate: to GetKeyPair, and to the streams of SecretDiscoveryService.
//!
//! The steps are: find the certificate in the caller's scope, open the sealed key, compare the key with the certificate and the
//! certificate with its row, write the audit event, and only then answer. If the event cannot be committed, no key leaves.

use super::cpu_pool::Cost;
use super::{App, Call, Error, Resource};
use crate::certificate::{StoredPair, StoredPairError};
use crate::inventory::{CertificateId, CertificateKind, CertificateName, RegionId};
use crate::seal::{self, Row};
use crate::secret::Secret;
use crate::store::{KeyDelivery, SealedVersion, StoredCertificate, WantedVersion};

/// The certificate whose key a caller wants.
#[derive(Clone, Copy, Debug)]
pub enum WantedCertificate<'a> {
    /// By its id.
    Id(CertificateId),
    /// By its name. Exactly one live server certificate of the caller's scope must have it.
    Name(&'a str),
}

/// The key that a caller wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The certificate.
    pub certificate: WantedCertificate<'a>,
    /// The region; `None`: any.
    pub region: Option<&'a RegionId>,
    /// The version; 0: the present one.
    pub version: i64,
    /// The method that delivers the key, for the audit event: for example `StreamSecrets`.
    pub method: &'static str,
}

/// A key that was recorded in the audit trail, and leaves now.
#[derive(Debug)]
pub struct Delivery {
    /// The certificate, as it is now.
    pub certificate: StoredCertificate,
    /// The version of the pair.
    pub version: i64,
    /// The certificate and its chain in PEM, in the order in which they are served.
    pub chain: String,
    /// The private key in PEM, as unencrypted PKCS#8.
    pub private_key: Secret,
}

/// Why a stored key is not handed out. The texts are for the log.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableKey {
    /// The certificate has no key row.
    #[error("there is no sealed key")]
    Absent,
    /// The sealed key does not open.
    #[error(transparent)]
    Sealed(seal::Error),
    /// The key, or the certificate, is another one than the row says.
    #[error(transparent)]
    Pair(StoredPairError),
}

/// A certificate with a sealed pair. No key is opened yet.
pub(super) struct FoundPair {
    pub(super) certificate: StoredCertificate,
    /// `None`: the caller knows the present version.
    pub(super) pair: Option<SealedVersion>,
}

impl App {
    /// Opens a private key, records the delivery in the audit trail, and answers the key. An error leaves no key.
    pub async fn deliver(&self, call: &Call, wanted: Wanted<'_>) -> Result<Delivery, Error> {
        let versions = WantedVersion {
            version: wanted.version,
            known: 0,
        };
        let found = self
            .find_key_pair(call, wanted.certificate, wanted.region, versions)
            .await?;
        let certificate = found.certificate;
        // Without a known version there is a pair.
        let sealed = found.pair.ok_or(Error::VersionNotFound {
            certificate: certificate.id,
            version: wanted.version,
        })?;
        let version = sealed.version;
        let pair = self.open_sealed(certificate.id, sealed).await?;
        let (chain, private_key) = (pair.chain().to_pem(), pair.private_key_pem());
        self.record_delivery(call, certificate.id, version, wanted.method, "pem")
            .await?;
        Ok(Delivery {
            certificate,
            version,
            chain,
            private_key,
        })
    }

    /// Finds the pair of the wanted version.
    pub(super) async fn find_key_pair(
        &self,
        call: &Call,
        certificate: WantedCertificate<'_>,
        region: Option<&RegionId>,
        wanted: WantedVersion,
    ) -> Result<FoundPair, Error> {
        let id = match certificate {
            WantedCertificate::Id(id) => id,
            WantedCertificate::Name(name) => self.find_name(call, region, name).await?,
        };
        let not_found = || Error::NotFound(Resource::Certificate(Some(CertificateKind::Server), Some(id)));
        if id.account != call.caller.account {
            return Err(not_found());
        }
        let found = self.0.store.find_key_pair(id, region, wanted).await?;
        let (certificate, pair) = found
            .filter(|(certificate, _)| call.reaches(certificate))
            .ok_or_else(not_found)?;
        if pair.is_none() && certificate.version != wanted.known {
            return Err(Error::VersionNotFound {
                certificate: id,
                version: wanted.version,
            });
        }
        Ok(FoundPair { certificate, pair })
    }

    /// The only live server certificate of the caller's scope with this name. `region: None` means any region.
    pub(super) async fn find_name(
        &self,
        call: &Call,
        region: Option<&RegionId>,
        name: &str,
    ) -> Result<CertificateId, Error> {
        let (account, scope) = call.reach();
        let found = match CertificateName::parse(name) {
            Ok(_) => self.0.store.find_name(account, scope, region, name).await?,
            // No certificate has such a name.
            Err(_) => None,
        };
        match found {
            Some((id, 1)) => Ok(id),
            Some((_, count)) => Err(Error::NameAmbiguous { count }),
            None => Err(Error::NotFound(Resource::Certificate(
                Some(CertificateKind::Server),
                None,
            ))),
        }
    }

    /// Opens the key, and compares it with its certificate and the row. Nothing is recorded yet:
    /// [`record_delivery`](Self::record_delivery) comes before the key leaves.
    pub(super) async fn open_sealed(&self, id: CertificateId, sealed: SealedVersion) -> Result<StoredPair, Error> {
        let version = sealed.version;
        let keys = self.0.key_ring.current().keys.clone();
        let octets = sealed.sealed.as_ref().map_or(0, Vec::len) + sealed.chain.der().map(<[u8]>::len).sum::<usize>();
        let open = move || {
            let row = Row::PrivateKey {
                certificate: id,
                key_id: sealed.key_id,
                spki_sha256: &sealed.spki_sha256,
            };
            let value = sealed.sealed.as_deref().ok_or(UnreadableKey::Absent)?;
            let pkcs8 = keys.open(value, &row).map_err(UnreadableKey::Sealed)?;
            StoredPair::check(sealed.chain, sealed.fingerprint_sha256, &pkcs8).map_err(UnreadableKey::Pair)
        };
        let opened = self.0.cpu_pool.run(Cost::of_octets(octets), open).await?;
        opened.map_err(|cause| match cause {
            UnreadableKey::Sealed(error @ (seal::Error::Library(_) | seal::Error::Random(_))) => error.into(),
            cause => Error::SealedKeyUnreadable {
                certificate: id,
                version,
                cause,
            },
        })
    }

    /// Writes the audit event of a delivery. It is committed when this returns.
    pub(super) async fn record_delivery(
        &self,
        call: &Call,
        certificate: CertificateId,
        version: i64,
        method: &'static str,
        format: &'static str,
    ) -> Result<(), Error> {
        let delivery = KeyDelivery {
            actor: call.actor(),
            certificate,
            version,
            method,
            format,
        };
        self.0.store.deliver(delivery).await?;
        tracing::info!(server_certificate_id = %certificate, version, method, format, "delivered");
        Ok(())
    }
}
