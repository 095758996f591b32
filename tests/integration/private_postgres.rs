//! The binary with nothing set up: its private Postgres, its first key, its commands.

use std::net::{SocketAddr, TcpListener};

use certkeep::grpc::pb;

use crate::harness::{temp_dir, upload_of};
use crate::pki::{self, Key};
use crate::process::{Certkeep, DataDir, certkeep, stderr, stdout};

#[tokio::test]
async fn a_first_start_makes_database_ring_and_admin_key_and_a_second_keeps_them() {
    use std::os::unix::fs::MetadataExt;
    let data_dir = DataDir::new();
    let first = Certkeep::start(&data_dir);
    assert!(
        first.banner.contains(&data_dir.path().display().to_string()),
        "{}",
        first.banner
    );
    assert!(first.banner.contains(" upload --region "), "{}", first.banner);
    assert!(first.banner.contains("SLB API"), "{}", first.banner);
    for secret in ["admin.key", "key-ring"] {
        assert_eq!(
            std::fs::metadata(data_dir.path().join(secret)).unwrap().mode() & 0o777,
            0o600,
            "{secret}"
        );
    }
    let uploaded = first
        .client(&data_dir)
        .upload_server_certificate(upload_of(&pki::issued(Key::P256, "a.example")))
        .await;
    let id = uploaded.unwrap().into_inner().server_certificate_id;
    first.terminate();
    assert_eq!(data_dir.postmaster_pid(), None, "Postgres was stopped with it");

    let kept = ["admin.key", "key-ring"].map(|name| std::fs::read(data_dir.path().join(name)).unwrap());
    let (address, _in_use) = address_before_one_in_use();
    let second = Certkeep::start_at(&data_dir, address);
    assert!(!second.banner.contains("SLB API"), "{}", second.banner);
    let get = pb::GetServerCertificateRequest {
        server_certificate_id: id,
        ..Default::default()
    };
    second.client(&data_dir).get_server_certificate(get).await.unwrap();
    assert_eq!(
        ["admin.key", "key-ring"].map(|name| std::fs::read(data_dir.path().join(name)).unwrap()),
        kept
    );

    let third = certkeep(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data_dir.path().to_str().unwrap(),
    ]);
    assert!(!third.status.success());
    assert!(stderr(&third).starts_with("error: "), "{}", stderr(&third));
    second.terminate();
}

/// An address, and a listener on the default address for Alibaba Cloud's clients.
fn address_before_one_in_use() -> (SocketAddr, TcpListener) {
    loop {
        let in_use = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut address = in_use.local_addr().unwrap();
        address.set_port(address.port() - 1);
        if TcpListener::bind(address).is_ok() {
            return (address, in_use);
        }
    }
}

#[tokio::test]
async fn a_ring_that_is_lost_is_not_made_anew() {
    let data_dir = DataDir::new();
    Certkeep::start(&data_dir).terminate();
    let ring = data_dir.path().join("key-ring");
    let kept = std::fs::read(&ring).unwrap();
    std::fs::remove_file(&ring).unwrap();
    let path = data_dir.path().to_str().unwrap();
    let refused = certkeep(&["serve", "--listen", "127.0.0.1:0", "--data-dir", path]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("there is no key ring at"),
        "{}",
        stderr(&refused)
    );

    // Another ring is refused as well: it lacks the key that sealed.
    let other = temp_dir();
    certkeep::seal::KeyRing::create(&other.path().join("key-ring")).unwrap();
    std::fs::copy(other.path().join("key-ring"), &ring).unwrap();
    let refused = certkeep(&["serve", "--listen", "127.0.0.1:0", "--data-dir", path]);
    assert!(
        stderr(&refused).contains("the key ring lacks the key-encryption key"),
        "{}",
        stderr(&refused)
    );

    std::fs::remove_file(&ring).unwrap();
    std::fs::write(&ring, kept).unwrap();
    let exposed = certkeep(&["serve", "--listen", "127.0.0.1:0", "--data-dir", path]);
    assert!(stderr(&exposed).contains("chmod 600"), "{}", stderr(&exposed));
}

