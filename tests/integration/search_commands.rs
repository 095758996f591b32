//! `certkeep search` and `certkeep expiring`.

use certkeep::grpc::pb;

use crate::calls::{stored, tags};
use crate::command_line::{command, run};
use crate::harness::{TestServer, upload_of};
use crate::pki::{self, Key};
use crate::process::{stderr, stdout};
use std::process::Output;

/// The names in a table, below its header.
fn names(server: &TestServer, args: &[&str]) -> Vec<String> {
    names_in(&run(server, args))
}

fn names_in(output: &Output) -> Vec<String> {
    let shown = stdout(output);
    let name = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    shown.lines().skip(1).map(name).collect()
}

async fn upload(server: &TestServer, name: &str, pair: &pki::Pair, of: &[(&str, &str)]) {
    let request = pb::UploadServerCertificateRequest {
        server_certificate_name: name.into(),
        tags: tags(of),
        ..upload_of(pair)
    };
    stored(&server.client(), &request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_shows_all_pages_as_a_table_or_as_one_message() {
    let server = TestServer::start().await;
    for name in ["c", "a", "b"] {
        let pair = pki::issued(Key::P256, &format!("{name}.shop.example"));
        upload(&server, name, &pair, &[("env", name)]).await;
    }
    let pair = pki::self_signed(Key::Rsa(2048), "other.example");
    upload(&server, "other", &pair, &[]).await;
    let cases: [(&[&str], &[&str]); 12] = [
        (&[], &["c", "a", "b", "other"]),
        (&["--order", "name"], &["a", "b", "c", "other"]),
        (&["--domain", "a.shop.example"], &["a"]),
        (&["--domain", "x.shop.example", "--covered"], &[]),
        (
            &["--domain", "shop.example", "--below", "--order", "name"],
            &["a", "b", "c"],
        ),
        (&["--domain", "shop.example", "--below", "--limit", "2"], &["c", "a"]),
        (&["--issuer", "CN=Test CA", "--tag", "env=b"], &["b"]),
        (&["--key-algorithm", "RSA", "--key-size", "2048"], &["other"]),
        (&["--name-prefix", "o"], &["other"]),
        (&["--expires-from", "2096-10-02"], &["c", "a", "b", "other"]),
        (&["--expires-before", "2096-10-02"], &[]),
        (&["--region", "eu-central-1"], &[]),
    ];
    for (args, expected) in cases {
        let args = [&["search"], args].concat();
        assert_eq!(names(&server, &args), expected, "{args:?}");
    }

    let json = run(&server, &["search", "--domain", "a.shop.example", "--output", "json"]).stdout;
    let answer: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let [found] = answer["serverCertificates"].as_array().unwrap().as_slice() else {
        panic!("{answer}")
    };
    let by_facts =
        ["fingerprint", "fingerprintSha256", "spkiSha256", "serialNumber"].map(|field| found[field].as_str().unwrap());
    for (flag, value) in ["--fingerprint", "--fingerprint", "--spki", "--serial"]
        .into_iter()
        .zip(by_facts)
    {
        assert_eq!(names(&server, &["search", flag, value]), ["a"], "{flag}");
    }
    assert_eq!(answer["nextPageToken"], "");

    let wrong = command(&server, &["search", "--fingerprint", "xy"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        stderr(&wrong).contains("40 or 64 hexadecimal digits"),
        "{}",
        stderr(&wrong)
    );
    for args in [
        &["search", "--below"][..],
        &["search", "--domain", "a", "--below", "--covered"],
        &["search", "--expires-from", "tomorrow"],
        &["search", "--limit", "0"],
        &["expiring", "--within", "30"],
    ] {
        assert_eq!(
            command(&server, args).output().unwrap().status.code(),
            Some(2),
            "{args:?}"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_burns_first_stands_first() {
    let server = TestServer::start().await;
    for (name, days) in [("month", 29), ("week", 6), ("later", 40), ("today", 0), ("years", 3000)] {
        let of: &[(&str, &str)] = if name == "week" { &[("env", "prod")] } else { &[] };
        upload(&server, name, &pki::expiring(&format!("{name}.example"), days), of).await;
    }
    let cases: [(&[&str], &[&str]); 7] = [
        (&[], &["today", "week", "month"]),
        (&["--within", "8w"], &["today", "week", "month", "later"]),
        (&["--within", "12h"], &["today"]),
        (&["--within", "0h"], &["today"]),
        (&["--within", "1w", "--without-expired"], &["week"]),
        (&["--limit", "2"], &["today", "week"]),
        (&["--tag", "env=prod"], &["week"]),
    ];
    for (args, expected) in cases {
        let args = [&["expiring"], args].concat();
        let listed = command(&server, &args).output().unwrap();
        assert_eq!(
            (names_in(&listed), listed.status.code()),
            (strings(expected), Some(5)),
            "{args:?}"
        );
    }
    // Cron and scripts learn from the exit code that nothing ends.
    assert_eq!(names(&server, &["expiring", "--tag", "env=test"]), Vec::<String>::new());
    let json = command(&server, &["expiring", "--limit", "1", "--output", "json"])
        .output()
        .unwrap()
        .stdout;
    let answer: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(answer["serverCertificates"].as_array().unwrap().len(), 1);
    assert_eq!(answer["hasMore"], true);
    server.stop().await;
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_earliest_end_of_a_chain_counts() {
    let server = TestServer::start().await;
    let client = server.client();
    let (issuer_5, issuer_400) = (
        pki::issued_until("early.example", 80, 5),
        pki::issued_until("late.example", 80, 400),
    );
    upload(&server, "early", &issuer_5, &[]).await;
    upload(&server, "late", &issuer_400, &[]).await;
    let authority = pki::root_expiring("Old CA", 10);
    let request = pb::UploadCaCertificateRequest {
        region_id: "cn-hangzhou".into(),
        ca_certificate: authority,
        ca_certificate_name: "authority".into(),
        ..Default::default()
    };
    client.clone().upload_ca_certificate(request).await.unwrap();

    let expiring = |args: &[&str]| {
        let listed = command(&server, &[&["expiring"], args].concat()).output().unwrap();
        assert_eq!(listed.status.code(), Some(5), "{args:?}");
        listed
    };
    assert_eq!(names_in(&expiring(&[])), ["early", "authority"]);
    assert_eq!(names_in(&expiring(&["--limit", "1"])), ["early"]);
    assert_eq!(
        names_in(&expiring(&["--within", "12w"])),
        ["early", "authority", "late"]
    );
    let answer: serde_json::Value = serde_json::from_slice(&expiring(&["--output", "json"]).stdout).unwrap();
    assert_eq!(answer["hasMore"], false);
    let name = |list: &str, field: &str| answer[list].as_array().unwrap()[0][field].clone();
    assert_eq!(name("serverCertificates", "serverCertificateName"), "early");
    assert_eq!(name("caCertificates", "caCertificateName"), "authority");

    // In the answers, in a search, and after a renewal and a rollback.
    let id = answer["serverCertificates"][0]["serverCertificateId"]
        .as_str()
        .unwrap()
        .to_owned();
    let get = async || {
        let request = pb::GetServerCertificateRequest {
            server_certificate_id: id.clone(),
            ..Default::default()
        };
        let certificate = client
            .clone()
            .get_server_certificate(request)
            .await
            .unwrap()
            .into_inner();
        let certificate = certificate.server_certificate.unwrap();
        (certificate.not_after.unwrap().seconds - certificate.chain_expire_time.unwrap().seconds) / 86_400
    };
    assert_eq!(get().await, 75);
    let shown = stdout(&run(&server, &["get", &id]));
    assert!(
        shown.contains("chain expires") && shown.contains("because of an issuer"),
        "{shown}"
    );
    let renewal = pb::RenewServerCertificateRequest {
        server_certificate_id: id.clone(),
        server_certificate: issuer_400.certificate.clone(),
        private_key: issuer_400.key.clone(),
        allow_lost_names: true,
        ..Default::default()
    };
    client.clone().renew_server_certificate(renewal).await.unwrap();
    assert_eq!(get().await, 0);
    let rollback = pb::RollbackServerCertificateRequest {
        server_certificate_id: id.clone(),
        version: 1,
        ..Default::default()
    };
    client.clone().rollback_server_certificate(rollback).await.unwrap();
    assert_eq!(get().await, 75);
    server.stop().await;
}
