//! Certificates that certkeep fetches from Alibaba Cloud Certificate Management Service. The service here is an HTTP server that verifies
//! signatures by the published algorithm, without certkeep's code, and answers in CAS's shape.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use certkeep::config::{CasService, Config};
use certkeep::grpc::pb;
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::bad_input::reason;
use crate::calls::{describe, get, refusal, renew, renewal_of, roll_back, stored, upload};
use crate::harness::{Account, Client, REGION, TestServer, temp_dir, upload_of, write_secret};
use crate::pki::{self, Key, Pair};
use crate::process::{CERTKEEP, Certkeep, certkeep, stderr, stdout};
use crate::slb::{SlbCaller, Style};

const ACCESS_KEY: [&str; 2] = ["LTAI5tCertkeepTest", "a-Secret_of/Alibaba+Cloud=30"];
/// The time for one answer in these tests.
const TIMEOUT: Duration = Duration::from_millis(800);

/// What the service answers for a certificate.
#[derive(Clone)]
enum Answer {
    Json(u16, Value),
    /// Not JSON.
    Text(u16, String),
    After(Duration, Box<Answer>),
    /// A part of the answer, and then the end of the connection.
    Cut,
}

/// The detail of this pair, as CAS answers it.
fn detail(pair: &Pair) -> Answer {
    let answer = json!({
        "Id": 6055048, "Name": "cert-shop", "Common": "shop.example", "Sans": "shop.example", "Expired": false, "BuyInAliyun": true,
        "Cert": pair.certificate, "Key": pair.key, "EncryptCert": "", "EncryptPrivateKey": "", "Algorithm": "ECC",
        "StartDate": "2026-01-01", "EndDate": "2027-01-01", "RequestId": "15C66C7B-671A-4297-9187-2C4477247A74",
    });
    Answer::Json(200, answer)
}

fn error(status: u16, code: &str) -> Answer {
    let message = "Specified access key is not found or invalid. server string to sign is:private";
    let answer = json!({ "Code": code, "Message": message, "RequestId": "7A1B-0001", "HostId": "cas.aliyuncs.com", "Recommend": "" });
    Answer::Json(status, answer)
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(hash(MessageDigest::sha256(), bytes).unwrap())
}

#[derive(Default)]
struct State {
    /// The answers for each certificate, one after the other. The last one stays.
    answers: HashMap<String, Vec<Answer>>,
    /// The ids of the certificates that were asked for.
    asked: Vec<String>,
    nonces: HashSet<String>,
    /// The requests that are being answered now, and the most at any time.
    answering: usize,
    most_answering: usize,
}

/// The service.
#[derive(Clone)]
struct Cas {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Cas {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cas = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let ours = cas.clone();
        let answer = move |request: Request| {
            let cas = ours.clone();
            async move { cas.answer(request).await }
        };
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        cas
    }

    fn set(&self, id: &str, answers: &[Answer]) {
        let mut state = self.state.lock().unwrap();
        state.answers.insert(id.to_owned(), answers.to_vec());
    }

    /// How often it was asked since the last look.
    fn asked(&self) -> usize {
        std::mem::take(&mut self.state.lock().unwrap().asked).len()
    }

