//! The key pair of a server certificate, in the form that its consumer loads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cpu_pool::{self, Cost};
use super::deliver::WantedCertificate;
use super::target::own_id;
use super::violation::{Violations, control_character};
use super::{App, Call, Error, Field, FieldError};
use crate::account::AccountId;
use crate::certificate::{ClientCertificate, EncodeError, EncodedPair, KeyPairFormat};
use crate::inventory::CertificateKind;
use crate::secret::Secret;
use crate::store::{self, StoredCertificate, WantedVersion};

/// The allowed lengths of a password, in characters.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=128;
/// The longest alias, in characters: as long as a name.
const MAX_ALIAS_CHARS: usize = 80;

/// The caller of a call that took longer is checked again before the key leaves.
const CHECK_AFTER: Duration = Duration::from_secs(1);
/// The calls of an account that may wait for an encoding, for each encoding that can run. One takes up to a second.
const WAITING_CALLS: usize = 8;

/// The key pair that the caller wants.
#[derive(Debug)]
pub struct GetKeyPair {
    /// The region; empty: any.
    pub region_id: String,
    /// The id; empty: by the name.
    pub id: String,
    /// The name; empty: by the id.
    pub name: String,
    /// The version; 0: the present one.
    pub version: i64,
    /// The form. `None`: the caller named an unknown one.
    pub format: Option<KeyPairFormat>,
    /// The password; empty: none.
    pub password: Secret,
    /// The friendly name of a PKCS#12 entry; empty: the certificate's name.
    pub alias: String,
    /// The version that the caller has; 0: none.
    pub known_version: i64,
    /// The certificate that the caller proved in the TLS handshake.
    pub client_certificate: Option<ClientCertificate>,
}

/// A key pair.
#[derive(Debug)]
pub struct KeyPair {
    /// The certificate, as it is now.
    pub certificate: StoredCertificate,
    /// The pair and its version. `None`: the caller knows the present version.
    pub pair: Option<(i64, EncodedPair)>,
}

/// Limits the encodings that derive keys from a password. Uploads keep half of the cores.
pub(super) struct SlowEncodings {
    permits: Arc<Semaphore>,
    max_waiting: usize,
    /// The calls that wait, by account.
    waiting: Mutex<HashMap<AccountId, usize>>,
}

impl SlowEncodings {
    /// For half of the cores of this machine.
    pub(super) fn of_this_machine() -> Self {
        Self::new(cpu_pool::cores().div_ceil(2))
    }

    fn new(at_once: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(at_once)),
            max_waiting: at_once * WAITING_CALLS,
            waiting: Mutex::default(),
        }
    }

    /// Waits for an encoding to end. Refuses the call if too many calls of the account wait, so that the other accounts get a turn.
    async fn permit(&self, account: AccountId) -> Result<OwnedSemaphorePermit, Error> {
        {
            let mut waiting = self.waiting();
            let calls = waiting.entry(account).or_default();
            if *calls == self.max_waiting {
                return Err(Error::ResourceBusy(store::Error::busy()));
            }
            *calls += 1;
        }
        let _waits = Waits(self, account);
        self.permits.clone().acquire_owned().await.map_err(Error::internal)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<AccountId, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of the account that waits, until this is dropped.
struct Waits<'a>(&'a SlowEncodings, AccountId);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        if let Some(calls) = waiting.get_mut(&self.1) {
            *calls -= 1;
            if *calls == 0 {
                waiting.remove(&self.1);
            }
        }
    }
}

