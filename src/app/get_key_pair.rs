//! The key pair of a server certificate, in the form that its consumer loads.

use super::cpu_pool::Cost;
use super::deliver::{OpenedPair, WantedCertificate};
use super::target::own_id;
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError};
use crate::certificate::{EncodeError, EncodedPair, KeyPairFormat};
use crate::inventory::CertificateKind;
use crate::secret::Secret;
use crate::store::{StoredCertificate, WantedVersion};

/// The allowed lengths of a password, in characters.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=128;
/// The longest alias, in characters: as long as a name.
const MAX_ALIAS_CHARS: usize = 80;

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
}

/// A key pair.
#[derive(Debug)]
pub struct KeyPair {
    /// The certificate, as it is now.
    pub certificate: StoredCertificate,
    /// The pair and its version. `None`: the caller knows the present version.
    pub pair: Option<(i64, EncodedPair)>,
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
        let opened = self.open_key_pair(call, wanted, region.as_ref(), versions).await?;
        let OpenedPair { certificate, pair } = opened;
        let Some((version, pair)) = pair else {
            return Ok(KeyPair {
                certificate,
                pair: None,
            });
        };
        let alias = match request.alias {
            alias if alias.is_empty() => certificate.name.as_str().to_owned(),
            alias => alias,
        };
        let password = request.password;
        // Uploads keep half of the cores.
        let (cost, permit) = match format.needs_password() {
            true => {
                let permit = self.0.slow_encodings.clone().acquire_owned().await;
                (Cost::Blocking, Some(permit.map_err(Error::internal)?))
            }
            false => (Cost::Inline, None),
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
        let control = self.alias.chars().position(char::is_control)?;
        Some(FieldError::ControlCharacter { position: control + 1 })
    }

    fn known_version_error(&self) -> Option<FieldError> {
        if self.known_version < 0 {
            return Some(FieldError::Version);
        }
        (self.known_version > 0 && self.version > 0).then_some(FieldError::Excludes(Field::Version))
    }
}
