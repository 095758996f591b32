//! Access keys: created, listed, changed and deleted over gRPC.

use certkeep::grpc::pb::{self, admin_service_client::AdminServiceClient};
use prost_types::Timestamp;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::calls::{refusal, stored};
use crate::harness::{Account, Bearer, REGION, TestServer, bearer, database, until, until_waiting, upload_of};
use crate::pki::{self, Key};
use crate::proxy::{Moment, Proxy, Way};
use crate::resource_groups::made;

pub type Admin = AdminServiceClient<InterceptedService<Channel, Bearer>>;

pub fn admin(server: &TestServer, key: &str) -> Admin {
    AdminServiceClient::with_interceptor(server.channel(), bearer(key))
}

pub fn first_admin(server: &TestServer) -> Admin {
    admin(server, server.admin_key())
}

/// Without its secret, the answer can be shown.
async fn create(admin: &Admin, request: pb::CreateAccessKeyRequest) -> Result<(pb::AccessKey, String), Status> {
    let answer = admin.clone().create_access_key(request).await?.into_inner();
    Ok((answer.access_key.unwrap(), answer.secret))
}

pub async fn created(admin: &Admin, request: pb::CreateAccessKeyRequest) -> (pb::AccessKey, String) {
    let (key, secret) = create(admin, request).await.unwrap();
    let text = format!("{}.{secret}", key.access_key_id);
    (key, text)
}

pub fn of_role(role: pb::Role) -> pb::CreateAccessKeyRequest {
    pb::CreateAccessKeyRequest {
        role: role.into(),
        ..Default::default()
    }
}

async fn list(admin: &Admin, request: pb::ListAccessKeysRequest) -> Result<Vec<pb::AccessKey>, Status> {
    let mut keys = Vec::new();
    let mut request = request;
    loop {
        let page = admin.clone().list_access_keys(request.clone()).await?.into_inner();
        keys.extend(page.access_keys);
        if page.next_page_token.is_empty() {
            return Ok(keys);
        }
        request.page_token = page.next_page_token;
    }
}

async fn ids(admin: &Admin) -> Vec<String> {
    let keys = list(admin, Default::default()).await.unwrap();
    keys.into_iter().map(|key| key.access_key_id).collect()
}

async fn update(admin: &Admin, request: pb::UpdateAccessKeyRequest) -> Result<pb::AccessKey, Status> {
    let answer = admin.clone().update_access_key(request).await?.into_inner();
    Ok(answer.access_key.unwrap())
}

fn disable(id: &str) -> pb::UpdateAccessKeyRequest {
    pb::UpdateAccessKeyRequest {
        access_key_id: id.into(),
        disabled: Some(true),
        ..Default::default()
    }
}

async fn remove(admin: &Admin, id: &str) -> Result<(), Status> {
    let request = pb::DeleteAccessKeyRequest {
        access_key_id: id.into(),
    };
    admin.clone().delete_access_key(request).await.map(|_| ())
}

fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp {
        seconds: certkeep::clock::now().millis() / 1000 + seconds,
        nanos: 0,
    }
}

fn regions(ids: &[&str]) -> Option<pb::Scope> {
    Some(pb::Scope {
        region_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    })
}

fn id_of(key: &str) -> &str {
    key.split_once('.').unwrap().0
}