impl App {
    /// Answers the key pair, after the delivery was recorded in the audit trail. An error leaves no key.
    pub async fn get_key_pair(&self, call: &Call, request: GetKeyPair) -> Result<KeyPair, Error> {
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, self.region_or_any(call, &request.region_id));
        let (field, error) = request.certificate_error();
        violations.note(field, error);
        violations.note(Field::Version, (request.version < 0).then_some(FieldError::Version));
        let format = violations.check(Field::KeyPairFormat, request.format.ok_or(FieldError::Choice));
        if let Some(format) = format {
            violations.note(Field::Password, request.password_error(format));
            violations.note(Field::Alias, request.alias_error(format));
        }
        violations.note(Field::KnownVersion, request.known_version_error());
        let (true, Some(region), Some(format)) = (violations.is_empty(), region, format) else {
            return Err(violations.into());
        };
        let wanted = match request.id.as_str() {
            "" => WantedCertificate::Name(&request.name),
            id => WantedCertificate::Id(own_id(call, Some(CertificateKind::Server), id)?),
        };
        let versions = WantedVersion {
            version: request.version,
            known: request.known_version,
        };
        let began = Instant::now();
        let find = || self.find_key_pair(call, wanted, region.as_ref(), versions);
        let mut found = find().await?;
        let permit = match found.pair.is_some() && format.needs_password() {
            true => {
                let permit = self.0.slow_encodings.permit(call.caller.account).await?;
                // The certificate may have changed meanwhile. No key was opened yet.
                found = find().await?;
                Some(permit)
            }
            false => None,
        };
        let certificate = found.certificate;
        let Some(sealed) = found.pair else {
            return Ok(KeyPair {
                certificate,
                pair: None,
            });
        };
        let version = sealed.version;
        let pair = self.open_sealed(certificate.id, sealed).await?;
        let alias = match request.alias {
            alias if alias.is_empty() => certificate.name.as_str().to_owned(),
            alias => alias,
        };
        let password = request.password;
        let cost = match permit {
            Some(_) => Cost::Blocking,
            None => Cost::Inline,
        };
        let encode = move || {
            // Work that has begun keeps its permit after its caller has left.
            let _permit = permit;
            pair.encode(format, &password, &alias)
        };
        let encoded = self.0.cpu_pool.run(cost, encode).await?;
        let encoded = encoded.map_err(|error| match error {
            EncodeError::Unfit(algorithm) => Error::FormatUnfit(algorithm),
            error => Error::internal(error),
        })?;
        if began.elapsed() > CHECK_AFTER {
            self.check_again(&call.caller, request.client_certificate.as_ref())
                .await?;
        }
        self.record_delivery(call, certificate.id, version, "GetKeyPair", format.as_str())
            .await?;
        Ok(KeyPair {
            certificate,
            pair: Some((version, encoded)),
        })
    }
}

impl GetKeyPair {
    /// Exactly one of id and name is required.
    fn certificate_error(&self) -> (Field, Option<FieldError>) {
        let (id, name) = (
            Field::CertificateId(CertificateKind::Server),
            Field::CertificateName(CertificateKind::Server),
        );
        match (self.id.is_empty(), self.name.is_empty()) {
            (true, true) => (id, Some(FieldError::Required)),
            (false, false) => (name, Some(FieldError::Excludes(id))),
            _ => (id, None),
        }
    }

    fn password_error(&self, format: KeyPairFormat) -> Option<FieldError> {
        let password = self.password.expose();
        match (format.needs_password(), password.is_empty()) {
            (true, true) => Some(FieldError::Required),
            (false, false) => Some(FieldError::NotOfFormat),
            (false, true) => None,
            (true, false) => {
                let is_printable = password.iter().all(|byte| (b' '..=b'~').contains(byte));
                (!is_printable || !PASSWORD_CHARS.contains(&password.len())).then_some(FieldError::Password)
            }
        }
    }

    fn alias_error(&self, format: KeyPairFormat) -> Option<FieldError> {
        let chars = self.alias.chars().count();
        if chars > 0 && !format.has_alias() {
            return Some(FieldError::NotOfFormat);
        }
        if chars > MAX_ALIAS_CHARS {
            return Some(FieldError::TooLong {
                chars,
                max: MAX_ALIAS_CHARS,
            });
        }
        control_character(&self.alias)
    }

    fn known_version_error(&self) -> Option<FieldError> {
        if self.known_version < 0 {
            return Some(FieldError::Version);
        }
        (self.known_version > 0 && self.version > 0).then_some(FieldError::Excludes(Field::Version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn few_calls_of_an_account_wait_and_those_that_leave_make_room() {
        let encodings = Arc::new(SlowEncodings::new(1));
        let [one, other] = [1, 2].map(AccountId::from_i64);
        let running = encodings.permit(one).await.unwrap();
        let wait = |account| {
            let encodings = encodings.clone();
            tokio::spawn(async move { encodings.permit(account).await.map(drop) })
        };
        let mut waiting: Vec<_> = (0..WAITING_CALLS).map(|_| wait(one)).collect();
        tokio::task::yield_now().await;
        assert!(matches!(encodings.permit(one).await, Err(Error::ResourceBusy(_))));
        let of_other = wait(other);
        let left = waiting.remove(0);
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        waiting.push(wait(one));
        drop(running);
        for waited in waiting.into_iter().chain([of_other]) {
            waited.await.unwrap().unwrap();
        }
        assert!(encodings.waiting().is_empty());
    }
}