#[tokio::test]
async fn the_command_line_uploads_describes_and_gets_and_shows_what_is_wrong() {
    let data_dir = DataDir::new();
    let server = Certkeep::start(&data_dir);
    let files = temp_dir();
    let pair = pki::issued(Key::Rsa(2048), "shop.example");
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&cert, &pair.certificate).unwrap();
    std::fs::write(&key, &pair.key).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let endpoint = format!("http://{}", server.address);
    let connection = ["--endpoint", &endpoint, "--data-dir", data_dir.path().to_str().unwrap()];
    let run = |args: &[&str]| certkeep(&[args, &connection].concat());

    let uploaded = run(&[
        "upload",
        "--region",
        "cn-hangzhou",
        "--cert",
        cert,
        "--key",
        key,
        "--tag",
        "team=shop",
        "--output",
        "json",
    ]);
    assert!(uploaded.status.success(), "{}", stderr(&uploaded));
    let answer: serde_json::Value = serde_json::from_slice(&uploaded.stdout).unwrap();
    let id = answer["serverCertificateId"].as_str().unwrap();
    assert_eq!(answer["commonName"], "shop.example");
    assert_eq!(answer["expireTimeStamp"], "4000000000000");

    let table = stdout(&run(&["describe", "--columns", "expires,expiry-date,key,id"]));
    assert!(table.contains("  2096-10-02  ") && !table.contains('\u{1b}'), "{table}");
    assert!(
        table.lines().count() == 2 && table.contains(id) && table.contains("RSA 2048"),
        "{table}"
    );
    assert_eq!(stdout(&run(&["get", id, "--output", "pem"])), pair.certificate);
    assert!(stdout(&run(&["get", id])).contains("team=shop"));

    let renamed = run(&["rename", id, "new-name", "--region", "cn-hangzhou"]);
    assert!(renamed.status.success(), "{}", stderr(&renamed));
    assert!(stdout(&run(&["describe"])).contains("new-name"));
    let regions = stdout(&run(&["regions"]));
    assert!(regions.contains("China (Hangzhou)"), "{regions}");
    let deleted = run(&["delete", id]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    let again = run(&["delete", id]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("SERVER_CERTIFICATE_NOT_FOUND"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            stdout(&certkeep(&["completions", shell])).contains("describe"),
            "{shell}"
        );
    }

    let swapped = run(&["upload", "--region", "mars-1", "--cert", key, "--key", cert]);
    assert_eq!(swapped.status.code(), Some(1));
    let text = stderr(&swapped);
    for part in ["REGION_NOT_FOUND", "--region", "--cert", "--key", "request id"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let missing = run(&["upload", "--region", "cn-hangzhou", "--cert", "none.pem", "--key", key]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        stderr(&missing).contains("none.pem cannot be read"),
        "{}",
        stderr(&missing)
    );
    server.terminate();
    let gone = run(&["describe"]);
    assert_eq!(gone.status.code(), Some(3));
    assert!(stderr(&gone).contains("cannot be reached"), "{}", stderr(&gone));
}

#[tokio::test]
async fn a_database_of_ones_own_is_bootstrapped_once() {
    let dir = temp_dir();
    let url = crate::harness::database().await;
    let path = dir.path().to_str().unwrap();
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        path,
        "--database-url",
        &url,
    ];
    let refused = certkeep(&serve);
    assert!(
        stderr(&refused).contains("certkeep bootstrap"),
        "nothing is made by itself: {}",
        stderr(&refused)
    );

    let bootstrap = ["bootstrap", "--data-dir", path, "--database-url", &url];
    let made = certkeep(&bootstrap);
    assert!(made.status.success(), "{}", stderr(&made));
    let key = std::fs::read_to_string(dir.path().join("admin.key")).unwrap();
    assert!(!stdout(&made).contains(key.trim()) && !stderr(&made).contains(key.trim()));
    let again = certkeep(&bootstrap);
    assert!(
        !again.status.success() && stderr(&again).contains("already"),
        "{}",
        stderr(&again)
    );
    assert_eq!(std::fs::read_to_string(dir.path().join("admin.key")).unwrap(), key);

    let other = crate::harness::database().await;
    let refused = certkeep(&["bootstrap", "--data-dir", path, "--database-url", &other]);
    assert!(stderr(&refused).contains("move it away"), "{}", stderr(&refused));
    assert_eq!(std::fs::read_to_string(dir.path().join("admin.key")).unwrap(), key);

    let migrated = certkeep(&["migrate", "--data-dir", path, "--database-url", &url]);
    assert_eq!(
        stdout(&migrated),
        format!("schema version {} (0 applied now)\n", certkeep::store::schema_version())
    );
}

#[test]
fn an_address_that_others_reach_needs_a_word_of_danger() {
    let dir = temp_dir();
    let refused = certkeep(&[
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--data-dir",
        dir.path().to_str().unwrap(),
    ]);
    assert!(stderr(&refused).contains("--danger-plaintext"), "{}", stderr(&refused));
    let unverified = certkeep(&[
        "migrate",
        "--database-url",
        "postgres://db.example/certkeep?sslmode=require",
    ]);
    assert!(
        stderr(&unverified).contains("--danger-unverified-database"),
        "{}",
        stderr(&unverified)
    );
}
