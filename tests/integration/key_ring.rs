//! The key ring: its states in the database, and its file, which is read again when it changes.

use std::path::Path;
use std::time::Duration;

use certkeep::seal::KeyRing;

use crate::calls;
use crate::harness::{TestServer, temp_dir, until, upload_of};
use crate::pki::{self, Key};

/// A line of a key ring, with a key of its own.
pub fn line(number: u8) -> String {
    format!("{} {}\n", hex::encode([number; 8]), hex::encode([number; 32]))
}

/// Replaces the file as an editor does: with a new file.
pub fn write_ring(path: &Path, text: &str) {
    let secret = certkeep::secret::Secret::from(text.to_owned());
    secret.write(path, certkeep::secret::Existing::Replace).unwrap();
}

/// The state of each key in the database, the sealing key first, then the newest.
pub async fn states(server: &TestServer) -> Vec<(String, String)> {
    let states = "select encode(key_encryption_key_id, 'hex'), state from key_encryption_key
                  order by state <> 'sealing', first_seen_at desc";
    let rows = server.sql().await.query(states, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn state(id: &str, state: &str) -> (String, String) {
    (id.to_owned(), state.to_owned())
}

async fn upload(server: &TestServer) {
    let pair = pki::self_signed(Key::P256, "a.example");
    calls::upload(&server.client(), upload_of(&pair)).await.unwrap();
}

#[tokio::test]
async fn the_first_key_seals_and_a_key_that_is_added_to_the_file_becomes_prepared() {
    let server = TestServer::start().await;
    let ring = server.key_ring_file();
    let first = KeyRing::read(&ring).unwrap().first_id().to_string();
    assert_eq!(states(&server).await, [state(&first, "sealing")]);

    // Its place in the file does not matter.
    let old = std::fs::read_to_string(&ring).unwrap();
    write_ring(&ring, &format!("{}{old}", line(7)));
    let new = hex::encode([7; 8]);
    until(async || states(&server).await.len() == 2).await;
    assert_eq!(
        states(&server).await,
        [state(&first, "sealing"), state(&new, "prepared")]
    );
    upload(&server).await;

    // It has sealed nothing, so it may go. The database forgets it.
    write_ring(&ring, &old);
    until(async || states(&server).await.len() == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_changed_file_that_cannot_be_used_leaves_the_earlier_ring_in_use() {
    let server = TestServer::start().await;
    let ring = server.key_ring_file();
    let old = std::fs::read_to_string(&ring).unwrap();
    let before = states(&server).await;
    let sealing = old.lines().last().unwrap();
    let wrong = if sealing.ends_with('0') { '1' } else { '0' };
    let wrong = format!("{}{}{wrong}\n", line(7), &sealing[..sealing.len() - 1]);
    for unusable in ["", "nonsense\n", &line(7), &wrong] {
        write_ring(&ring, unusable);
        tokio::time::sleep(Duration::from_millis(2500)).await;
        upload(&server).await;
        assert_eq!(states(&server).await, before, "{unusable}");
    }
    write_ring(&ring, &format!("{old}{}", line(7)));
    until(async || states(&server).await.len() == 2).await;
    server.stop().await;
}

#[tokio::test]
async fn each_replica_tells_the_keys_of_its_ring_until_it_stops() {
    let server = TestServer::start().await;
    let dir = temp_dir();
    let ring = dir.path().join("key-ring");
    let old = std::fs::read_to_string(server.key_ring_file()).unwrap();
    write_ring(&ring, &format!("{old}{}", line(7)));
    let other_ring = ring.clone();
    let replica = server.replica(|config| config.database.key_ring = other_ring).await;
    let told = "select host, version, array_length(key_encryption_key_ids, 1), array_length(sealing_key_ids, 1)
                from replica order by started_at";
    let rows = server.sql().await.query(told, &[]).await.unwrap();
    let told: Vec<(String, String, i32, i32)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    assert_eq!(told, [(host.clone(), version.clone(), 1, 1), (host, version, 2, 1)]);

    // A prepared key with another value than the other replica's is refused.
    let wrong = format!("{old}{} {}\n", hex::encode([7; 8]), hex::encode([8; 32]));
    write_ring(&server.key_ring_file(), &wrong);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let ids = "select max(array_length(key_encryption_key_ids, 1)), min(array_length(key_encryption_key_ids, 1)) from replica";
    let row = server.sql().await.query_one(ids, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (2, 1));

    replica.stop().await;
    let count = "select count(*) from replica";
    assert_eq!(
        server.sql().await.query_one(count, &[]).await.unwrap().get::<_, i64>(0),
        1
    );
    server.stop().await;
}
