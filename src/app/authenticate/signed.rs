//! Authentication of requests that are signed with the secret of an access key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Credentials, GivenKey, MAX_AGE};
use crate::app::{App, Caller, ClientCertificate, Error, Limit};
use crate::clock::{self, Timestamp};
use crate::digest;
use crate::seal::Row;
use crate::secret::Secret;
use crate::store::AccessKey;
use crate::telemetry::metrics;

/// The largest difference between the time of a request and the time of this host.
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);
/// How long a nonce is kept: a request is valid for twice the largest difference, and the clocks of replicas may differ by some minutes.
const NONCE_AGE: Duration = Duration::from_secs(40 * 60);

/// What a signed request says about its caller and itself.
#[derive(Debug)]
pub struct SignedCredentials<'a> {
    /// The id of the access key.
    pub access_key_id: &'a str,
    /// The text that makes the request different from all other requests with this access key.
    pub nonce: &'a str,
    /// The time of the request.
    pub time: Timestamp,
    /// The address of the caller.
    pub address: IpAddr,
    /// The certificate that the caller proved in the TLS handshake.
    pub certificate: Option<&'a ClientCertificate>,
}

/// Why a signed request is not authentic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignatureError {
    /// The time of the request is more than 15 minutes away.
    TimeOff,
    /// No access key that can sign has this id.
    KeyUnknown,
    /// The signature is not that of the request.
    Mismatch,
    /// An earlier request had the nonce.
    NonceUsed,
}

impl App {
    /// Finds out who signed a request, and counts the call for the limits of the access key and the account. A request is accepted once,
    /// by all replicas together. `is_signed_with` compares the signature with that of the secret.
    ///
    /// Only the holder of the right secret learns that the key or its account is disabled.
    pub async fn authenticate_signed(
        &self,
        given: &SignedCredentials<'_>,
        is_signed_with: impl FnOnce(&Secret) -> bool,
    ) -> Result<Caller, Error> {
        let refuse = |error| {
            metrics::authentication_failed("signature");
            Error::Signature(error)
        };
        let skew = clock::now().millis().abs_diff(given.time.millis());
        if u128::from(skew) > MAX_SKEW.as_millis() {
            return Err(refuse(SignatureError::TimeOff));
        }
        let key = self.signing_key(given.access_key_id, given.address).await?;
        let key = key.ok_or_else(|| refuse(SignatureError::KeyUnknown))?;
        let secret = self.open_secret(given.access_key_id, &key)?;
        let secret = secret.ok_or_else(|| refuse(SignatureError::KeyUnknown))?;
        if !is_signed_with(&secret) {
            return Err(refuse(SignatureError::Mismatch));
        }
        let grant = self.access(given.access_key_id, &key).map_err(|refusal| {
            metrics::authentication_failed("signature");
            refusal.error()
        })?;
        let credentials = Credentials {
            access_key: GivenKey::Missing,
            certificate: given.certificate,
            address: given.address,
        };
        let caller = self.admit(&credentials, Some((given.access_key_id, grant))).await?;
        let nonce = digest::sha256(given.nonce.as_bytes());
        match self
            .0
            .store
            .take_nonce_of_all_accounts(given.access_key_id, &nonce, NONCE_AGE)
            .await?
        {
            true => Ok(caller),
            false => Err(refuse(SignatureError::NonceUsed)),
        }
    }

    /// The access key with this id, if it can sign. Looks the key up unless it was looked up in the last two seconds. An address with too
    /// many unknown ids may only use keys that this replica has seen before.
    async fn signing_key(&self, id: &str, address: IpAddr) -> Result<Option<Arc<AccessKey>>, Error> {
        let recent = self.0.signing_keys.find(id);
        let was_known = matches!(recent, Some((Some(_), _)));
        if let Some((key, age)) = recent
            && age < MAX_AGE
        {
            return Ok(key);
        }
        if !was_known && let Some(wait) = self.0.failures.wait(address) {
            let limit = Limit::FailedAuthentications;
            return Err(Error::RateLimited { limit, wait });
        }
        let looked_up = Instant::now();
        let key = self.0.store.access_key_of_all_accounts(id).await?;
        let key = key.filter(|key| key.sealed.is_some()).map(Arc::new);
        if key.is_none() {
            self.0.failures.count(address);
        }
        self.0.signing_keys.insert(id.to_owned(), key.clone(), looked_up);
        Ok(key)
    }

    /// The secret of an access key, opened for one call. `None`: the key cannot sign.
    fn open_secret(&self, id: &str, key: &AccessKey) -> Result<Option<Secret>, Error> {
        let Some(sealed) = &key.sealed else {
            return Ok(None);
        };
        let row = Row::AccessKey {
            account: key.account,
            access_key_id: id,
            secret_sha256: &key.secret_sha256,
        };
        Ok(Some(self.0.key_ring.current().keys.open(sealed, &row)?))
    }
}