    async fn answer(&self, request: Request) -> Response {
        {
            let mut state = self.state.lock().unwrap();
            state.answering += 1;
            state.most_answering = state.most_answering.max(state.answering);
        }
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 1024).await.unwrap();
        let verified = self.verify(&parts, &body);
        let mut answer = match verified {
            Ok(id) => {
                let mut state = self.state.lock().unwrap();
                state.asked.push(id.clone());
                match state.answers.get_mut(&id) {
                    Some(answers) if answers.len() > 1 => answers.remove(0),
                    Some(answers) => answers[0].clone(),
                    None => error(404, "NotFound"),
                }
            }
            Err((status, code)) => error(status, code),
        };
        while let Answer::After(time, then) = answer {
            tokio::time::sleep(time).await;
            answer = *then;
        }
        self.state.lock().unwrap().answering -= 1;
        let (status, body) = match answer {
            Answer::Json(status, json) => (status, Body::from(json.to_string())),
            Answer::Text(status, text) => (status, Body::from(text)),
            Answer::Cut | Answer::After(..) => {
                let parts = [Ok("{\"Cert\": \"".to_owned()), Err(std::io::Error::other("cut"))];
                (200, Body::from_stream(tokio_stream::iter(parts)))
            }
        };
        Response::builder().status(status).body(body).unwrap()
    }

    /// The id of the certificate, if the request is signed as the documentation of signature V3 says.
    fn verify(&self, parts: &http::request::Parts, body: &[u8]) -> Result<String, (u16, &'static str)> {
        let header = |name: &str| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/"));
        assert_eq!(
            (header("x-acs-action"), header("x-acs-version")),
            ("GetUserCertificateDetail", "2020-04-07")
        );
        let fields = header("authorization")
            .strip_prefix("ACS3-HMAC-SHA256 ")
            .expect("the scheme of V3");
        let field = |name: &str| {
            let part = fields
                .split(',')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            part.unwrap_or_else(|| panic!("{name} is missing"))
        };
        if field("Credential") != ACCESS_KEY[0] {
            return Err((404, "InvalidAccessKeyId.NotFound"));
        }
        // The header has to be signed if it is one of these.
        let signed: Vec<_> = field("SignedHeaders").split(';').collect();
        assert!(signed.is_sorted(), "{signed:?}");
        for name in parts.headers.keys().map(http::HeaderName::as_str) {
            let must_be_signed = name == "host" || name.starts_with("x-acs-");
            assert_eq!(signed.contains(&name), must_be_signed, "{name}");
        }
        assert_eq!(header("host"), self.address.to_string());
        let content = sha256(body);
        assert_eq!(header("x-acs-content-sha256"), content);
        let headers: String = signed
            .iter()
            .map(|name| format!("{name}:{}\n", header(name).trim()))
            .collect();
        let query = parts.uri.query().unwrap();
        let canonical = format!("POST\n/\n{query}\n{headers}\n{}\n{content}", signed.join(";"));
        let key = PKey::hmac(ACCESS_KEY[1].as_bytes()).unwrap();
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        let string = format!("ACS3-HMAC-SHA256\n{}", sha256(canonical.as_bytes()));
        signer.update(string.as_bytes()).unwrap();
        if field("Signature") != hex::encode(signer.sign_to_vec().unwrap()) {
            return Err((400, "SignatureDoesNotMatch"));
        }
        let now = certkeep::clock::now();
        let minutes = [-1, 0, 1].map(|minute| certkeep::clock::Timestamp::from_millis(now.millis() + minute * 60_000));
        let minute = |time: &str| time.get(..16).map(str::to_owned);
        assert!(
            minutes
                .iter()
                .any(|time| minute(&time.to_string()) == minute(header("x-acs-date")))
        );
        let nonce = header("x-acs-signature-nonce").to_owned();
        assert!(
            nonce.len() >= 16 && self.state.lock().unwrap().nonces.insert(nonce),
            "a nonce is used once"
        );
        let id = query.strip_prefix("CertId=").expect("CertId and nothing else");
        Ok(id.to_owned())
    }
}

/// A server of certkeep, the service that it calls, and the file with the access key.
struct Setup {
    /// A server without the settings.
    plain: TestServer,
    cas: Cas,
    directory: tempfile::TempDir,
    account: i64,
}

impl Setup {
    async fn new() -> Self {
        let plain = TestServer::start().await;
        let account = plain.sql().await;
        let account = account
            .query_one("select account_id from account where name = 'default'", &[])
            .await;
        let directory = temp_dir();
        write_secret(directory.path().join("cas"), ACCESS_KEY.join("\n"));
        Self {
            account: account.unwrap().get(0),
            cas: Cas::start().await,
            plain,
            directory,
        }
    }

    fn credentials_file(&self) -> std::path::PathBuf {
        self.directory.path().join("cas")
    }

