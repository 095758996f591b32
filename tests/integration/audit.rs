//! The audit trail: its events, denials, stream, verification, database roles and retention.

use std::time::Duration;

use certkeep::config::DatabaseSource;
use certkeep::grpc::pb::admin_service_client::AdminServiceClient;
use certkeep::grpc::pb::{self, AuditOutcome, AuditResourceType, AuditTrail, AuditTrailFault};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::bad_input::reason;
use crate::calls::{self, ANY, tags};
use crate::harness::{Account, Bearer, REGION, TestServer, bearer, connect_to, until, upload_of};
use crate::pki::{self, Key};
use crate::process::{certkeep, stderr, stdout};

type Admin = AdminServiceClient<InterceptedService<Channel, Bearer>>;

fn admin(server: &TestServer) -> Admin {
    admin_with(server, server.admin_key())
}

fn admin_with(server: &TestServer, key: &str) -> Admin {
    AdminServiceClient::with_interceptor(server.channel(), bearer(key))
}

/// The result of a verification.
async fn verify(server: &TestServer, heads: &[&str]) -> pb::VerifyAuditTrailResponse {
    let request = pb::VerifyAuditTrailRequest {
        heads: heads.iter().map(|head| (*head).to_owned()).collect(),
    };
    let mut stream = admin(server).verify_audit_trail(request).await.unwrap().into_inner();
    loop {
        let message = stream.message().await.unwrap().unwrap();
        if message.complete {
            return message;
        }
    }
}

/// Waits until every event has a seal. Returns the state of the trail of certificates.
async fn sealed(server: &TestServer) -> pb::AuditTrailState {
    until(async || {
        let verified = verify(server, &[]).await;
        verified
            .trails
            .iter()
            .all(|trail| trail.broken_position == 0 && trail.sealed_position == trail.last_position)
    })
    .await;
    verify(server, &[]).await.trails.remove(0)
}

async fn list(server: &TestServer, request: pb::ListAuditEventsRequest) -> Vec<pb::AuditEvent> {
    let answer = admin(server).list_audit_events(request).await.unwrap().into_inner();
    assert_eq!(answer.next_page_token, "");
    answer.audit_events
}

fn fault(trail: &pb::AuditTrailState) -> (i64, AuditTrailFault) {
    (trail.broken_position, trail.fault())
}

