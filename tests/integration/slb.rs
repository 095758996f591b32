//! The door for clients of Alibaba Cloud's SLB API, with requests that this file signs itself.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use certkeep::clock::{Timestamp, now};
use certkeep::grpc::pb;
use certkeep::grpc::pb::admin_service_client::AdminServiceClient;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{REGION, TestServer, bearer, upload_of};
use crate::pki::{self, Key};

/// A caller with an access key that can sign.
#[derive(Clone)]
pub struct SlbCaller {
    pub address: SocketAddr,
    pub id: String,
    pub secret: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Style {
    V2,
    Acs3,
}

/// A request before it is signed, and the faults that it gets after that.
#[derive(Clone)]
pub struct SlbRequest {
    caller: SlbCaller,
    style: Style,
    method: &'static str,
    /// The business parameters are in the form.
    in_form: bool,
    parameters: Vec<(String, String)>,
    action: String,
    version: &'static str,
    time: String,
    nonce: String,
    /// Replaced or added after the signature: parameters of the query, and headers.
    added_query: String,
    header: Vec<(&'static str, String)>,
    /// Removed before the signature.
    without: Vec<&'static str>,
    body_hash: Option<String>,
    path: &'static str,
    content_type: &'static str,
}

#[derive(Debug)]
pub struct SlbAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl SlbAnswer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn code(&self) -> String {
        self.json()["Code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json()
    }
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, octet| {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(octet.into()),
            octet => write!(encoded, "%{octet:02X}").unwrap(),
        }
        encoded
    })
}

