//! `certkeep import`: a folder of pairs, in whatever order and under whatever names.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use certkeep::grpc::pb;
use openssl::hash::MessageDigest;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::calls;
use crate::harness::{REGION, TestServer, connect_to, rows, temp_dir, upload_of, write_secret};
use crate::pki::{self, Key};
use crate::process::{CERTKEEP, Certkeep, DataDir, certkeep, signal, stderr, stdout};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(temp_dir())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// So many pairs, each in two files.
    fn of_pairs(count: usize) -> Self {
        let folder = Self::new();
        for n in 0..count {
            let pair = pki::self_signed(Key::P256, &format!("{n}.example"));
            folder.write(&format!("{n}.crt"), &pair.certificate);
            folder.write(&format!("{n}.key"), &pair.key);
        }
        folder
    }
}

fn import(folder: &Folder, address: SocketAddr, access_key: PathBuf, args: &[&str]) -> Command {
    let mut command = Command::new(CERTKEEP);
    command
        .arg("import")
        .arg(folder.path())
        .args(["--region", REGION, "--endpoint", &format!("http://{address}")])
        .arg("--access-key-file")
        .arg(access_key)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// An import that ends with this exit code, and says everything on standard output.
fn run(folder: &Folder, server: &TestServer, args: &[&str], code: i32) -> String {
    let output = import(folder, server.address(), server.admin_key_file(), args)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    assert_eq!(stderr(&output), "");
    stdout(&output)
}

fn json(folder: &Folder, server: &TestServer, args: &[&str], code: i32) -> Value {
    let args = [args, &["--output", "json"]].concat();
    serde_json::from_str(&run(folder, server, &args, code)).unwrap()
}

/// The ids of the report, by the first file.
fn ids(report: &Value) -> BTreeMap<String, String> {
    let results = report["results"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    results
        .map(|result| (text(&result["files"][0]), text(&result["id"])))
        .filter(|(_, id)| !id.is_empty())
        .collect()
}

async fn stored(server: &TestServer) -> Vec<pb::ServerCertificate> {
    let mut client = server.client();
    let all = client.describe_server_certificates(pb::DescribeServerCertificatesRequest::default());
    all.await.unwrap().into_inner().server_certificates
}

/// One of everything that people keep in folders.
fn all_sorts() -> Folder {
    let folder = Folder::new();
    let pki::Hierarchy { key, leaf, issuer, .. } = pki::hierarchy(Key::Rsa(2048), "combined.example");
    let combined = pki::pair(&key, leaf);
    let chain = pki::pem(&issuer);
    folder.write(
        "all/combined",
        format!("{}{}{chain}", combined.key, combined.certificate),
    );
    folder.write("all/chain", &chain);

    let split = pki::self_signed(Key::P256, "split.example");
    folder.write("certs/2024/one.crt", &split.certificate);
    folder.write("keys/seven", &split.key);
    folder.write("keys/seven.bak", &split.key);
    symlink("certs/2024/one.crt", folder.path().join("link")).unwrap();
    symlink("certs", folder.path().join("linked-certs")).unwrap();
    symlink("nowhere", folder.path().join("dangling")).unwrap();

    let key = Key::Ed25519.make();
    for file in ["old.pem", "renewed.pem"] {
        let certificate = pki::certificate(&key, "renewed.example", None);
        folder.write(file, pki::pem(&certificate));
    }
    folder.write(
        "renewed.key",
        pki::pair(&key, pki::certificate(&key, "x.example", None)).key,
    );

    let [orphan, other] = ["orphan.example", "other.example"].map(|name| pki::self_signed(Key::P256, name));
    folder.write("orphan.crt", &orphan.certificate);
    folder.write("orphan.key", &other.key);
    folder.write("encrypted.key", pki::encrypted(&Key::P256.make()));
    folder.write(
        "broken.crt",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    );
    folder.write("latin1.crt", [b"Stra\xdfe\n", orphan.certificate.as_bytes()].concat());
    let [refused, unrelated] = ["refused.example", "unrelated.example"].map(|name| pki::self_signed(Key::P256, name));
    folder.write(
        "refused.pem",
        [refused.key, refused.certificate, unrelated.certificate].concat(),
    );

    folder.write("ignored/cert.der", split.x509.to_der().unwrap());
    folder.write("ignored/notes.txt", "the certificates of the shop\n");
    folder.write("ignored/large.pem", split.certificate + &" ".repeat(1 << 20));
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_is_found_and_everything_else_is_told() {
    let server = TestServer::start().await;
    let nothing = Folder::new();
    let empty = import(&nothing, server.address(), server.admin_key_file(), &[])
        .output()
        .unwrap();
    assert_eq!(
        (empty.status.code(), stdout(&empty), stderr(&empty)),
        (
            Some(0),
            String::new(),
            format!("no files in {}\n", nothing.path().display())
        )
    );
    let folder = all_sorts();
    let dry = run(&folder, &server, &["--dry-run"], 1);
    assert_eq!(server.rows().await, [0; 4], "a dry run stores nothing");
    let report = run(&folder, &server, &["--tag", "team=shop"], 1);
    assert_eq!(server.rows().await, [4, 4, 4, 4]);

    let expected = "\
duplicate       all/chain  of all/combined
uploaded        all/combined  ID  1 warning
unreadable      broken.crt  CERTIFICATE_MALFORMED: certificate 1 of the file is not encoded in DER; get it from the CA again
uploaded        certs/2024/one.crt + keys/seven  ID  1 warning
ignored         dangling  a link to nothing
unreadable      encrypted.key  PASSWORD_MISSING: PEM is encrypted: give its password with --password-file
duplicate       ignored/cert.der  of certs/2024/one.crt
unreadable      ignored/large.pem  FILE_TOO_LARGE: PEM of more than 1 MiB: split it
ignored         ignored/notes.txt  NO_PAIR: unknown format holds neither a certificate nor a private key
duplicate       keys/seven.bak  of keys/seven
no key          latin1.crt  NO_KEY: no file of the folder has its private key
duplicate       link  of certs/2024/one.crt
ignored         linked-certs  a link to a folder: import that folder too
uploaded        old.pem + renewed.key  ID  1 warning
no key          orphan.crt  NO_KEY: no file of the folder has its private key
no certificate  orphan.key  NO_CERTIFICATE: no file of the folder has its certificate
refused         refused.pem  CHAIN_UNRELATED_CERTIFICATE: certificate 2 of the file (CN=unrelated.example) is on no path from the server certificate to a root; remove it, or add the certificate that is missing between them
uploaded        renewed.pem + renewed.key  ID  1 warning
4 uploaded, 4 duplicate, 1 refused, 2 no key, 1 no certificate, 3 unreadable, 3 ignored
";
    let stored = stored(&server).await;
    let ids: Vec<_> = stored
        .iter()
        .map(|certificate| certificate.server_certificate_id.as_str())
        .collect();
    let without_ids = ids
        .iter()
        .fold(report.clone(), |report, id| report.replacen(id, "ID", 1));
    assert_eq!(without_ids, expected);
    let would_be = expected
        .replace("uploaded      ", "accepted      ")
        .replace(" uploaded", " accepted")
        .replace("  ID", "");
    assert_eq!(dry, would_be);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_goes_into_a_resource_group() {
    let server = TestServer::start().await;
    let folder = all_sorts();
    json(&folder, &server, &["--resource-group", "rg-1"], 1);
    assert_eq!(server.rows().await[0], 0, "there is no such group");
    let group = crate::resource_groups::made(&server, "shop").await;
    json(&folder, &server, &["--resource-group", &group], 1);
    let stored = stored(&server).await;
    assert_eq!(stored.len(), 4);
    assert!(stored.iter().all(|certificate| certificate.resource_group_id == group));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_stores_nothing_and_names_the_same_certificates() {
    let server = TestServer::start().await;
    let folder = all_sorts();
    let args = ["--name-from", "file", "--tag", "team=shop", "--jobs", "1"];
    let first = json(&folder, &server, &args, 1);
    let rows = server.rows().await;
    let names: Vec<_> = stored(&server)
        .await
        .into_iter()
        .map(|certificate| certificate.server_certificate_name)
        .collect();
    assert_eq!(names, ["all/combined", "certs/2024/one", "old", "renewed"]);

    let second = json(&folder, &server, &[], 1);
    assert_eq!(server.rows().await, rows);
    assert_eq!(ids(&second), ids(&first));
    assert_eq!(first["summary"]["uploaded"], 4);
    assert_eq!(second["summary"]["already_there"], 4);
    let result = |report: &Value, file: &str| {
        let results = report["results"].as_array().unwrap();
        results
            .iter()
            .find(|result| result["files"][0] == file)
            .unwrap()
            .clone()
    };
    let one = result(&first, "certs/2024/one.crt");
    assert_eq!(
        one,
        serde_json::json!({
            "state": "uploaded",
            "files": ["certs/2024/one.crt", "keys/seven"],
            "format": "",
            "id": ids(&first)["certs/2024/one.crt"],
            "name": "certs/2024/one",
            "reason": "",
            "message": "",
            "findings": ["VALIDITY_TOO_LONG", "SELF_SIGNED"],
        })
    );
    assert_eq!(result(&second, "certs/2024/one.crt")["state"], "already_there");
    assert_eq!(result(&second, "refused.pem")["reason"], "CHAIN_UNRELATED_CERTIFICATE");
    assert_eq!(second["interrupted"], false);
    server.stop().await;
}

/// The states of the report, by the file names without ending, with the ids. Sorted.
fn states(report: &Value) -> Vec<[String; 3]> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let results = report["results"].as_array().unwrap().iter();
    let mut states: Vec<_> = results
        .map(|result| {
            let file = text(&result["files"][0]).replace(".crt", "");
            [file, text(&result["state"]), text(&result["id"])]
        })
        .collect();
    states.sort();
    states
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_pair_with_the_same_names_renews_the_stored_certificates() {
    let server = TestServer::start().await;
    let (client, folder) = (server.client(), Folder::new());
    let write = |file: &str, pair: &pki::Pair| {
        folder.write(&format!("{file}.crt"), &pair.certificate);
        folder.write(&format!("{file}.key"), &pair.key);
    };
    let store = async |pair: &pki::Pair| calls::stored(&client, &upload_of(pair)).await;
    let shared = pki::expiring("shop.example", 30);
    let mut shop = [
        store(&shared).await,
        store(&shared).await,
        store(&pki::expiring("shop.example", 20)).await,
    ];
    shop.sort();
    let other_type = store(&pki::expiring_with(Key::P384, "shop.example", 10)).await;
    let late = store(&pki::expiring("late.example", 90)).await;
    let moved = store(&pki::expiring_with(Key::Rsa(2048), "moved.example", 10)).await;
    let new = pki::expiring("SHOP.example", 90);
    write("new", &new);
    write("older", &pki::expiring("shop.example", 60));
    write("late", &pki::expiring("late.example", 30));
    write("moved", &pki::expiring("moved.example", 30));
    write("fresh", &pki::expiring("fresh.example", 30));

    let expected = |fresh: &str, uploaded: &str, renewed: &str| {
        let line = |file: &str, state: &str, id: &str| [file, state, id].map(str::to_owned);
        let mut lines = vec![line("fresh", uploaded, fresh), line("late", "older", "")];
        lines.push(line("moved", renewed, &moved));
        lines.extend(shop.iter().map(|id| line("new", renewed, id)));
        lines.push(line("older", "older", ""));
        lines
    };
    let rows = server.rows().await;
    let dry = json(&folder, &server, &["--renew", "--dry-run"], 0);
    assert_eq!(states(&dry), expected("", "accepted", "to_be_renewed"));
    assert_eq!(server.rows().await, rows, "a dry run stores nothing");

    let report = json(&folder, &server, &["--renew"], 0);
    let fresh = ids(&report)["fresh.crt"].clone();
    assert_eq!(states(&report), expected(&fresh, "uploaded", "renewed"));
    assert_eq!(
        report["summary"],
        serde_json::json!({"uploaded": 1, "renewed": 4, "older": 2, "ignored": 0})
    );
    let fingerprint = new.x509.digest(MessageDigest::sha256()).unwrap();
    let fingerprint = fingerprint.iter().map(|byte| format!("{byte:02x}"));
    let fingerprint = fingerprint.collect::<Vec<_>>().join(":");
    for (id, version) in shop.iter().map(|id| (id, 2)).chain([(&other_type, 1), (&late, 1)]) {
        let stored = calls::get(&client, id).await.unwrap();
        assert_eq!(stored.version, version);
        assert_eq!(stored.fingerprint_sha256 == fingerprint, version == 2);
    }
    let again = run(&folder, &server, &["--renew"], 0);
    let than = [("late", late.as_str()), ("older", "new.crt")];
    for (file, newer) in than {
        let line = format!("older           {file}.crt + {file}.key  than {newer}\n");
        assert!(again.contains(&line), "{again}");
    }
    assert!(again.ends_with("\n3 already there, 2 older, 0 ignored\n"), "{again}");
    server.stop().await;
}

/// How many certificates are stored, once there are so many.
async fn until_stored(database: &str, at_least: i64) -> i64 {
    let sql = connect_to(database).await;
    let began = Instant::now();
    loop {
        let [certificates, ..] = rows(&sql).await;
        if certificates >= at_least {
            return certificates;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the import does not go on");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn end_of(child: Child) -> Output {
    tokio::task::spawn_blocking(|| child.wait_with_output().unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_in_the_midst_costs_nothing() {
    const PAIRS: usize = 300;
    let (data_dir, folder) = (DataDir::new(), Folder::of_pairs(PAIRS));
    let server = Certkeep::start(&data_dir);
    let (address, database) = (server.address, data_dir.connection_string());
    let importing = import(&folder, address, data_dir.admin_key_file(), &["--output", "json"])
        .spawn()
        .unwrap();
    until_stored(&database, 20).await;
    server.kill();
    let [at_the_kill, ..] = rows(&connect_to(&database).await).await;
    assert!(at_the_kill < PAIRS as i64, "it was not killed in the midst");
    let server = Certkeep::start_at(&data_dir, address);
    let output = end_of(importing).await;
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["summary"]["uploaded"], PAIRS);
    let different: std::collections::BTreeSet<_> = ids(&report).into_values().collect();
    assert_eq!(different.len(), PAIRS);
    let pairs = PAIRS as i64;
    assert_eq!(rows(&connect_to(&database).await).await, [pairs, pairs, 0, pairs]);
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_import_finishes_what_is_under_way_and_goes_on_when_repeated() {
    const PAIRS: usize = 300;
    let server = TestServer::start().await;
    let folder = Folder::of_pairs(PAIRS);
    let importing = import(
        &folder,
        server.address(),
        server.admin_key_file(),
        &["--output", "json"],
    )
    .spawn()
    .unwrap();
    until_stored(server.database(), 20).await;
    signal(importing.id() as i32, Signal::INT);
    let output = end_of(importing).await;
    assert_eq!(
        output.status.code(),
        Some(130),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    let [certificates, ..] = server.rows().await;
    assert_eq!(report["summary"]["uploaded"], certificates);
    assert_eq!(report["summary"]["not_sent"], PAIRS as i64 - certificates);

    let again = json(&folder, &server, &[], 0);
    assert_eq!(again["summary"]["already_there"], certificates);
    assert_eq!(server.rows().await[0], PAIRS as i64);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_service_is_waited_for_and_a_file_that_changed_meanwhile_is_not_uploaded() {
    let (data_dir, folder) = (DataDir::new(), Folder::of_pairs(2));
    // The first start makes the admin key.
    Certkeep::start(&data_dir).terminate();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let importing = import(&folder, address, data_dir.admin_key_file(), &[])
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let [renewed] = ["0.example"].map(|name| pki::self_signed(Key::P256, name));
    folder.write("0.crt", &renewed.certificate);
    let server = Certkeep::start_at(&data_dir, address);
    let output = end_of(importing).await;
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(&output), stderr(&output));
    let report = stdout(&output);
    assert!(
        report.starts_with("refused         0.crt + 0.key  FILE_CHANGED: changed while it was read: import it again\n"),
        "{report}"
    );
    assert!(report.ends_with("\n1 uploaded, 1 refused, 0 ignored\n"), "{report}");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_goes_and_stays_away_ends_the_import() {
    const PAIRS: usize = 300;
    let (data_dir, folder) = (DataDir::new(), Folder::of_pairs(PAIRS));
    let server = Certkeep::start(&data_dir);
    let args = ["--retry-for", "1", "--output", "json"];
    let importing = import(&folder, server.address, data_dir.admin_key_file(), &args)
        .spawn()
        .unwrap();
    until_stored(&data_dir.connection_string(), 20).await;
    server.kill();
    let output = end_of(importing).await;
    assert_eq!(output.status.code(), Some(3), "{}{}", stdout(&output), stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |state: &str| report["summary"][state].as_u64().unwrap();
    assert_eq!(count("uploaded") + count("not_sent"), PAIRS as u64);
}

#[test]
fn nothing_is_done_without_a_service_or_a_folder_or_with_wrong_arguments() {
    let folder = Folder::of_pairs(1);
    let key = || folder.path().join("access-key");
    write_secret(key(), "ck1.secret");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = import(&folder, address, key(), &["--retry-for", "0"]).output().unwrap();
    assert_eq!(away.status.code(), Some(3));
    assert!(
        stderr(&away).starts_with(&format!(
            "error: http://{address} (--endpoint) cannot be reached: connection refused"
        )),
        "{}",
        stderr(&away)
    );

    for args in [["--jobs", "0"], ["--jobs", "33"], ["--tag", "team"]] {
        let output = import(&folder, address, key(), &args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    let path = folder.path().to_str().unwrap();
    let none = certkeep(&[
        "import",
        &format!("{path}/none"),
        "--region",
        REGION,
        "--access-key-file",
        &format!("{path}/access-key"),
    ]);
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("/none is not readable: "), "{}", stderr(&none));
}
