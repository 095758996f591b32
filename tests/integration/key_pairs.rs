//! GetKeyPair: every form in the hands of other software, and no key without its audit event.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use certkeep::grpc::pb::delivery_service_client::DeliveryServiceClient;
use certkeep::grpc::pb::{self, KeyPairFormat};
use openssl::ssl::{SslConnector, SslMethod};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::bad_input::reason;
use crate::calls::{delete, rename, stored};
use crate::external::{run, text};
use crate::harness::{Account, Bearer, REGION, TestServer, bearer, temp_dir, until, upload_of};
use crate::pki::{self, Hierarchy, Key, Pair};
use crate::process::{Certkeep, certkeep, stdout};
use crate::proof::{figure, times};
use crate::proxy::{Moment, Proxy, Way};
use crate::scope::Limits;

pub type Consumer = DeliveryServiceClient<InterceptedService<Channel, Bearer>>;

const PASSWORD: &str = "correct horse";
const FORMATS: [KeyPairFormat; 5] = [
    KeyPairFormat::Pem,
    KeyPairFormat::PemEncrypted,
    KeyPairFormat::PemBundle,
    KeyPairFormat::Pkcs12,
    KeyPairFormat::Pkcs12Legacy,
];

/// A client with a new consumer's key.
pub async fn consumer(server: &TestServer) -> Consumer {
    consumer_with(server, &server.add_key("consumer", Account::First).await)
}

fn consumer_with(server: &TestServer, key: &str) -> Consumer {
    DeliveryServiceClient::with_interceptor(server.channel(), bearer(key))
}

async fn get(client: &Consumer, request: pb::GetKeyPairRequest) -> Result<pb::GetKeyPairResponse, Status> {
    client
        .clone()
        .get_key_pair(request)
        .await
        .map(|answer| answer.into_inner())
}

/// Why the request is refused. The answer has no `Debug`.
async fn refusal_of(client: &Consumer, request: pb::GetKeyPairRequest) -> Status {
    get(client, request).await.map(|_| ()).unwrap_err()
}

fn by_id(id: &str) -> pb::GetKeyPairRequest {
    pb::GetKeyPairRequest {
        server_certificate_id: id.to_owned(),
        ..Default::default()
    }
}

fn by_name(name: &str) -> pb::GetKeyPairRequest {
    pb::GetKeyPairRequest {
        server_certificate_name: name.to_owned(),
        ..Default::default()
    }
}

fn in_format(id: &str, format: KeyPairFormat) -> pb::GetKeyPairRequest {
    let needs_password = !matches!(format, KeyPairFormat::Pem | KeyPairFormat::PemBundle);
    pb::GetKeyPairRequest {
        format: format.into(),
        password: if needs_password { PASSWORD } else { "" }.to_owned(),
        ..by_id(id)
    }
}

async fn named(server: &TestServer, name: &str, pair: &Pair) -> String {
    let request = pb::UploadServerCertificateRequest {
        server_certificate_name: name.to_owned(),
        ..upload_of(pair)
    };
    stored(&server.client(), &request).await
}

/// A pair with its issuer, and the root.
fn with_root(key: Key, name: &str) -> (Pair, Hierarchy) {
    let hierarchy = pki::hierarchy(key, name);
    let mut pair = pki::pair(&hierarchy.key, hierarchy.leaf.clone());
    pair.certificate.push_str(&pki::pem(&hierarchy.issuer));
    (pair, hierarchy)
}