/// The audit events of an account about access keys: method, principal, address, and detail.
pub async fn audited(server: &TestServer, resource_id: &str) -> Vec<(String, String, String, serde_json::Value)> {
    let events = "select method, principal, coalesce(host(address), ''), detail::text from audit_event
                  where resource_id = $1 and outcome = 'done' order by account_id, position";
    let rows = server.sql().await.query(events, &[&resource_id]).await.unwrap();
    let event = |row: &tokio_postgres::Row| {
        let detail: &str = row.get(3);
        (
            row.get(0),
            row.get(1),
            row.get(2),
            serde_json::from_str(detail).unwrap(),
        )
    };
    rows.iter().map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_created_used_listed_changed_and_deleted() {
    let server = TestServer::start().await;
    let admin = first_admin(&server);
    let group = made(&server, "shop").await;
    let expires = in_seconds(3600);
    let scope = pb::Scope {
        region_ids: vec![REGION.into()],
        resource_group_ids: vec![group.clone()],
        name_prefixes: vec!["shop-".into()],
    };
    let request = pb::CreateAccessKeyRequest {
        scope: Some(scope.clone()),
        description: "shop's deploys".into(),
        expire_time: Some(expires),
        ..of_role(pb::Role::Editor)
    };
    let (key, text) = created(&admin, request).await;
    let (admin_id, secret) = (id_of(server.admin_key()), text.split_once('.').unwrap().1);
    assert_eq!(secret.len(), 43);
    let expected = pb::AccessKey {
        access_key_id: id_of(&text).into(),
        role: pb::Role::Editor.into(),
        scope: Some(scope),
        description: "shop's deploys".into(),
        disabled: false,
        create_time: key.create_time,
        created_by: admin_id.into(),
        expire_time: Some(expires),
        last_use: None,
        can_sign: false,
    };
    assert_eq!(key, expected);

    // The new key is a caller with this scope.
    let request = pb::DescribeCallerRequest {};
    let caller = self::admin(&server, &text)
        .describe_caller(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (caller.principal, caller.scope),
        (key.access_key_id.clone(), key.scope.clone())
    );
    assert_eq!(caller.expire_time, Some(expires));
    let own_keys = list(&admin, Default::default()).await.unwrap();
    assert_eq!(own_keys.len(), 2);
    assert_eq!(own_keys[0].access_key_id, admin_id);
    let listed = pb::AccessKey {
        last_use: own_keys[1].last_use.clone(),
        ..key.clone()
    };
    assert_eq!(own_keys[1], listed);

    let change = pb::UpdateAccessKeyRequest {
        access_key_id: key.access_key_id.clone(),
        disabled: Some(true),
        clear_expire_time: true,
        description: Some(String::new()),
        ..Default::default()
    };
    let changed = update(&admin, change.clone()).await.unwrap();
    assert_eq!(
        (changed.disabled, changed.expire_time, changed.description.as_str()),
        (true, None, "")
    );
    // Nothing changes, so nothing is audited.
    let again = update(&admin, change).await.unwrap();
    assert_eq!(again.disabled, changed.disabled);
    let client = server.client_with(Some(&format!("Bearer {text}")));
    until(async || {
        let answer = client
            .clone()
            .describe_regions(pb::DescribeRegionsRequest::default())
            .await;
        answer.is_err_and(|refused| refusal(Err::<(), _>(refused)).1 == "ACCESS_KEY_DISABLED")
    })
    .await;
    remove(&admin, &key.access_key_id).await.unwrap();
    assert_eq!(ids(&admin).await, [admin_id]);
    let gone = (Code::NotFound, "ACCESS_KEY_NOT_FOUND".to_owned());
    assert_eq!(refusal(remove(&admin, &key.access_key_id).await), gone);
    assert_eq!(refusal(update(&admin, disable(&key.access_key_id)).await), gone);

    // Who changed the key, from which address, and the state before and after.
    let events = audited(&server, &key.access_key_id).await;
    let methods: Vec<_> = events.iter().map(|(method, ..)| method.as_str()).collect();
    assert_eq!(methods, ["CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey"]);
    for (_, principal, address, detail) in &events {
        assert_eq!((principal.as_str(), address.as_str()), (admin_id, "127.0.0.1"));
        let text = detail.to_string();
        let hash = hex::encode(certkeep::digest::sha256(secret.as_bytes()));
        assert!(!text.contains(secret) && !text.contains(&hash), "{text}");
    }
    let time = own_keys[1].expire_time.unwrap().to_string();
    assert_eq!(
        events[0].3,
        serde_json::json!({
            "role": [null, "editor"], "scope_region_ids": [null, [REGION]], "scope_resource_group_ids": [null, [group]],
            "scope_name_prefixes": [null, ["shop-"]], "description": [null, "shop's deploys"], "expire_time": [null, time],
        })
    );
    assert_eq!(
        events[1].3,
        serde_json::json!({"disabled": [false, true], "expire_time": [time, null], "description": ["shop's deploys", ""]})
    );
    assert_eq!(
        events[2].3,
        serde_json::json!({"role": ["editor", null], "description": ["", null]})
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_secret_of_a_key_that_can_sign_is_stored_sealed() {
    let server = TestServer::start().await;
    let admin = first_admin(&server);
    let request = pb::CreateAccessKeyRequest {
        can_sign: true,
        ..of_role(pb::Role::Editor)
    };
    let (key, text) = created(&admin, request).await;
    assert!(key.can_sign);
    assert!(list(&admin, Default::default()).await.unwrap().contains(&key));
    let changed = update(&admin, disable(&key.access_key_id)).await.unwrap();
    assert!(changed.can_sign);
    let sql = server.sql().await;
    let sealed = "select access_key_id, sealed from access_key where sealed is not null";
    let rows = sql.query(sealed, &[]).await.unwrap();
    let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(ids, std::slice::from_ref(&key.access_key_id));
    let (secret, sealed): (_, &[u8]) = (text.split_once('.').unwrap().1, rows[0].get(1));
    assert!(!sealed.windows(8).any(|octets| secret.as_bytes().starts_with(octets)));
    let events = audited(&server, &key.access_key_id).await;
    assert_eq!(events[0].3["can_sign"], serde_json::json!([null, true]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_field_has_its_reason_and_nothing_is_created() {
    let server = TestServer::start().await;
    let admin = first_admin(&server);
    let base = of_role(pb::Role::Reader);
    let prefixes = |prefixes: Vec<String>| {
        Some(pb::Scope {
            name_prefixes: prefixes,
            ..Default::default()
        })
    };
    let wrong = [
        (
            pb::CreateAccessKeyRequest {
                secret_sha256: vec![7; 32],
                can_sign: true,
                ..base.clone()
            },
            "FIELD_INVALID",
            "secret_sha256 and can_sign exclude each other; use one of them",
        ),
        (
            of_role(pb::Role::Unspecified),
            "FIELD_INVALID",
            "role is empty; it is required",
        ),
        (
            of_role(pb::Role::Operator),
            "FIELD_INVALID",
            "role cannot be used here; use reader, editor, consumer, admin",
        ),
        (
            pb::CreateAccessKeyRequest {
                role: 77,
                ..base.clone()
            },
            "FIELD_INVALID",
            "role cannot be used here; use reader, editor, consumer, admin",
        ),
        (
            pb::CreateAccessKeyRequest {
                scope: regions(&["mars-1"]),
                ..base.clone()
            },
            "REGION_NOT_FOUND",
            "unknown scope.region_ids[0]; call DescribeRegions for the valid ids",
        ),
        (
            pb::CreateAccessKeyRequest {
                scope: regions(&[REGION; 21]),
                ..base.clone()
            },
            "FIELD_INVALID",
            "scope.region_ids has 21 entries; use at most 20",
        ),
        (
            pb::CreateAccessKeyRequest {
                scope: prefixes(vec!["shop-".into(), "a b".into()]),
                ..base.clone()
            },
            "FIELD_INVALID",
            "no name starts with scope.name_prefixes[1]; use at most 80 letters, digits and - / . _ *",
        ),
        (
            pb::CreateAccessKeyRequest {
                description: "x".repeat(201),
                ..base.clone()
            },
            "FIELD_INVALID",
            "description has 201 characters; use at most 200",
        ),
        (
            pb::CreateAccessKeyRequest {
                description: "a\u{1b}b".into(),
                ..base.clone()
            },
            "FIELD_INVALID",
            "character 2 of description is a control character; remove it",
        ),
        (
            pb::CreateAccessKeyRequest {
                expire_time: Some(in_seconds(-1)),
                ..base.clone()
            },
            "FIELD_INVALID",
            "expire_time is not in the future; use a later time",
        ),
        (
            pb::CreateAccessKeyRequest {
                expire_time: Some(Timestamp {
                    seconds: i64::MAX,
                    nanos: 0,
                }),
                ..base.clone()
            },
            "FIELD_INVALID",
            "expire_time is not a valid timestamp; use the years 1 to 9999, and nanos from 0 to 999,999,999",
        ),
        (
            pb::CreateAccessKeyRequest {
                secret_sha256: vec![1; 31],
                ..base.clone()
            },
            "FIELD_INVALID",
            "secret_sha256 is not a SHA-256; use 32 octets, or leave it empty",
        ),
    ];
    for (request, reason, message) in wrong {
        let refused = create(&admin, request).await.unwrap_err();
        assert_eq!(refused.message(), message);
        assert_eq!(refusal(Err::<(), _>(refused)), (Code::InvalidArgument, reason.into()));
    }
    for group in ["rg-1", "rg-00000000000000000000000000000000", ""] {
        let scope = Some(pb::Scope {
            resource_group_ids: vec![group.into()],
            ..Default::default()
        });
        let request = pb::CreateAccessKeyRequest { scope, ..base.clone() };
        let not_found = (Code::NotFound, "RESOURCE_GROUP_NOT_FOUND".to_owned());
        assert_eq!(refusal(create(&admin, request).await), not_found, "{group}");
    }
    let many = pb::CreateAccessKeyRequest {
        role: 0,
        scope: regions(&["mars-1", "mars-2"]),
        description: "x".repeat(300),
        expire_time: Some(in_seconds(-1)),
        secret_sha256: vec![1],
        can_sign: false,
    };
    let refused = create(&admin, many).await.unwrap_err();
    let details = refused.get_error_details();
    let fields: Vec<_> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|wrong| wrong.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "role",
            "scope.region_ids[0]",
            "scope.region_ids[1]",
            "description",
            "expire_time",
            "secret_sha256"
        ]
    );
    let invalid = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    for request in [
        pb::ListAccessKeysRequest {
            page_size: -1,
            ..Default::default()
        },
        pb::ListAccessKeysRequest {
            unused_days: -1,
            ..Default::default()
        },
        pb::ListAccessKeysRequest {
            unused_days: 36_501,
            ..Default::default()
        },
        pb::ListAccessKeysRequest {
            role: 77,
            ..Default::default()
        },
    ] {
        assert_eq!(refusal(list(&admin, request).await), invalid);
    }
    let request = pb::ListAccessKeysRequest {
        page_token: "x".into(),
        ..Default::default()
    };
    let token_invalid = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
    assert_eq!(refusal(list(&admin, request).await), token_invalid);
    let both = pb::UpdateAccessKeyRequest {
        access_key_id: "ck1".into(),
        expire_time: Some(in_seconds(60)),
        clear_expire_time: true,
        ..Default::default()
    };
    assert_eq!(refusal(update(&admin, both).await), invalid);
    assert_eq!(refusal(update(&admin, Default::default()).await), invalid);
    assert_eq!(refusal(remove(&admin, "").await), invalid);
    assert_eq!(ids(&admin).await.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_the_hash_of_a_secret_can_be_repeated() {
    let server = TestServer::start().await;
    let admin = first_admin(&server);
    let secret = "a-secret-of-the-caller";
    let request = pb::CreateAccessKeyRequest {
        secret_sha256: certkeep::digest::sha256(secret.as_bytes()).to_vec(),
        description: "pipeline".into(),
        ..of_role(pb::Role::Reader)
    };
    let (key, answered) = create(&admin, request.clone()).await.unwrap();
    assert_eq!(answered, "");
    // Also by several calls at once.
    let calls = (0..4).map(|_| {
        let (admin, request) = (admin.clone(), request.clone());
        tokio::spawn(async move { create(&admin, request).await.unwrap().0 })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), key);
    }
    assert_eq!(ids(&admin).await.len(), 2);
    assert_eq!(audited(&server, &key.access_key_id).await.len(), 1);
    let client = server.client_with(Some(&format!("Bearer {}.{secret}", key.access_key_id)));
    client
        .clone()
        .describe_regions(pb::DescribeRegionsRequest::default())
        .await
        .unwrap();
    let other = pb::CreateAccessKeyRequest {
        role: pb::Role::Editor.into(),
        ..request
    };
    let refused = create(&admin, other).await.unwrap_err();
    assert!(
        refused.message().starts_with("another access key of the account"),
        "{}",
        refused.message()
    );
    assert_eq!(
        refusal(Err::<(), _>(refused)),
        (Code::InvalidArgument, "FIELD_INVALID".into())
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scoped_admin_creates_sees_and_changes_keys_within_its_scope_only() {
    let server = TestServer::start().await;
    let owner = first_admin(&server);
    let scope = Some(pb::Scope {
        region_ids: vec![REGION.into(), "eu-central-1".into()],
        name_prefixes: vec!["shop-".into()],
        ..Default::default()
    });
    let request = pb::CreateAccessKeyRequest {
        scope: scope.clone(),
        ..of_role(pb::Role::Admin)
    };
    let (own, text) = created(&owner, request).await;
    let scoped = admin(&server, &text);
    let inside = |region: &str, prefix: &str| {
        Some(pb::Scope {
            region_ids: vec![region.into()],
            name_prefixes: vec![prefix.into()],
            ..Default::default()
        })
    };
    let out = (Code::PermissionDenied, "OUT_OF_SCOPE".to_owned());
    for scope in [
        None,
        regions(&[REGION]),
        inside("cn-beijing", "shop-"),
        inside(REGION, "shop"),
    ] {
        let request = pb::CreateAccessKeyRequest {
            scope: scope.clone(),
            ..of_role(pb::Role::Reader)
        };
        assert_eq!(refusal(create(&scoped, request).await), out, "{scope:?}");
    }
    let request = pb::CreateAccessKeyRequest {
        scope: inside(REGION, "shop-a"),
        ..of_role(pb::Role::Reader)
    };
    let (narrower, _) = created(&scoped, request).await;
    assert_eq!(narrower.created_by, own.access_key_id);
    let (wider, _) = created(&owner, of_role(pb::Role::Reader)).await;
    assert_eq!(ids(&scoped).await, [&*own.access_key_id, &narrower.access_key_id]);
    // Pages of one key, of which some are empty for this caller.
    let one = pb::ListAccessKeysRequest {
        page_size: 1,
        ..Default::default()
    };
    assert_eq!(list(&scoped, one).await.unwrap().len(), 2);
    let not_found = (Code::NotFound, "ACCESS_KEY_NOT_FOUND".to_owned());
    for id in [id_of(server.admin_key()), &wider.access_key_id] {
        assert_eq!(refusal(update(&scoped, disable(id)).await), not_found);
        assert_eq!(refusal(remove(&scoped, id).await), not_found);
    }
    update(&scoped, disable(&narrower.access_key_id)).await.unwrap();
    remove(&scoped, &narrower.access_key_id).await.unwrap();

    // Quotas: regions outside of the scope do not exist.
    for region in [REGION, "cn-beijing"] {
        let request = pb::UploadServerCertificateRequest {
            region_id: region.into(),
            ..upload_of(&pki::self_signed(Key::P256, "a.example"))
        };
        stored(&server.client(), &request).await;
    }
    for (admin, regions) in [(&owner, &["cn-beijing", REGION][..]), (&scoped, &[REGION])] {
        let quotas = admin
            .clone()
            .describe_quotas(pb::DescribeQuotasRequest {})
            .await
            .unwrap()
            .into_inner()
            .quotas;
        assert_eq!(quotas[0].kind(), pb::QuotaKind::ServerCertificates);
        let listed: Vec<_> = quotas[0]
            .uses
            .iter()
            .map(|used| (used.region_id.as_str(), used.used))
            .collect();
        assert_eq!(listed, regions.iter().map(|region| (*region, 1)).collect::<Vec<_>>());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_key_stays_and_a_key_is_deleted_only_when_it_does_not_work() {
    let server = TestServer::start().await;
    let first = first_admin(&server);
    let first_id = id_of(server.admin_key()).to_owned();
    // None of these keys could replace the first one.
    for request in [
        pb::CreateAccessKeyRequest {
            expire_time: Some(in_seconds(60)),
            ..of_role(pb::Role::Admin)
        },
        pb::CreateAccessKeyRequest {
            scope: regions(&[REGION]),
            ..of_role(pb::Role::Admin)
        },
        of_role(pb::Role::Editor),
    ] {
        created(&first, request).await;
    }
    let last = (Code::FailedPrecondition, "LAST_ADMIN_KEY".to_owned());
    let expiring = pb::UpdateAccessKeyRequest {
        disabled: None,
        expire_time: Some(in_seconds(60)),
        ..disable(&first_id)
    };
    for change in [disable(&first_id), expiring.clone()] {
        assert_eq!(refusal(update(&first, change).await), last);
    }
    let description = pb::UpdateAccessKeyRequest {
        disabled: Some(false),
        description: Some("the first key".into()),
        ..disable(&first_id)
    };
    assert_eq!(update(&first, description).await.unwrap().description, "the first key");
    let enabled = (Code::FailedPrecondition, "ACCESS_KEY_ENABLED".to_owned());
    assert_eq!(refusal(remove(&first, &first_id).await), enabled);

    let (second, text) = created(&first, of_role(pb::Role::Admin)).await;
    // A caller may lock itself out while another admin key exists.
    update(&first, disable(&first_id)).await.unwrap();
    let other = admin(&server, &text);
    assert_eq!(refusal(update(&other, disable(&second.access_key_id)).await), last);
    remove(&other, &first_id).await.unwrap();
    assert!(audited(&server, &first_id).await.len() == 3);
    // An expired key can be deleted without disabling it.
    let sql = server.sql().await;
    sql.execute(
        "update access_key set expires_at = now() where expires_at is not null",
        &[],
    )
    .await
    .unwrap();
    let expired = list(&other, Default::default()).await.unwrap();
    let expired = expired.iter().find(|key| key.expire_time.is_some()).unwrap();
    remove(&other, &expired.access_key_id).await.unwrap();
    server.stop().await;
}

/// Both calls wait for the account's row when the first of them is let through.
#[tokio::test(flavor = "multi_thread")]
async fn two_calls_at_once_cannot_disable_the_last_two_admin_keys() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let sql = server.sql().await;
    for (account, role) in [
        (Account::First, pb::Role::Admin),
        (Account::Operators, pb::Role::Operator),
    ] {
        let mut keys = vec![];
        for _ in 0..2 {
            keys.push(server.add_key(&role.as_str_name()[5..].to_lowercase(), account).await);
        }
        if account == Account::First {
            sql.execute(
                "update access_key set disabled = true where access_key_id = $1",
                &[&id_of(server.admin_key())],
            )
            .await
            .unwrap();
        }
        sql.batch_execute("begin; select from account for update")
            .await
            .unwrap();
        let calls = [(&server, 0, 1), (&replica, 1, 0)].map(|(server, caller, target)| {
            let (admin, target) = (admin(server, &keys[caller]), disable(id_of(&keys[target])));
            tokio::spawn(async move { update(&admin, target).await })
        });
        until_waiting(&sql, "store::lock_account", 2).await;
        sql.batch_execute("commit").await.unwrap();
        let mut outcomes = Vec::new();
        for call in calls {
            outcomes.push(call.await.unwrap());
        }
        let (done, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!((done.len(), refused.len()), (1, 1));
        for refused in refused {
            assert_eq!(refusal(refused), (Code::FailedPrecondition, "LAST_ADMIN_KEY".into()));
        }
        let enabled = "select count(*) from access_key where role = $1 and not disabled";
        let name = role.as_str_name()[5..].to_lowercase();
        assert_eq!(sql.query_one(enabled, &[&name]).await.unwrap().get::<_, i64>(0), 1);
    }
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_of_access_keys_is_exact_for_calls_at_once() {
    let server = TestServer::start_with(|config| config.access_key_quota = 3).await;
    let admin = first_admin(&server);
    let sql = server.sql().await;
    sql.batch_execute("begin; select from account for update")
        .await
        .unwrap();
    let calls = (0..6).map(|_| {
        let admin = admin.clone();
        tokio::spawn(async move { create(&admin, of_role(pb::Role::Reader)).await })
    });
    let calls: Vec<_> = calls.collect();
    until_waiting(&sql, "store::lock_account", 4).await;
    sql.batch_execute("commit").await.unwrap();
    let mut refused = Vec::new();
    for call in calls {
        if let Err(status) = call.await.unwrap() {
            refused.push(status);
        }
    }
    assert_eq!((ids(&admin).await.len(), refused.len()), (3, 4));
    let message =
        "quota exceeded: 3 of 3 access keys; delete some, or ask the operator of this service for a higher quota";
    assert_eq!(refused[0].message(), message);
    assert_eq!(
        refusal(Err::<(), _>(refused.remove(0))),
        (Code::ResourceExhausted, "QUOTA_EXCEEDED".into())
    );
    let set = "insert into quota select account_id, 'access_keys', 4 from account where name = 'default'";
    sql.execute(set, &[]).await.unwrap();
    created(&admin, of_role(pb::Role::Reader)).await;
    let over = (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned());
    assert_eq!(refusal(create(&admin, of_role(pb::Role::Reader)).await), over);
    let quotas = admin
        .clone()
        .describe_quotas(pb::DescribeQuotasRequest {})
        .await
        .unwrap()
        .into_inner()
        .quotas;
    let shown: Vec<_> = quotas
        .iter()
        .map(|quota| (quota.kind(), quota.maximum, quota.overridden))
        .collect();
    assert_eq!(
        shown,
        [
            (pb::QuotaKind::ServerCertificates, 10_000, false),
            (pb::QuotaKind::CaCertificates, 1_000, false),
            (pb::QuotaKind::AccessKeys, 4, true),
            (pb::QuotaKind::CallsPerSecond, 1_000_000, false),
            (pb::QuotaKind::CallsPerSecondPerKey, 1_000_000, false),
        ]
    );
    assert_eq!(quotas[2].uses[0].used, 4);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_manage_their_own_keys_with_the_same_calls() {
    let server = TestServer::start().await;
    let key = server.add_key("operator", Account::Operators).await;
    let operator = admin(&server, &key);
    let invalid = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(create(&operator, of_role(pb::Role::Admin)).await), invalid);
    let scoped = pb::CreateAccessKeyRequest {
        scope: regions(&[REGION]),
        ..of_role(pb::Role::Operator)
    };
    assert_eq!(refusal(create(&operator, scoped).await), invalid);
    let (second, text) = created(&operator, of_role(pb::Role::Operator)).await;
    assert_eq!(ids(&operator).await, [id_of(&key), &second.access_key_id]);
    let not_found = (Code::NotFound, "ACCESS_KEY_NOT_FOUND".to_owned());
    assert_eq!(
        refusal(update(&operator, disable(id_of(server.admin_key()))).await),
        not_found
    );
    let second_operator = admin(&server, &text);
    update(&second_operator, disable(id_of(&key))).await.unwrap();
    let last = (Code::FailedPrecondition, "LAST_ADMIN_KEY".to_owned());
    assert_eq!(
        refusal(update(&second_operator, disable(&second.access_key_id)).await),
        last
    );
    let quotas = second_operator
        .clone()
        .describe_quotas(pb::DescribeQuotasRequest {})
        .await
        .unwrap()
        .into_inner()
        .quotas;
    assert_eq!(quotas.len(), 3);
    let trail = "select distinct account_id from audit_event where resource_id = $1";
    let rows = server.sql().await.query(trail, &[&second.access_key_id]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_by_role_and_by_their_last_use() {
    let server = TestServer::start().await;
    let admin = first_admin(&server);
    let (old, _) = created(&admin, of_role(pb::Role::Reader)).await;
    let (used, _) = created(&admin, of_role(pb::Role::Reader)).await;
    let (new, _) = created(&admin, of_role(pb::Role::Consumer)).await;
    let sql = server.sql().await;
    let age = "update access_key set created_at = created_at - interval '40 days' where access_key_id <> $1";
    sql.execute(age, &[&new.access_key_id]).await.unwrap();
    let last_use = "insert into access_key_use select account_id, access_key_id, now() - interval '3 days', '192.0.2.7', 'GetKeyPair'
                    from access_key where access_key_id = $1";
    sql.execute(last_use, &[&used.access_key_id]).await.unwrap();
    let unused = |days: i32| pb::ListAccessKeysRequest {
        unused_days: days,
        role: pb::Role::Reader.into(),
        ..Default::default()
    };
    let ids = async |request| -> Vec<String> {
        let keys = list(&admin, request).await.unwrap();
        keys.into_iter().map(|key| key.access_key_id).collect()
    };
    assert_eq!(ids(unused(0)).await, [&*old.access_key_id, &used.access_key_id]);
    assert_eq!(ids(unused(2)).await, [&*old.access_key_id, &used.access_key_id]);
    assert_eq!(ids(unused(30)).await, [&*old.access_key_id]);
    assert_eq!(ids(unused(36_500)).await, [""; 0]);
    let consumers = pb::ListAccessKeysRequest {
        role: pb::Role::Consumer.into(),
        unused_days: 1,
        ..Default::default()
    };
    assert_eq!(ids(consumers).await, [""; 0], "a new key had no time to be used");
    let shown = list(&admin, unused(0)).await.unwrap().remove(1).last_use.unwrap();
    assert_eq!(
        (shown.address.as_str(), shown.method.as_str()),
        ("192.0.2.7", "GetKeyPair")
    );
    let ago = in_seconds(0).seconds - shown.use_time.unwrap().seconds;
    assert!(ago.abs_diff(3 * 24 * 60 * 60) < 60, "{ago}");
    // A token belongs to its filter.
    let first = pb::ListAccessKeysRequest {
        page_size: 1,
        ..unused(0)
    };
    let page = admin.clone().list_access_keys(first).await.unwrap().into_inner();
    let other = pb::ListAccessKeysRequest {
        page_token: page.next_page_token,
        ..Default::default()
    };
    assert_eq!(
        refusal(list(&admin, other).await),
        (Code::InvalidArgument, "PAGE_TOKEN_INVALID".into())
    );
    server.stop().await;
}

/// The connection is cut before the statement, before its answer, before the commit, and before the answer to the commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_connection_is_lost_is_made_once() {
    let (proxy, through) = Proxy::before(&database().await);
    let server = TestServer::start_on(through, |_| {}).await;
    let admin = first_admin(&server);
    let cuts = [
        ("a lost key", Moment::BeforeStatement),
        ("a lost key", Moment::BeforeAnswer),
        ("COMMIT", Moment::BeforeStatement),
        ("COMMIT", Moment::BeforeAnswer),
    ];
    for (number, (text, moment)) in cuts.into_iter().enumerate() {
        let cut = || proxy.cut_at(text, moment, Way::Open);
        cut();
        let request = pb::CreateAccessKeyRequest {
            description: "a lost key".into(),
            ..of_role(pb::Role::Reader)
        };
        let (key, secret) = created(&admin, request).await;
        assert!(proxy.has_cut(), "{text}");
        let request = pb::DescribeCallerRequest {};
        self::admin(&server, &secret).describe_caller(request).await.unwrap();
        assert_eq!(ids(&admin).await.len(), number + 2);
        cut();
        let change = pb::UpdateAccessKeyRequest {
            description: Some("a lost key, disabled".into()),
            ..disable(&key.access_key_id)
        };
        assert!(update(&admin, change).await.unwrap().disabled);
        assert!(proxy.has_cut(), "{text}");
        let methods: Vec<_> = audited(&server, &key.access_key_id)
            .await
            .into_iter()
            .map(|event| event.0)
            .collect();
        assert_eq!(methods, ["CreateAccessKey", "UpdateAccessKey"]);
    }
    for (number, id) in ids(&admin).await.into_iter().skip(1).enumerate() {
        if number < 2 {
            proxy.cut_at("COMMIT", cuts[number + 2].1, Way::Open);
        }
        remove(&admin, &id).await.unwrap();
        assert_eq!(audited(&server, &id).await.len(), 3);
    }
    assert_eq!(ids(&admin).await.len(), 1);
    server.stop().await;
}
