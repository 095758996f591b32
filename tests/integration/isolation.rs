//! No statement reads or changes rows of another account.
//!
//! Account B gets a copy of every row of account A: the same ids, names, fingerprints and tokens, only another account. B then makes calls
//! that run every statement of the store. A statement that forgets the account would answer rows twice, or change A's rows.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use certkeep::grpc::pb::admin_service_client::AdminServiceClient;
use certkeep::grpc::pb::delivery_service_client::DeliveryServiceClient;
use certkeep::grpc::pb::{self, DomainMatch, SearchOrder};

use crate::bad_input::reason;
use crate::calls::{self, tags};
use crate::harness::{Account, REGION, TestServer, bearer, until, upload_of};
use crate::operation::http;
use crate::pki::{self, Key};
use crate::process::Certkeep;
use crate::scope::Limits;

/// Statements on tables that belong to no account, those that only operators run for any account, and those that only a start runs.
const OF_THE_SERVICE: [&str; 35] = [
    "store::access",
    "store::access_key_of_secret",
    "store::begin_rotation",
    "store::bootstrap_access_key",
    "store::can_change_audit_trail",
    "store::check_durability",
    "store::check_schema",
    "store::close_key",
    "store::confirm",
    "store::correct_prepared_key",
    "store::create_account",
    "store::create_account_admin_key",
    "store::create_client_identity",
    "store::delete_client_identity",
    "store::have_ended",
    "store::heartbeat",
    "store::identify",
    "store::key_encryption_keys",
    "store::list_client_identities",
    "store::list_client_identities_of_account",
    "store::make_first_account",
    "store::make_first_sealing_key",
    "store::migrate",
    "store::remove_replica",
    "store::reopen_key",
    "store::repeat_rotation",
    "store::replicas",
    "store::retire_key",
    "store::rotation",
    "store::running_transactions",
    "store::service_key",
    "store::serving_role",
    "store::time",
    "store::update_account",
    "store::update_quota",
];
/// Only a connection that is lost in a change leads to these statements. They ask for account and request: tests/integration/retries.rs.
const AFTER_A_LOSS: [&str; 2] = ["store::audit_event_of_request", "store::revision_of_request"];
/// Parents come before children.
const TABLES: [&str; 11] = [
    "resource_group",
    "private_key",
    "certificate",
    "certificate_version",
    "certificate_tag",
    "searchable_name",
    "certificate_count",
    "client_token",
    "stream",
    "event",
    "audit_event",
];

/// Tables with rows that cannot be copied to another account.
const NOT_COPIED: [&str; 4] = ["access_key", "holder", "lease", "quota"];

/// The names of all statements, as the store's sources state them.
fn in_the_sources(directory: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(in_the_sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let quoted = text.split('"').skip(1).step_by(2);
            let is_name = |text: &&str| {
                text.strip_prefix("store::").is_some_and(|name| {
                    name.bytes()
                        .all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte))
                })
            };
            names.extend(quoted.filter(is_name).map(str::to_owned));
        }
    }
    names
}

/// The statements that this process has run.
async fn run_by(certkeep: &Certkeep) -> BTreeSet<String> {
    let metrics = certkeep
        .banner
        .lines()
        .find_map(|line| line.strip_prefix("metrics   http://")?.strip_suffix("/metrics"));
    let address = metrics.unwrap().parse().unwrap();
    let text = tokio::task::spawn_blocking(move || http(address, "/metrics").1)
        .await
        .unwrap();
    let names = text.lines().filter_map(|line| {
        let labels = line.strip_prefix("certkeep_statement_duration_seconds_count{")?;
        labels.split('"').find(|label| label.starts_with("store::"))
    });
    names.map(str::to_owned).collect()
}

