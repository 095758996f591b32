//! Accounts, quotas and keys of accounts, as operators manage them.

use std::time::{Duration, Instant};

use certkeep::grpc::pb::{self, operator_service_client::OperatorServiceClient};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::access_keys::{admin, audited, created, first_admin, of_role};
use crate::calls::{refusal, stored, upload};
use crate::harness::{Account, Bearer, TestServer, bearer, until, upload_of};
use crate::pki::{self, Key};

pub type Operator = OperatorServiceClient<InterceptedService<Channel, Bearer>>;

pub async fn operator(server: &TestServer) -> Operator {
    let key = server.add_key("operator", Account::Operators).await;
    OperatorServiceClient::with_interceptor(server.channel(), bearer(&key))
}

/// The account, and its admin key as `<id>.<secret>`.
async fn create(operator: &Operator, name: &str, hash: &[u8]) -> Result<(pb::Account, String), Status> {
    let request = pb::CreateAccountRequest {
        name: name.into(),
        secret_sha256: hash.to_vec(),
    };
    let answer = operator.clone().create_account(request).await?.into_inner();
    let key = format!("{}.{}", answer.access_key.unwrap().access_key_id, answer.secret);
    Ok((answer.account.unwrap(), key))
}

async fn accounts(operator: &Operator, page_size: i32) -> Vec<pb::Account> {
    let (mut accounts, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListAccountsRequest { page_size, page_token };
        let page = operator.clone().list_accounts(request).await.unwrap().into_inner();
        accounts.extend(page.accounts);
        if page.next_page_token.is_empty() {
            return accounts;
        }
        page_token = page.next_page_token;
    }
}

async fn update(
    operator: &Operator,
    id: &str,
    name: Option<&str>,
    disabled: Option<bool>,
) -> Result<pb::Account, Status> {
    let request = pb::UpdateAccountRequest {
        account_id: id.into(),
        name: name.map(Into::into),
        disabled,
    };
    let answer = operator.clone().update_account(request).await?.into_inner();
    Ok(answer.account.unwrap())
}

async fn set_quota(
    operator: &Operator,
    id: &str,
    kind: pb::QuotaKind,
    maximum: Option<i64>,
) -> Result<pb::Quota, Status> {
    let request = pb::UpdateQuotaRequest {
        account_id: id.into(),
        kind: kind.into(),
        maximum,
    };
    let answer = operator.clone().update_quota(request).await?.into_inner();
    Ok(answer.quota.unwrap())
}

async fn admin_key(operator: &Operator, id: &str, why: &str) -> Result<(pb::AccessKey, String), Status> {
    let request = pb::CreateAccountAdminKeyRequest {
        account_id: id.into(),
        description: why.into(),
        secret_sha256: Vec::new(),
    };
    let answer = operator.clone().create_account_admin_key(request).await?.into_inner();
    Ok((answer.access_key.unwrap(), answer.secret))
}

