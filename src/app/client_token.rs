//! The tokens that make the retry of an upload or a renewal safe: a retry gets the answer of the first call.

use zeroize::Zeroizing;

use super::fingerprints::AnswerFingerprints;
use super::upload::{CertificateText, Upload, Uploaded};
use super::{App, Call, Error, Field, FieldError, Resource, reuse};
use crate::account::AccountId;
use crate::certificate::Finding;
use crate::digest;
use crate::inventory::CertificateKind;
use crate::store::{ClientToken, Liveness, TokenOf, UsedToken};

/// The longest token, in octets.
const MAX_LEN: usize = 64;

impl App {
    /// The token of an upload, if it has one.
    pub(super) fn client_token(&self, request: &Upload) -> Result<Option<ClientToken>, FieldError> {
        self.token_of(&request.client_token, request.validate_only, || canonical(request))
    }

    /// The token of a call with this canonical request, if it has one.
    pub(super) fn token_of(
        &self,
        token: &str,
        validate_only: bool,
        canonical: impl FnOnce() -> Zeroizing<Vec<u8>>,
    ) -> Result<Option<ClientToken>, FieldError> {
        if token.is_empty() {
            return Ok(None);
        }
        if validate_only {
            return Err(FieldError::Excludes(Field::ValidateOnly));
        }
        if token.len() > MAX_LEN || !token.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(FieldError::ClientToken);
        }
        Ok(Some(ClientToken {
            token: token.to_owned(),
            request_mac: digest::hmac_sha256(self.0.client_token_key.expose(), &canonical()),
        }))
    }

    /// The current state of the certificate whose upload used this token. `None` if no upload used the token. A void token is
    /// deleted.
    pub(super) async fn replay(
        &self,
        call: &Call,
        kind: CertificateKind,
        token: &ClientToken,
        answer: AnswerFingerprints,
        findings: Vec<Finding>,
    ) -> Result<Option<Uploaded>, Error> {
        let (store, (account, scope)) = (&self.0.store, call.reach());
        let Some(used) = self.use_of(TokenOf::Upload(kind), account, token).await? else {
            return Ok(None);
        };
        // A caller with a scope does not learn the id of a certificate that can be outside the scope.
        let told = call.caller.scope.is_everything().then_some(used.id);
        let stored = store
            .find(used.id, kind, None, Liveness::Live)
            .await?
            .filter(|stored| call.reaches(stored))
            .ok_or(Error::NotFound(Resource::Certificate(Some(kind), told)))?;
        let fingerprints = match answer {
            AnswerFingerprints::Yes => Some(store.fingerprints_of_stored(account, scope).await),
            AnswerFingerprints::No => None,
        };
        let reuse = store.reuse_of_stored(stored.id, scope, kind, &stored.facts).await;
        let findings = reuse::and(findings, self.findings_of(reuse, &stored.facts));
        Ok(Some(Uploaded {
            id: Some(stored.id),
            region: stored.region,
            name: Some(stored.name),
            ali_cloud: stored.ali_cloud,
            revision: stored.revision,
            version: stored.version,
            resource_group: stored.resource_group,
            facts: stored.facts,
            findings,
            account_fingerprints: self.listed(call, fingerprints)?,
        }))
    }
}

impl App {
    /// The earlier call with this token and the same request. `None` if no call used the token. A void token is deleted.
    pub(super) async fn use_of(
        &self,
        of: TokenOf,
        account: AccountId,
        token: &ClientToken,
    ) -> Result<Option<UsedToken>, Error> {
        let store = &self.0.store;
        let Some(used) = store.used_token(of, account, &token.token).await? else {
            return Ok(None);
        };
        if used.is_void {
            store.forget_token(of, &token.token, &used).await?;
            return Ok(None);
        }
        match digest::constant_time_eq(&used.request_mac, &token.request_mac) {
            true => Ok(Some(used)),
            false => Err(Error::ClientTokenReused),
        }
    }
}

/// Everything that the upload stores: each part after its length. The two kinds of certificates have separate tokens, so both
/// can use this form.
fn canonical(request: &Upload) -> Zeroizing<Vec<u8>> {
    let Upload {
        region_id,
        name,
        resource_group_id,
        tags,
        client_token: _,
        validate_only: _,
        certificate,
    } = request;
    let (mut parts, texts): (_, &[&String]) = match certificate {
        CertificateText::Server {
            server_certificate,
            private_key,
            ali_cloud_certificate_id,
            ali_cloud_certificate_name,
            ali_cloud_certificate_region_id,
            omit_account_fingerprints: _,
        } => (
            vec![server_certificate.expose(), private_key.expose()],
            &[
                region_id,
                name,
                ali_cloud_certificate_id,
                ali_cloud_certificate_name,
                ali_cloud_certificate_region_id,
                resource_group_id,
            ],
        ),
        CertificateText::Ca { ca_certificate } => {
            (vec![ca_certificate.expose()], &[region_id, name, resource_group_id])
        }
    };
    parts.extend(texts.iter().map(|text| text.as_bytes()));
    parts.extend(tags.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]));
    joined(&parts)
}

/// Each part after its length.
pub(super) fn joined(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    // Allocates the full length at once. A vector that grows leaves copies in memory.
    let len = parts.iter().map(|part| part.len() + 8).sum();
    let mut canonical = Zeroizing::new(Vec::with_capacity(len));
    for part in parts {
        canonical.extend_from_slice(&(part.len() as u64).to_be_bytes());
        canonical.extend_from_slice(part);
    }
    canonical
}