/// `certkeep audit`, with its exit code.
fn command(server: &TestServer, args: &[&str]) -> (Option<i32>, String) {
    let endpoint = server.endpoint();
    let key_file = server.admin_key_file();
    let connection = ["--endpoint", &endpoint, "--access-key-file", key_file.to_str().unwrap()];
    let output = certkeep(&[&["audit"], args, &connection].concat());
    (output.status.code(), stdout(&output) + &stderr(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_has_an_event_with_its_author_and_the_values_before_and_after() {
    let server = TestServer::start().await;
    let client = server.client();
    let request = pb::UploadServerCertificateRequest {
        server_certificate_name: "old".into(),
        tags: tags(&[("env", "prod")]),
        ..upload_of(&pki::self_signed(Key::P256, "a.example"))
    };
    let uploaded = client
        .clone()
        .upload_server_certificate(request)
        .await
        .unwrap()
        .into_inner();
    let id = uploaded.server_certificate_id;
    calls::rename(&client, &id, "new", ANY).await.unwrap();
    let untag = pb::UntagResourcesRequest {
        region_id: REGION.into(),
        resource_type: "certificate".into(),
        resource_ids: vec![id.clone()],
        all: true,
        ..Default::default()
    };
    client.clone().untag_resources(untag).await.unwrap();
    let group = crate::resource_groups::made(&server, "group").await;
    crate::resource_groups::move_to(&client, &id, &group).await.unwrap();
    calls::delete(&client, &id, ANY).await.unwrap();
    let rename = pb::UpdateResourceGroupRequest {
        resource_group_id: group.clone(),
        name: "shop".into(),
    };
    let renamed = admin(&server).update_resource_group(rename).await.unwrap().into_inner();

    let principal = server.admin_key().split_once('.').unwrap().0;
    let of_id = pb::ListAuditEventsRequest {
        resource_id: id.clone(),
        ..Default::default()
    };
    let events = list(&server, of_id.clone()).await;
    for (event, position) in events.iter().zip((1..=5).rev()) {
        assert_eq!((event.position, event.trail()), (position, AuditTrail::Certificates));
        assert_eq!(
            (event.principal.as_str(), event.address.as_str()),
            (principal, "127.0.0.1")
        );
        assert_eq!(
            (event.resource_id.as_str(), event.version, event.count),
            (id.as_str(), 1, 1)
        );
        assert_eq!(event.resource_type(), AuditResourceType::ServerCertificate);
        assert_eq!(event.outcome(), AuditOutcome::Done);
    }
    assert_eq!(events[4].request_id, uploaded.request_id);
    let text = |event: &pb::AuditEvent| {
        let change = |change: &pb::AuditChange| {
            let kind = |value: &Option<prost_types::Value>| match value.clone().and_then(|value| value.kind) {
                Some(prost_types::value::Kind::StringValue(text)) => text,
                Some(prost_types::value::Kind::StructValue(object)) => format!("{} tags", object.fields.len()),
                other => format!("{other:?}"),
            };
            format!(" {} {} {}", change.field, kind(&change.before), kind(&change.after))
        };
        event.method.clone() + &event.changes.iter().map(change).collect::<String>()
    };
    let account = id.split('_').next().unwrap();
    assert_eq!(
        events.iter().map(text).collect::<Vec<_>>(),
        [
            "DeleteServerCertificate".to_owned(),
            format!("MoveResourceGroup resource_group_id rg-{account} {group}"),
            "UntagResources tags 1 tags 0 tags".to_owned(),
            "SetServerCertificateName name old new".to_owned(),
            "UploadServerCertificate".to_owned(),
        ]
    );
    let of_group = pb::ListAuditEventsRequest {
        methods: vec!["UpdateResourceGroup".into()],
        ..Default::default()
    };
    let [event] = list(&server, of_group).await.try_into().unwrap();
    assert_eq!(
        (event.trail(), event.resource_type()),
        (AuditTrail::Access, AuditResourceType::ResourceGroup)
    );
    assert_eq!(
        (event.resource_id.as_str(), event.request_id.as_str()),
        (group.as_str(), renamed.request_id.as_str())
    );
    assert_eq!(text(&event), "UpdateResourceGroup name group shop");

    // The newest event comes first, and pages continue where the previous page ended.
    let whole = list(&server, pb::ListAuditEventsRequest::default()).await;
    let mut paged = Vec::new();
    let mut page = pb::ListAuditEventsRequest {
        page_size: 2,
        ..Default::default()
    };
    loop {
        let answer = admin(&server)
            .list_audit_events(page.clone())
            .await
            .unwrap()
            .into_inner();
        paged.extend(answer.audit_events);
        page.page_token = answer.next_page_token;
        if page.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, whole);
    assert!(whole.len() >= 6);
    let times: Vec<_> = whole
        .iter()
        .map(|event| event.event_time.unwrap())
        .map(|time| (time.seconds, time.nanos))
        .collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older));
    // Filters by time and by outcome.
    let upload_time = events[4].event_time;
    let before = pb::ListAuditEventsRequest {
        event_time_before: upload_time.map(|time| prost_types::Timestamp { nanos: 0, ..time }),
        ..of_id.clone()
    };
    assert_eq!(list(&server, before).await, []);
    let denied = pb::ListAuditEventsRequest {
        outcomes: vec![AuditOutcome::Denied.into()],
        ..of_id.clone()
    };
    assert_eq!(list(&server, denied).await, []);
    let wrong = pb::ListAuditEventsRequest {
        outcomes: vec![9],
        page_token: "x".into(),
        ..of_id
    };
    let refused = admin(&server).list_audit_events(wrong).await.unwrap_err();
    assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");

    let (code, printed) = command(&server, &["--resource", &id, "--method", "SetServerCertificateName"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("SetServerCertificateName  done") && printed.contains("name: \"old\" -> \"new\""),
        "{printed}"
    );
    let (_, lines) = command(&server, &["--output", "jsonl"]);
    assert_eq!(lines.lines().count(), whole.len(), "{lines}");
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["method"], whole[0].method);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_that_was_changed_or_truncated_is_found() {
    let server = TestServer::start().await;
    let (client, sql) = (server.client(), server.sql().await);
    let pair = pki::self_signed(Key::P256, "a.example");
    for _ in 0..3 {
        calls::stored(&client, &upload_of(&pair)).await;
        sealed(&server).await;
    }
    let whole = sealed(&server).await;
    assert_eq!(
        (whole.first_position, whole.last_position, whole.head.len()),
        (1, 3, 64)
    );
    assert_eq!(command(&server, &["verify", "--head", &whole.head]).0, Some(0));

    // The role that serves cannot do what an attacker with more rights does.
    for statement in [
        "update event set principal = 'nobody' where position = 2",
        "delete from event where position = 2",
        "truncate audit_event",
        "delete from audit_seal",
    ] {
        let refused = sql.batch_execute(statement).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{statement}");
    }
    sql.batch_execute("grant update, delete on event, audit_event, audit_seal to certkeep")
        .await
        .unwrap();

    let changed = "update event set principal = principal || 'x' where position = 2";
    sql.batch_execute(changed).await.unwrap();
    assert_eq!(
        fault(&verify(&server, &[]).await.trails[0]),
        (2, AuditTrailFault::EventChanged)
    );
    let (code, printed) = command(&server, &["verify"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("broken: event 2"), "{printed}");
    sql.batch_execute("update event set principal = left(principal, -1) where position = 2")
        .await
        .unwrap();
    assert_eq!(
        fault(&verify(&server, &[]).await.trails[0]),
        (0, AuditTrailFault::Unspecified)
    );

    sql.batch_execute(
        "create table kept as select * from audit_seal where name = 'certificates' and last_position = 2",
    )
    .await
    .unwrap();
    let delete_seal = "delete from audit_seal where name = 'certificates' and last_position = 2";
    sql.batch_execute(delete_seal).await.unwrap();
    assert_eq!(
        fault(&verify(&server, &[]).await.trails[0]),
        (2, AuditTrailFault::SealMissing)
    );
    sql.batch_execute("insert into audit_seal select * from kept")
        .await
        .unwrap();

    // Nobody but certkeep can say that events were purged.
    sql.batch_execute(
        "create table gone as select * from event where position = 1; delete from event where position = 1;
         update stream set purged = 1, purge_mac = sha256('x') where name = 'certificates'",
    )
    .await
    .unwrap();
    assert_eq!(
        fault(&verify(&server, &[]).await.trails[0]),
        (1, AuditTrailFault::EventMissing)
    );
    sql.batch_execute(
        "insert into event select * from gone; update stream set purged = 0, purge_mac = null where name = 'certificates'",
    )
    .await
    .unwrap();
    assert_eq!(
        fault(&verify(&server, &[]).await.trails[0]),
        (0, AuditTrailFault::Unspecified)
    );

    // The end of the trail is cut off so well that only a head from the log shows it.
    sql.batch_execute(
        "delete from event where position = 3; delete from audit_seal where name = 'certificates' and last_position = 3;
         update stream set position = 2 where name = 'certificates'",
    )
    .await
    .unwrap();
    let cut = verify(&server, &[]).await;
    assert_eq!(fault(&cut.trails[0]), (0, AuditTrailFault::Unspecified));
    assert_eq!(
        verify(&server, &[&whole.head]).await.missing_heads,
        std::slice::from_ref(&whole.head)
    );
    let (code, printed) = command(&server, &["verify", "--head", &whole.head]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains(&format!("missing head  {}", whole.head)), "{printed}");
    // A removed event is missing also before it would have been sealed.
    sql.batch_execute("delete from event where position = 1").await.unwrap();
    assert_eq!(
        fault(&verify(&server, &[]).await.trails[0]),
        (1, AuditTrailFault::EventMissing)
    );

    let request = pb::VerifyAuditTrailRequest {
        heads: vec!["x".into()],
    };
    let refused = admin(&server).verify_audit_trail(request).await.unwrap_err();
    assert_eq!(reason(&refused), "FIELD_INVALID");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_of_known_callers_are_recorded_and_cannot_fill_the_disk() {
    let server = TestServer::start().await;
    let (reader, disabled) = (
        server.add_key("reader", Account::First).await,
        server.add_key("reader", Account::First).await,
    );
    let sql = server.sql().await;
    let id_of = |key: &str| key.split_once('.').unwrap().0.to_owned();
    sql.execute(
        "update access_key set disabled = true where access_key_id = $1",
        &[&id_of(&disabled)],
    )
    .await
    .unwrap();
    let pair = pki::self_signed(Key::P256, "a.example");
    for _ in 0..15 {
        let refused = calls::upload(&server.client_with(Some(&format!("Bearer {reader}"))), upload_of(&pair)).await;
        assert_eq!(reason(&refused.unwrap_err()), "PERMISSION_DENIED");
    }
    for key in [&disabled, &format!("{}.{}", id_of(&disabled), "x".repeat(43))] {
        let describe = pb::DescribeRegionsRequest::default();
        let client = server.client_with(Some(&format!("Bearer {key}")));
        client.clone().describe_regions(describe).await.unwrap_err();
    }
    // A caller with a scope has no access to the audit trail.
    let scoped = server.add_key("admin", Account::First).await;
    sql.execute(
        "update access_key set scope_name_prefixes = array['a'] where access_key_id = $1",
        &[&id_of(&scoped)],
    )
    .await
    .unwrap();
    let request = pb::ListAuditEventsRequest::default();
    let refused = admin_with(&server, &scoped)
        .list_audit_events(request)
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "OUT_OF_SCOPE");
    // The stop writes the rest.
    server.stop().await;

    let rows = sql
        .query(
            "select principal, method, reason, host(address), count(*), sum(count)::bigint from audit_event where outcome = 'denied'
             group by 1, 2, 3, 4 order by reason",
            &[],
        )
        .await
        .unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let texts: [String; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
            (texts.join(" "), row.get::<_, i64>(4), row.get::<_, i64>(5))
        })
        .collect();
    assert_eq!(
        rows,
        [
            (
                format!("{} DescribeRegions ACCESS_KEY_DISABLED 127.0.0.1", id_of(&disabled)),
                1,
                1
            ),
            (
                format!("{} ListAuditEvents OUT_OF_SCOPE 127.0.0.1", id_of(&scoped)),
                1,
                1
            ),
            (
                format!("{} UploadServerCertificate PERMISSION_DENIED 127.0.0.1", id_of(&reader)),
                11,
                15
            ),
        ]
    );
}

/// Reads the stream until this many events arrived, or until it ends. Each event must follow the one before in its trail.
async fn read(
    stream: &mut tonic::Streaming<pb::TailAuditEventsResponse>,
    seen: &mut Vec<i64>,
    token: &mut String,
    count: usize,
) {
    while seen.len() < count {
        let message = tokio::time::timeout(Duration::from_secs(20), stream.message())
            .await
            .unwrap();
        let Some(message) = message.unwrap() else { return };
        *token = message.resume_token;
        if let Some(event) = message
            .audit_event
            .filter(|event| event.trail() == AuditTrail::Certificates)
        {
            assert_eq!(event.position, seen.last().copied().unwrap_or_default() + 1);
            seen.push(event.position);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_continues_after_a_restart_without_a_gap_under_concurrent_uploads() {
    const UPLOADS: usize = 120;
    let server = TestServer::start().await;
    let pair = pki::self_signed(Key::P256, "a.example");
    let uploads: Vec<_> = (0..4)
        .map(|_| {
            let (client, pair) = (server.client(), pair.clone());
            tokio::spawn(async move {
                for _ in 0..UPLOADS / 4 {
                    calls::stored(&client, &upload_of(&pair)).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        })
        .collect();
    let (mut seen, mut token) = (Vec::new(), String::new());
    for part in 1..=3 {
        let replica = server.replica(|_| {}).await;
        let mut client = admin_with(&replica, server.admin_key());
        let request = pb::TailAuditEventsRequest {
            resume_token: token.clone(),
        };
        let mut stream = client.tail_audit_events(request).await.unwrap().into_inner();
        read(&mut stream, &mut seen, &mut token, UPLOADS * part / 3).await;
        // The drain ends the stream with a token and without an error.
        let stopping = tokio::spawn(replica.stop());
        read(&mut stream, &mut seen, &mut token, usize::MAX).await;
        stopping.await.unwrap();
    }
    for upload in uploads {
        upload.await.unwrap();
    }
    assert_eq!(seen.len(), UPLOADS);

    let mut client = admin(&server);
    let mut tail = async |resume_token: &str| {
        let request = pb::TailAuditEventsRequest {
            resume_token: resume_token.to_owned(),
        };
        client.tail_audit_events(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(reason(&tail("x").await.unwrap_err()), "RESUME_TOKEN_INVALID");
    // The database lost its last events, and has another one in their place.
    let sql = server.sql().await;
    sql.batch_execute("grant delete, update on event to certkeep; update event set request_id = gen_random_uuid() where position = 120")
        .await
        .unwrap();
    calls::stored(&server.client(), &upload_of(&pair)).await;
    assert_eq!(reason(&tail(&token).await.unwrap_err()), "RESUME_TOKEN_EXPIRED");

    // The stream of a key ends when the key is disabled.
    let key = server.add_key("admin", Account::First).await;
    let mut client = admin_with(&server, &key);
    let mut stream = client
        .tail_audit_events(pb::TailAuditEventsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let id = key.split_once('.').unwrap().0;
    sql.execute("update access_key set disabled = true where access_key_id = $1", &[&id])
        .await
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Err(status) = stream.message().await {
                return status;
            }
        }
    });
    assert_eq!(reason(&ended.await.unwrap()), "ACCESS_KEY_DISABLED");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_roles_old_events_are_purged_and_the_role_that_serves_cannot_change_any() {
    let (database, owner) = crate::harness::database_with_two_roles().await;
    let source = DatabaseSource::Url {
        url: database.clone(),
        owner_url: Some(owner.clone()),
        danger_unverified_database: false,
    };
    let server = TestServer::start_on(database.clone(), |config| config.database.source = source.clone()).await;
    let pair = pki::self_signed(Key::P256, "a.example");
    let mut client = admin(&server);
    let mut first_token = String::new();
    for number in 0..5 {
        calls::stored(&server.client(), &upload_of(&pair)).await;
        sealed(&server).await;
        if number == 0 {
            let mut stream = client
                .tail_audit_events(pb::TailAuditEventsRequest::default())
                .await
                .unwrap()
                .into_inner();
            first_token = stream.message().await.unwrap().unwrap().resume_token;
        }
    }
    let serving = connect_to(&database).await;
    for statement in [
        "update event set principal = ''",
        "delete from audit_event",
        "truncate audit_seal",
        "drop table event",
        "grant update on event to certkeep",
        "create table own (id int)",
        "delete from schema_migration",
    ] {
        let refused = serving.batch_execute(statement).await;
        // Postgres only warns about a grant that has no effect.
        let is_refused = refused.is_err() || statement.starts_with("grant");
        assert!(is_refused, "{statement}");
    }
    let can_change = "select has_table_privilege('event', 'update, delete, truncate')";
    assert!(!serving.query_one(can_change, &[]).await.unwrap().get::<_, bool>(0));

    let purging = server
        .replica(|config| {
            config.database.source = source.clone();
            config.audit_retention = Some(Duration::from_secs(1));
            config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
        })
        .await;
    let metrics = crate::operation::http(purging.metrics_address(), "/metrics").1;
    assert_eq!(crate::operation::metric(&metrics, "certkeep_audit_purge_enabled"), 1.0);
    let kept =
        "select purged, (select count(*) from event), (select count(*) from audit_seal where name = 'certificates')
                from stream where name = 'certificates'";
    until(async || serving.query_one(kept, &[]).await.unwrap().get::<_, i64>(0) > 0).await;
    let row = serving.query_one(kept, &[]).await.unwrap();
    let (purged, events, seals): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert!(
        (1..5).contains(&purged) && events == 5 - purged && seals == 6 - purged,
        "{purged} {events} {seals}"
    );
    // What is left is whole, and what was purged is known to be purged.
    let state = verify(&server, &[]).await.trails.remove(0);
    assert_eq!(
        (fault(&state), state.first_position),
        ((0, AuditTrailFault::Unspecified), purged + 1)
    );
    if purged > 1 {
        let request = pb::TailAuditEventsRequest {
            resume_token: first_token,
        };
        let refused = client.tail_audit_events(request).await.unwrap_err();
        assert_eq!(reason(&refused), "RESUME_TOKEN_EXPIRED");
    }
    purging.stop().await;
    server.stop().await;

    // One role for both is refused.
    let mut wrong = certkeep::store::Settings {
        connection_string: database.clone(),
        owner_connection_string: Some(database),
        danger_unverified_database: false,
        max_connections: 1,
        timeline_file: None,
    };
    let migrated = certkeep::store::Store::new(&wrong).unwrap().migrate().await;
    assert!(
        matches!(migrated, Err(certkeep::store::MigrateError::SameRole(_))),
        "{migrated:?}"
    );
    // The tables of this database belong to the role that serves.
    wrong.connection_string = crate::harness::database().await;
    wrong.owner_connection_string = Some(
        wrong
            .connection_string
            .replace("user=certkeep ", "user=certkeep_owner "),
    );
    let migrated = certkeep::store::Store::new(&wrong).unwrap().migrate().await;
    assert!(
        matches!(migrated, Err(certkeep::store::MigrateError::NotTheOwner { .. })),
        "{migrated:?}"
    );
}
