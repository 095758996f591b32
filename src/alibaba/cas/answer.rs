//! The answers of CAS: a pair, or an error.

use http::StatusCode;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{CasError, CasRefusal, Unavailability};
use crate::secret::Secret;

/// The part of CAS's own texts that certkeep repeats, in characters.
const MAX_TEXT_LEN: usize = 64;

/// The certificate, the private key and the name.
pub(super) type Answer = (Secret, Secret, String);

/// The pair of an answer. Its texts are taken out.
pub(super) fn pair_of(json: &mut Value) -> Result<Answer, CasError> {
    if !json.is_object() {
        return Err(CasError::Answer("JSON object"));
    }
    let mut text = |field: &'static str| match json[field].take() {
        Value::String(text) if !text.trim().is_empty() => Some(text),
        other => {
            wipe(other);
            None
        }
    };
    let certificate = text("Cert").map(Secret::from);
    let private_key = text("Key").map(Secret::from);
    let name = text("Name").unwrap_or_default();
    let name = name.chars().filter(|c| !c.is_control()).take(MAX_TEXT_LEN).collect();
    let certificate = certificate.ok_or(CasError::Answer("certificate"))?;
    let private_key = private_key.ok_or(CasError::Answer("private key"))?;
    Ok((certificate, private_key, name))
}

/// The error of an answer. Alibaba Cloud documents no codes for this action, so the status and the common codes decide.
pub(super) fn error_of(status: StatusCode, json: &Value) -> CasError {
    let text = |field: &str| -> String {
        let text = json[field].as_str().unwrap_or_default();
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-:".contains(*c);
        text.chars().filter(is_plain).take(MAX_TEXT_LEN).collect()
    };
    let refusal = CasRefusal {
        status,
        code: text("Code"),
        request_id: text("RequestId"),
    };
    let code = refusal.code.as_str();
    let begins = |words: &[&str]| words.iter().any(|word| code.starts_with(word));
    if status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || begins(&["Throttling", "SignatureNonceUsed"])
    {
        return CasError::Unavailable(Unavailability::Answered(refusal));
    }
    if code.is_empty() {
        return CasError::Answer("code of an error");
    }
    // These are not about the certificate: the access key, or an endpoint of another service.
    let is_of_call = begins(&["InvalidAccessKeyId", "InvalidApi", "InvalidAction", "InvalidVersion"]);
    let says_not_found = ["NotFound", "NotExist"].iter().any(|word| code.contains(word));
    match !is_of_call && (says_not_found || status == StatusCode::NOT_FOUND) {
        true => CasError::NotFound(refusal),
        false => CasError::Refused(refusal),
    }
}

/// Wipes the texts of an answer: it can contain more private keys.
pub(super) fn wipe(json: Value) {
    match json {
        Value::String(text) => drop(Zeroizing::new(text)),
        Value::Array(values) => values.into_iter().for_each(wipe),
        Value::Object(fields) => fields.into_iter().for_each(|(_, value)| wipe(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_by_its_status_and_code() {
        let kind = |status: u16, code: &str| {
            let json = serde_json::json!({ "Code": code, "RequestId": "A-1", "Message": "secret" });
            let error = error_of(StatusCode::from_u16(status).unwrap(), &json);
            assert!(!format!("{error} {error:?}").contains("secret"));
            match error {
                CasError::NotFound(_) => "not found",
                CasError::Refused(_) => "refused",
                CasError::Answer(_) => "answer",
                CasError::Unavailable(_) => "unavailable",
                _ => "other",
            }
        };
        for (status, code, expected) in [
            (404, "NotFound", "not found"),
            (404, "Certificate.NotFound", "not found"),
            (400, "CertNotExist", "not found"),
            (404, "InvalidAccessKeyId.NotFound", "refused"),
            (404, "InvalidApi.NotFound", "refused"),
            (400, "SignatureDoesNotMatch", "refused"),
            (403, "Forbidden.RAM", "refused"),
            (400, "InvalidParameter", "refused"),
            (400, "Throttling.User", "unavailable"),
            (400, "SignatureNonceUsed", "unavailable"),
            (429, "", "unavailable"),
            (503, "ServiceUnavailable", "unavailable"),
            (500, "", "unavailable"),
            (403, "", "answer"),
            (302, "", "answer"),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn an_answer_without_a_pair_says_which_part_is_missing() {
        let missing = |mut json: Value| pair_of(&mut json).unwrap_err().to_string();
        let of = |part| format!("the answer of Alibaba Cloud does not contain a {part}");
        assert_eq!(missing(Value::Null), of("JSON object"));
        assert_eq!(missing(serde_json::json!({})), of("certificate"));
        assert_eq!(missing(serde_json::json!({ "Cert": "c", "Key": 1 })), of("private key"));
        // A certificate with Chinese algorithms has its two pairs in other fields.
        assert_eq!(
            missing(serde_json::json!({ "Cert": "", "Key": "", "SignCert": "c" })),
            of("certificate")
        );
        let mut json = serde_json::json!({ "Cert": "c", "Key": "k", "Name": "a\nb" });
        let (certificate, key, name) = pair_of(&mut json).unwrap();
        assert_eq!(
            (certificate.expose(), key.expose(), name.as_str()),
            (&b"c"[..], &b"k"[..], "ab")
        );
    }
}
