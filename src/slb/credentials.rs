//! The signature of a request, in one of the two schemes.

use http::{HeaderMap, header};

use super::error::Refusal;
use super::field::{Parameter, parameter};
use super::request::Request;
use crate::alibaba::{acs3, v2};
use crate::clock::Timestamp;
use crate::digest::constant_time_eq;
use crate::secret::Secret;

/// The maximum length of a nonce. Clients send a UUID or a hash.
const MAX_NONCE_LEN: usize = 128;
/// The headers that a signature of ACS3 must cover, besides the host.
const ACS3_HEADERS: [&str; 5] = [
    "x-acs-action",
    "x-acs-content-sha256",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-version",
];

/// How a request is signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scheme {
    /// HMAC-SHA1 in a parameter.
    V2,
    /// HMAC-SHA256 in a header.
    Acs3,
}

impl Scheme {
    /// Clients that sign with V2 send `x-acs-*` headers too, so only `Authorization` tells. V3 has other methods too, for example with SM3.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match value {
            Some(value) if acs3::Authorization::is_meant(value) => Ok(Self::Acs3),
            Some(value) if value.starts_with("ACS3-") => Err(Refusal::SignatureMethod),
            _ => Ok(Self::V2),
        }
    }
}

/// Who signed a request, and when.
#[derive(Clone, Copy)]
pub(super) struct Credentials<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) time: Timestamp,
    request: &'a Request,
    signature: &'a str,
    /// The signed headers of ACS3, joined by `;`.
    signed_headers: &'a str,
}

impl<'a> Credentials<'a> {
    /// Reads the credentials without verifying the signature.
    pub(super) fn of(request: &'a Request) -> Result<Self, Refusal> {
        let read = match request.scheme {
            Scheme::V2 => Self::of_v2(request),
            Scheme::Acs3 => Self::of_acs3(request),
        }?;
        match read.nonce.len() <= MAX_NONCE_LEN {
            true => Ok(read),
            false => Err(Refusal::ParameterFormat),
        }
    }

    fn of_v2(request: &'a Request) -> Result<Self, Refusal> {
        let parameters = &request.parameters;
        let required = |parameter: Parameter| parameters.find(parameter.name).ok_or(Refusal::Missing(parameter));
        let access_key_id = required(parameter!("AccessKeyId"))?;
        let signature = required(parameter!("Signature"))?;
        if !required(parameter!("SignatureMethod"))?.eq_ignore_ascii_case("HMAC-SHA1") {
            return Err(Refusal::SignatureMethod);
        }
        if required(parameter!("SignatureVersion"))? != "1.0" || parameters.find("SignatureType").is_some() {
            return Err(Refusal::SignatureIncomplete);
        }
        let nonce = required(parameter!("SignatureNonce"))?;
        let time = match (parameters.find("Timestamp"), parameters.find("TimeStamp")) {
            (Some(time), None) | (None, Some(time)) => time,
            (None, None) => return Err(Refusal::Missing(parameter!("Timestamp"))),
            (Some(_), Some(_)) => return Err(Refusal::TimestampFormat),
        };
        no_security_token(parameters.find("SecurityToken"))?;
        Ok(Self {
            access_key_id,
            nonce,
            time: Timestamp::parse(time).ok_or(Refusal::TimestampFormat)?,
            request,
            signature,
            signed_headers: "",
        })
    }

    fn of_acs3(request: &'a Request) -> Result<Self, Refusal> {
        let headers = &request.signed.headers;
        let required = |name: &str| one(headers, name).ok_or(Refusal::SignatureIncomplete);
        let given = acs3::Authorization::parse(required("authorization")?).ok_or(Refusal::SignatureIncomplete)?;
        let mut names: Vec<_> = given.signed_headers.split(';').collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        let covers = |name: &&str| names.binary_search(name).is_ok();
        let is_lower_case = |name: &&str| !name.bytes().any(|octet| octet.is_ascii_uppercase());
        if names.len() < count
            || !names.iter().all(is_lower_case)
            || !covers(&"host")
            || request.signed.host.is_empty()
            || !ACS3_HEADERS.iter().all(covers)
        {
            return Err(Refusal::SignatureIncomplete);
        }
        let time = required("x-acs-date")?;
        no_security_token(one(headers, "x-acs-security-token"))?;
        Ok(Self {
            access_key_id: given.access_key_id,
            nonce: required("x-acs-signature-nonce")?,
            time: Timestamp::parse(time).ok_or(Refusal::TimestampFormat)?,
            request,
            signature: given.signature,
            signed_headers: given.signed_headers,
        })
    }

    /// Whether the request is signed with this secret.
    pub(super) fn are_signed_with(&self, secret: &Secret) -> bool {
        let expected = match self.request.scheme {
            Scheme::V2 => {
                let string = v2::string_to_sign(self.request.signed.method.as_str(), &self.request.parameters.signed());
                Some(v2::signature(secret, &string))
            }
            Scheme::Acs3 => self.acs3_signature(secret),
        };
        expected.is_some_and(|expected| constant_time_eq(expected.as_bytes(), self.signature.as_bytes()))
    }

    /// `None`: the request lacks a signed header, or its body has another hash.
    fn acs3_signature(&self, secret: &Secret) -> Option<String> {
        let signed = &self.request.signed;
        let names = self.signed_headers.split(';');
        let headers = names.map(|name| match name {
            "host" => Some((name, signed.host.as_str())),
            _ => one(&signed.headers, name).map(|value| (name, value)),
        });
        let headers: Vec<_> = headers.collect::<Option<_>>()?;
        let (_, content) = headers.iter().find(|(name, _)| *name == "x-acs-content-sha256")?;
        if *content != hex::encode(signed.body_sha256) {
            return None;
        }
        let string = acs3::string_to_sign(&acs3::Request {
            method: signed.method.as_str(),
            query: &signed.query.all(),
            headers: &headers,
            body_sha256: signed.body_sha256,
        });
        Some(acs3::signature(secret, &string))
    }
}

/// The value of a header that occurs once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => std::str::from_utf8(value.as_bytes()).ok(),
        _ => None,
    }
}

/// certkeep has no temporary access keys. A client with one would send a token.
fn no_security_token(token: Option<&str>) -> Result<(), Refusal> {
    match token.unwrap_or_default() {
        "" => Ok(()),
        _ => Err(Refusal::SecurityToken),
    }
}