fn canonical(parameters: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = parameters
        .iter()
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<_> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

fn hmac(digest: MessageDigest, key: &str, text: &str) -> Vec<u8> {
    let key = PKey::hmac(key.as_bytes()).unwrap();
    Signer::new(digest, &key)
        .unwrap()
        .sign_oneshot_to_vec(text.as_bytes())
        .unwrap()
}

fn sha256(octets: &[u8]) -> String {
    hex::encode(openssl::sha::sha256(octets))
}

impl SlbCaller {
    /// A new access key of this role, of the first account.
    pub async fn new(server: &TestServer, role: pb::Role) -> Self {
        let mut admin = AdminServiceClient::with_interceptor(server.channel(), bearer(server.admin_key()));
        let request = pb::CreateAccessKeyRequest {
            role: role.into(),
            can_sign: true,
            ..Default::default()
        };
        let created = admin.create_access_key(request).await.unwrap().into_inner();
        Self::from(created, server.slb_address())
    }

    /// The caller with a new access key.
    pub fn from(created: pb::CreateAccessKeyResponse, address: SocketAddr) -> Self {
        Self {
            address,
            id: created.access_key.unwrap().access_key_id,
            secret: created.secret,
        }
    }

    /// A request that is signed with V2 and has all parameters in its query.
    pub fn request(&self, action: &str, parameters: &[(&str, &str)]) -> SlbRequest {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        SlbRequest {
            caller: self.clone(),
            style: Style::V2,
            method: "GET",
            in_form: false,
            parameters: parameters.iter().map(owned).collect(),
            action: action.to_owned(),
            version: "2014-05-15",
            time: now().to_string(),
            nonce: certkeep::digest::random_uuid().unwrap().to_string(),
            added_query: String::new(),
            header: Vec::new(),
            without: Vec::new(),
            body_hash: None,
            path: "/",
            content_type: "application/x-www-form-urlencoded",
        }
    }

    pub fn call(&self, action: &str, parameters: &[(&str, &str)]) -> SlbAnswer {
        self.request(action, parameters).send()
    }
}

impl SlbRequest {
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    pub fn post_form(mut self) -> Self {
        self.method = "POST";
        self.in_form = true;
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The request line, the headers and the body.
    pub fn signed(&self) -> (String, Vec<(String, String)>, String) {
        let parameters = self.parameters.clone();
        let host = self.caller.address.to_string();
        let mut headers = vec![("Host".to_owned(), host.clone())];
        let (mut query, mut form) = match self.in_form {
            true => (Vec::new(), parameters),
            false => (parameters, Vec::new()),
        };
        match self.style {
            Style::V2 => {
                let common = [
                    ("Action", self.action.as_str()),
                    ("Version", self.version),
                    ("AccessKeyId", &self.caller.id),
                    ("SignatureMethod", "HMAC-SHA1"),
                    ("SignatureVersion", "1.0"),
                    ("SignatureNonce", &self.nonce),
                    ("Timestamp", &self.time),
                    ("SignatureType", ""),
                ];
                let common = common.into_iter().filter(|(name, _)| !self.without.contains(name));
                let given = query.clone();
                let common = common.filter(|(name, _)| given.iter().all(|(given, _)| given != name));
                query.extend(common.map(|(name, value)| (name.to_owned(), value.to_owned())));
                let all = canonical(&[query.clone(), form.clone()].concat());
                let string = format!("{}&%2F&{}", self.method, encode(&all));
                let signature = hmac(MessageDigest::sha1(), &format!("{}&", self.caller.secret), &string);
                if !self.without.contains(&"Signature") {
                    let place = if self.in_form { &mut form } else { &mut query };
                    place.push(("Signature".to_owned(), BASE64_STANDARD.encode(signature)));
                }
            }
            Style::Acs3 => {
                let hash = self
                    .body_hash
                    .clone()
                    .unwrap_or_else(|| sha256(canonical(&form).as_bytes()));
                let mut signed = vec![
                    ("host", host.as_str()),
                    ("x-acs-action", &self.action),
                    ("x-acs-content-sha256", &hash),
                    ("x-acs-date", &self.time),
                    ("x-acs-signature-nonce", &self.nonce),
                    ("x-acs-version", self.version),
                ];
                signed.retain(|(name, _)| !self.without.contains(name));
                let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
                let names: Vec<_> = signed.iter().map(|(name, _)| *name).collect();
                let names = names.join(";");
                let text = format!("{}\n/\n{}\n{lines}\n{names}\n{hash}", self.method, canonical(&query));
                let string = format!("ACS3-HMAC-SHA256\n{}", sha256(text.as_bytes()));
                let signature = hex::encode(hmac(MessageDigest::sha256(), &self.caller.secret, &string));
                let authorization = format!(
                    "ACS3-HMAC-SHA256 Credential={},SignedHeaders={names},Signature={signature}",
                    self.caller.id
                );
                headers.push(("Authorization".to_owned(), authorization));
                let signed = signed.into_iter().filter(|(name, _)| *name != "host");
                headers.extend(signed.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
        }
        for (name, value) in &self.header {
            headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            headers.push(((*name).to_owned(), value.clone()));
        }
        let query = format!("{}{}", canonical(&query), self.added_query);
        (format!("{}?{query}", self.path), headers, canonical(&form))
    }

    /// The request in HTTP/1.1.
    pub fn octets(&self) -> Vec<u8> {
        let (target, headers, body) = self.signed();
        let mut head = format!("{} {target} HTTP/1.1\r\nConnection: close\r\n", self.method);
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if self.method == "POST" {
            write!(
                head,
                "Content-Type: {}\r\nContent-Length: {}\r\n",
                self.content_type,
                body.len()
            )
            .unwrap();
        }
        format!("{head}\r\n{body}").into_bytes()
    }

    /// The request without a body in HTTP/2.
    pub fn http_2(&self) -> http::Request<()> {
        let (target, headers, _) = self.signed();
        let mut request = http::Request::get(format!("http://{}{target}", self.caller.address));
        for (name, value) in headers.iter().filter(|(name, _)| name != "Host") {
            request = request.header(name, value);
        }
        request.body(()).unwrap()
    }

    pub fn send(&self) -> SlbAnswer {
        let mut stream = TcpStream::connect(self.caller.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // A server that refuses a head or a body does not read all of it.
        let _ = stream.write_all(&self.octets());
        let mut octets = Vec::new();
        let _ = stream.read_to_end(&mut octets);
        parse_answer(octets)
    }
}

/// Parses an answer in HTTP/1.1.
pub fn parse_answer(octets: Vec<u8>) -> SlbAnswer {
    let text = String::from_utf8(octets).unwrap();
    let (head, mut rest) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut body = String::new();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        while let Some((len, chunk)) = rest.split_once("\r\n") {
            let len = usize::from_str_radix(len, 16).unwrap();
            body.push_str(&chunk[..len]);
            rest = chunk[len..].strip_prefix("\r\n").unwrap();
        }
    } else {
        body.push_str(rest);
    }
    SlbAnswer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body,
    }
}

pub async fn start() -> TestServer {
    TestServer::start_with(|config| config.slb_listen = Some("127.0.0.1:0".parse().unwrap())).await
}

/// Uploads 230 certificates: more than two pages of the store.
pub async fn upload_three_pages(server: &TestServer) {
    let (client, pair) = (server.client(), pki::self_signed(Key::P256, "many.example"));
    for _ in 0..230 / 46 {
        let uploads = (0..46).map(|_| {
            let (mut client, upload) = (client.clone(), upload_of(&pair));
            async move { client.upload_server_certificate(upload).await.unwrap() }
        });
        uploads.collect::<JoinSet<_>>().join_all().await;
    }
}

/// A tag with all characters that clients encode differently.
const TAG: (&str, &str) = ("键 +*~'()!", "a b+c*d~e/=&%25 ü");

#[tokio::test(flavor = "multi_thread")]
async fn server_certificates_are_managed_with_both_signatures_methods_and_formats() {
    let server = start().await;
    let caller = SlbCaller::new(&server, pb::Role::Editor).await;
    let pair = pki::self_signed(Key::P256, "slb.example");
    // As long as the URL of a key of 4096 bits with four certificates.
    let certificate = format!("{}{}", "subject=/CN=example + more\n".repeat(400), pair.certificate);
    let region = ("RegionId", REGION);
    let upload = [
        region,
        ("ServerCertificate", certificate.trim_end()),
        ("PrivateKey", pair.key.trim_end()),
        ("ServerCertificateName", "证书-1"),
        ("Tag.1.Key", TAG.0),
        ("Tag.1.Value", TAG.1),
        ("OwnerId", "7"),
        ("access_key_id", "x"),
    ];
    let mut ids = Vec::new();
    for style in [Style::V2, Style::Acs3] {
        let request = caller.request("UploadServerCertificate", &upload).style(style);
        assert!(request.signed().0.len() > 11_000);
        for request in [
            request.clone(),
            request.clone().with(|request| request.method = "POST"),
            request.clone().post_form(),
        ] {
            let request = request.with(|request| request.nonce.push('n'));
            let request = request
                .clone()
                .with(|changed| changed.nonce = format!("{}{}", request.nonce, ids.len()));
            let answer = request.send();
            let uploaded = answer.ok();
            ids.push(uploaded["ServerCertificateId"].as_str().unwrap().to_owned());
            assert_eq!(
                uploaded["AccountFingerprints"]["Fingerprint"].as_array().unwrap().len(),
                ids.len()
            );
            assert!(answer.head.contains("application/json"));
        }
    }
    let describe = caller.call(
        "DescribeServerCertificates",
        &[region, ("ServerCertificateId", &ids[0])],
    );
    let described = describe.ok();
    let fingerprint = |digest| {
        let octets = pair.x509.digest(digest).unwrap();
        let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        octets.join(":")
    };
    let certificate = &described["ServerCertificates"]["ServerCertificate"][0];
    let expires = certificate["ExpireTimeStamp"].as_i64().unwrap();
    let created = certificate["CreateTimeStamp"].as_i64().unwrap();
    assert!((now().millis() - created).abs() < 120_000 && created % 1000 == 0);
    assert_eq!(
        *certificate,
        json!({
            "ServerCertificateId": ids[0], "ServerCertificateName": "证书-1",
            "Fingerprint": fingerprint(MessageDigest::sha1()),
            "CommonName": "slb.example",
            "CreateTime": Timestamp::from_millis(created).to_string(), "CreateTimeStamp": created,
            "ExpireTime": Timestamp::from_millis(expires).to_string(), "ExpireTimeStamp": expires,
            "SubjectAlternativeNames": {"SubjectAlternativeName": ["slb.example", "www.slb.example"]},
            "IsAliCloudCertificate": 0, "AliCloudCertificateId": "", "AliCloudCertificateName": "",
            "RegionId": REGION, "RegionIdAlias": REGION,
            "ResourceGroupId": certificate["ResourceGroupId"],
            "Tags": {"Tag": [{"TagKey": TAG.0, "TagValue": TAG.1}]},
        })
    );
    assert!(!describe.body.contains("BEGIN"));
    // Tags, in XML.
    let named = [
        region,
        ("ResourceType", "certificate"),
        ("ResourceId.1", &ids[0]),
        ("ResourceId.2", &ids[1]),
    ];
    let tags = [("Tag.1.Key", "k"), ("Tag.1.Value", "<&>")];
    let tagged = caller
        .request("TagResources", &[&named[..], &tags].concat())
        .style(Style::Acs3)
        .post_form();
    tagged.send().ok();
    let xml = caller.call("ListTagResources", &[&named[..3], &[("Format", "xml")]].concat());
    let (before, tags) = xml.body.split_once("<NextToken></NextToken>").unwrap();
    assert!(
        before.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListTagResourcesResponse>"),
        "{before}"
    );
    assert!(tags.contains("<RequestId>") && xml.head.contains("text/xml"), "{tags}");
    assert!(
        tags.contains("<TagKey>k</TagKey><TagValue>&lt;&amp;&gt;</TagValue></TagResource>")
            && tags.ends_with("</TagResources></ListTagResourcesResponse>"),
        "{tags}"
    );
    let untag = [&named[..], &[("TagKey.1", "k")]].concat();
    caller.call("UntagResources", &untag).ok();
    caller
        .call("UntagResources", &[&named[..], &[("All", "True")]].concat())
        .ok();
    let none = caller.call("ListTagResources", &named).ok();
    assert_eq!(
        (&none["TagResources"], &none["NextToken"]),
        (&json!({"TagResource": []}), &json!(""))
    );
    let by_tag = [region, ("Tag.1.Key", TAG.0), ("Tag.1.Value", TAG.1)];
    let found = caller.call("DescribeServerCertificates", &by_tag).ok();
    assert_eq!(
        found["ServerCertificates"]["ServerCertificate"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    // The name, and the end.
    let id = ("ServerCertificateId", ids[0].as_str());
    caller
        .call(
            "SetServerCertificateName",
            &[region, id, ("ServerCertificateName", "new*.example")],
        )
        .ok();
    let described = caller.call("DescribeServerCertificates", &[id]).ok();
    assert_eq!(
        described["ServerCertificates"]["ServerCertificate"][0]["ServerCertificateName"],
        "new*.example"
    );
    let deleted = caller.call("DeleteServerCertificate", &[id]).ok();
    assert_eq!(deleted.as_object().unwrap().keys().collect::<Vec<_>>(), ["RequestId"]);
    let again = caller.call("DeleteServerCertificate", &[region, id]);
    assert_eq!(
        (again.status, again.code().as_str()),
        (404, "ServerCertificateId.NotFound")
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_certificates_regions_and_groups_are_managed_and_long_lists_are_whole() {
    let server = start().await;
    let caller = SlbCaller::new(&server, pb::Role::Admin).await;
    let ca = pki::hierarchy(Key::P256, "ca.example").root;
    let pem = String::from_utf8(ca.to_pem().unwrap()).unwrap();
    let region = ("RegionId", REGION);
    let upload = [region, ("CACertificate", pem.as_str()), ("CACertificateName", "roots")];
    let uploaded = caller
        .request("UploadCACertificate", &upload)
        .style(Style::Acs3)
        .send()
        .ok();
    let mut names: Vec<_> = uploaded.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "CACertificateId",
            "CACertificateName",
            "CommonName",
            "CreateTime",
            "CreateTimeStamp",
            "ExpireTime",
            "ExpireTimeStamp",
            "Fingerprint",
            "RequestId",
            "ResourceGroupId"
        ]
    );
    let id = uploaded["CACertificateId"].as_str().unwrap();
    let ca_id = ("CACertificateId", id);
    caller
        .call(
            "SetCACertificateName",
            &[region, ca_id, ("CACertificateName", "renamed")],
        )
        .ok();
    // A group.
    let mut admin = AdminServiceClient::with_interceptor(server.channel(), bearer(server.admin_key()));
    let group = pb::CreateResourceGroupRequest {
        name: "team".to_owned(),
    };
    let group = admin
        .create_resource_group(group)
        .await
        .unwrap()
        .into_inner()
        .resource_group
        .unwrap();
    let moved = [
        region,
        ("ResourceId", id),
        ("ResourceType", "certificate"),
        ("NewResourceGroupId", &group.resource_group_id),
        // The official clients can send it.
        ("ResourceGroupId", "rg-present"),
    ];
    caller.request("MoveResourceGroup", &moved).post_form().send().ok();
    let of_group = [region, ("ResourceGroupId", &group.resource_group_id)];
    let described = caller.call("DescribeCACertificates", &of_group).ok();
    let certificate = &described["CACertificates"]["CACertificate"][0];
    assert_eq!(
        (
            &certificate["CACertificateName"],
            &certificate["RegionId"],
            &certificate["Tags"]
        ),
        (&json!("renamed"), &json!(REGION), &json!({"Tag": []}))
    );
    caller.call("DeleteCACertificate", &[region, ca_id]).ok();
    let gone = caller.call("DeleteCACertificate", &[region, ca_id]);
    assert_eq!((gone.status, gone.code().as_str()), (404, "CACertificateId.NotFound"));
    let none = caller.call("DescribeCACertificates", &[region]).ok();
    assert_eq!(none["CACertificates"], json!({"CACertificate": []}));
    // Regions.
    let regions = caller
        .call("DescribeRegions", &[("AcceptLanguage", "en-US"), region])
        .ok();
    let regions = regions["Regions"]["Region"].as_array().unwrap();
    let hangzhou = regions.iter().find(|one| one["RegionId"] == REGION).unwrap();
    assert_eq!(
        *hangzhou,
        json!({"RegionId": REGION, "RegionEndpoint": "127.0.0.1", "LocalName": "China (Hangzhou)"})
    );
    // More certificates than a page of the store has.
    upload_three_pages(&server).await;
    let all = caller.call("DescribeServerCertificates", &[region]);
    assert!(all.head.contains("chunked"), "{}", all.head);
    let all = all.ok();
    let all = all["ServerCertificates"]["ServerCertificate"].as_array().unwrap();
    let ids: std::collections::HashSet<_> = all
        .iter()
        .map(|one| one["ServerCertificateId"].as_str().unwrap())
        .collect();
    assert_eq!((all.len(), ids.len()), (230, 230));
    let xml = caller.call("DescribeServerCertificates", &[("Format", "XML")]).body;
    assert_eq!(xml.matches("<ServerCertificate>").count(), 230);
    assert!(xml.ends_with("</ServerCertificates></DescribeServerCertificatesResponse>"));
    server.stop().await;
}

/// A request, and the status and the code that it gets.
type Refused = (&'static str, SlbRequest, u16, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_request_gets_its_code() {
    let server = start().await;
    let caller = SlbCaller::new(&server, pb::Role::Editor).await;
    let reader = SlbCaller::new(&server, pb::Role::Reader).await;
    let pair = pki::self_signed(Key::P256, "wrong.example");
    let other = pki::self_signed(Key::P256, "other.example");
    let region = ("RegionId", REGION);
    let regions = || caller.request("DescribeRegions", &[]);
    let acs3 = || regions().style(Style::Acs3);
    let upload = |certificate: &str, key: &str| {
        let parameters = [region, ("ServerCertificate", certificate), ("PrivateKey", key)];
        caller.request("UploadServerCertificate", &parameters)
    };
    let with = |name: &'static str, value: &str| {
        let parameters = [
            region,
            ("ServerCertificate", &pair.certificate),
            ("PrivateKey", &pair.key),
            (name, value),
        ];
        caller.request("UploadServerCertificate", &parameters).post_form()
    };
    let at = |minutes: i64| Timestamp::from_millis(now().millis() + minutes * 60_000).to_string();
    let tag = |name: &'static str, value: &str, id: &str| {
        let parameters = [
            region,
            ("ResourceType", "certificate"),
            ("ResourceId.1", id),
            (name, value),
        ];
        caller.request("TagResources", &parameters)
    };
    let unknown = SlbCaller {
        id: "ck00000000000000000000".to_owned(),
        ..caller.clone()
    };
    let wrong_secret = SlbCaller {
        secret: "wrong".to_owned(),
        ..caller.clone()
    };
    let without = |name: &'static str| regions().with(|request| request.without.push(name));
    let given = |name: &'static str, value: &'static str| caller.request("DescribeRegions", &[(name, value)]);
    let ten_tags: Vec<_> = (1..=21).map(|number| format!("Tag.{number}.Key")).collect();
    let many_tags: Vec<_> = ten_tags.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let refused: Vec<Refused> = vec![
        // The protocol.
        (
            "path",
            regions().with(|request| request.path = "/x"),
            404,
            "InvalidApi.NotFound",
        ),
        (
            "action",
            caller.request("CreateLoadBalancer", &[]),
            404,
            "InvalidApi.NotFound",
        ),
        (
            "version",
            regions().with(|request| request.version = "2014-05-14"),
            404,
            "InvalidApi.NotFound",
        ),
        (
            "method",
            regions().with(|request| request.method = "PUT"),
            403,
            "UnsupportedHTTPMethod",
        ),
        ("no action", without("Action"), 400, "MissingAction"),
        ("no version", without("Version"), 400, "MissingVersion"),
        ("no key", without("AccessKeyId"), 400, "MissingAccessKeyId"),
        ("no signature", without("Signature"), 400, "MissingSignature"),
        ("no nonce", without("SignatureNonce"), 400, "MissingSignatureNonce"),
        ("no time", without("Timestamp"), 400, "MissingTimestamp"),
        ("no method", without("SignatureMethod"), 400, "MissingSignatureMethod"),
        (
            "signature method",
            given("SignatureMethod", "HMAC-MD5"),
            400,
            "InvalidSignatureMethod",
        ),
        (
            "signature version",
            given("SignatureVersion", "2.0"),
            400,
            "IncompleteSignature",
        ),
        (
            "signature type",
            given("SignatureType", "BEARERTOKEN"),
            400,
            "IncompleteSignature",
        ),
        (
            "token",
            given("SecurityToken", "sts"),
            400,
            "InvalidSecurityToken.Malformed",
        ),
        ("format", given("Format", "YAML"), 400, "InvalidParameter.Format"),
        ("unknown parameter", given("PageSize", "5"), 400, "UnsupportedParameter"),
        (
            "time form",
            given("Timestamp", "2026-11-30 05:00:00"),
            400,
            "InvalidTimeStamp.Format",
        ),
        (
            "two times",
            given("TimeStamp", "2026-11-30T05:00:00Z"),
            400,
            "InvalidTimeStamp.Format",
        ),
        (
            "early",
            regions().with(|request| request.time = at(-16)),
            400,
            "InvalidTimeStamp.Expired",
        ),
        (
            "late",
            acs3().with(|request| request.time = at(16)),
            400,
            "InvalidTimeStamp.Expired",
        ),
        (
            "unknown key",
            unknown.request("DescribeRegions", &[]),
            404,
            "InvalidAccessKeyId.NotFound",
        ),
        (
            "secret",
            wrong_secret.request("DescribeRegions", &[]),
            400,
            "SignatureDoesNotMatch",
        ),
        (
            "secret of ACS3",
            wrong_secret.request("DescribeRegions", &[]).style(Style::Acs3),
            400,
            "SignatureDoesNotMatch",
        ),
        // Changed after the signature.
        (
            "doubled",
            given("AcceptLanguage", "ja").with(|request| request.added_query = "&AcceptLanguage=ja".to_owned()),
            400,
            "InvalidParameter.Format",
        ),
        (
            "added",
            regions().with(|request| request.added_query = "&AcceptLanguage=ja".to_owned()),
            400,
            "SignatureDoesNotMatch",
        ),
        (
            "added to ACS3",
            acs3().with(|request| request.added_query = "&AcceptLanguage=ja".to_owned()),
            400,
            "SignatureDoesNotMatch",
        ),
        (
            "not UTF-8",
            regions().with(|request| request.added_query = "&AcceptLanguage=%FF".to_owned()),
            400,
            "InvalidParameter.Format",
        ),
        (
            "host",
            acs3().with(|request| request.header.push(("Host", "slb.aliyuncs.com".to_owned()))),
            400,
            "SignatureDoesNotMatch",
        ),
        (
            "signed action",
            acs3().with(|request| request.header.push(("x-acs-action", "TagResources".to_owned()))),
            400,
            "SignatureDoesNotMatch",
        ),
        (
            "another action in the query",
            given("Action", "TagResources").style(Style::Acs3),
            400,
            "InvalidParameter.Format",
        ),
        (
            "body hash",
            with("ResourceGroupId", "")
                .style(Style::Acs3)
                .with(|request| request.body_hash = Some(sha256(b""))),
            400,
            "SignatureDoesNotMatch",
        ),
        (
            "unsigned host",
            acs3().with(|request| request.without.push("host")),
            400,
            "IncompleteSignature",
        ),
        (
            "unsigned date",
            acs3().with(|request| request.without.push("x-acs-date")),
            400,
            "IncompleteSignature",
        ),
        (
            "half a signature",
            acs3().with(|request| {
                request
                    .header
                    .push(("Authorization", "ACS3-HMAC-SHA256 Credential=a".to_owned()))
            }),
            400,
            "IncompleteSignature",
        ),
        (
            "a body of another type",
            with("Tag.1.Key", "a").with(|request| request.content_type = "application/json"),
            400,
            "InvalidParameter.Format",
        ),
        (
            "large form",
            with("ServerCertificateName", &"n".repeat(600_000)),
            413,
            "RequestEntityTooLarge",
        ),
        // Permission, and the parameters of actions.
        (
            "reader",
            reader.request("DeleteServerCertificate", &[("ServerCertificateId", "x")]),
            403,
            "Forbidden",
        ),
        (
            "no region",
            caller.request("UploadServerCertificate", &[]),
            400,
            "MissingRegionId",
        ),
        (
            "region",
            caller.request("DescribeCACertificates", &[("RegionId", "mars-1")]),
            404,
            "InvalidRegionId.NotFound",
        ),
        (
            "no pair",
            caller.request("UploadServerCertificate", &[region]),
            400,
            "InvalidParameter",
        ),
        (
            "no CA",
            caller.request("UploadCACertificate", &[region]),
            400,
            "MissingCACertificate",
        ),
        (
            "no id",
            caller.request("DeleteServerCertificate", &[]),
            400,
            "MissingServerCertificateId",
        ),
        ("certificate", upload("-----BEGIN x", &pair.key), 400, "KeyFormatError"),
        ("key", upload(&pair.certificate, "x"), 400, "InvalidParameter"),
        (
            "encrypted key",
            upload(
                &pair.certificate,
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----",
            ),
            400,
            "PrivateKeyEncryption",
        ),
        (
            "another key",
            upload(&pair.certificate, &other.key),
            400,
            "CertificateNotMatchPrivateKey",
        ),
        ("name", with("ServerCertificateName", "a b"), 400, "InvalidParameter"),
        ("group", with("ResourceGroupId", "rg-none"), 404, "ResourceNotFound"),
        ("tag key", with("Tag.1.Key", "acs:x"), 400, "InvalidTagKey.Malformed"),
        (
            "tag without key",
            with("Tag.1.Value", "x"),
            400,
            "InvalidTagKey.Malformed",
        ),
        (
            "tag value",
            with("Tag.1.Key", "a").with(|request| request.parameters.push(("Tag.1.Value".into(), "http://x".into()))),
            400,
            "InvalidTagValue.Malformed",
        ),
        (
            "tag twice",
            with("Tag.1.Key", "a").with(|request| request.parameters.push(("Tag.2.Key".into(), "a".into()))),
            400,
            "Duplicate.TagKey",
        ),
        (
            "tags",
            caller.request("DescribeServerCertificates", &many_tags),
            400,
            "TagCountLimit",
        ),
        ("no tag", tag("Tag.0.Key", "a", "x"), 400, "UnsupportedParameter"),
        ("resource", tag("Tag.1.Key", "a", "x"), 404, "ResourceNotFound"),
        (
            "type",
            caller.request(
                "ListTagResources",
                &[region, ("ResourceId.1", "x"), ("ResourceType", "acl")],
            ),
            400,
            "InvalidParameter",
        ),
        (
            "no type",
            caller.request("ListTagResources", &[region, ("ResourceId.1", "x")]),
            400,
            "MissingResourceType",
        ),
        (
            "boolean",
            caller.request("UntagResources", &[region, ("ResourceId.1", "x"), ("All", "1")]),
            400,
            "InvalidParameter.Format",
        ),
        ("language", given("AcceptLanguage", "tlh"), 400, "InvalidParameter"),
    ];
    let mut codes: std::collections::BTreeSet<&str> = refused.iter().map(|(.., code)| *code).collect();
    codes.insert("SignatureNonceUsed");
    let secrets = [pair.key.lines().nth(1).unwrap(), caller.secret.as_str()];
    for (name, request, status, code) in refused {
        let answer = request.send();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{name}: {}",
            answer.body
        );
        let error = answer.json();
        let members: Vec<_> = error.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            members,
            ["Code", "HostId", "Message", "Recommend", "RequestId"],
            "{name}"
        );
        assert_eq!(error["RequestId"].as_str().unwrap().len(), 36);
        let message = error["Message"].as_str().unwrap();
        assert!(
            !message.is_empty()
                && codes
                    .iter()
                    .all(|other| !message.contains(other) || *other == "InvalidParameter")
        );
        assert!(secrets.iter().all(|secret| !answer.body.contains(secret)), "{name}");
    }
    // In XML.
    let xml = caller.call("CreateLoadBalancer", &[("Format", "XML")]);
    assert!(
        xml.body
            .starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>InvalidApi.NotFound</Code>"),
        "{}",
        xml.body
    );
    // The same request again, also on another replica.
    let replica = server
        .replica(|config| config.slb_listen = Some("127.0.0.1:0".parse().unwrap()))
        .await;
    for style in [Style::V2, Style::Acs3] {
        let request = regions().style(style);
        request.send().ok();
        let again = request.send();
        assert_eq!((again.status, again.code().as_str()), (400, "SignatureNonceUsed"));
        if style == Style::V2 {
            let there = request.with(|request| request.caller.address = replica.slb_address());
            assert_eq!(there.send().code(), "SignatureNonceUsed");
        }
    }
    // The words that the Python client looks for.
    let message = wrong_secret.call("DescribeRegions", &[]).json()["Message"].clone();
    assert_eq!(
        message,
        "Specified signature is not matched with our calculation. server string to sign is:(redacted)"
    );
    // A key that is disabled, and one that cannot sign.
    let (bearer_id, bearer_secret) = server.admin_key().split_once('.').unwrap();
    let cannot_sign = SlbCaller {
        id: bearer_id.to_owned(),
        secret: bearer_secret.to_owned(),
        ..caller.clone()
    };
    assert_eq!(
        cannot_sign.call("DescribeRegions", &[]).code(),
        "InvalidAccessKeyId.NotFound"
    );
    let sql = server.sql().await;
    let disabled = SlbCaller::new(&server, pb::Role::Reader).await;
    let disable = "update access_key set disabled = true where access_key_id = $1";
    assert_eq!(sql.execute(disable, &[&disabled.id]).await.unwrap(), 1);
    let answer = disabled.call("DescribeRegions", &[]);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "InvalidAccessKeyId.Inactive")
    );
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_a_limit_and_callers_that_send_nothing_lock_nobody_out() {
    let server = TestServer::start_with(|config| {
        config.slb_listen = Some("127.0.0.1:0".parse().unwrap());
        config.max_connections = 16;
    })
    .await;
    let caller = SlbCaller::new(&server, pb::Role::Reader).await;
    // A target of 60,000 octets is read, and one of 70,000 is not.
    let long = |len: usize| {
        caller
            .request("DescribeRegions", &[("OwnerAccount", &"a".repeat(len))])
            .send()
    };
    long(60_000).ok();
    let refused = long(70_000);
    assert!([414, 431].contains(&refused.status), "{refused:?}");
    // Newcomers have 4 places. A caller that needs one gets it.
    let silent: Vec<_> = (0..30)
        .map(|_| {
            let mut stream = TcpStream::connect(caller.address).unwrap();
            stream.write_all(b"GET /?Action=").unwrap();
            stream
        })
        .collect();
    caller.call("DescribeRegions", &[]).ok();
    let closed = silent.into_iter().filter(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let waits = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
        !stream.read(&mut [0]).is_err_and(|error| waits.contains(&error.kind()))
    });
    assert!(closed.count() >= 20);
    // One connection cannot fail forever.
    let mut stream = TcpStream::connect(caller.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let sent: usize = (0..400)
        .take_while(|_| {
            let mut octets = [0; 4096];
            stream.write_all(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").is_ok()
                && stream.read(&mut octets).is_ok_and(|len| len > 0)
        })
        .count();
    assert!((100..200).contains(&sent), "{sent}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_speaks_http_2_too() {
    let server = start().await;
    let caller = SlbCaller::new(&server, pb::Role::Reader).await;
    let stream = tokio::net::TcpStream::connect(caller.address).await.unwrap();
    let (mut calls, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for style in [Style::V2, Style::Acs3] {
        let request = caller.request("DescribeRegions", &[]).style(style).http_2();
        let (response, _) = calls.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200, "{style:?}");
    }
    server.stop().await;
}
