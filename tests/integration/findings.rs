//! Chains in any order, and what is noticed about them: through uploads, checks and the command line.

use std::time::Duration;

use certkeep::grpc::pb::{self, FindingCode as Code, Severity};
use openssl::pkey::PKey;
use tonic::Code as Status;

use crate::bad_input::{findings, reason};
use crate::harness::{Account, REGION, TestServer, temp_dir, until, upload_of};
use crate::pki::{self, Key};
use crate::process::{certkeep, stderr, stdout};

fn codes(findings: &[pb::Finding]) -> Vec<(Code, Severity)> {
    findings
        .iter()
        .map(|finding| (finding.code(), finding.severity()))
        .collect()
}

fn check_of(upload: &pb::UploadServerCertificateRequest) -> pb::CheckServerCertificateRequest {
    pb::CheckServerCertificateRequest {
        server_certificate: upload.server_certificate.clone(),
        private_key: upload.private_key.clone(),
    }
}

/// A leaf, its issuer and the root, the wrong way round, with the issuer twice and the key among them.
fn messy() -> (pb::UploadServerCertificateRequest, String) {
    let hierarchy = pki::hierarchy(Key::P256, "messy.example");
    let chain = format!("{}{}", pki::pem(&hierarchy.leaf), pki::pem(&hierarchy.issuer));
    let pair = pki::pair(&hierarchy.key, hierarchy.leaf);
    let mut upload = upload_of(&pair);
    let issuer = pki::pem(&hierarchy.issuer);
    upload.server_certificate = [
        "\u{feff}subject=Root\r\n",
        &pki::pem(&hierarchy.root).replace('\n', "\r\n"),
        &issuer,
        &std::mem::take(&mut upload.private_key),
        &pair.certificate.replace('\n', "\n  "),
        &issuer,
    ]
    .join("\n\n");
    (upload, chain)
}

#[tokio::test]
async fn whatever_a_ca_mailed_is_stored_in_order_and_what_was_changed_is_told() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let (upload, chain) = messy();
    let checked = client
        .check_server_certificate(check_of(&upload))
        .await
        .unwrap()
        .into_inner();
    assert!(checked.accepted && checked.violations.is_empty());
    assert_eq!(server.rows().await, [0, 0, 0, 0], "a check stores nothing");
    let dry = pb::UploadServerCertificateRequest {
        validate_only: true,
        ..upload.clone()
    };
    let dry = client.upload_server_certificate(dry).await.unwrap().into_inner();
    let answer = client.upload_server_certificate(upload).await.unwrap().into_inner();
    assert_eq!(
        codes(&answer.findings),
        [
            (Code::ValidityTooLong, Severity::Warning),
            (Code::KeyFoundInCertificateField, Severity::Info),
            (Code::DuplicateDropped, Severity::Info),
            (Code::RootDropped, Severity::Info),
            (Code::ChainReordered, Severity::Info),
        ]
    );
    assert_eq!((&checked.findings, &dry.findings), (&answer.findings, &answer.findings));
    for finding in &answer.findings {
        assert!(!finding.message.is_empty() && !finding.remedy.is_empty() && !finding.rule.is_empty());
    }
    let get = pb::GetServerCertificateRequest {
        server_certificate_id: answer.server_certificate_id,
        ..Default::default()
    };
    let stored = client.get_server_certificate(get).await.unwrap().into_inner();
    let stored = stored.server_certificate.unwrap();
    assert_eq!(
        (stored.certificate_chain.as_str(), stored.chain_length),
        (chain.as_str(), 2)
    );
    let would_be = checked.server_certificate.unwrap();
    assert_eq!(would_be.certificate_chain, chain);
    assert_eq!(
        (would_be.fingerprint, would_be.subject, would_be.spki_sha256),
        (stored.fingerprint, stored.subject, stored.spki_sha256)
    );
    let places: Vec<_> = checked
        .chain
        .iter()
        .map(|listed| (listed.subject.as_str(), listed.position()))
        .collect();
    assert_eq!(
        places,
        [
            ("CN=messy.example", pb::ChainPosition::Path),
            ("CN=Test CA", pb::ChainPosition::Path),
            ("CN=Test Root", pb::ChainPosition::Root)
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_check_tells_everything_and_takes_certificates_without_their_key() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let hierarchy = pki::hierarchy(Key::P256, "lone.example");
    let mut request = pb::CheckServerCertificateRequest {
        server_certificate: pki::pem(&hierarchy.leaf),
        private_key: String::new(),
    };
    let mut check = async |request: &pb::CheckServerCertificateRequest| {
        client
            .check_server_certificate(request.clone())
            .await
            .unwrap()
            .into_inner()
    };
    let checked = check(&request).await;
    assert!(!checked.accepted && checked.violations.is_empty());
    assert_eq!(
        codes(&checked.findings),
        [
            (Code::ValidityTooLong, Severity::Warning),
            (Code::ChainIncomplete, Severity::Warning)
        ]
    );
    assert_eq!(
        checked.findings[1].message,
        "the issuer of the certificate is missing: CN=Test CA"
    );

    request.private_key = pki::self_signed(Key::P256, "other.example").key;
    request.server_certificate.push_str(&pki::pem(&hierarchy.root));
    let checked = check(&request).await;
    let violations: Vec<_> = checked
        .violations
        .iter()
        .map(|wrong| (wrong.field.as_str(), wrong.reason().name()))
        .collect();
    assert_eq!(
        violations,
        [
            ("server_certificate", "CHAIN_UNRELATED_CERTIFICATE"),
            ("private_key", "PRIVATE_KEY_MISMATCH")
        ]
    );
    assert_eq!(codes(&checked.findings).len(), 2);

    let checked = check(&pb::CheckServerCertificateRequest::default()).await;
    assert_eq!(checked.violations[0].reason().name(), "CERTIFICATE_OR_KEY_MISSING");
    assert!(checked.server_certificate.is_none() && checked.chain.is_empty());

    let refused = server
        .client_with(Some(&format!(
            "Bearer {}",
            server.add_key("reader", Account::First).await
        )))
        .check_server_certificate(pb::CheckServerCertificateRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Status::PermissionDenied, "PERMISSION_DENIED".into())
    );
    server.stop().await;
}

