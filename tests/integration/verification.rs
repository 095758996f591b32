//! `certkeep keyring verify`: on a host with the database's URL and the key ring, without a service.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::ca_certificates;
use crate::calls::{self, renewal_of};
use crate::harness::{Account, TestServer, connect_to, database, temp_dir, upload_of, write_secret};
use crate::key_ring::line;
use crate::pki::{self, Key};
use crate::process::{certkeep, stderr, stdout};
use crate::proof::{figure, times};
use crate::rotation::fill;

/// The exit code, and the objects that `keyring verify` prints: the faults, then the numbers.
fn verify(data_dir: &Path, database: &str) -> (Option<i32>, Vec<Value>, String) {
    let data_dir = data_dir.to_str().unwrap();
    let output = certkeep(&[
        "keyring",
        "verify",
        "--data-dir",
        data_dir,
        "--database-url",
        database,
        "--output",
        "jsonl",
    ]);
    let objects = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (output.status.code(), objects, stderr(&output))
}

/// The certificate and the cause of each fault, in the order of the walk.
fn faults(objects: &[Value]) -> Vec<(String, String)> {
    let faults = objects.iter().filter(|object| object.get("cause").is_some());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let cause = |value| text(value).replace("VERIFICATION_CAUSE_", "");
    faults
        .map(|fault| (text(&fault["certificateId"]), cause(&fault["cause"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_that_was_changed_behind_certkeeps_back_is_found_and_nothing_is_changed() {
    let server = TestServer::start().await;
    let client = server.client();
    let mut ids = Vec::new();
    for number in 0..12 {
        let pair = pki::self_signed(Key::P256, &format!("{number}.example"));
        ids.push(calls::stored(&client, &upload_of(&pair)).await);
    }
    let renewed = pki::self_signed(Key::P384, "8.example");
    calls::renew(&client, renewal_of(&ids[8], &renewed)).await.unwrap();
    calls::delete(&client, &ids[0], "").await.unwrap();
    let authority = ca_certificates::kept(&client, ca_certificates::request()).await;
    let sql = server.sql().await;
    let revisions = "select string_agg(row::text, ';' order by row::text) from certificate as row";
    let before: String = sql.query_one(revisions, &[]).await.unwrap().get(0);
    let replicas = "select count(*) from replica";
    let (code, objects, error) = verify(server.data_dir(), server.database());
    assert_eq!((code, faults(&objects)), (Some(0), vec![]), "{error}");
    let counts = objects.last().unwrap();
    for (name, count) in [
        ("serviceKeys", "3"),
        ("serverCertificates", "12"),
        ("caCertificates", "1"),
        ("earlierVersions", "1"),
        ("privateKeys", "13"),
        ("faultCount", "0"),
    ] {
        assert_eq!(counts[name], count, "{name} of {counts}");
    }
    assert_eq!(sql.query_one(revisions, &[]).await.unwrap().get::<_, String>(0), before);
    assert_eq!(sql.query_one(replicas, &[]).await.unwrap().get::<_, i64>(0), 1);

    // As a superuser could do.
    let swap = |table: &str, column: &str, one: &str, other: &str| {
        format!(
            "update {table} as changed set {column} = other.{column} from {table} as other, certificate as a, certificate as b
             where a.common_name = '{one}' and b.common_name = '{other}' and changed.random = a.random and other.random = b.random"
        )
    };
    for change in [
        swap("private_key", "sealed", "1.example", "2.example"),
        swap("certificate", "chain", "3.example", "2.example"),
        "update certificate set not_after_ms = not_after_ms + 86400000 where common_name = '4.example'".to_owned(),
        "update certificate set subject_alternative_names = '{evil.example}' where common_name = '5.example'"
            .to_owned(),
        "update certificate set searchable_names = '{example.evil}' where common_name = '6.example'".to_owned(),
        "update private_key set sealed = set_byte(sealed, 100, get_byte(sealed, 100) # 1)
         where random = (select random from certificate where common_name = '7.example')"
            .to_owned(),
        "update certificate_version set not_before_ms = 0".to_owned(),
        "update certificate set subject_alternative_names = subject_alternative_names || null::text where common_name = '9.example'"
            .to_owned(),
        "update certificate set chain = chain || null::bytea where common_name = '10.example'".to_owned(),
        "update certificate set spki_sha256 = sha256('x') where common_name = '11.example'".to_owned(),
        "update certificate set not_after_ms = not_after_ms + 86400000 where kind = 'ca'".to_owned(),
        "delete from service_key where purpose = 'page-token'".to_owned(),
        "insert into private_key select account_id, created_ms, random, gen_random_uuid(), sealed from private_key
         where random = (select random from certificate where common_name = '0.example')"
            .to_owned(),
    ] {
        assert_eq!(sql.execute(&change, &[]).await.unwrap(), 1, "{change}");
    }
    // Another pair as a whole, with its own hashes, but the key of a certificate is bound to its row.
    let (code, objects, error) = verify(server.data_dir(), server.database());
    let expected = [
        (&ids[1], "SEALED_VALUE_UNREADABLE"),
        (&ids[3], "FINGERPRINT_MISMATCH"),
        (&ids[3], "PRIVATE_KEY_MISMATCH"),
        (&ids[4], "FACTS_DIFFER"),
        (&ids[5], "FACTS_DIFFER"),
        (&ids[6], "FACTS_DIFFER"),
        (&ids[7], "SEALED_VALUE_UNREADABLE"),
        (&ids[8], "FACTS_DIFFER"),
        (&ids[9], "FACTS_DIFFER"),
        (&ids[10], "CERTIFICATE_UNREADABLE"),
        (&ids[11], "FACTS_DIFFER"),
        (&authority, "FACTS_DIFFER"),
        (&String::new(), "PRIVATE_KEY_ABSENT"),
        (&ids[0], "PRIVATE_KEY_UNUSED"),
    ];
    let mut found = faults(&objects);
    found.sort();
    let mut expected = expected.map(|(id, cause)| (id.clone(), cause.to_owned())).to_vec();
    expected.sort();
    assert_eq!((code, found), (Some(1), expected), "{error}");
    let columns = objects
        .iter()
        .find(|object| object["certificateId"] == *ids[5])
        .unwrap();
    assert_eq!(columns["columns"], serde_json::json!(["subject_alternative_names"]));

    // The service finds the same, and its text names the account and the certificate.
    let key = server.data_dir().join("operator.key");
    write_secret(&key, server.add_key("operator", Account::Operators).await);
    let endpoint = server.endpoint();
    let key = key.to_str().unwrap();
    let output = certkeep(&[
        "keyring",
        "verify-remotely",
        "--endpoint",
        &endpoint,
        "--access-key-file",
        key,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    let account = ids[4].split('_').next().unwrap();
    for part in [
        &format!(
            "account {account} certificate {} version 1: the row differs from the leaf: not_after",
            ids[4]
        ) as &str,
        &format!(
            "certificate {} version 1: the sealed key is damaged or belongs to another row",
            ids[1]
        ),
        "service_key/page-token: the service lacks this key",
        "faults        13",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_does_not_belong_to_the_database_is_refused_before_anything_is_opened() {
    let server = TestServer::start().await;
    let ring = std::fs::read_to_string(server.key_ring_file()).unwrap();
    let ring = ring.trim_end();
    let digit = if ring.ends_with('0') { '1' } else { '0' };
    let dir = temp_dir();
    for (text, expected) in [
        (line(7), "the key ring lacks the key-encryption key"),
        (
            format!("{}{digit}\n", &ring[..ring.len() - 1]),
            "has another key under the id",
        ),
    ] {
        write_secret(dir.path().join("key-ring"), text);
        let (code, objects, error) = verify(dir.path(), server.database());
        assert_eq!((code, objects.len()), (Some(1), 0));
        assert!(error.contains(expected), "{error}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_created_or_verified_without_the_ring_the_cluster_the_schema_and_a_sealed_value() {
    let dir = temp_dir();
    let private = |data_dir: &Path| certkeep(&["keyring", "verify", "--data-dir", data_dir.to_str().unwrap()]);
    let mistyped = dir.path().join("mistyped");
    let output = private(&mistyped);
    assert!(
        stderr(&output).contains("there is no key ring at"),
        "{}",
        stderr(&output)
    );
    assert!(!mistyped.exists());

    write_secret(dir.path().join("key-ring"), line(7));
    let output = private(dir.path());
    assert!(
        stderr(&output).contains("has no private PostgreSQL"),
        "{}",
        stderr(&output)
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    let database = database().await;
    let (code, objects, error) = verify(dir.path(), &database);
    assert_eq!((code, objects.len()), (Some(1), 0));
    assert!(error.contains("certkeep has never sealed anything in it"), "{error}");
    let sql = connect_to(&database).await;
    sql.batch_execute("delete from schema_migration").await.unwrap();
    let (code, objects, error) = verify(dir.path(), &database);
    assert_eq!((code, objects.len()), (Some(1), 0));
    assert!(error.contains("run `certkeep migrate`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_certificates_are_verified_page_by_page() {
    let count = times(300, 20_000);
    let server = TestServer::start().await;
    let pair = pki::self_signed(Key::Rsa(2048), "a.example");
    calls::stored(&server.client(), &upload_of(&pair)).await;
    let mut sql = connect_to(server.database()).await;
    fill(&mut sql, &server.key_ring_file(), count, &pair).await;
    let began = Instant::now();
    let (code, objects, error) = verify(server.data_dir(), server.database());
    let elapsed = began.elapsed();
    assert_eq!((code, objects.len()), (Some(0), 1), "{error}");
    assert_eq!(objects[0]["privateKeys"], (count + 1).to_string());
    figure("private keys verified", count + 1);
    figure(
        "private keys per second",
        (count as f64 / elapsed.as_secs_f64()).round(),
    );
    server.stop().await;
}