    /// A server that fetches certificates. Each has its own circuit breaker.
    async fn server(&self) -> TestServer {
        let service = CasService {
            endpoint: format!("http://{}", self.cas.address).parse().unwrap(),
            credentials_file: self.credentials_file(),
            account: self.account,
            ca_file: None,
            timeout: TIMEOUT,
            pause: Duration::from_secs(30),
        };
        let change = |config: &mut Config| {
            config.cas = Some(service);
            config.slb_listen = Some("127.0.0.1:0".parse().unwrap());
        };
        self.plain.replica(change).await
    }
}

fn named(id: &str) -> pb::UploadServerCertificateRequest {
    pb::UploadServerCertificateRequest {
        region_id: REGION.into(),
        ali_cloud_certificate_id: id.into(),
        ..Default::default()
    }
}

async fn refused(client: &Client, request: pb::UploadServerCertificateRequest) -> Status {
    upload(client, request).await.unwrap_err()
}

fn violations(refused: &Status) -> Vec<(String, String)> {
    let bad = refused.get_error_details().bad_request().unwrap().clone();
    bad.field_violations
        .into_iter()
        .map(|one| (one.field, one.reason))
        .collect()
}

#[tokio::test]
async fn a_fetched_pair_is_an_upload_and_a_retry_fetches_nothing() {
    let setup = Setup::new().await;
    let (server, cas) = (setup.server().await, &setup.cas);
    let client = server.client();
    let pair = pki::self_signed(Key::P256, "shop.example");
    let slow = Answer::After(TIMEOUT / 3, Box::new(detail(&pair)));
    cas.set("6055048", &[slow, detail(&pair)]);
    let request = pb::UploadServerCertificateRequest {
        client_token: "token".into(),
        ali_cloud_certificate_region_id: "cn-hangzhou".into(),
        ..named("6055048")
    };

    let validated = pb::UploadServerCertificateRequest {
        client_token: String::new(),
        validate_only: true,
        ..request.clone()
    };
    let answer = upload(&client, validated).await.unwrap();
    assert_eq!(
        (answer.server_certificate_id.as_str(), answer.is_ali_cloud_certificate),
        ("", 1)
    );
    assert_eq!((cas.asked(), server.rows().await[0]), (1, 0));

    let first = upload(&client, request.clone()).await.unwrap();
    assert_eq!(
        (first.is_ali_cloud_certificate, first.ali_cloud_certificate_id.as_str()),
        (1, "6055048")
    );
    assert_eq!(first.ali_cloud_certificate_name, "cert-shop");
    assert_eq!(first.server_certificate_name, "shop.example");
    assert_eq!(cas.asked(), 1);
    let id = &first.server_certificate_id;
    let again = upload(&client, request.clone()).await.unwrap();
    assert_eq!(
        (&again.server_certificate_id, &again.ali_cloud_certificate_name),
        (id, &first.ali_cloud_certificate_name)
    );
    let other_id = pb::UploadServerCertificateRequest {
        ali_cloud_certificate_id: "6055049".into(),
        ..request
    };
    assert_eq!(reason(&refused(&client, other_id).await), "CLIENT_TOKEN_REUSED");
    assert_eq!(cas.asked(), 0, "a retry fetches nothing");

    let by_pair = stored(&client, &upload_of(&pair)).await;
    let search = pb::SearchServerCertificatesRequest {
        fingerprint: first.fingerprint.clone(),
        ..Default::default()
    };
    let found = client
        .clone()
        .search_server_certificates(search)
        .await
        .unwrap()
        .into_inner();
    let (described, _) = describe(&client, pb::DescribeServerCertificatesRequest::default()).await;
    for list in [
        described,
        found.server_certificates,
        vec![get(&client, id).await, get(&client, &by_pair).await]
            .into_iter()
            .map(Result::unwrap)
            .collect(),
    ] {
        let shown = list.iter().map(|one| {
            let [id, name] = [&one.ali_cloud_certificate_id, &one.ali_cloud_certificate_name].map(String::as_str);
            (one.is_ali_cloud_certificate, id, name)
        });
        assert_eq!(shown.collect::<Vec<_>>(), [(1, "6055048", "cert-shop"), (0, "", "")]);
    }
    let region = "select ali_cloud_certificate_region_id from certificate order by created_ms, random limit 1";
    assert_eq!(
        server
            .sql()
            .await
            .query_one(region, &[])
            .await
            .unwrap()
            .get::<_, String>(0),
        "cn-hangzhou"
    );
    server.stop().await;
    setup.plain.stop().await;
}

