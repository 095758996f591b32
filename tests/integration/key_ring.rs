//! The key ring: its states in the database, and its file, which is read again when it changes.

use std::path::Path;
use std::time::Duration;

use certkeep::grpc::pb;
use certkeep::grpc::pb::operator_service_client::OperatorServiceClient;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::access_keys;
use crate::bad_input::reason;
use crate::calls;
use crate::harness::{Account, Bearer, TestServer, bearer, temp_dir, until, upload_of};
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
    let first = crate::harness::key_ring(&ring).await.first_id().to_string();
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

    // A value that changes after the replica has compared it: the key does not count as in the ring of the replica.
    let sql = server.sql().await;
    let change = "update key_encryption_key set check_value = sha256('x') where state = 'prepared'";
    assert_eq!(sql.execute(change, &[]).await.unwrap(), 1);
    let most = "select max(array_length(key_encryption_key_ids, 1)) from replica";
    until(async || sql.query_one(most, &[]).await.unwrap().get::<_, i32>(0) == 1).await;

    replica.stop().await;
    let count = "select count(*) from replica";
    assert_eq!(
        server.sql().await.query_one(count, &[]).await.unwrap().get::<_, i64>(0),
        1
    );
    server.stop().await;
}
type Operator = OperatorServiceClient<InterceptedService<Channel, Bearer>>;

/// A client with an operator's access key.
pub async fn operator(server: &TestServer) -> Operator {
    let key = server.add_key("operator", Account::Operators).await;
    OperatorServiceClient::with_interceptor(server.channel(), bearer(&key))
}

async fn described(operator: &Operator) -> pb::DescribeKeyRingResponse {
    let answer = operator.clone().describe_key_ring(pb::DescribeKeyRingRequest {}).await;
    answer.unwrap().into_inner()
}

async fn rotate(operator: &Operator, key: &str) -> Result<pb::KeyRotation, Status> {
    let request = pb::RotateKeyRingRequest {
        key_encryption_key_id: key.to_owned(),
    };
    let answer = operator.clone().rotate_key_ring(request).await?;
    Ok(answer.into_inner().rotation.unwrap())
}

async fn retire(operator: &Operator, key: &str) -> Result<(), Status> {
    let request = pb::RetireKeyEncryptionKeyRequest {
        key_encryption_key_id: key.to_owned(),
    };
    operator.clone().retire_key_encryption_key(request).await.map(|_| ())
}

/// The last message, and the faults of all messages.
async fn verify(operator: &Operator) -> (pb::VerifyKeyRingResponse, Vec<pb::VerificationFault>) {
    let request = pb::VerifyKeyRingRequest::default();
    let mut steps = operator.clone().verify_key_ring(request).await.unwrap().into_inner();
    let (mut last, mut faults) = (None, Vec::new());
    while let Some(mut step) = steps.message().await.unwrap() {
        faults.append(&mut step.faults);
        last = Some(step);
    }
    (last.unwrap(), faults)
}

/// The rotation after its end.
async fn rotated(operator: &Operator) -> pb::KeyRotation {
    let ended = async || described(operator).await.rotation.unwrap().end_time.is_some();
    until(ended).await;
    described(operator).await.rotation.unwrap()
}

