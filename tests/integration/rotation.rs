//! A rotation of many keys, while replicas are killed and uploads go on.

use std::path::Path;
use std::time::{Duration, Instant};

use certkeep::grpc::pb;
use certkeep::grpc::pb::operator_service_client::OperatorServiceClient;
use openssl::symm::{Cipher, encrypt_aead};
use tempfile::TempDir;
use tokio_postgres::Client as Sql;
use uuid::Uuid;

use crate::calls;
use crate::harness::{Account, TestServer, bearer, connect_to, temp_dir, until, upload_of};
use crate::key_ring::{line, write_ring};
use crate::load::Load;
use crate::pki::{self, Key};
use crate::process::Certkeep;
use crate::proof::{figure, times};

/// How many rows one statement inserts.
const CHUNK: usize = 5_000;

/// Encrypts as `src/seal/mod.rs` describes: nonce, ciphertext, tag. A field of the associated data follows its length.
fn encrypted(key: &[u8], fields: &[&[u8]], plaintext: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for field in fields {
        data.extend((field.len() as u32).to_be_bytes());
        data.extend(*field);
    }
    let nonce: [u8; 12] = certkeep::digest::random().unwrap();
    let mut tag = [0; 16];
    let ciphertext = encrypt_aead(Cipher::aes_256_gcm(), key, Some(&nonce), &data, plaintext, &mut tag).unwrap();
    [&nonce[..], &ciphertext, &tag].concat()
}

/// A sealed private key of this row.
fn sealed(
    (id, key): (&[u8], &[u8]),
    (account, created, random): (i64, i64, i64),
    key_id: Uuid,
    spki: &[u8],
    pkcs8: &[u8],
) -> Vec<u8> {
    let (account, created, random) = (account.to_be_bytes(), created.to_be_bytes(), random.to_be_bytes());
    let row: [&[u8]; 6] = [b"private_key", &account, &created, &random, key_id.as_bytes(), spki];
    let data_key: [u8; 32] = certkeep::digest::random().unwrap();
    let wrap = encrypted(key, &[&[b"wrap", &[1][..], id], &row[..]].concat(), &data_key);
    let payload = encrypted(&data_key, &[&[b"payload", &[1][..]], &row[..]].concat(), pkcs8);
    [&[1], id, &wrap, &payload].concat()
}

/// The account of the copies. The uploads of the other account do not answer so many fingerprints.
const FILLED: i64 = 2_000_000_000_000_000;

