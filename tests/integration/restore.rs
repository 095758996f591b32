//! The steps of docs/operations.md bring back everything that was backed up, private keys included.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use certkeep::grpc::pb;
use certkeep::grpc::pb::certificate_service_client::CertificateServiceClient;
use certkeep::seal::Row;
use certkeep::server::Server;
use openssl::pkey::PKey;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{bearer, config, connect_to, database, path_env, stored_id, temp_dir, upload_of};
use crate::pki::{self, Key, Pair};
use crate::process::{CERTKEEP, Certkeep, DataDir, certkeep, stderr};
use crate::proof::{figure, times};

/// The commands below a heading of the document.
fn steps(heading: &str) -> String {
    let document = include_str!("../../docs/operations.md");
    let (_, section) = document.split_once(&format!("# {heading}\n")).unwrap();
    let section = section.split("\n#").next().unwrap();
    let commands: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .map(str::trim_start)
        .collect();
    assert!(!commands.is_empty(), "{heading} has no commands");
    commands.join("\n")
}

/// Runs the commands below this heading in the directory of the dump.
fn follow(heading: &str, backup: &Path, database: &str, data_dir: &Path) {
    run(&steps(heading), backup, database, data_dir);
}

fn run(commands: &str, backup: &Path, database: &str, data_dir: &Path) {
    let programs = Path::new(CERTKEEP).parent().unwrap().to_owned();
    let path = path_env().unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path))).unwrap();
    let output = Command::new("sh")
        .args(["-euc", commands])
        .current_dir(backup)
        .env("PATH", path)
        .env("DATABASE", database)
        .env("DATA_DIR", data_dir)
        .env("RING_BACKUP", backup)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A dump and a key ring, and their contents.
struct Backup {
    dir: TempDir,
    admin_key: String,
    answer: pb::ServerCertificate,
    private_keys: Vec<Vec<u8>>,
}

/// Backs up a certkeep, and stops it.
async fn backup() -> Backup {
    let data_dir = DataDir::new();
    let server = Certkeep::start(&data_dir);
    let pair = pki::issued(Key::P256, "shop.example");
    let mut client = server.client(&data_dir);
    let uploads = times(1, 5_000);
    let mut uploaded = client.upload_server_certificate(upload_of(&pair)).await.unwrap();
    for _ in 1..uploads {
        uploaded = client.upload_server_certificate(upload_of(&pair)).await.unwrap();
    }
    let admin_key = std::fs::read_to_string(data_dir.admin_key_file()).unwrap();
    let id = uploaded.into_inner().server_certificate_id;
    let answer = get(server.channel(), admin_key.trim(), &id).await;
    let dir = temp_dir();
    follow("Back up", dir.path(), &data_dir.connection_string(), data_dir.path());
    for file in ["certkeep.dump", "key-ring"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    server.terminate();
    Backup {
        dir,
        admin_key,
        answer,
        private_keys: vec![pkcs8(&pair); uploads],
    }
}

fn pkcs8(pair: &Pair) -> Vec<u8> {
    let key = PKey::private_key_from_pem(pair.key.as_bytes()).unwrap();
    key.private_key_to_pkcs8().unwrap()
}

async fn get(channel: Channel, admin_key: &str, id: &str) -> pb::ServerCertificate {
    let request = pb::GetServerCertificateRequest {
        server_certificate_id: id.to_owned(),
        ..Default::default()
    };
    CertificateServiceClient::with_interceptor(channel, bearer(admin_key))
        .get_server_certificate(request)
        .await
        .unwrap()
        .into_inner()
        .server_certificate
        .unwrap()
}

/// The private keys of the database, oldest first, opened with the ring of this file.
async fn private_keys(database: &str, key_ring: &Path) -> Vec<Vec<u8>> {
    let rows = connect_to(database)
        .await
        .query(
            "select k.account_id, k.created_ms, k.random, k.key_id::text, k.sealed, c.spki_sha256
             from private_key k join certificate c using (account_id, created_ms, random, key_id)
             order by k.created_ms",
            &[],
        )
        .await
        .unwrap();
    let ring = crate::harness::key_ring(key_ring).await;
    let open = |row: tokio_postgres::Row| {
        let bound_to = Row::PrivateKey {
            certificate: stored_id(row.get(0), row.get(1), row.get(2)),
            key_id: row.get::<_, String>(3).parse().unwrap(),
            spki_sha256: &row.get::<_, Vec<u8>>(5).try_into().unwrap(),
        };
        ring.open(row.get(4), &bound_to).unwrap().expose().to_vec()
    };
    rows.into_iter().map(open).collect()
}

#[tokio::test]
async fn a_dump_and_the_ring_make_the_service_anew_on_a_server() {
    let backup = backup().await;
    let database = database().await;
    connect_to(&database)
        .await
        .batch_execute("drop schema public cascade; create schema public")
        .await
        .unwrap();
    let data_dir = temp_dir();
    let began = Instant::now();
    follow("Restore", backup.dir.path(), &database, data_dir.path());
    figure("certificates restored", backup.private_keys.len());
    figure("restore, ms", began.elapsed().as_millis());

    let config = config(&data_dir, &database);
    let server = Server::start(&config, certkeep::app::Policy::default(), None, &Default::default())
        .await
        .unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
    let id = &backup.answer.server_certificate_id;
    assert_eq!(
        get(endpoint.connect_lazy(), backup.admin_key.trim(), id).await,
        backup.answer
    );
    assert_eq!(
        private_keys(&database, &config.database.key_ring).await,
        backup.private_keys
    );
    server.stop().await;
}

#[tokio::test]
async fn a_dump_and_the_ring_make_the_service_anew_on_a_private_postgres() {
    let backup = backup().await;
    let data_dir = DataDir::new();
    let ring = data_dir.path().join("key-ring");
    let steps = steps("Restore into a private PostgreSQL");
    let (before, after) = steps.split_at(steps.find("pg_restore").unwrap());
    // Nothing but the document says who may enter the directory. As root, certkeep runs PostgreSQL as another user.
    std::fs::set_permissions(data_dir.path(), Permissions::from_mode(0o700)).unwrap();
    run(before, backup.dir.path(), "", data_dir.path());
    let empty = Certkeep::start(&data_dir);
    let database = data_dir.connection_string();
    run(after, backup.dir.path(), &database, data_dir.path());
    empty.terminate();

    let server = Certkeep::start(&data_dir);
    let id = &backup.answer.server_certificate_id;
    assert_eq!(get(server.channel(), backup.admin_key.trim(), id).await, backup.answer);
    assert_eq!(
        private_keys(&data_dir.connection_string(), &ring).await,
        backup.private_keys
    );
    server.terminate();
}

/// A start that fails, and what it prints.
fn refused_start(data_dir: &DataDir) -> String {
    let data_dir = data_dir.path().to_str().unwrap();
    let refused = certkeep(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir]);
    assert!(!refused.status.success());
    stderr(&refused)
}

