//! ACS3-HMAC-SHA256, which the official SDKs call V3. The signature is in the header `Authorization`.

use zeroize::Zeroizing;

use super::{canonical_query, secret};
use crate::digest;
use crate::secret::Secret;

/// The algorithm's name: the scheme of `Authorization`, and the first line of the string to sign.
pub const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// The signed parts of a request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method in upper case.
    pub method: &'a str,
    /// The decoded parameters of the query.
    pub query: &'a [(&'a str, &'a str)],
    /// The signed headers: their names in lower case, and their values.
    pub headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
}

impl Request<'_> {
    /// The names of the signed headers, sorted, joined by `;`.
    pub fn signed_headers(&self) -> String {
        let names: Vec<_> = self.sorted_headers().into_iter().map(|(name, _)| name).collect();
        names.join(";")
    }

    fn sorted_headers(&self) -> Vec<(&str, &str)> {
        let mut sorted = self.headers.to_vec();
        sorted.sort_unstable();
        sorted
    }

    fn canonical(&self) -> Secret {
        let query = canonical_query(self.query);
        let headers: String = self
            .sorted_headers()
            .into_iter()
            .map(|(name, value)| format!("{name}:{}\n", value.trim()))
            .collect();
        let (names, body) = (self.signed_headers(), hex::encode(self.body_sha256));
        let parts = [self.method, "\n/\n", &query, "\n", &headers, "\n", &names, "\n", &body];
        let mut text = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
        parts.into_iter().for_each(|part| text.push_str(part));
        secret(text)
    }
}

/// The string to sign. It has no secret: the canonical request is in it as its hash only.
pub fn string_to_sign(request: &Request<'_>) -> String {
    let hash = hex::encode(digest::sha256(request.canonical().expose()));
    format!("{ALGORITHM}\n{hash}")
}

/// The signature in lower-case hex.
pub fn signature(access_key_secret: &Secret, string_to_sign: &str) -> String {
    hex::encode(digest::hmac_sha256(
        access_key_secret.expose(),
        string_to_sign.as_bytes(),
    ))
}

/// The value of the header `Authorization`.
#[derive(Clone, Copy)]
pub struct Authorization<'a> {
    /// The id of the access key.
    pub access_key_id: &'a str,
    /// The names of the signed headers, joined by `;`.
    pub signed_headers: &'a str,
    /// The signature in hex.
    pub signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// Whether a header has this scheme.
    pub fn is_meant(header: &str) -> bool {
        header.split_ascii_whitespace().next() == Some(ALGORITHM)
    }

    /// Reads a header. `None` if one of its three parts is missing or doubled, or if it has another part.
    pub fn parse(header: &'a str) -> Option<Self> {
        let (scheme, parts) = header.trim().split_once(' ')?;
        let (mut key, mut headers, mut signature) = (None, None, None);
        for part in parts.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            let place = match name {
                "Credential" => &mut key,
                "SignedHeaders" => &mut headers,
                "Signature" => &mut signature,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        (scheme == ALGORITHM).then_some(Self {
            access_key_id: key?,
            signed_headers: headers?,
            signature: signature?,
        })
    }

    /// The text of the header.
    pub fn to_header(self) -> String {
        let Self {
            access_key_id,
            signed_headers,
            signature,
        } = self;
        format!("{ALGORITHM} Credential={access_key_id},SignedHeaders={signed_headers},Signature={signature}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Alibaba Cloud's documentation.
    #[test]
    fn the_published_example_has_the_published_signature() {
        let body_sha256 = digest::sha256(b"");
        let content = hex::encode(body_sha256);
        let request = Request {
            method: "POST",
            query: &[
                ("RegionId", "cn-shanghai"),
                ("ImageId", "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"),
            ],
            headers: &[
                ("x-acs-version", "2014-05-26"),
                ("host", "ecs.cn-shanghai.aliyuncs.com"),
                ("x-acs-action", "RunInstances"),
                ("x-acs-content-sha256", &content),
                ("x-acs-date", " 2023-10-26T10:22:32Z "),
                ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            ],
            body_sha256,
        };
        let string = string_to_sign(&request);
        assert_eq!(
            string,
            "ACS3-HMAC-SHA256\n7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
        );
        let secret = Secret::from("YourAccessKeySecret".to_owned());
        let signature = signature(&secret, &string);
        assert_eq!(
            signature,
            "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        );
        let header = Authorization {
            access_key_id: "YourAccessKeyId",
            signed_headers: &request.signed_headers(),
            signature: &signature,
        }
        .to_header();
        assert_eq!(
            header,
            "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;\
             x-acs-signature-nonce;x-acs-version,Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        );
        let read = Authorization::parse(&header).unwrap();
        assert_eq!(read.to_header(), header);
    }

    #[test]
    fn a_header_with_a_part_missing_doubled_or_unknown_is_not_read() {
        let read = |parts: &str| Authorization::parse(&format!("ACS3-HMAC-SHA256 {parts}")).is_some();
        assert!(read("Credential=a,SignedHeaders=b;c,Signature=d"));
        assert!(read("Signature=d, SignedHeaders=b;c, Credential=a"));
        for parts in [
            "",
            "Credential=a,SignedHeaders=b",
            "Credential=a,SignedHeaders=b,Signature",
            "Credential=a,SignedHeaders=b,Signature=c,Signature=d",
            "Credential=a,SignedHeaders=b,Signature=c,More=d",
        ] {
            assert!(!read(parts), "{parts}");
        }
        assert!(Authorization::parse("Bearer Credential=a,SignedHeaders=b,Signature=c").is_none());
        assert!(Authorization::is_meant("ACS3-HMAC-SHA256 broken"));
        assert!(!Authorization::is_meant("Bearer a.b"));
    }
}
