//! A transit secrets engine with the HTTP API of HashiCorp Vault: the encryption key never leaves the service.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::StatusCode;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::PlainKey;
use crate::config::TransitService;
use crate::http_client::{self, BodyError, ClientError};
use crate::secret::{PrivateFileError, read_private};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TOKEN_LEN: u64 = 16 * 1024;
/// An answer with one key is shorter.
const MAX_ANSWER_LEN: usize = 64 * 1024;
/// The part of the service's own error that an error repeats.
const MAX_ERROR_LEN: usize = 200;

/// Why a transit service can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TransitError {
    /// The token can't be read.
    #[error("transit_token_file cannot be used")]
    Token(#[source] PrivateFileError),
    /// The token is not a header value.
    #[error("transit_token_file contains no token")]
    NoToken,
    /// The HTTP client can't be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There was no answer.
    #[error("there was no answer from transit_url")]
    Http(#[from] reqwest::Error),
    /// The service refused the call.
    #[error("the service answered {status}: {error}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The service's own error.
        error: String,
    },
    /// The answer is no answer of a transit engine with a key of the ring.
    #[error("the answer does not contain a {0}")]
    Answer(&'static str),
}

/// Encrypts a key. The answer is the service's own text.
pub(super) async fn encrypt(service: &TransitService, key: &PlainKey) -> Result<String, TransitError> {
    let plaintext = Zeroizing::new(BASE64_STANDARD.encode(key.as_slice()));
    let body = json!({ "plaintext": plaintext.as_str() });
    let ciphertext = call(service, "encrypt", body, "ciphertext").await?;
    match ciphertext.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(ciphertext.to_string()),
        false => Err(TransitError::Answer("ciphertext of one line")),
    }
}

/// Decrypts a key.
pub(super) async fn decrypt(service: &TransitService, ciphertext: &str) -> Result<PlainKey, TransitError> {
    let plaintext = call(service, "decrypt", json!({ "ciphertext": ciphertext }), "plaintext").await?;
    let key = BASE64_STANDARD.decode(plaintext.as_bytes()).map(Zeroizing::new);
    let key = key.map_err(|_| TransitError::Answer("key in base64"))?;
    let mut plain = PlainKey::default();
    if key.len() != plain.len() {
        return Err(TransitError::Answer("key of 256 bits"));
    }
    plain.copy_from_slice(&key);
    Ok(plain)
}

/// The text `field` of the service's answer to a call of this operation.
async fn call(
    service: &TransitService,
    operation: &str,
    mut body: Value,
    field: &'static str,
) -> Result<Zeroizing<String>, TransitError> {
    let token = read_private(&service.token_file, MAX_TOKEN_LEN).map_err(TransitError::Token)?;
    let mut token = http::HeaderValue::from_bytes(token.expose().trim_ascii()).map_err(|_| TransitError::NoToken)?;
    if token.is_empty() {
        return Err(TransitError::NoToken);
    }
    token.set_sensitive(true);
    let url = format!(
        "{}/v1/{}/{operation}/{}",
        service.url.to_string().trim_end_matches('/'),
        service.mount,
        service.key
    );
    let text = Zeroizing::new(body.to_string().into_bytes());
    wipe(&mut body);
    let client = http_client::client(&service.url, service.ca_file.as_deref(), [CONNECT_TIMEOUT, TIMEOUT])?;
    let answer = client
        .post(url)
        .header("X-Vault-Token", token)
        .header(http::header::CONTENT_TYPE, "application/json")
        // The transport copies the body. Nothing wipes that copy.
        .body(text.to_vec())
        .send()
        .await
        .map_err(reqwest::Error::without_url)?;
    let status = answer.status();
    let text = match http_client::body(answer, MAX_ANSWER_LEN).await {
        Ok(text) => text,
        Err(BodyError::Http(error)) => return Err(error.into()),
        Err(BodyError::TooLong) => return Err(TransitError::Answer(field)),
    };
    let mut json: Value = serde_json::from_slice(&text).unwrap_or_default();
    if !status.is_success() {
        let error = json["errors"][0].as_str().unwrap_or("no error text");
        let error = error.chars().filter(|c| !c.is_control()).take(MAX_ERROR_LEN).collect();
        return Err(TransitError::Refused { status, error });
    }
    match json["data"][field].take() {
        Value::String(text) => Ok(Zeroizing::new(text)),
        _ => Err(TransitError::Answer(field)),
    }
}

/// Wipes the texts of a request.
fn wipe(body: &mut Value) {
    for value in body.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        if let Value::String(text) = value.take() {
            drop(Zeroizing::new(text));
        }
    }
}
