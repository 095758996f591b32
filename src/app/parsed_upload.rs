//! An upload with valid fields and a verified certificate.

use super::upload::{CertificateText, Upload};
use super::violation::Violations;
use super::{App, Error, Field, FieldError};
use crate::certificate::{
    CaError, PairError, UnverifiedCa, UnverifiedPair, VerifiedCa, VerifiedCertificate, VerifiedPair,
};
use crate::clock;
use crate::inventory::{CertificateKind, CertificateName, RegionId, Tags};
use crate::store::ClientToken;

/// An upload with valid fields and a verified certificate.
pub(super) struct ParsedUpload {
    pub(super) fields: ParsedFields,
    pub(super) certificate: VerifiedPairOrCa,
}

/// The fields beside the certificate and the client token.
pub(super) struct ParsedFields {
    pub(super) region: RegionId,
    /// `None`: the default name.
    pub(super) name: Option<CertificateName>,
    pub(super) tags: Tags,
    /// Not looked up yet.
    pub(super) resource_group_id: String,
}

/// A verified certificate.
pub(super) enum VerifiedPairOrCa {
    Pair(VerifiedPair),
    Ca(VerifiedCa),
}

impl VerifiedPairOrCa {
    pub(super) fn kind(&self) -> CertificateKind {
        match self {
            Self::Pair(_) => CertificateKind::Server,
            Self::Ca(_) => CertificateKind::Ca,
        }
    }

    /// The certificate; the private key is dropped.
    pub(super) fn into_certificate(self) -> VerifiedCertificate {
        match self {
            Self::Pair(pair) => pair.into_parts().0,
            Self::Ca(certificate) => certificate.into_certificate(),
        }
    }
}

impl App {
    /// Parses every field and verifies the certificate. The error has all violations, in the order of the request's fields. The
    /// token, if it is valid, comes with the error too.
    pub(super) fn parse_upload(&self, request: Upload) -> (Option<ClientToken>, Result<ParsedUpload, Error>) {
        let kind = request.kind();
        let (client_token, token_error) = match self.client_token(&request) {
            Ok(token) => (token, None),
            Err(error) => (None, Some(error)),
        };
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, self.region(&request.region_id));
        let name = match request.name.as_str() {
            "" => Ok(None),
            name => CertificateName::parse(name).map(Some).map_err(FieldError::Name),
        };
        let (certificate, name) = match self.verify(&request.certificate) {
            Ok(certificate) => (Some(certificate), violations.check(Field::CertificateName(kind), name)),
            Err(VerifyError::Pair(error)) => {
                violations.found(error.findings);
                violations.certificate(error.certificate, &error.rejected);
                let name = violations.check(Field::CertificateName(kind), name);
                violations.private_key(error.private_key, &error.rejected);
                (None, name)
            }
            Err(VerifyError::Ca(error)) => {
                violations.found(error.findings);
                violations.ca_certificate(error.certificate, &error.rejected);
                (None, violations.check(Field::CertificateName(kind), name))
            }
        };
        let tags = violations.tags(request.tags);
        violations.note(Field::ClientToken, token_error);
        let parsed = match (region, certificate, name, tags) {
            (Some(region), Some(certificate), Some(name), Some(tags)) if violations.is_empty() => Ok(ParsedUpload {
                fields: ParsedFields {
                    region,
                    name,
                    tags,
                    resource_group_id: request.resource_group_id,
                },
                certificate,
            }),
            _ => Err(violations.into()),
        };
        (client_token, parsed)
    }

    fn verify(&self, text: &CertificateText) -> Result<VerifiedPairOrCa, VerifyError> {
        let (now, policy, authorities) = (clock::now(), &self.0.settings.policy, &self.0.authorities);
        match text {
            CertificateText::Server {
                server_certificate,
                private_key,
                ..
            } => {
                let pair = UnverifiedPair::read(server_certificate.expose(), private_key);
                let verified = pair.verify(now, policy, authorities);
                verified.map(VerifiedPairOrCa::Pair).map_err(VerifyError::Pair)
            }
            CertificateText::Ca { ca_certificate } => {
                let certificate = UnverifiedCa::read(ca_certificate.expose());
                let verified = certificate.verify(now, policy, authorities);
                verified.map(VerifiedPairOrCa::Ca).map_err(VerifyError::Ca)
            }
        }
    }
}

enum VerifyError {
    Pair(PairError),
    Ca(CaError),
}