/// The ids of the keys that sealed something, with the number of values.
async fn sealed_by(server: &TestServer) -> Vec<(String, i64)> {
    let count = "select encode(substring(sealed from 2 for 8), 'hex') as id, count(*) from
                   (select sealed from private_key union all select sealed from service_key
                    union all select sealed from access_key where sealed is not null) as sealed group by id order by id";
    let rows = server.sql().await.query(count, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A server with 450 certificates, and the ids of the key that seals and of a prepared key.
async fn server_with_two_keys() -> (TestServer, String, String) {
    let server = TestServer::start().await;
    let ring = server.key_ring_file();
    let first = crate::harness::key_ring(&ring).await.first_id().to_string();
    upload(&server).await;
    let old = std::fs::read_to_string(&ring).unwrap();
    write_ring(&ring, &format!("{old}{}", line(7)));
    until(async || states(&server).await.len() == 2).await;
    (server, first, hex::encode([7; 8]))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_earlier_versions_and_of_signing_access_keys_are_rewrapped_and_open() {
    let (server, _, new) = server_with_two_keys().await;
    let can_sign = pb::CreateAccessKeyRequest {
        can_sign: true,
        ..access_keys::of_role(pb::Role::Editor)
    };
    access_keys::created(&access_keys::first_admin(&server), can_sign).await;
    let (operator, client) = (operator(&server).await, server.client());
    let [first, second] = [Key::P256, Key::P384].map(|key| pki::self_signed(key, "a.example"));
    let id = calls::stored(&client, &upload_of(&first)).await;
    calls::renew(&client, calls::renewal_of(&id, &second)).await.unwrap();
    calls::roll_back(&client, &id, 1, "").await.unwrap();
    calls::renew(&client, calls::renewal_of(&id, &second)).await.unwrap();
    rotate(&operator, &new).await.unwrap();
    assert_eq!(rotated(&operator).await.failed, 0);
    // Three service keys, a signing key, another certificate, and three pairs: version 3 has the key of version 1.
    assert_eq!(sealed_by(&server).await, [(new, 8)]);
    let (last, faults) = verify(&operator).await;
    // The present versions, and versions 1 to 3 of the second certificate.
    assert_eq!(
        (
            last.service_keys,
            last.access_keys,
            last.server_certificates,
            last.earlier_versions
        ),
        (3, 1, 2, 3)
    );
    assert_eq!((last.private_keys, last.fault_count, faults.len()), (5, 0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_rewraps_every_data_key_and_then_the_old_key_can_be_retired_and_removed() {
    let (server, first, new) = server_with_two_keys().await;
    let operator = operator(&server).await;
    // More than two steps.
    let pair = pki::self_signed(Key::P256, "a.example");
    let client = server.client();
    for _ in 0..5 {
        let uploads = (0..90).map(|_| {
            let (client, request) = (client.clone(), upload_of(&pair));
            async move { calls::upload(&client, request).await.map(|_| ()) }
        });
        for uploaded in uploads.collect::<JoinSet<_>>().join_all().await {
            uploaded.unwrap();
        }
    }
    let payloads = "select key_id::text, substring(sealed from 70) from private_key order by key_id";
    let payloads = async || {
        let rows = server.sql().await.query(payloads, &[]).await.unwrap();
        let payload = |row: &tokio_postgres::Row| (row.get::<_, String>(0), row.get::<_, Vec<u8>>(1));
        rows.iter().map(payload).collect::<Vec<_>>()
    };
    let before = payloads().await;
    assert_eq!(before.len(), 451);
    assert_eq!(sealed_by(&server).await, [(first.clone(), 454)]);

    let begun = rotate(&operator, &new).await.unwrap();
    assert_eq!((begun.key_encryption_key_id.as_str(), begun.total), (new.as_str(), 454));
    let ended = rotated(&operator).await;
    assert_eq!((ended.passed, ended.failed, ended.idle_seconds), (454, 0, 0));
    assert_eq!(sealed_by(&server).await, [(new.clone(), 454)]);
    assert_eq!(payloads().await, before, "a rotation changes no payload");
    assert_eq!(
        states(&server).await,
        [state(&new, "sealing"), state(&first, "opening")]
    );
    upload(&server).await;
    assert_eq!(sealed_by(&server).await, [(new.clone(), 455)]);
    let (last, faults) = verify(&operator).await;
    assert_eq!(
        (
            last.service_keys + last.private_keys,
            last.fault_count,
            last.resume_token.as_str(),
            faults.len()
        ),
        (455, 0, "", 0)
    );

    let refused = retire(&operator, &new).await.unwrap_err();
    assert_eq!(reason(&refused), "KEY_ENCRYPTION_KEY_IN_USE");
    retire(&operator, &first).await.unwrap();
    retire(&operator, &first).await.unwrap();
    assert_eq!(
        states(&server).await,
        [state(&new, "sealing"), state(&first, "retired")]
    );
    let refused = rotate(&operator, &first).await.unwrap_err();
    assert_eq!(reason(&refused), "KEY_ENCRYPTION_KEY_NOT_FOUND");
    let sql = server.sql().await;
    let forged =
        "insert into service_key (purpose, sealed) values ('forged', '\\x01'::bytea || decode($1, 'hex') || '\\x00')";
    let refused = sql.execute(forged, &[&first]).await.unwrap_err();
    assert_eq!(
        refused.as_db_error().unwrap().message(),
        "sealed by a retired key-encryption key"
    );

    // The rings may lack a retired key.
    write_ring(&server.key_ring_file(), &line(7));
    let has_one = "select bool_and(array_length(key_encryption_key_ids, 1) = 1) from replica";
    until(async || sql.query_one(has_one, &[]).await.unwrap().get(0)).await;
    upload(&server).await;
    let replica = server.replica(|_| {}).await;
    upload(&replica).await;
    replica.stop().await;

    let audited =
        "select method, principal, resource_id, detail::text from audit_event where account_id = 0 order by position";
    let rows = sql.query(audited, &[]).await.unwrap();
    let rows: Vec<(String, String, String, String)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let row = |method: &str, id: &str, detail: String| (method.to_owned(), rows[0].1.clone(), id.to_owned(), detail);
    assert!(rows[0].1.starts_with("ck"));
    assert_eq!(
        rows,
        [
            row(
                "RotateKeyRing",
                &new,
                format!("{{\"sealing\": [\"{first}\", \"{new}\"]}}")
            ),
            row(
                "RetireKeyEncryptionKey",
                &first,
                "{\"state\": [\"opening\", \"retired\"]}".to_owned()
            ),
        ]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_refused_while_a_replica_lacks_the_key_and_continues_when_it_is_repeated() {
    let (server, first, new) = server_with_two_keys().await;
    let operator = operator(&server).await;
    for (key, expected) in [
        ("", "FIELD_INVALID"),
        ("12", "FIELD_INVALID"),
        ("0707070707070707 ", "FIELD_INVALID"),
        ("0808080808080808", "KEY_ENCRYPTION_KEY_NOT_FOUND"),
    ] {
        assert_eq!(reason(&rotate(&operator, key).await.unwrap_err()), expected, "{key}");
        assert_eq!(reason(&retire(&operator, key).await.unwrap_err()), expected, "{key}");
    }

    // A replica with the old file.
    let dir = temp_dir();
    let ring = dir.path().join("key-ring");
    let text = std::fs::read_to_string(server.key_ring_file()).unwrap();
    write_ring(&ring, &text.replace(&line(7), ""));
    let other_ring = ring.clone();
    let replica = server.replica(|config| config.database.key_ring = other_ring).await;
    let refused = rotate(&operator, &new).await.unwrap_err();
    assert_eq!(reason(&refused), "KEY_ENCRYPTION_KEY_NOT_ON_ALL_REPLICAS");
    let replicas = described(&operator).await.replicas;
    assert_eq!(replicas.len(), 2);
    let lacking = replicas
        .iter()
        .find(|replica| replica.key_encryption_key_ids == [first.clone()])
        .unwrap();
    let named = format!("{} ({})", lacking.host, lacking.replica_id);
    assert!(refused.message().contains(&named), "{}", refused.message());
    assert_eq!(
        states(&server).await,
        [state(&first, "sealing"), state(&new, "prepared")]
    );

    // A rotation waits until each replica seals with the new key. The other one learns it with its next heartbeat.
    write_ring(&ring, &text);
    until(async || {
        described(&operator)
            .await
            .replicas
            .iter()
            .all(|replica| replica.key_encryption_key_ids.len() == 2)
    })
    .await;
    rotate(&operator, &new).await.unwrap();
    assert_eq!(described(&operator).await.rotation.unwrap().passed, 0);
    let refused = rotate(&operator, &first).await.unwrap_err();
    assert_eq!(reason(&refused), "KEY_RING_ROTATION_IN_PROGRESS");
    assert_eq!(rotate(&operator, &new).await.unwrap().end_time, None);
    let refused = retire(&operator, &first).await.unwrap_err();
    assert_eq!(reason(&refused), "KEY_ENCRYPTION_KEY_IN_USE");
    upload(&replica).await;
    assert_eq!(rotated(&operator).await.failed, 0);
    assert_eq!(sealed_by(&server).await, [(new.clone(), 5)]);
    upload(&replica).await;
    assert_eq!(sealed_by(&server).await, [(new.clone(), 6)]);

    // A key that seals again.
    rotate(&operator, &first).await.unwrap();
    rotated(&operator).await;
    assert_eq!(
        states(&server).await,
        [state(&first, "sealing"), state(&new, "opening")]
    );
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_open_is_reported_and_keeps_its_key_from_being_retired() {
    let (server, first, new) = server_with_two_keys().await;
    let operator = operator(&server).await;
    upload(&server).await;
    // The last octet of the wrap of one key.
    let damage = "update private_key set sealed = set_byte(sealed, 68, get_byte(sealed, 68) # 1)
                  where key_id = (select min(key_id::text)::uuid from private_key)
                  returning account_id, created_ms, random, key_id::text";
    let row = server.sql().await.query_one(damage, &[]).await.unwrap();
    let id = crate::harness::stored_id(row.get(0), row.get(1), row.get(2));
    let name = format!("private_key/{id}/{}", row.get::<_, String>(3));
    let (last, faults) = verify(&operator).await;
    assert_eq!((last.service_keys + last.private_keys, last.fault_count), (4, 1));
    assert_eq!(
        (faults[0].certificate_id.clone(), faults[0].cause()),
        (id.to_string(), pb::VerificationCause::SealedValueUnreadable)
    );

    rotate(&operator, &new).await.unwrap();
    let ended = rotated(&operator).await;
    assert_eq!((ended.passed, ended.failed, ended.failed_rows), (5, 1, vec![name]));
    assert_eq!(sealed_by(&server).await, {
        let mut expected = vec![(first.clone(), 1), (new.clone(), 4)];
        expected.sort();
        expected
    });
    let refused = retire(&operator, &first).await.unwrap_err();
    assert_eq!(reason(&refused), "KEY_ENCRYPTION_KEY_IN_USE");
    // The refusal leaves no trace: nothing is closed.
    let closed = "select count(*) from key_encryption_key where closed_at is not null";
    assert_eq!(
        server
            .sql()
            .await
            .query_one(closed, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        0
    );

    // Repaired, and rotated again.
    let repair = damage.replace(
        "where key_id = (select min(key_id::text)::uuid from private_key)",
        "where key_id = $1::text::uuid",
    );
    server
        .sql()
        .await
        .query_one(&repair, &[&row.get::<_, String>(3)])
        .await
        .unwrap();
    rotate(&operator, &new).await.unwrap();
    let ended = rotated(&operator).await;
    assert_eq!((ended.passed, ended.failed), (5, 0));
    retire(&operator, &first).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_keeps_its_rate_and_continues_from_a_token() {
    let (server, _, _) = server_with_two_keys().await;
    let operator = operator(&server).await;
    upload(&server).await;
    let request = pb::VerifyKeyRingRequest {
        rate: 2,
        ..Default::default()
    };
    let began = std::time::Instant::now();
    let mut steps = operator.clone().verify_key_ring(request).await.unwrap().into_inner();
    let first = steps.message().await.unwrap().unwrap();
    // Two of the three service keys.
    assert_eq!((first.service_keys, first.fault_count), (2, 0));
    steps.message().await.unwrap().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900));
    let request = pb::VerifyKeyRingRequest {
        resume_token: first.resume_token,
        ..Default::default()
    };
    let mut steps = operator.clone().verify_key_ring(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(step) = steps.message().await.unwrap() {
        last = Some(step);
    }
    let last = last.unwrap();
    assert_eq!((last.service_keys, last.private_keys, last.fault_count), (1, 2, 0));

    for (rate, token, expected) in [
        (-1, "", "FIELD_INVALID"),
        (1_000_001, "", "FIELD_INVALID"),
        (0, "nonsense", "RESUME_TOKEN_INVALID"),
    ] {
        let request = pb::VerifyKeyRingRequest {
            rate,
            resume_token: token.to_owned(),
        };
        let refused = operator.clone().verify_key_ring(request).await.unwrap_err();
        assert_eq!(reason(&refused), expected);
    }
    server.stop().await;
}