#[tokio::test]
async fn a_policy_refuses_findings_and_tells_them_in_the_details() {
    let server = TestServer::start_with_policy("strict,VALIDITY_TOO_LONG=report").await;
    let mut client = server.client();
    let hierarchy = pki::hierarchy(Key::P256, "strict.example");
    let mut upload = upload_of(&pki::pair(&hierarchy.key, hierarchy.leaf));
    let refused = client.upload_server_certificate(upload.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Status::InvalidArgument, "POLICY_REJECTED".into())
    );
    assert_eq!(
        refused.message(),
        "the policy of this service rejects server_certificate (CHAIN_INCOMPLETE); see the findings"
    );
    assert_eq!(
        codes(&findings(&refused).findings),
        [
            (Code::ChainIncomplete, Severity::Error),
            (Code::ValidityTooLong, Severity::Warning)
        ]
    );
    let checked = client
        .check_server_certificate(check_of(&upload))
        .await
        .unwrap()
        .into_inner();
    assert!(!checked.accepted);
    assert_eq!(checked.violations[0].reason().name(), "POLICY_REJECTED");
    assert_eq!(server.rows().await, [0, 0, 0, 0]);

    upload.server_certificate.push_str(&pki::pem(&hierarchy.issuer));
    let answer = client.upload_server_certificate(upload).await.unwrap().into_inner();
    assert_eq!(codes(&answer.findings), [(Code::ValidityTooLong, Severity::Warning)]);
    server.stop().await;
}

