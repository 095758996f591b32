//! An upload with valid fields, a verified certificate and a sealed private key.

use super::key_ring::SealingRing;
use super::rename::new_name;
use super::upload::{CertificateText, Upload};
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError};
use crate::certificate::{CaError, PairError, UnverifiedCa, UnverifiedPair};
use crate::inventory::{
    AliCloudCertificate, CertificateId, CertificateKind, CertificateName, RegionId, ResourceGroupId, Tags,
};
use crate::store::{ClientToken, NewContent};
use crate::{clock, digest, telemetry};

/// An upload with valid fields, a verified certificate and a sealed private key.
pub(super) struct ParsedUpload {
    pub(super) region: RegionId,
    /// `None`: the id.
    pub(super) name: Option<CertificateName>,
    /// The certificate of Alibaba Cloud from which the pair came.
    pub(super) ali_cloud: Option<AliCloudCertificate>,
    pub(super) tags: Tags,
    /// Not looked up yet.
    pub(super) resource_group_id: String,
    pub(super) content: NewContent,
}

/// Why there is no content.
enum ContentError {
    Pair(PairError),
    Ca(CaError),
    Internal(Error),
}

/// An upload with checked fields, apart from its certificate.
pub(super) struct UploadFields {
    kind: CertificateKind,
    region: Option<RegionId>,
    /// The given name; `Some(None)`: none is given.
    name: Option<Option<CertificateName>>,
    /// The certificate of Alibaba Cloud that the caller names instead of a pair.
    pub(super) ali_cloud: Option<AliCloudCertificate>,
    /// Not looked up yet.
    pub(super) resource_group_id: String,
    tags: Option<Tags>,
    /// The token, if it is valid.
    pub(super) client_token: Option<ClientToken>,
    violations: Violations,
}

impl UploadFields {
    /// The region, or all violations.
    pub(super) fn valid_region(&mut self) -> Result<RegionId, Error> {
        match &self.region {
            Some(region) if self.violations.is_empty() => Ok(region.clone()),
            _ => Err(std::mem::take(&mut self.violations).into()),
        }
    }
}

impl App {
    /// Checks every field but the texts of the certificate, which it answers too.
    pub(super) fn upload_fields(&self, call: &Call, mut request: Upload) -> (UploadFields, CertificateText) {
        let kind = request.kind();
        let region = self.region(call, &request.region_id);
        if let Ok(region) = &region {
            // The token covers the region itself: a retry may leave the only region out, or name it.
            request.region_id = region.to_string();
        }
        let token = self.client_token(&request);
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, region);
        let name = match request.name.as_str() {
            "" => Some(None),
            name => violations
                .check(Field::CertificateName(kind), new_name(call, name))
                .map(Some),
        };
        let ali_cloud = request.named_fields().and_then(|named| named.check(&mut violations));
        let scope = &call.caller.scope;
        let default_group = ResourceGroupId::default_of(call.caller.account);
        if request.resource_group_id.is_empty() && !scope.has_resource_group(&default_group) {
            let error = FieldError::DefaultOutOfScope(scope.clone());
            violations.note(Field::ResourceGroupId, Some(error));
        }
        let tags = violations.tags(request.tags);
        let client_token = violations.check(Field::ClientToken, token).flatten();
        let fields = UploadFields {
            kind,
            region,
            name,
            ali_cloud,
            resource_group_id: request.resource_group_id,
            tags,
            client_token,
            violations,
        };
        (fields, request.certificate)
    }

    /// Verifies the certificate and seals its private key. The plain key ends here. The error has all violations, in the order of the
    /// request's fields. The token, if it is valid, comes with the error too.
    pub(super) fn parse_upload(
        &self,
        call: &Call,
        (fields, certificate): (UploadFields, CertificateText),
        ring: &SealingRing,
    ) -> (Option<ClientToken>, Result<ParsedUpload, Error>) {
        let UploadFields {
            kind,
            region,
            name,
            ali_cloud,
            resource_group_id,
            tags,
            client_token,
            mut violations,
        } = fields;
        let (content, name) = match self.verify_and_seal(call, &certificate, ring) {
            Ok(content) => {
                let name = name.map(|name| or_default(call, name, &content));
                let name = name.and_then(|name| violations.check(Field::CertificateName(kind), name));
                (Some(content), name)
            }
            Err(ContentError::Pair(error)) => {
                violations.found(error.findings);
                violations.certificate(error.certificate, &error.rejected);
                violations.private_key(error.private_key, &error.rejected);
                (None, None)
            }
            Err(ContentError::Ca(error)) => {
                violations.found(error.findings);
                violations.ca_certificate(error.certificate, &error.rejected);
                (None, None)
            }
            Err(ContentError::Internal(error)) => return (None, Err(error)),
        };
        violations.sort();
        let parsed = match (region, content, name, tags) {
            (Some(region), Some(content), Some(name), Some(tags)) if violations.is_empty() => Ok(ParsedUpload {
                region,
                name,
                ali_cloud,
                tags,
                resource_group_id,
                content,
            }),
            _ => Err(violations.into()),
        };
        (client_token, parsed)
    }

    /// Verifies the certificate, gives it an id, and seals its private key for that id.
    fn verify_and_seal(
        &self,
        call: &Call,
        certificate: &CertificateText,
        ring: &SealingRing,
    ) -> Result<NewContent, ContentError> {
        let current = self.policy();
        let (now, policy, authorities) = (clock::now(), &*current, &self.0.authorities);
        let random = digest::random().map_err(|error| ContentError::Internal(error.into()))?;
        let id = CertificateId::new(call.caller.account, now, random);
        match certificate {
            CertificateText::Server {
                server_certificate,
                private_key,
                ..
            } => {
                let verify =
                    || UnverifiedPair::read(server_certificate.expose(), private_key).verify(now, policy, authorities);
                let pair = telemetry::step("check").in_scope(verify).map_err(ContentError::Pair)?;
                let sealed = telemetry::step("seal").in_scope(|| ring.keys.seal(ring.sealing, pair, id));
                sealed
                    .map(NewContent::Pair)
                    .map_err(|error| ContentError::Internal(error.into()))
            }
            CertificateText::Ca { ca_certificate } => {
                let verify = || UnverifiedCa::read(ca_certificate.expose()).verify(now, policy, authorities);
                let certificate = telemetry::step("check").in_scope(verify).map_err(ContentError::Ca)?;
                Ok(NewContent::Ca { id, certificate })
            }
        }
    }
}

/// The given name, or the default name. `None`: the name is the id. A default name outside the caller's scope is refused.
fn or_default(
    call: &Call,
    given: Option<CertificateName>,
    content: &NewContent,
) -> Result<Option<CertificateName>, FieldError> {
    if given.is_some() {
        return Ok(given);
    }
    let (name, scope) = (
        CertificateName::default_for(content.certificate().facts()),
        &call.caller.scope,
    );
    match scope.has_name(name.as_ref().unwrap_or(&content.id().into())) {
        true => Ok(name),
        false => Err(FieldError::DefaultOutOfScope(scope.clone())),
    }
}