/// Copies the only certificate, which has this pair, into another account, each time with a row of its own for the private key.
pub async fn fill(sql: &mut Sql, ring: &Path, count: usize, pair: &pki::Pair) {
    let pkcs8 = openssl::pkey::PKey::private_key_from_pem(pair.key.as_bytes()).unwrap();
    let pkcs8 = pkcs8.private_key_to_pkcs8().unwrap();
    let text = std::fs::read_to_string(ring).unwrap();
    let first = text.lines().find(|line| !line.starts_with('#')).unwrap();
    let (id, key) = first.split_once(' ').unwrap();
    let (id, key) = (hex::decode(id).unwrap(), hex::decode(key).unwrap());
    let only = "select account_id, created_ms, random, spki_sha256 from certificate";
    let row = sql.query_one(only, &[]).await.unwrap();
    let (account, created, spki): (i64, i64, Vec<u8>) = (FILLED, row.get(1), row.get(3));
    let columns =
        "select string_agg(attname, ', ') from pg_attribute where attrelid = 'certificate'::regclass and attnum > 0
                     and not attisdropped and attname not in ('account_id', 'random', 'key_id')";
    let columns: String = sql.query_one(columns, &[]).await.unwrap().get(0);
    let random_of_the_only: i64 = row.get(2);
    for chunk in (0..count).step_by(CHUNK) {
        let randoms: Vec<i64> = (chunk..count.min(chunk + CHUNK)).map(|n| n as i64).collect();
        let key_ids: Vec<Uuid> = randoms
            .iter()
            .map(|_| certkeep::digest::random_uuid().unwrap())
            .collect();
        let keys = randoms.iter().zip(&key_ids);
        let sealed: Vec<Vec<u8>> = keys
            .map(|(random, key_id)| sealed((&id, &key), (account, created, *random), *key_id, &spki, &pkcs8))
            .collect();
        let transaction = sql.transaction().await.unwrap();
        let insert = "insert into private_key (account_id, created_ms, random, key_id, sealed)
                      select $1, $2, * from unnest($3::bigint[], $4::uuid[], $5::bytea[])";
        transaction
            .execute(insert, &[&account, &created, &randoms, &key_ids, &sealed])
            .await
            .unwrap();
        let copy = format!(
            "insert into certificate ({columns}, account_id, random, key_id)
             select {columns}, $4::bigint, new.random, new.key_id
             from certificate as old, unnest($1::bigint[], $2::uuid[]) as new(random, key_id) where old.random = $3"
        )
        .replace(&format!("select {columns}"), &format!("select {}", prefixed(&columns)));
        transaction
            .execute(&copy, &[&randoms, &key_ids, &random_of_the_only, &account])
            .await
            .unwrap();
        let events =
            "insert into event (account_id, position, created_ms, random, certificate_kind, kind, revision, version,
                        principal, request_id)
                      select $1, $2 + place, $3, random, 'server', 'uploaded', 1, 1, '', gen_random_uuid()
                      from unnest($4::bigint[]) with ordinality as new(random, place)";
        let before = chunk as i64;
        transaction
            .execute(events, &[&account, &before, &created, &randoms])
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }
    let counted =
        "insert into certificate_count (account_id, kind, region_id, live) values ($1, 'server', 'cn-hangzhou', $2)";
    sql.execute(counted, &[&FILLED, &(count as i64)]).await.unwrap();
    let quota = "insert into quota (account_id, kind, maximum) values ($1, 'server', 1000000)";
    sql.execute(quota, &[&row.get::<_, i64>(0)]).await.unwrap();
}

fn prefixed(columns: &str) -> String {
    let columns: Vec<_> = columns.split(", ").map(|column| format!("old.{column}")).collect();
    columns.join(", ")
}

/// The data directory of processes, on the database of a server that has stopped.
struct Replicas {
    dir: TempDir,
    database: String,
    admin_key: String,
}

impl Replicas {
    fn start(&self) -> Certkeep {
        Certkeep::start_with(self.dir.path(), &["--database-url", &self.database])
    }

    fn load(&self, replica: &Certkeep) -> Load {
        Load::start(&replica.client_with_key(&self.admin_key))
    }
}