/// A certificate for RFC 9881's ML-DSA-44 key.
fn published() -> pb::UploadServerCertificateRequest {
    let text = include_str!("../data/rfc9881/ML-DSA-44-seed.priv");
    let key = PKey::private_key_from_pem(text.as_bytes()).unwrap();
    let issuer = pki::self_signed(Key::P256, "Test CA");
    let issuer_key = PKey::private_key_from_pem(issuer.key.as_bytes()).unwrap();
    let leaf = pki::certificate(&key, "published.example", Some((&issuer.x509, &issuer_key)));
    pb::UploadServerCertificateRequest {
        private_key: text.to_owned(),
        ..upload_of(&pki::pair(&key, leaf))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_private_key_is_refused_unless_the_policy_only_reports_it() {
    let upload = published();
    let source = "the private key is published: crate ml-dsa 0.1.2, tests/examples/ML-DSA-44-seed.priv";
    let server = TestServer::start().await;
    let mut client = server.client();
    let refused = client.upload_server_certificate(upload.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Status::InvalidArgument, "PRIVATE_KEY_COMPROMISED".into())
    );
    let told = &findings(&refused).findings[0];
    assert_eq!((told.code(), told.message.as_str()), (Code::KeyCompromised, source));
    let mut check = check_of(&upload);
    for private_key in [upload.private_key.clone(), String::new()] {
        check.private_key = private_key;
        let checked = client
            .check_server_certificate(check.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(!checked.accepted);
        assert_eq!(checked.findings[0].message, source);
        assert_eq!(checked.violations[0].reason().name(), "PRIVATE_KEY_COMPROMISED");
    }
    let dir = temp_dir();
    let files = [
        ("cert.pem", &upload.server_certificate),
        ("key.pem", &upload.private_key),
    ];
    let files = files.map(|(name, text)| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let (endpoint, access_key) = (server.endpoint(), server.admin_key_file());
    let command = [
        "upload",
        "--endpoint",
        &endpoint,
        "--access-key-file",
        access_key.to_str().unwrap(),
    ];
    let pair = ["--region", REGION, "--cert", &files[0], "--key", &files[1]];
    let refused = certkeep(&[&command[..], &pair].concat());
    assert!(
        stderr(&refused).contains(&format!("\n  KEY_COMPROMISED  {source}\n")),
        "{}",
        stderr(&refused)
    );
    assert_eq!(server.rows().await, [0, 0, 0, 0]);
    server.stop().await;

    let server = TestServer::start_with_policy("default,KEY_COMPROMISED=report,KEY_FACTORABLE=report").await;
    let answer = server.client().upload_server_certificate(upload.clone()).await.unwrap();
    let told = &codes(&answer.into_inner().findings);
    assert!(told.contains(&(Code::KeyCompromised, Severity::Warning)), "{told:?}");
    server.stop().await;

    let dir = temp_dir();
    let path = dir.path().join("pair.pem");
    std::fs::write(&path, upload.server_certificate + &upload.private_key).unwrap();
    let refused = certkeep(&["check", path.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    let told = stdout(&refused);
    assert!(
        told.contains("refused  KEY_COMPROMISED") && told.contains(source),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_on_a_list_of_the_operator_is_refused_as_soon_as_the_list_changes() {
    let dir = temp_dir();
    let list = dir.path().join("stolen.txt");
    std::fs::write(&list, "00".repeat(32)).unwrap();
    let server = TestServer::start_with(|config| config.key_blocklists = vec![list.clone()]).await;
    let mut client = server.client();
    let hierarchy = pki::hierarchy(Key::P256, "stolen.example");
    let upload = upload_of(&pki::pair(&hierarchy.key, hierarchy.leaf));
    let mut validate = upload.clone();
    validate.validate_only = true;
    let stored = client
        .upload_server_certificate(upload.clone())
        .await
        .unwrap()
        .into_inner();

    let search = pb::SearchServerCertificatesRequest {
        compromised: true,
        ..Default::default()
    };
    let compromised = async || {
        let answer = server.client().search_server_certificates(search.clone()).await;
        answer.unwrap().into_inner().server_certificates
    };
    assert_eq!(compromised().await, []);

    // A list that cannot be used changes nothing.
    let replace = |text: &str| {
        let new = dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &list).unwrap();
    };
    replace("hello\n");
    tokio::time::sleep(Duration::from_secs(3)).await;
    client.upload_server_certificate(validate.clone()).await.unwrap();

    let key = PKey::private_key_from_pem(upload.private_key.as_bytes()).unwrap();
    let hash = openssl::sha::sha256(&key.public_key_to_der().unwrap());
    let listed = format!("{}  stolen from the old server\n", hex::encode(hash));
    replace(&listed);
    until(async || {
        server
            .client()
            .upload_server_certificate(validate.clone())
            .await
            .is_err()
    })
    .await;
    // An empty file is a list that is not written yet.
    replace("# empty\n");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let refused = client.upload_server_certificate(validate).await.unwrap_err();
    replace(&listed);
    assert_eq!(reason(&refused), "PRIVATE_KEY_COMPROMISED");
    let source = "the key is on the operator's list of compromised keys stolen.txt";
    assert_eq!(findings(&refused).findings[0].message, source);
    let checked = client
        .check_server_certificate(check_of(&upload))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (checked.accepted, checked.findings[0].message.as_str()),
        (false, source)
    );
    // The stored certificate is found, until it has another key or the list does not name it any more.
    until(async || !compromised().await.is_empty()).await;
    assert_eq!(
        compromised().await[0].server_certificate_id,
        stored.server_certificate_id
    );
    let (endpoint, access_key) = (server.endpoint(), server.admin_key_file());
    let access = [
        "--endpoint",
        &endpoint,
        "--access-key-file",
        access_key.to_str().unwrap(),
    ];
    let listed = certkeep(&[&["search", "--compromised", "--output", "json"][..], &access].concat());
    assert!(
        stdout(&listed).contains(&stored.server_certificate_id),
        "{}",
        stderr(&listed)
    );
    let renewal = pb::RenewServerCertificateRequest {
        server_certificate_id: stored.server_certificate_id.clone(),
        server_certificate: upload.server_certificate.clone(),
        private_key: upload.private_key.clone(),
        ..Default::default()
    };
    let refused = client.renew_server_certificate(renewal).await.unwrap_err();
    assert_eq!(reason(&refused), "PRIVATE_KEY_COMPROMISED");
    let stolen = std::fs::read_to_string(&list).unwrap();
    replace(&"00".repeat(32));
    until(async || compromised().await.is_empty()).await;
    server.stop().await;
    std::fs::write(&list, stolen).unwrap();

    let path = dir.path().join("pair.pem");
    std::fs::write(&path, upload.server_certificate + &upload.private_key).unwrap();
    let command = [
        "check",
        path.to_str().unwrap(),
        "--key-blocklist",
        list.to_str().unwrap(),
    ];
    for (arguments, is_refused) in [(&command[..], true), (&command[..2], false)] {
        let told = certkeep(arguments);
        assert_eq!(
            (told.status.code() == Some(1), stdout(&told).contains(source)),
            (is_refused, is_refused)
        );
    }
}

#[tokio::test]
async fn the_details_of_many_findings_with_long_subjects_stay_small() {
    let server = TestServer::start_with_policy("strict").await;
    let long = "n".repeat(60);
    let pair = pki::self_signed(Key::P256, "a.example");
    let mut upload = upload_of(&pair);
    for n in 0..19 {
        let other = pki::self_signed(Key::P256, &format!("{n}.{long}"));
        upload.server_certificate.push_str(&other.certificate);
    }
    let refused = server.client().upload_server_certificate(upload).await.unwrap_err();
    assert_eq!(reason(&refused), "CHAIN_UNRELATED_CERTIFICATE");
    assert!(refused.details().len() <= 4096, "{}", refused.details().len());

    let chain = pki::long_chain(20, &long);
    let refused = server
        .client()
        .upload_server_certificate(upload_of(&chain))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "POLICY_REJECTED");
    assert!(refused.details().len() <= 4096, "{}", refused.details().len());
    let told = findings(&refused);
    assert!(told.findings.len() > 5 && told.not_listed > 5, "{}", told.not_listed);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_checks_here_and_at_the_service() {
    let dir = temp_dir();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (upload, chain) = messy();
    let messy = write("messy.pem", &upload.server_certificate);
    let hierarchy = pki::hierarchy(Key::Rsa(2048), "shop.example");
    let key = write("key.pem", &pki::pair(&hierarchy.key, hierarchy.leaf.clone()).key);
    let leaf = write("leaf.pem", &pki::pem(&hierarchy.leaf));
    let other_key = write("other.pem", &pki::self_signed(Key::P256, "x.example").key);

    let warned = certkeep(&["check", &messy]);
    assert_eq!(warned.status.code(), Some(5), "{}", stderr(&warned));
    let told = stdout(&warned);
    for line in [
        "an upload would store this pair, 1 warning",
        "  CN=Test Root  ECDSA P-256, 2096-10-02 (in ",
        "  └─ CN=Test CA  ECDSA P-256, ",
        "     └─ CN=messy.example  ECDSA P-256, ",
        "warning  VALIDITY_TOO_LONG (Baseline Requirements 6.3.2)",
        "info     CHAIN_REORDERED (RFC 5246 7.4.2)",
    ] {
        assert!(told.lines().any(|told| told.starts_with(line)), "{line} in\n{told}");
    }
    assert!(!told.contains('\u{1b}'));
    assert_eq!(stdout(&certkeep(&["check", &messy, "--output", "pem"])), chain);

    let refused = certkeep(&["check", &leaf, &other_key]);
    assert_eq!(refused.status.code(), Some(1));
    let told = stdout(&refused);
    assert!(
        told.contains("error    PRIVATE_KEY_MISMATCH") && told.contains("CN=Test CA  (not given)"),
        "{told}"
    );
    assert_eq!(stderr(&refused), "");

    let strict = ["check", &messy, "--policy", "strict", "--output", "json"];
    let strict: serde_json::Value = serde_json::from_slice(&certkeep(&strict).stdout).unwrap();
    assert_eq!(
        (&strict["accepted"], &strict["violations"][0]["reason"]),
        (&false.into(), &"REASON_POLICY_REJECTED".into())
    );
    let forgiving = ["check", &messy, "--policy", "default,VALIDITY_TOO_LONG=report"];
    assert_eq!(certkeep(&forgiving).status.code(), Some(5));
    assert_eq!(certkeep(&["check", &messy, "--policy", "lax"]).status.code(), Some(2));

    let server = TestServer::start_with_policy("strict").await;
    let key_file = server.admin_key_file();
    let endpoint = server.endpoint();
    let online = [
        "check",
        "--online",
        "--endpoint",
        &endpoint,
        "--access-key-file",
        key_file.to_str().unwrap(),
        &leaf,
        &key,
    ];
    let refused = certkeep(&online);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(
        stdout(&refused).contains("refused  CHAIN_INCOMPLETE"),
        "{}",
        stdout(&refused)
    );
    server.stop().await;
}