#[tokio::test]
async fn a_call_that_would_be_refused_anyway_fetches_nothing() {
    let setup = Setup::new().await;
    let (server, cas) = (setup.server().await, &setup.cas);
    let client = server.client();
    let pair = pki::self_signed(Key::P256, "shop.example");
    cas.set("1", &[detail(&pair)]);

    let wrong = pb::UploadServerCertificateRequest {
        region_id: "mars-1".into(),
        server_certificate: pair.certificate.clone(),
        server_certificate_name: "a b".into(),
        ali_cloud_certificate_name: "n".repeat(65),
        ali_cloud_certificate_region_id: "a\tb".into(),
        client_token: "\u{e9}".into(),
        ..named("1")
    };
    let fields = violations(&refused(&client, wrong).await);
    let fields: Vec<_> = fields.iter().map(|(field, _)| field.as_str()).collect();
    let expected = [
        "region_id",
        "server_certificate_name",
        "ali_cloud_certificate_id",
        "ali_cloud_certificate_name",
        "ali_cloud_certificate_region_id",
        "client_token",
    ];
    assert_eq!(fields, expected);
    for id in ["0", "01", "-1", "1-cn-hangzhou", "9223372036854775808"] {
        let told = violations(&refused(&client, named(id)).await);
        assert_eq!(
            told,
            [("ali_cloud_certificate_id".to_owned(), "FIELD_INVALID".to_owned())],
            "{id}"
        );
    }
    let both = pb::UploadServerCertificateRequest {
        ali_cloud_certificate_id: "1".into(),
        ..upload_of(&pair)
    };
    let both = refused(&client, both).await;
    assert_eq!(
        both.message(),
        "ali_cloud_certificate_id and server_certificate exclude each other; use one of them"
    );
    let no_group = pb::UploadServerCertificateRequest {
        resource_group_id: "rg-1".into(),
        ..named("1")
    };
    assert_eq!(
        refusal(upload(&client, no_group).await),
        (Code::NotFound, "RESOURCE_GROUP_NOT_FOUND".into())
    );
    let quota = "insert into quota (account_id, kind, maximum) values ($1, 'server', 0)";
    server.sql().await.execute(quota, &[&setup.account]).await.unwrap();
    assert_eq!(reason(&refused(&client, named("1")).await), "QUOTA_EXCEEDED");
    server.sql().await.execute("delete from quota", &[]).await.unwrap();

    let old = stored(&client, &upload_of(&pki::self_signed(Key::P256, "old.example"))).await;
    let renewal = |id: &str| pb::RenewServerCertificateRequest {
        server_certificate_id: id.into(),
        ali_cloud_certificate_id: "1".into(),
        ..Default::default()
    };
    let other = old.replace('_', "_1");
    assert_eq!(
        reason(&renew(&client, renewal(&other)).await.unwrap_err()),
        "SERVER_CERTIFICATE_NOT_FOUND"
    );
    let changed = pb::RenewServerCertificateRequest {
        if_etag: "7".into(),
        ..renewal(&old)
    };
    assert_eq!(reason(&renew(&client, changed).await.unwrap_err()), "ETAG_MISMATCH");

    let reader = server.client_with(Some(&format!(
        "Bearer {}",
        server.add_key("reader", Account::First).await
    )));
    assert_eq!(reason(&refused(&reader, named("1")).await), "PERMISSION_DENIED");
    let stranger = server.client_with(Some(&format!("Bearer {}", server.add_key("admin", Account::New).await)));
    for client in [stranger, setup.plain.client()] {
        let not_configured = (Code::FailedPrecondition, "ALI_CLOUD_NOT_CONFIGURED".into());
        assert_eq!(refusal(upload(&client, named("1")).await), not_configured);
        assert_eq!(refusal(renew(&client, renewal(&old)).await), not_configured);
    }
    assert_eq!(cas.asked(), 0);
    server.stop().await;
    setup.plain.stop().await;
}