async fn describe(server: &TestServer, key: &str) -> Result<(), Status> {
    let mut client = server.client_with(Some(&format!("Bearer {key}")));
    let request = pb::DescribeServerCertificatesRequest::default();
    client.describe_server_certificates(request).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_created_listed_renamed_and_disabled() {
    let server = TestServer::start().await;
    let operator = operator(&server).await;
    let (shop, key) = create(&operator, "shop", &[]).await.unwrap();
    let (bank, _) = create(&operator, "銀行-1.a_b", &[]).await.unwrap();
    let client = server.client_with(Some(&format!("Bearer {key}")));
    let id = stored(&client, &upload_of(&pki::self_signed(Key::P256, "a.example"))).await;
    assert!(id.starts_with(&shop.account_id));
    for page_size in [0, 1, 2] {
        let listed = accounts(&operator, page_size).await;
        let shown: Vec<_> = listed
            .iter()
            .map(|account| {
                (
                    account.name.as_str(),
                    account.disabled,
                    account.server_certificate_count,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [("default", false, 0), ("shop", false, 1), ("銀行-1.a_b", false, 0)]
        );
        assert_eq!(listed[1].create_time, shop.create_time);
    }
    let exists = (Code::AlreadyExists, "ACCOUNT_EXISTS".to_owned());
    assert_eq!(refusal(create(&operator, "shop", &[]).await), exists);
    assert_eq!(
        refusal(update(&operator, &bank.account_id, Some("shop"), None).await),
        exists
    );
    for name in ["", "a b", "a/b", "a*", &"x".repeat(81)] {
        let invalid = (Code::InvalidArgument, "NAME_INVALID".to_owned());
        assert_eq!(refusal(create(&operator, name, &[]).await), invalid, "{name}");
        assert_eq!(
            refusal(update(&operator, &bank.account_id, Some(name), None).await),
            invalid
        );
    }
    let renamed = update(&operator, &shop.account_id, Some("store"), None).await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.server_certificate_count), ("store", 1));
    // Nothing changes, so nothing is audited.
    update(&operator, &shop.account_id, Some("store"), Some(false))
        .await
        .unwrap();

    describe(&server, &key).await.unwrap();
    assert!(
        update(&operator, &shop.account_id, None, Some(true))
            .await
            .unwrap()
            .disabled
    );
    let disabled = Instant::now();
    until(async || describe(&server, &key).await.is_err()).await;
    assert!(disabled.elapsed() < Duration::from_millis(2100));
    let refused = (Code::Unauthenticated, "ACCOUNT_DISABLED".to_owned());
    assert_eq!(refusal(describe(&server, &key).await), refused);
    update(&operator, &shop.account_id, None, Some(false)).await.unwrap();
    until(async || describe(&server, &key).await.is_ok()).await;

    let not_found = (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned());
    for id in ["0", "0000000000000000", "1000000000000001", "x"] {
        assert_eq!(
            refusal(update(&operator, id, None, Some(true)).await),
            not_found,
            "{id}"
        );
        assert_eq!(refusal(admin_key(&operator, id, "why").await), not_found, "{id}");
        let quota = set_quota(&operator, id, pb::QuotaKind::AccessKeys, Some(1)).await;
        assert_eq!(refusal(quota), not_found, "{id}");
        let request = pb::DescribeAccountQuotasRequest { account_id: id.into() };
        assert_eq!(
            refusal(operator.clone().describe_account_quotas(request).await),
            not_found
        );
    }
    // Both trails have each change: that of the account, and that of the operators.
    let events = audited(&server, &shop.account_id).await;
    let methods: Vec<_> = events.iter().map(|(method, ..)| method.as_str()).collect();
    let of_a_trail = ["CreateAccount", "UpdateAccount", "UpdateAccount", "UpdateAccount"];
    assert_eq!(methods, [of_a_trail, of_a_trail].concat());
    assert_eq!(events[1].3, serde_json::json!({"name": ["shop", "store"]}));
    assert_eq!(events[2].3, serde_json::json!({"disabled": [false, true]}));
    let (key_id, secret) = key.split_once('.').unwrap();
    assert_eq!(
        events[0].3,
        serde_json::json!({"name": [null, "shop"], "access_key_id": [null, key_id]})
    );
    let hash = hex::encode(certkeep::digest::sha256(secret.as_bytes()));
    assert!(
        events
            .iter()
            .all(|event| !event.3.to_string().contains(secret) && !event.3.to_string().contains(&hash))
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_the_hash_of_a_secret_is_created_once() {
    let server = TestServer::start().await;
    let operator = operator(&server).await;
    let hash = certkeep::digest::sha256(b"a-secret");
    let calls = (0..4).map(|_| {
        let operator = operator.clone();
        tokio::spawn(async move { create(&operator, "shop", &hash).await.unwrap() })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    answers.dedup();
    let [(_, key)] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    describe(&server, &format!("{key}a-secret")).await.unwrap();
    let exists = (Code::AlreadyExists, "ACCOUNT_EXISTS".to_owned());
    assert_eq!(refusal(create(&operator, "shop", &[7; 32]).await), exists);
    let invalid = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(create(&operator, "other", &[7; 31]).await), invalid);
    assert_eq!(accounts(&operator, 0).await.len(), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_lost_its_keys_gets_a_new_admin_key() {
    let server = TestServer::start().await;
    let operator = operator(&server).await;
    let (shop, _) = create(&operator, "shop", &[]).await.unwrap();
    let invalid = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    for why in ["", &"x".repeat(201)] {
        assert_eq!(refusal(admin_key(&operator, &shop.account_id, why).await), invalid);
    }
    let (key, secret) = admin_key(&operator, &shop.account_id, "ticket 7: laptop lost")
        .await
        .unwrap();
    assert_eq!(
        (key.role(), key.description.as_str()),
        (pb::Role::Admin, "ticket 7: laptop lost")
    );
    let text = format!("{}.{secret}", key.access_key_id);
    created(&admin(&server, &text), of_role(pb::Role::Reader)).await;
    let trails = "select array_agg(account_id order by account_id) from audit_event where resource_id = $1
                  and method = 'CreateAccountAdminKey'";
    let trails: Vec<i64> = server
        .sql()
        .await
        .query_one(trails, &[&key.access_key_id])
        .await
        .unwrap()
        .get(0);
    assert_eq!(trails, [0, shop.account_id.parse().unwrap()]);
    set_quota(&operator, &shop.account_id, pb::QuotaKind::AccessKeys, Some(3))
        .await
        .unwrap();
    let over = (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned());
    assert_eq!(refusal(admin_key(&operator, &shop.account_id, "again").await), over);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_from_the_next_call_on_until_it_is_removed() {
    let server = TestServer::start().await;
    let operator = operator(&server).await;
    let (shop, key) = create(&operator, "shop", &[]).await.unwrap();
    let id = shop.account_id.as_str();
    let client = server.client_with(Some(&format!("Bearer {key}")));
    let request = upload_of(&pki::self_signed(Key::P256, "a.example"));
    let kind = pb::QuotaKind::ServerCertificates;
    let quota = set_quota(&operator, id, kind, Some(1)).await.unwrap();
    assert_eq!((quota.maximum, quota.overridden, quota.uses.len()), (1, true, 0));
    stored(&client, &request).await;
    let over = (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned());
    assert_eq!(refusal(upload(&client, request.clone()).await), over);
    set_quota(&operator, id, kind, Some(2)).await.unwrap();
    set_quota(&operator, id, kind, Some(2)).await.unwrap();
    stored(&client, &request).await;
    let quota = set_quota(&operator, id, kind, None).await.unwrap();
    assert_eq!(
        (quota.maximum, quota.overridden, quota.uses[0].used),
        (10_000, false, 2)
    );
    stored(&client, &request).await;
    set_quota(&operator, id, pb::QuotaKind::CaCertificates, Some(0))
        .await
        .unwrap();

    let ask = pb::DescribeAccountQuotasRequest { account_id: id.into() };
    let of_operator = operator
        .clone()
        .describe_account_quotas(ask)
        .await
        .unwrap()
        .into_inner()
        .quotas;
    let of_admin = admin(&server, &key)
        .describe_quotas(pb::DescribeQuotasRequest {})
        .await
        .unwrap()
        .into_inner()
        .quotas;
    assert_eq!(of_operator, of_admin);
    let shown: Vec<_> = of_admin.iter().map(|quota| (quota.maximum, quota.overridden)).collect();
    assert_eq!(
        shown,
        [
            (10_000, false),
            (0, true),
            (1_000, false),
            (1_000_000, false),
            (1_000_000, false)
        ]
    );
    let invalid = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    for (kind, maximum) in [(kind, -1), (kind, 1_000_000_001), (pb::QuotaKind::Unspecified, 1)] {
        assert_eq!(refusal(set_quota(&operator, id, kind, Some(maximum)).await), invalid);
    }
    let events = audited(&server, id).await;
    let details: Vec<_> = events
        .iter()
        .filter(|event| event.0 == "UpdateQuota")
        .map(|event| &event.3)
        .collect();
    let of_a_trail = [
        serde_json::json!({"quota": "server", "maximum": [null, 1]}),
        serde_json::json!({"quota": "server", "maximum": [1, 2]}),
        serde_json::json!({"quota": "server", "maximum": [2, null]}),
        serde_json::json!({"quota": "ca", "maximum": [null, 0]}),
    ];
    assert_eq!(details, of_a_trail.iter().chain(&of_a_trail).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_key_is_recorded_in_the_background_and_at_a_stop() {
    let server = TestServer::start().await;
    let (key, text) = created(&first_admin(&server), of_role(pb::Role::Reader)).await;
    describe(&server, &text).await.unwrap();
    let sql = server.sql().await;
    let last = async || {
        let last = "select method || ' ' || host(address) from access_key_use where access_key_id = $1
                    and used_at between now() - interval '1 minute' and now()";
        let rows = sql.query(last, &[&key.access_key_id]).await.unwrap();
        rows.first().map(|row| row.get::<_, String>(0))
    };
    until(async || last().await.is_some()).await;
    assert_eq!(last().await.unwrap(), "DescribeServerCertificates 127.0.0.1");
    // Not for five minutes, and at a stop.
    let mut client = server.client_with(Some(&format!("Bearer {text}")));
    client
        .describe_regions(pb::DescribeRegionsRequest::default())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(last().await.unwrap(), "DescribeServerCertificates 127.0.0.1");
    server.stop().await;
    assert_eq!(last().await.unwrap(), "DescribeRegions 127.0.0.1");
}

/// A key that was used, and is deleted before its use is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_a_deleted_key_is_left_out() {
    let server = TestServer::start().await;
    let (gone, text) = created(&first_admin(&server), of_role(pb::Role::Reader)).await;
    let sql = server.sql().await;
    // The row is locked, so the job waits for the end of the deletion.
    sql.batch_execute("begin").await.unwrap();
    let delete = "delete from access_key where access_key_id = $1";
    describe(&server, &text).await.unwrap();
    assert_eq!(sql.execute(delete, &[&gone.access_key_id]).await.unwrap(), 1);
    crate::harness::until_waiting(&sql, "store::record_uses_of_all_accounts", 1).await;
    sql.batch_execute("commit").await.unwrap();
    let uses = "select count(*) from access_key_use where access_key_id <> $1";
    until(async || {
        sql.query_one(uses, &[&gone.access_key_id])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 1
    })
    .await;
    server.stop().await;
}