/// A's rows as one text for each table.
async fn rows_of(sql: &tokio_postgres::Client, account: i64) -> Vec<String> {
    let mut rows = Vec::new();
    for table in TABLES.into_iter().chain(NOT_COPIED) {
        let text = format!(
            "select coalesce(string_agg(row::text, ';' order by row::text), '') from {table} as row where account_id = $1"
        );
        rows.push(format!(
            "{table}: {}",
            sql.query_one(&text, &[&account]).await.unwrap().get::<_, String>(0)
        ));
    }
    rows
}

/// The answers to B's calls, as texts.
#[derive(Default)]
struct Answers(Vec<String>);

impl Answers {
    fn add<T: Debug, E: Debug>(&mut self, answer: Result<T, E>) {
        self.0.push(format!("{answer:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_sees_and_changes_its_own_account_only() {
    let server = TestServer::start().await;
    let (a, sql) = (server.client(), server.sql().await);
    let [first, second, third] = ["a.example", "b.example", "c.example"].map(|name| pki::issued(Key::P256, name));
    let tagged = tags(&[("team", "shop")]);

    // Account A: certificates of both kinds, in two groups, tagged, deleted, with a token.
    let admin = |key: &str| AdminServiceClient::with_interceptor(server.channel(), bearer(key));
    let group = pb::CreateResourceGroupRequest { name: "shop".into() };
    let group = admin(server.admin_key()).create_resource_group(group).await.unwrap();
    let group_id = group.into_inner().resource_group.unwrap().resource_group_id;
    let request = pb::UploadServerCertificateRequest {
        tags: tagged.clone(),
        resource_group_id: group_id.clone(),
        client_token: "token".into(),
        ..upload_of(&first)
    };
    let kept = calls::stored(&a, &request).await;
    let renewed = pki::issued(Key::P256, "a.example");
    calls::renew(&a, calls::renewal_of(&kept, &renewed)).await.unwrap();
    let gone = calls::stored(&a, &upload_of(&second)).await;
    calls::delete(&a, &gone, "").await.unwrap();
    let root = pb::UploadCaCertificateRequest {
        region_id: REGION.into(),
        ca_certificate: pki::root("root.example").certificate,
        ..Default::default()
    };
    let ca = a
        .clone()
        .upload_ca_certificate(root.clone())
        .await
        .unwrap()
        .into_inner()
        .ca_certificate_id;

    // Account B: the same rows.
    let key = server.add_key("admin", Account::New).await;
    let of_a: i64 = kept.split('_').next().unwrap().parse().unwrap();
    let of_b: i64 = sql
        .query_one("select max(account_id) from account where account_id <> $1", &[&of_a])
        .await
        .unwrap()
        .get(0);
    let mut copy = "begin;".to_owned();
    for table in TABLES {
        let columns = "select string_agg(attname, ', ') from pg_attribute
                       where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attname <> 'account_id'";
        let columns: String = sql.query_one(columns, &[&table]).await.unwrap().get(0);
        copy.push_str(&format!(
            "insert into {table} (account_id, {columns}) select {of_b}, {columns} from {table} where account_id = {of_a};"
        ));
    }
    sql.batch_execute(&format!("{copy} commit")).await.unwrap();
    let consumer = server.add_key("consumer", Account::First).await;
    let bind = pb::BindServerCertificateRequest {
        server_certificate_id: kept.clone(),
        holder: "web-1".into(),
        ttl_seconds: 3600,
        ..Default::default()
    };
    let mut of_consumer = DeliveryServiceClient::with_interceptor(server.channel(), bearer(&consumer));
    of_consumer.bind_server_certificate(bind).await.unwrap();
    let before = rows_of(&sql, of_a).await;

    // The key of the certificate that both have is compromised.
    let list = server.data_dir().join("stolen.txt");
    let keys = "select string_agg(encode(spki_sha256, 'hex'), E'\n') from certificate where kind = 'server' and deleted_at is null";
    let keys: String = sql.query_one(keys, &[]).await.unwrap().get(0);
    std::fs::write(&list, keys).unwrap();
    let metrics = [
        "--database-url",
        server.database(),
        "--metrics-listen",
        "127.0.0.1:0",
        "--key-blocklist",
        list.to_str().unwrap(),
    ];
    let keeps = Certkeep::start_with(server.data_dir(), &metrics);
    let b = keeps.client_with_key(&key);
    let noted = "select count(*) from compromised_certificate";
    until(async || sql.query_one(noted, &[]).await.unwrap().get::<_, i64>(0) == 2).await;
    let mut b_admin = AdminServiceClient::with_interceptor(keeps.channel(), bearer(&key));
    let own = |id: &str| id.replace(&of_a.to_string(), &of_b.to_string());
    let gone_of_a = gone;
    let [kept, gone, ca] = [&kept, &gone_of_a, &ca].map(|id| own(id));
    let mut answers = Answers::default();

    // Lists: a certificate that A has too must not come twice.
    let describe = pb::DescribeServerCertificatesRequest::default();
    for request in [
        describe.clone(),
        pb::DescribeServerCertificatesRequest {
            region_id: REGION.into(),
            ..describe.clone()
        },
        pb::DescribeServerCertificatesRequest {
            resource_group_id: group_id.clone(),
            ..describe.clone()
        },
        pb::DescribeServerCertificatesRequest {
            tags: tagged.clone(),
            ..describe.clone()
        },
        pb::DescribeServerCertificatesRequest {
            region_id: REGION.into(),
            tags: tagged.clone(),
            ..describe.clone()
        },
        pb::DescribeServerCertificatesRequest {
            deleted: true,
            ..describe.clone()
        },
        pb::DescribeServerCertificatesRequest {
            server_certificate_id: kept.clone(),
            ..describe.clone()
        },
    ] {
        let answer = b
            .clone()
            .describe_server_certificates(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.server_certificates.len(), 1, "{request:?}");
        answers.add::<_, ()>(Ok(answer));
    }
    let described = b
        .clone()
        .describe_ca_certificates(pb::DescribeCaCertificatesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(described.ca_certificates.len(), 1);
    assert_eq!(calls::fingerprints(&b).await.len(), 1);
    let found = calls::get(&b, &kept).await.unwrap();
    let search = pb::SearchServerCertificatesRequest::default();
    for request in [
        pb::SearchServerCertificatesRequest {
            fingerprint: found.fingerprint.clone(),
            ..search.clone()
        },
        pb::SearchServerCertificatesRequest {
            fingerprint: found.fingerprint_sha256.clone(),
            ..search.clone()
        },
        pb::SearchServerCertificatesRequest {
            spki_sha256: found.spki_sha256.clone(),
            ..search.clone()
        },
        pb::SearchServerCertificatesRequest {
            serial_number: found.serial_number.clone(),
            ..search.clone()
        },
        pb::SearchServerCertificatesRequest {
            compromised: true,
            ..search.clone()
        },
        pb::SearchServerCertificatesRequest {
            domain: "a.example".into(),
            domain_match: DomainMatch::Exact.into(),
            ..search.clone()
        },
        pb::SearchServerCertificatesRequest {
            tags: tagged.clone(),
            ..search.clone()
        },
        pb::SearchServerCertificatesRequest {
            order_by: SearchOrder::ExpireTime.into(),
            ..search.clone()
        },
        pb::SearchServerCertificatesRequest {
            order_by: SearchOrder::Name.into(),
            ..search.clone()
        },
    ] {
        let answer = b
            .clone()
            .search_server_certificates(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.server_certificates.len(), 1, "{answer:?}");
        answers.add::<_, ()>(Ok(answer));
    }
    let listed = b_admin
        .list_resource_groups(pb::ListResourceGroupsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.resource_groups.len(), 2, "the default group, and shop");

    // Changes of rows of which A has the same.
    let resources = |id: &str| (REGION.to_owned(), "certificate".to_owned(), vec![id.to_owned()]);
    let (region_id, resource_type, resource_ids) = resources(&kept);
    let listed = pb::ListTagResourcesRequest {
        region_id: region_id.clone(),
        resource_type: resource_type.clone(),
        resource_ids: resource_ids.clone(),
        ..Default::default()
    };
    answers.add(b.clone().list_tag_resources(listed).await);
    let tag = pb::TagResourcesRequest {
        region_id,
        resource_type,
        resource_ids,
        tags: tags(&[("team", "other")]),
    };
    // The second call changes nothing.
    for _ in 0..2 {
        answers.add(b.clone().tag_resources(tag.clone()).await);
    }
    let moved = pb::MoveResourceGroupRequest {
        region_id: REGION.into(),
        resource_id: kept.clone(),
        resource_type: "certificate".into(),
        new_resource_group_id: format!("rg-{of_b}"),
        ..Default::default()
    };
    answers.add(b.clone().move_resource_group(moved).await);
    answers.add(calls::rename(&b, &kept, "renamed", "").await);
    // A stale etag asks for the current state.
    answers.add(calls::rename(&b, &kept, "again", "1").await);
    let renewal = pb::RenewServerCertificateRequest {
        everywhere: true,
        client_token: "renewal".into(),
        ..calls::renewal_of(&kept, &pki::issued(Key::P256, "a.example"))
    };
    for _ in 0..2 {
        answers.add(calls::renew(&b, renewal.clone()).await);
    }
    answers.add(calls::roll_back(&b, &kept, 1, "").await);
    let versions = calls::versions(&b, &kept).await.unwrap();
    assert_eq!(versions.len(), 4);
    answers.add::<_, ()>(Ok(versions));
    answers.add(calls::undelete(&b, &gone, "").await);
    answers.add(calls::delete(&b, &gone, "").await);
    answers.add(calls::purge(&b, &gone, "").await);
    let rename = pb::UpdateResourceGroupRequest {
        resource_group_id: group_id.clone(),
        name: "other".into(),
    };
    answers.add(b_admin.update_resource_group(rename).await);
    let delete = pb::DeleteResourceGroupRequest {
        resource_group_id: group_id.clone(),
    };
    answers.add(b_admin.delete_resource_group(delete).await);
    // Access keys: those of A do not exist.
    let key_of_a = server.admin_key().split_once('.').unwrap().0;
    let create_key = pb::CreateAccessKeyRequest {
        role: pb::Role::Reader.into(),
        ..Default::default()
    };
    let created = b_admin.create_access_key(create_key).await.unwrap().into_inner();
    let key_of_b = created.access_key.unwrap().access_key_id;
    let listed = b_admin.list_access_keys(pb::ListAccessKeysRequest::default()).await;
    assert_eq!(listed.as_ref().unwrap().get_ref().access_keys.len(), 2);
    answers.add(listed);
    for id in [key_of_a, &key_of_b] {
        let disable = pb::UpdateAccessKeyRequest {
            access_key_id: id.to_owned(),
            disabled: Some(true),
            ..Default::default()
        };
        let delete = pb::DeleteAccessKeyRequest {
            access_key_id: id.to_owned(),
        };
        assert_eq!(b_admin.update_access_key(disable).await.is_ok(), id == key_of_b);
        assert_eq!(b_admin.delete_access_key(delete).await.is_ok(), id == key_of_b);
    }
    answers.add(b_admin.describe_quotas(pb::DescribeQuotasRequest {}).await);
    // Uploads: of a pair and with a token that A has too, with a token that is too old, alone and in a batch.
    answers.add(calls::upload(&b, request.clone()).await);
    let age = "update client_token set used_at = now() - interval '25 hours' where account_id = $1";
    sql.execute(age, &[&of_b]).await.unwrap();
    let again = pb::UploadServerCertificateRequest {
        resource_group_id: String::new(),
        ..request.clone()
    };
    answers.add(calls::upload(&b, again).await);
    let check = pb::CheckServerCertificateRequest {
        server_certificate: third.certificate.clone(),
        private_key: third.key.clone(),
    };
    answers.add(b.clone().check_server_certificate(check.clone()).await);
    // With a scope.
    let scoped_key = server.add_key("admin", Account::First).await;
    let (id, _) = scoped_key.split_once('.').unwrap();
    let of_account = "update access_key set account_id = $1 where access_key_id = $2";
    sql.execute(of_account, &[&of_b, &id]).await.unwrap();
    let limits = Limits {
        groups: vec![group_id.clone()],
        ..Default::default()
    };
    server.limit_key(&scoped_key, &limits).await;
    let scoped = keeps.client_with_key(&scoped_key);
    answers.add(scoped.clone().check_server_certificate(check).await);
    let mut scoped_admin = AdminServiceClient::with_interceptor(keeps.channel(), bearer(&scoped_key));
    let list = pb::ListResourceGroupsRequest::default();
    answers.add(scoped_admin.list_resource_groups(list).await);
    let uploads = (0..40).map(|_| {
        let (b, request) = (b.clone(), upload_of(&third));
        tokio::spawn(async move { calls::upload(&b, request).await.map(|_| ()) })
    });
    for upload in uploads.collect::<Vec<_>>() {
        answers.add(upload.await.unwrap());
    }
    let quota = "insert into quota (account_id, kind, maximum) values ($1, 'server', 1)";
    sql.execute(quota, &[&of_b]).await.unwrap();
    answers.add(calls::upload(&b, upload_of(&third)).await);
    let create = pb::CreateResourceGroupRequest { name: "shop".into() };
    answers.add(b_admin.create_resource_group(create).await);

    // A private key: B has the row of a key that is sealed for A.
    let consumer_key = server.add_key("consumer", Account::First).await;
    let (id, _) = consumer_key.split_once('.').unwrap();
    sql.execute(of_account, &[&of_b, &id]).await.unwrap();
    let mut consumer = DeliveryServiceClient::with_interceptor(keeps.channel(), bearer(&consumer_key));
    let of_a_key = pb::GetKeyPairRequest {
        server_certificate_id: kept.clone(),
        ..Default::default()
    };
    let refused = consumer.get_key_pair(of_a_key).await.map(|_| ()).unwrap_err();
    assert_eq!(reason(&refused), "SEALED_KEY_UNREADABLE");
    answers.add::<(), _>(Err(refused));
    let own_pair = pb::UploadServerCertificateRequest {
        server_certificate_name: "own".into(),
        ..upload_of(&first)
    };
    sql.execute("delete from quota where account_id = $1", &[&of_b])
        .await
        .unwrap();
    calls::stored(&b, &own_pair).await;
    let own_key = pb::GetKeyPairRequest {
        server_certificate_name: "own".into(),
        ..Default::default()
    };
    let delivered = consumer.get_key_pair(own_key).await.unwrap().into_inner();
    assert_eq!(delivered.private_key, first.key);
    crate::secrets::refuse(keeps.channel(), &consumer_key, "own").await;
    let rejected = "select count(*) from event where account_id = $1 and kind = 'rejected'";
    until(async || sql.query_one(rejected, &[&of_b]).await.unwrap().get::<_, i64>(0) == 1).await;
    // Leases: B's holder has the name of A's, and a lease on a certificate with the same numbers.
    let consumer = server.add_key("consumer", Account::First).await;
    let (id, _) = consumer.split_once('.').unwrap();
    sql.execute(of_account, &[&of_b, &id]).await.unwrap();
    let mut delivery = DeliveryServiceClient::with_interceptor(keeps.channel(), bearer(&consumer));
    let bind = pb::BindServerCertificateRequest {
        server_certificate_id: kept.clone(),
        holder: "web-1".into(),
        ..Default::default()
    };
    answers.add(delivery.bind_server_certificate(bind.clone()).await);
    let renew = pb::RenewLeasesRequest {
        holder: "web-1".into(),
        versions: [(kept.clone(), 1)].into(),
    };
    answers.add(delivery.renew_leases(renew).await);
    let listed = delivery.list_leases(pb::ListLeasesRequest::default()).await.unwrap();
    assert_eq!(listed.get_ref().leases.len(), 1);
    answers.add::<_, ()>(Ok(listed));
    answers.add(calls::delete(&b, &kept, "").await);
    let end = "update holder set expires_at = now() where account_id = $1";
    sql.execute(end, &[&of_b]).await.unwrap();
    answers.add(delivery.bind_server_certificate(bind).await);
    for (ids, all) in [(vec![kept.clone()], false), (Vec::new(), true)] {
        let release = pb::ReleaseServerCertificateRequest {
            holder: "web-1".into(),
            server_certificate_ids: ids,
            all,
        };
        answers.add(delivery.release_server_certificate(release).await);
    }

    let channel = tonic::service::interceptor::InterceptedService::new(keeps.channel(), bearer(&key));
    let watch = DeliveryServiceClient::new(channel)
        .watch_server_certificates(pb::WatchServerCertificatesRequest::default())
        .await;
    let mut watch = watch.unwrap().into_inner();
    calls::rename(&b, &kept, "watched", "").await.unwrap();
    loop {
        let message = watch.message().await.unwrap().unwrap();
        let is_last = message.kind() == pb::CertificateEventKind::Renamed;
        answers.add(Ok::<_, tonic::Status>(message));
        if is_last {
            break;
        }
    }

    // The audit trail, all of it and that of a resource, and its verification.
    for resource_id in [String::new(), kept.clone(), group_id.clone()] {
        let request = pb::ListAuditEventsRequest {
            resource_id,
            ..Default::default()
        };
        answers.add(b_admin.list_audit_events(request).await);
    }
    let tail = b_admin.tail_audit_events(pb::TailAuditEventsRequest::default()).await;
    answers.add(tail.unwrap().into_inner().message().await);
    let verify = b_admin.verify_audit_trail(pb::VerifyAuditTrailRequest::default()).await;
    answers.add(verify.unwrap().into_inner().message().await);

    assert_eq!(rows_of(&sql, of_a).await, before, "B changed A's rows");

    // Deletes without retention. Nothing is deleted when this server starts: its maintenance would purge it.
    calls::undelete(&a, &gone_of_a, "").await.unwrap();
    let before = rows_of(&sql, of_a).await;
    let removes = Certkeep::start_with(
        server.data_dir(),
        &[&metrics[..], &["--delete-retention-days", "0"]].concat(),
    );
    let deleted = pb::DeleteCaCertificateRequest {
        region_id: String::new(),
        ca_certificate_id: ca,
        ..Default::default()
    };
    let b_removes = removes.client_with_key(&key);
    answers.add(b_removes.clone().delete_ca_certificate(deleted).await);
    answers.add(calls::delete(&b_removes, &kept, "").await);

    let seen_a: Vec<_> = answers
        .0
        .iter()
        .filter(|answer| answer.contains(&of_a.to_string()))
        .collect();
    assert!(seen_a.is_empty(), "answers to B name A's resources: {seen_a:?}");
    assert_eq!(rows_of(&sql, of_a).await, before, "B changed A's rows");

    let mut expected = in_the_sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store")));
    expected.retain(|name| {
        !name.ends_with("_of_all_accounts")
            && !OF_THE_SERVICE.contains(&name.as_str())
            && !AFTER_A_LOSS.contains(&name.as_str())
    });
    let mut run = run_by(&keeps).await;
    run.extend(run_by(&removes).await);
    let missing: Vec<_> = expected.difference(&run).collect();
    assert!(missing.is_empty(), "B ran no {missing:?}: add a call that does");
    server.stop().await;
}
