//! The token by which a retried upload is known, and what its request was.

use zeroize::Zeroizing;

use super::upload::{GivenCertificate, Upload};
use super::{App, Field, FieldError};
use crate::digest;
use crate::store::ClientToken;

/// The longest token, in bytes.
const MAX_LEN: usize = 64;

/// The token of an upload, if it has one.
pub(super) fn client_token(app: &App, request: &Upload) -> Result<Option<ClientToken>, FieldError> {
    let token = &request.client_token;
    if token.is_empty() {
        return Ok(None);
    }
    if request.validate_only {
        return Err(FieldError::Excludes(Field::ValidateOnly));
    }
    if token.len() > MAX_LEN || !token.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(FieldError::ClientToken);
    }
    let request = canonical(request);
    Ok(Some(ClientToken {
        token: token.clone(),
        request_mac: digest::hmac_sha256(app.0.client_token_key.expose(), &request),
    }))
}

/// Everything that is stored, each part behind its length. Uploads of the two kinds have tokens of their own, so that these need not
/// differ.
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
        GivenCertificate::Server {
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
        GivenCertificate::Ca { ca_certificate } => {
            (vec![ca_certificate.expose()], &[region_id, name, resource_group_id])
        }
    };
    parts.extend(texts.iter().map(|text| text.as_bytes()));
    parts.extend(tags.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]));
    // As large as it becomes: what grows leaves copies behind.
    let len = parts.iter().map(|part| part.len() + 8).sum();
    let mut canonical = Zeroizing::new(Vec::with_capacity(len));
    for part in parts {
        canonical.extend_from_slice(&(part.len() as u64).to_be_bytes());
        canonical.extend_from_slice(part);
    }
    canonical
}