#[tokio::test]
async fn a_renewal_by_an_id_keeps_it_and_a_renewal_by_a_pair_removes_it() {
    let setup = Setup::new().await;
    let (server, cas) = (setup.server().await, &setup.cas);
    let client = server.client();
    let [first, second, third] = [(); 3].map(|()| pki::self_signed(Key::P256, "shop.example"));
    cas.set("7", &[detail(&second)]);
    let id = stored(&client, &upload_of(&first)).await;
    let by_id = pb::RenewServerCertificateRequest {
        server_certificate_id: id.clone(),
        ali_cloud_certificate_id: "7".into(),
        ali_cloud_certificate_region_id: "cn-hangzhou".into(),
        ..Default::default()
    };
    let shown = |certificate: Option<pb::ServerCertificate>| {
        let one = certificate.unwrap();
        (
            one.version,
            one.is_ali_cloud_certificate,
            one.ali_cloud_certificate_id,
            one.ali_cloud_certificate_name,
        )
    };
    let fetched = |version| (version, 1, "7".to_owned(), "cert-shop".to_owned());
    let given = |version| (version, 0, String::new(), String::new());

    let validated = pb::RenewServerCertificateRequest {
        validate_only: true,
        ..by_id.clone()
    };
    assert_eq!(
        shown(renew(&client, validated).await.unwrap().server_certificate),
        fetched(2)
    );
    assert_eq!((cas.asked(), shown(get(&client, &id).await.ok())), (1, given(1)));
    let with_token = pb::RenewServerCertificateRequest {
        client_token: "token".into(),
        ..by_id.clone()
    };
    for asked in [1, 0] {
        let answer = renew(&client, with_token.clone()).await.unwrap();
        assert_eq!(
            (answer.previous_version, shown(answer.server_certificate)),
            (1, fetched(2))
        );
        assert_eq!(cas.asked(), asked, "a retry fetches nothing");
    }
    assert_eq!(shown(get(&client, &id).await.ok()), fetched(2));
    // The same pair again changes nothing, whoever sends it.
    assert_eq!(
        shown(renew(&client, by_id).await.unwrap().server_certificate),
        fetched(2)
    );
    assert_eq!(
        shown(
            renew(&client, renewal_of(&id, &second))
                .await
                .unwrap()
                .server_certificate
        ),
        fetched(2)
    );
    assert_eq!(
        shown(
            renew(&client, renewal_of(&id, &third))
                .await
                .unwrap()
                .server_certificate
        ),
        given(3)
    );
    assert_eq!(shown(get(&client, &id).await.ok()), given(3));
    assert_eq!(shown(roll_back(&client, &id, 2, "").await.ok()), fetched(4));
    assert_eq!(shown(get(&client, &id).await.ok()), fetched(4));
    server.stop().await;
    setup.plain.stop().await;
}

