//! The errors, as each client tells them.

use certkeep::grpc::pb;
use certkeep::grpc::pb::admin_service_client::AdminServiceClient;
use certkeep::grpc::pb::delivery_service_client::DeliveryServiceClient;
use serde_json::{Value, json};

use super::{Answer, Client, each_client, start, upload};
use crate::calls::stored;
use crate::harness::{Account, REGION, TestServer, bearer, upload_of};
use crate::pki::{self, Key, Pair};
use crate::slb::SlbCaller;

const NO_KEY: (u64, &str, &str) = (404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.");
const WRONG_SECRET: (u64, &str, &str) = (
    400,
    "SignatureDoesNotMatch",
    "Specified signature is not matched with our calculation. server string to sign is:(redacted)",
);
const USED_NONCE: (u64, &str, &str) = (400, "SignatureNonceUsed", "Specified signature nonce was used already.");
const PAIR_REFUSED: &str = "The specified ServerCertificate and PrivateKey fail to validate.";

/// The message begins with this text; certkeep adds sentences of its own.
fn assert_told(client: &Client<'_>, answer: &Answer, (status, code, message): (u64, &str, &str)) {
    let told = answer.error();
    assert_eq!(
        (told.0, told.1.as_str()),
        (status, code),
        "{} {}",
        client.style,
        answer.0
    );
    assert!(told.2.starts_with(message), "{} {} {message}", client.style, answer.0);
}

/// What the calls need.
#[derive(Clone)]
struct Fixture {
    pair: Pair,
    other: Pair,
    root: Pair,
    in_use: String,
    disabled: SlbCaller,
    reader: SlbCaller,
}

impl Fixture {
    async fn new(server: &TestServer) -> Self {
        let client = server.client();
        let pair = pki::issued(Key::P256, "pair.example");
        let in_use = stored(&client, &upload_of(&pair)).await;
        let consumer = server.add_key("consumer", Account::First).await;
        let mut delivery = DeliveryServiceClient::with_interceptor(server.channel(), bearer(&consumer));
        let lease = pb::BindServerCertificateRequest {
            server_certificate_id: in_use.clone(),
            holder: "proxy".into(),
            ..Default::default()
        };
        delivery.bind_server_certificate(lease).await.unwrap();
        let disabled = SlbCaller::new(server, pb::Role::Editor).await;
        let mut admin = AdminServiceClient::with_interceptor(server.channel(), bearer(server.admin_key()));
        let disable = pb::UpdateAccessKeyRequest {
            access_key_id: disabled.id.clone(),
            disabled: Some(true),
            ..Default::default()
        };
        admin.update_access_key(disable).await.unwrap();
        Self {
            pair,
            other: pki::self_signed(Key::P256, "other.example"),
            root: pki::root("Second"),
            in_use,
            disabled,
            reader: SlbCaller::new(server, pb::Role::Reader).await,
        }
    }
}

/// The errors about the parameters: each with the action, the parameters, and what the client is told.
fn parameter_errors(fixture: &Fixture, id: &str) -> Vec<(&'static str, Value, (u64, &'static str, &'static str))> {
    let with = |members: Value| {
        let mut request = upload(&fixture.pair, "refused");
        for (name, value) in members.as_object().unwrap() {
            request[name] = value.clone();
        }
        request
    };
    let tagged = |tags: &[(&str, &str)]| {
        let tags: Vec<_> = tags
            .iter()
            .map(|(key, value)| json!({"Key": key, "Value": value}))
            .collect();
        with(json!({"Tag": tags}))
    };
    let many: Vec<_> = (0..21).map(|number| number.to_string()).collect();
    let many_tags: Vec<_> = many.iter().map(|number| (number.as_str(), "")).collect();
    let encrypted = pki::encrypted(&openssl::pkey::PKey::private_key_from_pem(fixture.pair.key.as_bytes()).unwrap());
    let unrelated = format!("{}{}", fixture.pair.certificate, fixture.other.certificate);
    let upload = "UploadServerCertificate";
    let unknown = format!("{id}0");
    vec![
        (
            "DescribeLoadBalancers",
            json!({"RegionId": REGION}),
            (
                404,
                "InvalidApi.NotFound",
                "Specified api is not found, please check your url and method.",
            ),
        ),
        (
            "SetServerCertificateName",
            json!({"RegionId": REGION, "ServerCertificateName": "a"}),
            (
                400,
                "MissingServerCertificateId",
                "ServerCertificateId is mandatory for this action.",
            ),
        ),
        (
            "SetServerCertificateName",
            json!({"RegionId": REGION, "ServerCertificateId": id}),
            (
                400,
                "MissingServerCertificateName",
                "ServerCertificateName is mandatory for this action.",
            ),
        ),
        (
            "UploadCACertificate",
            json!({"RegionId": REGION}),
            (
                400,
                "MissingCACertificate",
                "CACertificate is mandatory for this action.",
            ),
        ),
        (
            upload,
            with(json!({"RegionId": "nowhere-1"})),
            (
                404,
                "InvalidRegionId.NotFound",
                "The specified RegionId does not exist.",
            ),
        ),
        (
            upload,
            json!({"RegionId": REGION}),
            (
                400,
                "InvalidParameter",
                "The specified parameter ServerCertificate or Key is empty.",
            ),
        ),
        (
            upload,
            with(json!({"ServerCertificate": "no certificate"})),
            (
                400,
                "KeyFormatError",
                "The specified ServerCertificate is incorrectly formatted.",
            ),
        ),
        (
            upload,
            with(json!({"PrivateKey": "no key"})),
            (400, "InvalidParameter", "The specified parameter key format is error."),
        ),
        (
            upload,
            with(json!({"PrivateKey": encrypted})),
            (400, "PrivateKeyEncryption", "Key has Encrypted ."),
        ),
        (
            upload,
            with(json!({"PrivateKey": fixture.other.key})),
            (400, "CertificateNotMatchPrivateKey", ""),
        ),
        (
            upload,
            with(json!({"ServerCertificate": unrelated})),
            (400, "InvalidParameter", PAIR_REFUSED),
        ),
        (
            upload,
            with(json!({"ServerCertificateName": "a b"})),
            (400, "InvalidParameter", ""),
        ),
        (
            upload,
            with(json!({"ResourceGroupId": "rg-unknown"})),
            (404, "ResourceNotFound", ""),
        ),
        (upload, tagged(&many_tags), (400, "TagCountLimit", "")),
        (
            upload,
            tagged(&[("same", "1"), ("same", "2")]),
            (400, "Duplicate.TagKey", ""),
        ),
        (upload, tagged(&[("acs:key", "")]), (400, "InvalidTagKey.Malformed", "")),
        (
            upload,
            tagged(&[("key", "https://")]),
            (400, "InvalidTagValue.Malformed", ""),
        ),
        (
            "TagResources",
            json!({"RegionId": REGION, "ResourceType": "certificate", "ResourceId": many, "Tag": [{"Key": "a", "Value": "b"}]}),
            (400, "SizeLimitExceeded.ResourceId", ""),
        ),
        (
            "UntagResources",
            json!({"RegionId": REGION, "ResourceType": "certificate", "ResourceId": [id], "All": "perhaps"}),
            (
                400,
                "InvalidParameter.Format",
                "Specified parameter format is not valid.",
            ),
        ),
        (
            "DeleteServerCertificate",
            json!({"RegionId": REGION, "ServerCertificateId": unknown}),
            (
                404,
                "ServerCertificateId.NotFound",
                "The specified ServerCertificateId does not exist.",
            ),
        ),
        (
            "DeleteCACertificate",
            json!({"RegionId": REGION, "CACertificateId": id}),
            (
                404,
                "CACertificateId.NotFound",
                "The specified CACertificateId does not exist.",
            ),
        ),
        (
            "DeleteServerCertificate",
            json!({"RegionId": REGION, "ServerCertificateId": id}),
            (400, "CertificateAndPrivateKeyIsRefered", ""),
        ),
        (
            "UploadCACertificate",
            json!({"RegionId": REGION, "CACertificate": fixture.root.certificate}),
            (400, "OverQuota", "The Total is over the quota."),
        ),
    ]
}

fn protocol_errors(client: &mut Client<'_>) {
    let (style, regions) = (client.style, json!({}));
    let refused = |client: &mut Client<'_>, members: Value, told| {
        let answer = client.ask_with("DescribeRegions", &regions, &members);
        assert_told(client, &answer, told);
    };
    refused(client, json!({"access_key_id": "ckunknown"}), NO_KEY);
    refused(client, json!({"secret": "wrong"}), WRONG_SECRET);
    let is_typed_tea = ["acs3", "v2"].contains(&style);
    if !is_typed_tea && style != "go-form" {
        // The typed client of tea has no other method. The form of Go is always a POST.
        let method = (403, "UnsupportedHTTPMethod", "This http method is not supported.");
        refused(client, json!({"method": "PUT"}), method);
    }
    if ["acs3-form", "v2-form", "pop-post", "go-form"].contains(&style) {
        // Typed clients have no parameter that the API does not have.
        let unknown = json!({"parameters": {"Unknown": "1"}});
        refused(
            client,
            unknown,
            (400, "UnsupportedParameter", "The specified parameter is not supported."),
        );
        let large = json!({"parameters": {"AcceptLanguage": "a".repeat(600_000)}});
        refused(client, large, (413, "RequestEntityTooLarge", ""));
    }
    if style.starts_with("go") {
        // The client has no way to set its clock or its nonce.
        refused(client, json!({"send_twice": true}), USED_NONCE);
        return;
    }
    let expired = (
        400,
        "InvalidTimeStamp.Expired",
        "Specified time stamp or date value is expired.",
    );
    refused(client, json!({"time": "2026-01-01T00:00:00Z"}), expired);
    let format = "Specified time stamp or date value is not well formatted.";
    refused(
        client,
        json!({"time": "yesterday"}),
        (400, "InvalidTimeStamp.Format", format),
    );
    let nonce = json!({"nonce": format!("nonce-{style}")});
    client.ask_with("DescribeRegions", &regions, &nonce).ok();
    refused(client, nonce, USED_NONCE);
    if style.starts_with("pop") {
        let method = (
            400,
            "InvalidSignatureMethod",
            "Specified signature method is not valid.",
        );
        refused(client, json!({"signature_method": "HMAC-MD5"}), method);
        let version = json!({"parameters": {"SignatureVersion": "2.0"}});
        let incomplete = "The request signature does not conform to Aliyun standards.";
        refused(client, version, (400, "IncompleteSignature", incomplete));
        let format = (
            400,
            "InvalidParameter.Format",
            "Specified parameter format is not valid.",
        );
        refused(client, json!({"format": "YAML"}), format);
    }
    if style.starts_with("acs3") {
        let method = (
            400,
            "InvalidSignatureMethod",
            "Specified signature method is not valid.",
        );
        refused(client, json!({"signature_algorithm": "ACS3-HMAC-SM3"}), method);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_tells_every_error() {
    let (server, caller) = start(|config| config.ca_certificate_quota = 1).await;
    let mut first = server.client();
    let root = pb::UploadCaCertificateRequest {
        region_id: REGION.into(),
        ca_certificate: pki::root("First").certificate,
        ..Default::default()
    };
    first.upload_ca_certificate(root).await.unwrap();
    let fixture = Fixture::new(&server).await;
    each_client(caller, move |client| {
        protocol_errors(client);
        for (action, parameters, told) in parameter_errors(&fixture, &fixture.in_use) {
            let answer = client.ask(action, &parameters);
            assert_told(client, &answer, told);
        }
        if !["core", "go", "go-form"].contains(&client.style) {
            // These clients add their region to a request without one.
            let parameters = json!({"ServerCertificate": "a", "PrivateKey": "b"});
            let answer = client.ask("UploadServerCertificate", &parameters);
            let missing = (400, "MissingRegionId", "RegionId is mandatory for this action.");
            assert_told(client, &answer, missing);
        }
        let editor = std::mem::replace(&mut client.caller, fixture.disabled.clone());
        let answer = client.ask("DescribeRegions", &json!({}));
        let disabled = (400, "InvalidAccessKeyId.Inactive", "Specified access key is disabled.");
        assert_told(client, &answer, disabled);
        client.caller = fixture.reader.clone();
        let answer = client.ask("UploadServerCertificate", &upload(&fixture.pair, "refused"));
        let forbidden = "User not authorized to operate on the specified resource.";
        assert_told(client, &answer, (403, "Forbidden", forbidden));
        client.caller = editor;
    })
    .await;
    // Nothing was stored but the pair in use and the first root.
    let stored = server
        .sql()
        .await
        .query_one("select count(*) from certificate", &[])
        .await;
    assert_eq!(stored.unwrap().get::<_, i64>(0), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_tells_a_limit_and_a_failure() {
    let (_server, caller) = start(|config| config.access_key_rate = 1).await;
    each_client(caller, |client| {
        let throttled = (0..20)
            .map(|_| client.ask("DescribeRegions", &json!({})))
            .find(|answer| answer.0["error"].is_object());
        let answer = throttled.expect("the limit refuses a call");
        assert_told(
            client,
            &answer,
            (400, "Throttling.User", "Request was denied due to user flow control."),
        );
    })
    .await;
}