#[tokio::test]
async fn a_ring_with_a_wrong_digit_is_refused_and_a_key_that_sealed_nothing_may_go() {
    let data_dir = DataDir::new();
    let ring = data_dir.path().join("key-ring");
    Certkeep::start(&data_dir).terminate();
    let text = std::fs::read_to_string(&ring).unwrap();
    let old = text.lines().last().unwrap().to_owned();
    let (id, key) = old.split_once(' ').unwrap();
    let digit = if key.starts_with('0') { '1' } else { '0' };
    let wrong = format!("{id} {digit}{}", &key[1..]);
    let new = format!("{} {}", "12".repeat(8), "34".repeat(32));
    for text in [format!("{wrong}\n"), format!("{new}\n{wrong}\n")] {
        std::fs::write(&ring, text).unwrap();
        let error = refused_start(&data_dir);
        assert!(error.contains(&format!("has another key under the id {id}")), "{error}");
        assert!(error.contains("restore the line"), "{error}");
        assert!(!error.contains(&key[1..]), "{error}");
    }

    // A new key is prepared, wherever its line stands. It has sealed nothing: a wrong digit can be corrected, and the key may go.
    for text in [
        format!("{}5\n{old}\n", &new[..new.len() - 1]),
        format!("{new}\n{old}\n"),
        format!("{old}\n"),
    ] {
        std::fs::write(&ring, text).unwrap();
        let server = Certkeep::start(&data_dir);
        upload(&server, &data_dir).await;
        server.terminate();
    }

    // The key that seals may not.
    std::fs::write(&ring, format!("{new}\n")).unwrap();
    assert!(refused_start(&data_dir).contains("the key ring lacks"));
}

async fn upload(server: &Certkeep, data_dir: &DataDir) {
    let pair = pki::self_signed(Key::P256, "a.example");
    let mut client = server.client(data_dir);
    client.upload_server_certificate(upload_of(&pair)).await.unwrap();
}