#[tokio::test]
async fn every_failure_has_its_reason_and_only_what_can_pass_is_tried_again() {
    let setup = Setup::new().await;
    let (server, cas) = (setup.server().await, &setup.cas);
    let client = server.client();
    let pair = pki::self_signed(Key::P256, "shop.example");
    let other = pki::self_signed(Key::P256, "shop.example");
    let mixed = Pair {
        key: other.key.clone(),
        ..pki::self_signed(Key::P256, "shop.example")
    };
    let without_key = Answer::Json(
        200,
        json!({ "Cert": pair.certificate, "Key": "", "SignCert": pair.certificate }),
    );
    for (answer, code, expected) in [
        (
            error(404, "NotFound"),
            Code::NotFound,
            "ALI_CLOUD_CERTIFICATE_NOT_FOUND",
        ),
        (
            error(403, "Forbidden.RAM"),
            Code::FailedPrecondition,
            "ALI_CLOUD_REFUSED",
        ),
        (
            error(404, "InvalidAccessKeyId.NotFound"),
            Code::FailedPrecondition,
            "ALI_CLOUD_REFUSED",
        ),
        (without_key, Code::FailedPrecondition, "ALI_CLOUD_ANSWER_INVALID"),
        (
            Answer::Json(200, json!([1])),
            Code::FailedPrecondition,
            "ALI_CLOUD_ANSWER_INVALID",
        ),
        (
            Answer::Text(200, "<html>".into()),
            Code::FailedPrecondition,
            "ALI_CLOUD_ANSWER_INVALID",
        ),
        (
            Answer::Text(200, "a".repeat(1024 * 1024 + 1)),
            Code::FailedPrecondition,
            "ALI_CLOUD_ANSWER_INVALID",
        ),
        (
            Answer::Text(302, String::new()),
            Code::FailedPrecondition,
            "ALI_CLOUD_ANSWER_INVALID",
        ),
        (detail(&mixed), Code::InvalidArgument, "PRIVATE_KEY_MISMATCH"),
    ] {
        cas.set("1", &[answer]);
        let refused = refused(&client, named("1")).await;
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (code, expected),
            "{refused:?}"
        );
        assert_eq!(cas.asked(), 1, "{expected} is not tried again");
        assert!(!refused.message().contains("string to sign"), "{refused:?}");
        let metadata = refused.get_error_details().error_info().unwrap().metadata.clone();
        match expected {
            "PRIVATE_KEY_MISMATCH" => {
                assert_eq!(violations(&refused)[0].0, "ali_cloud_certificate_id");
                assert!(
                    refused.message().starts_with("the fetched private key does not belong"),
                    "{refused:?}"
                );
            }
            _ => assert_eq!(metadata["ali_cloud_certificate_id"], "1"),
        }
        if expected == "ALI_CLOUD_REFUSED" {
            assert_eq!(metadata["ali_cloud_request_id"], "7A1B-0001");
        }
    }
    // A try that fails is repeated, and the upload succeeds.
    cas.set(
        "1",
        &[
            error(503, "ServiceUnavailable"),
            error(400, "Throttling.User"),
            detail(&pair),
        ],
    );
    stored(&client, &named("1")).await;
    assert_eq!(cas.asked(), 3);

    // The file is read for each fetch.
    write_secret(
        setup.credentials_file(),
        [ACCESS_KEY[0], "another secret".split(' ').next().unwrap()].join("\n"),
    );
    assert_eq!(reason(&refused(&client, named("1")).await), "ALI_CLOUD_REFUSED");
    write_secret(setup.credentials_file(), "one line");
    assert_eq!(reason(&refused(&client, named("1")).await), "ALI_CLOUD_NOT_CONFIGURED");
    write_secret(setup.credentials_file(), ACCESS_KEY.join("\n"));
    assert_eq!(cas.asked(), 0);
    server.stop().await;

    let never = Answer::After(Duration::from_secs(60), Box::new(detail(&pair)));
    for failing in [error(500, "InternalError"), never, Answer::Cut] {
        let server = setup.server().await;
        let client = server.client();
        cas.set("1", &[failing]);
        assert_eq!(
            refusal(upload(&client, named("1")).await),
            (Code::Unavailable, "ALI_CLOUD_UNAVAILABLE".into())
        );
        assert_eq!(cas.asked(), 3, "two retries");
        let paused = refused(&client, named("1")).await;
        assert_eq!(
            (paused.code(), reason(&paused).as_str()),
            (Code::Unavailable, "ALI_CLOUD_PAUSED")
        );
        let wait = paused.get_error_details().retry_info().unwrap().retry_delay.unwrap();
        assert!(
            (Duration::from_secs(20)..=Duration::from_secs(30)).contains(&wait),
            "{wait:?}"
        );
        assert_eq!(cas.asked(), 0, "the breaker is open");
        // A pair does not need Alibaba Cloud.
        stored(&client, &upload_of(&pair)).await;
        server.stop().await;
    }
    setup.plain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_16_fetches_run_at_once() {
    let setup = Setup::new().await;
    let (server, cas) = (setup.server().await, &setup.cas);
    let pair = pki::self_signed(Key::P256, "shop.example");
    cas.set("1", &[Answer::After(TIMEOUT / 4, Box::new(detail(&pair)))]);
    let uploads = (0..20).map(|_| {
        let client = server.client();
        async move { stored(&client, &named("1")).await }
    });
    let ids = uploads.collect::<JoinSet<_>>().join_all().await;
    assert_eq!(ids.into_iter().collect::<HashSet<_>>().len(), 20);
    assert_eq!(cas.asked(), 20);
    // On a busy machine, not all of them come together.
    let most = cas.state.lock().unwrap().most_answering;
    assert!((8..=16).contains(&most), "{most}");
    server.stop().await;
    setup.plain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_alibaba_cloud_upload_by_id_and_see_no_secret() {
    let setup = Setup::new().await;
    let (server, cas) = (setup.server().await, &setup.cas);
    let caller = SlbCaller::new(&server, pb::Role::Editor).await;
    let pair = pki::self_signed(Key::P256, "shop.example");
    cas.set("1", &[detail(&pair)]);
    cas.set("2", &[error(400, "SignatureDoesNotMatch")]);
    cas.set("3", &[error(500, "InternalError")]);
    let upload = |id: &str, more: &[(&str, &str)]| {
        let parameters = [("RegionId", REGION), ("AliCloudCertificateId", id)];
        caller.request("UploadServerCertificate", &[&parameters, more].concat())
    };
    let key_lines = pair.key.lines().filter(|line| line.len() > 20);
    let secrets: Vec<_> = key_lines
        .chain([ACCESS_KEY[1], &caller.secret, "string to sign"])
        .collect();

    for request in [upload("1", &[]), upload("1", &[]).style(Style::Acs3).post_form()] {
        let answer = request.send();
        let uploaded = answer.ok();
        let shown = [
            "IsAliCloudCertificate",
            "AliCloudCertificateId",
            "AliCloudCertificateName",
        ]
        .map(|name| &uploaded[name]);
        assert_eq!(json!(shown), json!([1, "1", "cert-shop"]));
        assert!(secrets.iter().all(|secret| !answer.body.contains(secret)), "{answer:?}");
        let id = [("ServerCertificateId", uploaded["ServerCertificateId"].as_str().unwrap())];
        let described = caller.call("DescribeServerCertificates", &id).ok();
        let described = &described["ServerCertificates"]["ServerCertificate"][0];
        assert_eq!(described["AliCloudCertificateId"], "1");
    }
    assert_eq!(cas.asked(), 2);

    let (certificate, key) = (pair.certificate.as_str(), pair.key.as_str());
    let with_pair = [("ServerCertificate", certificate), ("PrivateKey", key)];
    for (request, status, code, asked) in [
        (upload("4", &[]), 404, "AliCloudCertificateId.NotFound", 1),
        (upload("1", &with_pair).post_form(), 400, "InvalidParameter", 0),
        (upload("01", &[]), 400, "InvalidParameter", 0),
        (upload("2", &[]), 403, "Forbidden", 1),
        (upload("3", &[]), 503, "ServiceUnavailable", 3),
        // The breaker is open.
        (upload("1", &[]), 503, "ServiceUnavailable", 0),
    ] {
        let answer = request.send();
        assert_eq!(
            (answer.status, answer.code().as_str(), cas.asked()),
            (status, code, asked),
            "{answer:?}"
        );
        assert!(secrets.iter().all(|secret| !answer.body.contains(secret)), "{answer:?}");
    }
    assert_eq!(server.rows().await[0], 2);
    server.stop().await;
    setup.plain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_names_ids_and_no_secret_is_in_the_log() {
    let setup = Setup::new().await;
    let pair = pki::self_signed(Key::P256, "shop.example");
    let mut with_more = match detail(&pair) {
        Answer::Json(_, json) => json,
        _ => unreachable!(),
    };
    let more = pki::self_signed(Key::P256, "more.example");
    with_more["EncryptPrivateKey"] = more.key.clone().into();
    setup.cas.set("1", &[Answer::Json(200, with_more)]);
    setup.cas.set(
        "2",
        &[detail(&Pair {
            key: more.key.clone(),
            ..pki::self_signed(Key::P256, "shop.example")
        })],
    );
    setup.cas.set("3", &[error(400, "SignatureDoesNotMatch")]);
    let (log, file) = (setup.directory.path().join("log"), setup.credentials_file());
    let (endpoint, account) = (format!("http://{}", setup.cas.address), setup.account.to_string());
    let credentials = file.to_str().unwrap();
    let settings = [
        "--database-url",
        setup.plain.database(),
        "--log",
        "trace",
        "--cas-endpoint",
        &endpoint,
        "--cas-account",
        &account,
        "--cas-credentials-file",
        credentials,
    ];
    let server = Certkeep::start_as(setup.plain.data_dir(), &settings, |command| {
        command.stderr(std::fs::File::create(&log).unwrap());
    });
    let (key_file, address) = (setup.plain.admin_key_file(), format!("http://{}", server.address));
    let run = |args: &[&str]| {
        let connection = ["--endpoint", &address, "--access-key-file", key_file.to_str().unwrap()];
        certkeep(&[args, &connection].concat())
    };
    let uploaded = run(&[
        "upload",
        "--region",
        REGION,
        "--ali-cloud-certificate-id",
        "1",
        "--output",
        "json",
    ]);
    assert!(uploaded.status.success(), "{}", stderr(&uploaded));
    let uploaded: Value = serde_json::from_str(&stdout(&uploaded)).unwrap();
    assert_eq!(uploaded["aliCloudCertificateId"], "1");
    let id = uploaded["serverCertificateId"].as_str().unwrap();
    let renewed = run(&["renew", id, "--ali-cloud-certificate-id", "1"]);
    assert!(renewed.status.success(), "{}", stderr(&renewed));
    for other in ["2", "3"] {
        assert!(
            !run(&["upload", "--region", REGION, "--ali-cloud-certificate-id", other])
                .status
                .success()
        );
    }
    assert!(
        stderr(&run(&["upload", "--ali-cloud-certificate-id", "1", "--cert", "c.pem"])).contains("cannot be used with")
    );
    server.terminate();

    let log = std::fs::read_to_string(&log).unwrap();
    assert!(
        log.contains("fetched from Alibaba Cloud") && log.contains("SignatureDoesNotMatch"),
        "{log}"
    );
    let key_lines = [&pair.key, &more.key].into_iter().flat_map(|key| key.lines().skip(1));
    let secrets = key_lines
        .filter(|line| line.len() > 20)
        .chain([ACCESS_KEY[1], "string to sign", "PRIVATE KEY"]);
    for secret in secrets {
        assert!(!log.contains(secret), "the log contains {secret}");
    }

    // Settings that cannot be used end the start.
    let start = |args: &[&str]| {
        let fixed = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            setup.plain.data_dir().to_str().unwrap(),
        ];
        let database = ["--database-url", setup.plain.database()];
        let output = std::process::Command::new(CERTKEEP)
            .args(fixed)
            .args(database)
            .args(args)
            .output()
            .unwrap();
        assert!(!output.status.success());
        stderr(&output)
    };
    let told = start(&["--cas-account", "1", "--cas-endpoint", "http://cas.example"]);
    assert!(
        told.contains("cas_credentials_file, cas_account belong together: set cas_credentials_file"),
        "{told}"
    );
    let told = start(&[
        "--cas-account",
        "1",
        "--cas-endpoint",
        "http://cas.example/x",
        "--cas-credentials-file",
        credentials,
    ]);
    for part in [
        "cas_account is not the id of an account",
        "cas_endpoint is http and not a loopback address",
        "cas_endpoint has a path",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let good = [
        "--cas-account",
        &account,
        "--cas-endpoint",
        &endpoint,
        "--cas-credentials-file",
        credentials,
    ];
    write_secret(&file, "one line");
    assert!(start(&good).contains("does not contain two lines"));
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let told = start(&good);
    assert!(
        told.contains("cas_credentials_file cannot be used") && told.contains("chmod 600"),
        "{told}"
    );
    setup.plain.stop().await;
}