/// The audit events of deliveries: request, version and format, in order.
async fn deliveries(sql: &tokio_postgres::Client) -> Vec<(String, i64, String)> {
    let events = "select upper(request_id::text), version, detail -> 'format' ->> 1 from audit_event
                  where outcome = 'delivered' order by position";
    let rows = sql.query(events, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

async fn openssl(args: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(args);
    let output = run(command).await;
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {shown}");
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_is_opened_by_openssl() {
    let (server, dir) = (TestServer::start().await, temp_dir());
    let client = consumer(&server).await;
    let (pair, _) = with_root(Key::Rsa(2048), "a.example");
    let id = named(&server, "shop/证书", &pair).await;
    for format in FORMATS {
        let answer = get(&client, in_format(&id, format)).await.unwrap();
        assert_eq!((answer.version, answer.unchanged), (1, false));
        let certificate = answer.server_certificate.clone().unwrap();
        assert_eq!(
            (certificate.server_certificate_id, certificate.certificate_chain),
            (id.clone(), String::new())
        );
        let file = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let own_modulus = openssl(&[
            "x509",
            "-noout",
            "-modulus",
            "-in",
            &file("leaf", pair.certificate.as_bytes()),
        ])
        .await;
        let pass = format!("pass:{PASSWORD}");
        let pkcs12 = file("pkcs12", &answer.pkcs12);
        let key = match format {
            KeyPairFormat::Pkcs12 | KeyPairFormat::Pkcs12Legacy => {
                assert_eq!((&*answer.certificate_chain, &*answer.private_key), ("", ""));
                let shown = openssl(&["pkcs12", "-in", &pkcs12, "-passin", &pass, "-noenc", "-info"]).await;
                let parts = if format == KeyPairFormat::Pkcs12 {
                    [
                        "MAC: sha256, Iteration 600000",
                        "PBES2, PBKDF2, AES-256-CBC, Iteration 600000, PRF hmacWithSHA256",
                    ]
                } else {
                    [
                        "MAC: sha1, Iteration 100000",
                        "pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 100000",
                    ]
                };
                for part in parts {
                    assert!(shown.contains(part), "{part} in {shown}");
                }
                assert_eq!(shown.matches("BEGIN CERTIFICATE").count(), 2);
                shown
            }
            _ => {
                assert!(answer.pkcs12.is_empty());
                assert_eq!(answer.certificate_chain.is_empty(), format == KeyPairFormat::PemBundle);
                answer.private_key.clone()
            }
        };
        let key = file("key", key.as_bytes());
        let modulus = openssl(&["rsa", "-noout", "-modulus", "-in", &key, "-passin", &pass]).await;
        assert_eq!(modulus, own_modulus, "{format:?}");
        match format {
            KeyPairFormat::Pem => {
                assert_eq!(answer.private_key, pair.key);
                assert_eq!(answer.certificate_chain, pair.certificate);
            }
            KeyPairFormat::PemBundle => assert_eq!(answer.private_key, format!("{}{}", pair.key, pair.certificate)),
            KeyPairFormat::PemEncrypted => {
                let shown = openssl(&["asn1parse", "-in", &key]).await;
                for part in ["PBES2", "PBKDF2", ":0927C0", "hmacWithSHA256", "aes-256-cbc"] {
                    assert!(shown.contains(part), "{part} in {shown}");
                }
            }
            _ => {}
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_lists_both_pkcs12_forms_and_serves_them() {
    let (server, dir) = (TestServer::start().await, temp_dir());
    let client = consumer(&server).await;
    let (pair, hierarchy) = with_root(Key::P256, "a.example");
    let id = named(&server, "shop", &pair).await;
    let mut files = Vec::new();
    for (format, alias) in [(KeyPairFormat::Pkcs12, ""), (KeyPairFormat::Pkcs12Legacy, "web")] {
        let request = pb::GetKeyPairRequest {
            alias: alias.to_owned(),
            ..in_format(&id, format)
        };
        let path = dir.path().join(format!("{format:?}.p12"));
        std::fs::write(&path, &get(&client, request).await.unwrap().pkcs12).unwrap();
        files.push(path.to_str().unwrap().to_owned());
    }

    let keytool = |file: &str| {
        let mut keytool = Command::new("keytool");
        keytool.args([
            "-list",
            "-v",
            "-storetype",
            "PKCS12",
            "-storepass",
            PASSWORD,
            "-keystore",
            file,
        ]);
        run(keytool)
    };
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/TlsServer.java");
    let mut java = Command::new("java");
    java.arg(program).arg(PASSWORD).args(&files).stdout(Stdio::piped());
    let mut java = java.spawn().unwrap();
    let mut lines = BufReader::new(java.stdout.take().unwrap()).lines();
    let serve = tokio::task::spawn_blocking(move || {
        let mut aliases = Vec::new();
        for _ in 0..2 {
            let line = lines.next().unwrap().unwrap();
            let (alias, port) = line.split_once(' ').unwrap();
            aliases.push(alias.to_owned());
            let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
            connector.cert_store_mut().add_cert(hierarchy.root.clone()).unwrap();
            let tcp = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
            // Verifies the name and the whole chain: Java serves the issuer too.
            let mut tls = connector.build().connect("a.example", tcp).unwrap();
            assert_eq!(tls.ssl().peer_certificate().unwrap(), hierarchy.leaf);
            let mut said = String::new();
            let _ = tls.read_to_string(&mut said);
            assert_eq!(said, "served by Java");
        }
        assert!(java.wait().unwrap().success());
        aliases
    });
    let (current, legacy, aliases) = tokio::join!(keytool(&files[0]), keytool(&files[1]), serve);
    assert_eq!(aliases.unwrap(), ["shop", "web"]);
    for (listed, alias) in [(current, "shop"), (legacy, "web")] {
        let shown = text(&listed.stdout);
        for part in [
            &format!("Alias name: {alias}"),
            "Entry type: PrivateKeyEntry",
            "Certificate chain length: 2",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_is_found_by_its_id_or_its_name_and_by_a_version_that_is_kept() {
    let server = TestServer::start().await;
    let (client, sql) = (consumer(&server).await, server.sql().await);
    let [first, second] = ["a.example", "b.example"].map(|name| pki::issued(Key::P256, name));
    let id = named(&server, "shop", &first).await;
    assert_eq!(get(&client, by_name("shop")).await.unwrap().private_key, first.key);

    // As a renewal leaves it: version 2 has another pair, and version 1 is kept.
    let other = named(&server, "other", &second).await;
    let renew = "begin;
        insert into certificate_version select account_id, created_ms, random, version, key_id, now(), 'somebody', now(), null,
          fingerprint, fingerprint_sha256, common_name, subject_alternative_names, searchable_names, not_before_ms, not_after_ms,
          chain_not_after_ms, serial_number, issuer, searchable_issuer, subject, key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length
          from certificate where name = 'shop';
        update certificate set version = 2 where name = 'shop';
        commit";
    sql.batch_execute(renew).await.unwrap();
    for (version, expected) in [(0, 2), (1, 1), (2, 2)] {
        let request = pb::GetKeyPairRequest { version, ..by_id(&id) };
        let answer = get(&client, request).await.unwrap();
        assert_eq!(
            (answer.version, answer.private_key.clone()),
            (expected, first.key.clone())
        );
        assert_eq!(answer.server_certificate.clone().unwrap().version, 2);
    }
    let request = pb::GetKeyPairRequest {
        version: 3,
        ..by_id(&id)
    };
    let refused = refusal_of(&client, request).await;
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::NotFound, "VERSION_NOT_FOUND".into())
    );

    // The present version is known: no key, and no delivery.
    let before = deliveries(&sql).await.len();
    for request in [by_id(&id), by_name("shop")] {
        let request = pb::GetKeyPairRequest {
            known_version: 2,
            ..request
        };
        let answer = get(&client, request).await.unwrap();
        assert_eq!((answer.unchanged, answer.version), (true, 2));
        assert_eq!((&*answer.private_key, &*answer.certificate_chain), ("", ""));
        assert_eq!(answer.server_certificate.clone().unwrap().server_certificate_id, id);
    }
    assert_eq!(deliveries(&sql).await.len(), before);
    let request = pb::GetKeyPairRequest {
        known_version: 1,
        ..by_id(&id)
    };
    assert_eq!(get(&client, request).await.unwrap().version, 2);

    rename(&server.client(), &other, "shop", "").await.unwrap();
    let refused = refusal_of(&client, by_name("shop")).await;
    assert_eq!(
        (refused.code(), reason(&refused).as_str(), refused.message()),
        (
            Code::FailedPrecondition,
            "SERVER_CERTIFICATE_NAME_AMBIGUOUS",
            "2 server certificates have this name; use the id"
        )
    );
    assert_eq!(refused.get_error_details().error_info().unwrap().metadata["count"], "2");
    delete(&server.client(), &other, "").await.unwrap();
    assert_eq!(get(&client, by_name("shop")).await.unwrap().private_key, first.key);
    for request in [by_id(&other), by_name("other"), by_id("1_2_3_4"), by_id("x")] {
        let refused = refusal_of(&client, request).await;
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::NotFound, "SERVER_CERTIFICATE_NOT_FOUND".into())
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_gets_keys_inside_its_scope_only() {
    let server = TestServer::start().await;
    let key = server.add_key("consumer", Account::First).await;
    let limits = Limits {
        prefixes: vec!["shop-".into()],
        ..Default::default()
    };
    server.limit_key(&key, &limits).await;
    let client = consumer_with(&server, &key);
    let inside = pki::self_signed(Key::P256, "a.example");
    let outside = pki::self_signed(Key::P256, "b.example");
    let (inside_id, outside_id) = (
        named(&server, "shop-a", &inside).await,
        named(&server, "pay-a", &outside).await,
    );
    for request in [by_id(&inside_id), by_name("shop-a")] {
        assert_eq!(get(&client, request).await.unwrap().private_key, inside.key);
    }
    let elsewhere = pb::GetKeyPairRequest {
        region_id: "eu-central-1".into(),
        ..by_id(&inside_id)
    };
    for request in [by_id(&outside_id), by_name("pay-a"), elsewhere.clone()] {
        let refused = refusal_of(&client, request).await;
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::NotFound, "SERVER_CERTIFICATE_NOT_FOUND".into())
        );
    }
    // A name counts in the scope and in the region only.
    let regions = Limits {
        regions: vec![REGION.into()],
        ..Default::default()
    };
    let elsewhere_too = pb::UploadServerCertificateRequest {
        region_id: "eu-central-1".into(),
        server_certificate_name: "shop-a".into(),
        ..upload_of(&outside)
    };
    stored(&server.client(), &elsewhere_too).await;
    let refused = refusal_of(&client, by_name("shop-a")).await;
    assert_eq!(reason(&refused), "SERVER_CERTIFICATE_NAME_AMBIGUOUS");
    let request = pb::GetKeyPairRequest {
        region_id: REGION.into(),
        ..by_name("shop-a")
    };
    assert_eq!(get(&client, request).await.unwrap().private_key, inside.key);
    server.limit_key(&key, &regions).await;
    // The scope of a key is read again after two seconds at most.
    until(async || get(&client, by_name("shop-a")).await.is_ok()).await;
    assert_eq!(reason(&refusal_of(&client, elsewhere).await), "OUT_OF_SCOPE");
    let foreign = consumer_with(&server, &server.add_key("consumer", Account::New).await);
    let refused = refusal_of(&foreign, by_id(&inside_id)).await;
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::NotFound, "SERVER_CERTIFICATE_NOT_FOUND".into())
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_delivery_has_an_audit_event_and_a_wrong_request_has_none() {
    let server = TestServer::start().await;
    let (client, sql) = (consumer(&server).await, server.sql().await);
    let id = named(&server, "shop", &pki::self_signed(Key::P256, "a.example")).await;
    let pem = by_id(&id);
    let pkcs12 = in_format(&id, KeyPairFormat::Pkcs12Legacy);
    let with = |request: &pb::GetKeyPairRequest, change: fn(&mut pb::GetKeyPairRequest)| {
        let mut request = request.clone();
        change(&mut request);
        request
    };
    for (field, request) in [
        ("server_certificate_id", pb::GetKeyPairRequest::default()),
        (
            "server_certificate_name",
            with(&pem, |r| r.server_certificate_name = "shop".into()),
        ),
        ("region_id", with(&pem, |r| r.region_id = "nowhere".into())),
        ("version", with(&pem, |r| r.version = -1)),
        ("known_version", with(&pem, |r| r.known_version = -1)),
        ("known_version", with(&pem, |r| (r.version, r.known_version) = (1, 1))),
        ("format", with(&pem, |r| r.format = 99)),
        ("password", with(&pem, |r| r.password = PASSWORD.into())),
        ("password", with(&pkcs12, |r| r.password = String::new())),
        ("password", with(&pkcs12, |r| r.password = "short 7".into())),
        ("password", with(&pkcs12, |r| r.password = "x".repeat(129))),
        ("password", with(&pkcs12, |r| r.password = "password\n".into())),
        ("password", with(&pkcs12, |r| r.password = "pässwörter".into())),
        ("password", with(&pkcs12, |r| r.password = "password\0".into())),
        ("alias", with(&pem, |r| r.alias = "web".into())),
        ("alias", with(&pkcs12, |r| r.alias = "字".repeat(81))),
        ("alias", with(&pkcs12, |r| r.alias = "a\0b".into())),
    ] {
        let refused = refusal_of(&client, request).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        let violations = refused
            .get_error_details()
            .bad_request()
            .unwrap()
            .field_violations
            .clone();
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].field, field, "{violations:?}");
        assert!(!format!("{refused:?}").contains(PASSWORD));
    }
    assert_eq!(deliveries(&sql).await, []);

    let mut requests = Vec::new();
    for (format, name) in FORMATS
        .into_iter()
        .zip(["pem", "pem_encrypted", "pem_bundle", "pkcs12", "pkcs12_legacy"])
    {
        let answer = get(&client, in_format(&id, format)).await.unwrap();
        requests.push((answer.request_id.clone(), 1, name.to_owned()));
    }
    assert_eq!(deliveries(&sql).await, requests);
    let admin_key = server.admin_key_file();
    let output = certkeep(&[
        "audit",
        "--resource",
        &id,
        "--outcome",
        "delivered",
        "--output",
        "json",
        "--endpoint",
        &server.endpoint(),
        "--access-key-file",
        admin_key.to_str().unwrap(),
    ]);
    let shown = stdout(&output);
    for (request, _, format) in &requests {
        assert!(
            shown.contains(request) && shown.contains(format),
            "{request} {format} in {shown}"
        );
    }
    assert!(shown.contains("GetKeyPair") && shown.contains("cktest"), "{shown}");
    server.stop().await;
}

/// Whoever can write to the database gets no foreign key out of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_hands_out_no_key() {
    let server = TestServer::start().await;
    let (client, sql) = (consumer(&server).await, server.sql().await);
    let [own, other] = ["own", "other"].map(|name| pki::self_signed(Key::P256, &format!("{name}.example")));
    let id = named(&server, "own", &own).await;
    named(&server, "other", &other).await;
    let of = |table: &str, column: &str| {
        format!(
            "(select {column} from {table} join certificate as c using (account_id, created_ms, random) where c.name = 'other')"
        )
    };
    let of_own = "where (created_ms, random) = (select created_ms, random from certificate where name = 'own')";
    for change in [
        // Another row's value, a changed octet, a cut value.
        format!("update private_key set sealed = {} {of_own}", of("private_key", "sealed")),
        format!("update private_key set sealed = set_byte(sealed, 100, get_byte(sealed, 100) # 1) {of_own}"),
        format!("update private_key set sealed = substring(sealed from 1 for 20) {of_own}"),
        // Another certificate, alone and with the facts that the key is bound to.
        format!("update certificate set chain = {} where name = 'own'", "(select chain from certificate where name = 'other')"),
        "update certificate set (chain, fingerprint_sha256) = (select chain, fingerprint_sha256 from certificate
           where name = 'other') where name = 'own'"
            .to_owned(),
        "update certificate set spki_sha256 = (select spki_sha256 from certificate where name = 'other') where name = 'own'"
            .to_owned(),
    ] {
        let kept = "create temporary table kept_certificate as table certificate;
                    create temporary table kept_key as table private_key;";
        sql.batch_execute(&format!("{kept} {change}")).await.unwrap();
        for format in [KeyPairFormat::Pem, KeyPairFormat::Pkcs12Legacy] {
            let refused = refusal_of(&client, in_format(&id, format)).await;
            assert_eq!(
                (refused.code(), reason(&refused)),
                (Code::DataLoss, "SEALED_KEY_UNREADABLE".into()),
                "{change}"
            );
            let shown = format!("{refused:?}");
            assert!(!shown.contains("PRIVATE KEY") && !shown.contains("decrypt"), "{shown}");
        }
        let restore = "update certificate as c set (chain, fingerprint_sha256, spki_sha256) = (k.chain, k.fingerprint_sha256, k.spki_sha256)
                         from kept_certificate as k where (c.created_ms, c.random) = (k.created_ms, k.random);
                       update private_key as p set sealed = k.sealed from kept_key as k where p.key_id = k.key_id;
                       drop table kept_certificate; drop table kept_key";
        sql.batch_execute(restore).await.unwrap();
    }
    assert_eq!(deliveries(&sql).await, []);
    assert_eq!(get(&client, by_id(&id)).await.unwrap().private_key, own.key);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_cannot_be_recorded_hands_out_no_key() {
    let database = crate::harness::database().await;
    let (proxy, through) = Proxy::before(&database);
    let server = TestServer::start_on(through, |_| {}).await;
    let sql = crate::harness::connect_to(&database).await;
    let pair = pki::self_signed(Key::P256, "a.example");
    let id = {
        let request = upload_of(&pair);
        stored(&server.client(), &request).await
    };
    let client = {
        let secret = "s".repeat(43);
        let hash = certkeep::digest::sha256(secret.as_bytes());
        let insert = "insert into access_key (account_id, access_key_id, secret_sha256, role)
                      select account_id, 'cktest', $1, 'consumer' from account where name = 'default'";
        sql.execute(insert, &[&hash.as_slice()]).await.unwrap();
        consumer_with(&server, &format!("cktest.{secret}"))
    };

    // The connection is lost after the commit: the statement runs again, and the delivery is there twice.
    proxy.cut_at("pem_bundle", Moment::BeforeAnswer, Way::Open);
    let answer = get(&client, in_format(&id, KeyPairFormat::PemBundle)).await.unwrap();
    assert!(proxy.has_cut());
    let row = (answer.request_id.clone(), 1, "pem_bundle".to_owned());
    assert_eq!(deliveries(&sql).await, [row.clone(), row.clone()]);

    // The trail cannot be written: the table refuses the row. No constraint of certkeep does that, so the error is INTERNAL.
    sql.batch_execute("alter table audit_event add constraint full_disk check (outcome <> 'delivered') not valid")
        .await
        .unwrap();
    let refused = refusal_of(&client, by_id(&id)).await;
    assert_eq!((refused.code(), reason(&refused)), (Code::Internal, "INTERNAL".into()));
    sql.batch_execute("alter table audit_event drop constraint full_disk")
        .await
        .unwrap();
    assert_eq!(deliveries(&sql).await, [row.clone(), row]);
    assert_eq!(get(&client, by_id(&id)).await.unwrap().private_key, pair.key);
    server.stop().await;
}

/// A process is killed while it hands out keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_left_before_a_kill_has_its_audit_event() {
    let server = TestServer::start().await;
    let id = named(&server, "shop", &pki::self_signed(Key::P256, "a.example")).await;
    let key = server.add_key("consumer", Account::First).await;
    let kills = times(1, 50);
    let mut left = BTreeSet::new();
    for _ in 0..kills {
        let replica = Certkeep::start_replica(&server);
        let (got, mut gets) = tokio::sync::mpsc::unbounded_channel();
        let callers = (0..16).map(|_| {
            let client = DeliveryServiceClient::with_interceptor(replica.channel(), bearer(&key));
            let (request, got) = (by_id(&id), got.clone());
            tokio::spawn(async move {
                while let Ok(answer) = get(&client, request.clone()).await {
                    assert!(answer.private_key.contains("PRIVATE KEY"));
                    got.send(answer.request_id.clone()).unwrap();
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        drop(got);
        for _ in 0..200 {
            left.insert(gets.recv().await.unwrap());
        }
        replica.kill();
        while let Some(request) = gets.recv().await {
            left.insert(request);
        }
        for caller in callers {
            caller.await.unwrap();
        }
    }
    let recorded = deliveries(&server.sql().await).await;
    let recorded: BTreeSet<_> = recorded.into_iter().map(|(request, ..)| request).collect();
    assert!(
        left.is_subset(&recorded),
        "keys without a row: {:?}",
        left.difference(&recorded)
    );
    figure("certkeep killed while it handed out keys", kills);
    figure("keys that left, all with an audit event", left.len());
    figure("audit events whose key did not arrive", recorded.len() - left.len());
    server.stop().await;
}