/// Waits until the rotation has passed this part of its rows.
async fn until_passed(sql: &Sql, part: f64) {
    let passed = "select passed::float8 / total from key_rotation";
    let wait = async {
        while sql.query_one(passed, &[]).await.unwrap().get::<_, f64>(0) < part {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), wait)
        .await
        .expect("the rotation stands still");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_survives_two_kills_while_uploads_go_on() {
    let keys = times(2_000, 100_000);
    let server = TestServer::start().await;
    let pair = pki::self_signed(Key::P256, "a.example");
    calls::upload(&server.client(), upload_of(&pair)).await.unwrap();
    let operator_key = server.add_key("operator", Account::Operators).await;
    let dir = temp_dir();
    let ring = dir.path().join("key-ring");
    let text = std::fs::read_to_string(server.key_ring_file()).unwrap();
    write_ring(&ring, &format!("{text}{}", line(7)));
    let replicas = Replicas {
        dir,
        database: server.database().to_owned(),
        admin_key: server.admin_key().to_owned(),
    };
    server.stop().await;
    let mut sql = connect_to(&replicas.database).await;
    fill(&mut sql, &ring, keys, &pair).await;

    let (first, second) = (replicas.start(), replicas.start());
    let loads = [replicas.load(&first), replicas.load(&second)];
    tokio::join!(loads[0].acknowledges(30), loads[1].acknowledges(30));
    let operator =
        |replica: &Certkeep| OperatorServiceClient::with_interceptor(replica.channel(), bearer(&operator_key));
    let request = pb::RotateKeyRingRequest {
        key_encryption_key_id: hex::encode([7; 8]),
    };
    operator(&first).rotate_key_ring(request).await.unwrap();
    // One of the two works on the rotation. The other one continues it.
    until_passed(&sql, 0.0001).await;
    let began = Instant::now();
    until_passed(&sql, 0.3).await;
    first.kill();
    let third = replicas.start();
    let load_of_third = replicas.load(&third);
    until_passed(&sql, 0.6).await;
    second.kill();
    let ended = "select ended_at is not null, passed, failed from key_rotation";
    let wait = async {
        while !sql.query_one(ended, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), wait)
        .await
        .expect("the rotation ends");
    figure("rotation with two kills, s", began.elapsed().as_secs());
    load_of_third.acknowledges(30).await;
    let mut outcomes = vec![load_of_third.stop().await];
    for load in loads {
        outcomes.push(load.stop().await);
    }

    let row = sql.query_one(ended, &[]).await.unwrap();
    assert!(row.get::<_, i64>(1) >= keys as i64 + 3);
    assert_eq!(row.get::<_, i64>(2), 0);
    let old =
        "select count(*) from (select sealed from private_key union all select sealed from service_key) as all_values
               where substring(sealed from 2 for 8) <> $1";
    assert_eq!(
        sql.query_one(old, &[&[7_u8; 8].as_slice()])
            .await
            .unwrap()
            .get::<_, i64>(0),
        0
    );
    let verify = pb::VerifyKeyRingRequest {
        rate: 1_000_000,
        ..Default::default()
    };
    let mut steps = operator(&third).verify_key_ring(verify).await.unwrap().into_inner();
    let (mut opened, mut failed) = (0, 0);
    while let Some(step) = steps.message().await.unwrap() {
        (opened, failed) = (step.private_keys + step.service_keys, step.fault_count);
    }
    let stored = "select (select count(*) from private_key) + (select count(*) from service_key)";
    assert_eq!((opened, failed), (sql.query_one(stored, &[]).await.unwrap().get(0), 0));
    let retire = pb::RetireKeyEncryptionKeyRequest {
        key_encryption_key_id: text.lines().last().unwrap().split(' ').next().unwrap().to_owned(),
    };
    // It waits for all transactions of the server, and those of other tests can be long.
    let mut retired = operator(&third).retire_key_encryption_key(retire.clone()).await;
    for _ in 0..12 {
        if retired
            .as_ref()
            .is_err_and(|status| status.code() == tonic::Code::Aborted)
        {
            retired = operator(&third).retire_key_encryption_key(retire.clone()).await;
        }
    }
    retired.unwrap();

    // The ring without the old key.
    write_ring(&ring, &line(7));
    let fourth = replicas.start();
    calls::upload(&fourth.client_with_key(&replicas.admin_key), upload_of(&pair))
        .await
        .unwrap();
    for outcome in &outcomes {
        outcome.refused_only_as(&[""]);
        outcome
            .is_whole(fourth.client_with_key(&replicas.admin_key), &replicas.database)
            .await;
    }
    let acknowledged: usize = outcomes.iter().map(|outcome| outcome.acknowledged.len()).sum();
    figure("data keys rewrapped and verified", opened);
    figure("replicas killed", 2);
    figure("uploads acknowledged, none lost", acknowledged);
    until(async || {
        sql.query_one(
            "select count(*) = 1 from key_encryption_key where state = 'sealing'",
            &[],
        )
        .await
        .unwrap()
        .get(0)
    })
    .await;
}
