//! Client certificates on the gRPC listener, over real TLS.

use std::path::Path;
use std::time::{Duration, Instant};

use certkeep::clock;
use certkeep::config::TlsFiles;
use certkeep::grpc::pb;
use certkeep::grpc::pb::ClientIdentityKind::{self, DnsName, SpiffeId, Subject};
use certkeep::grpc::pb::admin_service_client::AdminServiceClient;
use certkeep::grpc::pb::operator_service_client::OperatorServiceClient;
use tempfile::TempDir;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::bad_input::reason;
use crate::harness::{Account, Bearer, TestServer, bearer, temp_dir, until};
use crate::pki::{self, ClientAuthority, Key, Pair, San};
use crate::process::{certkeep, stderr, stdout};

const NAME: &str = "certkeep.example";

/// A server that asks its clients for certificates, and the directory of its TLS files.
struct Fixture {
    server: TestServer,
    listener: Pair,
    dir: TempDir,
}

impl Fixture {
    async fn start(authorities: &[&ClientAuthority]) -> Self {
        let (dir, listener) = (temp_dir(), pki::self_signed(Key::P256, NAME));
        let path = |name: &str| dir.path().join(name);
        crate::harness::write_secret(path("tls-key.pem"), &listener.key);
        std::fs::write(path("tls.pem"), &listener.certificate).unwrap();
        trust(dir.path(), authorities);
        let tls = TlsFiles {
            certificate: path("tls.pem"),
            private_key: path("tls-key.pem"),
            client_ca: Some(path("client-ca.pem")),
        };
        let server = TestServer::start_with(|config| config.tls = Some(tls)).await;
        Self { server, listener, dir }
    }

    /// A new connection, with this client certificate.
    fn channel(&self, certificate: Option<&Pair>) -> Channel {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.listener.certificate))
            .domain_name(NAME);
        if let Some(pair) = certificate {
            tls = tls.identity(Identity::from_pem(&pair.certificate, &pair.key));
        }
        Endpoint::from_shared(format!("https://{}", self.server.address()))
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect_lazy()
    }

    /// Who the caller is with the admin's access key and this client certificate.
    async fn admin_with(&self, certificate: Option<&Pair>) -> Result<pb::DescribeCallerResponse, Status> {
        let channel = self.channel(certificate);
        let mut client = AdminServiceClient::with_interceptor(channel, bearer(self.server.admin_key()));
        let answer = client.describe_caller(pb::DescribeCallerRequest {}).await?;
        Ok(answer.into_inner())
    }
}

/// Writes the bundle of client authorities.
fn trust(dir: &Path, authorities: &[&ClientAuthority]) {
    let bundle: String = authorities
        .iter()
        .map(|authority| pki::pem(&authority.certificate))
        .collect();
    std::fs::write(dir.join("client-ca.pem"), bundle).unwrap();
}

fn seconds_from_now(seconds: i64) -> i64 {
    clock::now().millis() / 1000 + seconds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_optional_and_must_verify() {
    let (authority, stranger) = (ClientAuthority::new("Clients"), ClientAuthority::new("Clients"));
    let fixture = Fixture::start(&[&authority]).await;
    fixture.admin_with(None).await.unwrap();
    let names = [San::Dns("client.example"), San::Uri("spiffe://example.org/client")];
    fixture
        .admin_with(Some(&authority.issue("client", &names)))
        .await
        .unwrap();
    for refused in [
        stranger.issue("client", &names),
        authority.issue_until("client", &names, seconds_from_now(-60)),
        pki::self_signed(Key::P256, "client.example"),
    ] {
        let status = fixture.admin_with(Some(&refused)).await.unwrap_err();
        assert!(status.details().is_empty(), "the handshake ends: {status}");
    }
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_client_authorities_are_used_within_seconds_and_broken_ones_are_not() {
    let (first, second) = (ClientAuthority::new("First"), ClientAuthority::new("Second"));
    let fixture = Fixture::start(&[&first]).await;
    let of_first = first.issue("client", &[]);
    let of_second = second.issue("client", &[]);
    fixture.admin_with(Some(&of_second)).await.unwrap_err();

    // The old bundle is still used. certkeep looks at the files every second.
    std::fs::write(fixture.dir.path().join("client-ca.pem"), "broken").unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    fixture.admin_with(Some(&of_first)).await.unwrap();

    trust(fixture.dir.path(), &[&first, &second]);
    until(async || fixture.admin_with(Some(&of_second)).await.is_ok()).await;
    fixture.admin_with(Some(&of_first)).await.unwrap();

    trust(fixture.dir.path(), &[&second]);
    until(async || fixture.admin_with(Some(&of_first)).await.is_err()).await;
    fixture.admin_with(Some(&of_second)).await.unwrap();
    fixture.server.stop().await;
}

impl Fixture {
    /// Who the caller is with this client certificate alone.
    async fn who(&self, certificate: &Pair) -> Result<pb::DescribeCallerResponse, Status> {
        let mut client = AdminServiceClient::new(self.channel(Some(certificate)));
        let answer = client.describe_caller(pb::DescribeCallerRequest {}).await?;
        Ok(answer.into_inner())
    }

    /// Who the caller is with this client certificate and this access key.
    async fn who_with(&self, certificate: &Pair, key: &str) -> Result<pb::DescribeCallerResponse, Status> {
        let mut client = AdminServiceClient::with_interceptor(self.channel(Some(certificate)), bearer(key));
        let answer = client.describe_caller(pb::DescribeCallerRequest {}).await?;
        Ok(answer.into_inner())
    }

    async fn operator(&self) -> Operator {
        let key = self.server.add_key("operator", Account::Operators).await;
        OperatorServiceClient::with_interceptor(self.channel(None), bearer(&key))
    }

    /// The id of the account of an access key.
    async fn account_of(&self, key: &str) -> String {
        let (id, _) = key.split_once('.').unwrap();
        let account = "select account_id::text from access_key where access_key_id = $1";
        let row = self.server.sql().await.query_one(account, &[&id]).await.unwrap();
        row.get(0)
    }

    /// The id of the first account.
    async fn account(&self) -> String {
        self.account_of(self.server.admin_key()).await
    }
}

type Operator = OperatorServiceClient<InterceptedService<Channel, Bearer>>;

fn identity(
    kind: ClientIdentityKind,
    value: &str,
    account_id: &str,
    role: pb::Role,
) -> pb::CreateClientIdentityRequest {
    pb::CreateClientIdentityRequest {
        kind: kind.into(),
        value: value.to_owned(),
        account_id: account_id.to_owned(),
        role: role.into(),
        scope: None,
    }
}

async fn create(operator: &Operator, request: &pb::CreateClientIdentityRequest) -> Result<pb::ClientIdentity, Status> {
    let answer = operator.clone().create_client_identity(request.clone()).await?;
    Ok(answer.into_inner().client_identity.unwrap())
}

async fn delete(operator: &Operator, kind: ClientIdentityKind, value: &str) -> Result<(), Status> {
    let request = pb::DeleteClientIdentityRequest {
        kind: kind.into(),
        value: value.to_owned(),
    };
    operator.clone().delete_client_identity(request).await.map(|_| ())
}

fn code_and_reason(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_name_identifies_a_caller() {
    let authority = ClientAuthority::new("Clients");
    let fixture = Fixture::start(&[&authority]).await;
    let (operator, account) = (fixture.operator().await, fixture.account().await);
    let spiffe = San::Uri("spiffe://example.org/ns/shop/web");
    for (kind, value, role, certificate, principal) in [
        (
            SpiffeId,
            "spiffe://example.org/ns/shop/web",
            pb::Role::Admin,
            authority.issue("a", &[spiffe]),
            "spiffe://example.org/ns/shop/web",
        ),
        (
            DnsName,
            "Web.example",
            pb::Role::Editor,
            authority.issue("b", &[San::Dns("other.example"), San::Dns("WEB.example")]),
            "dns_name:web.example",
        ),
        (
            Subject,
            "CN=c",
            pb::Role::Reader,
            authority.issue("c", &[]),
            "subject:CN=c",
        ),
    ] {
        let created = create(&operator, &identity(kind, value, &account, role)).await.unwrap();
        assert_eq!((created.role(), created.account_id.as_str()), (role, account.as_str()));
        let who = fixture.who(&certificate).await.unwrap();
        assert_eq!(
            (
                who.principal.as_str(),
                who.client_identity.as_str(),
                who.access_key_id.as_str()
            ),
            (principal, principal, "")
        );
        assert_eq!((who.account_id.as_str(), who.role()), (account.as_str(), role));
        assert_eq!(who.expire_time.unwrap().seconds, 4_000_000_000);
    }
    // The SPIFFE ID comes before the DNS name, and that before the subject.
    let web = authority.issue("c", &[San::Dns("web.example"), spiffe]);
    assert_eq!(fixture.who(&web).await.unwrap().role(), pb::Role::Admin);
    let web = authority.issue("c", &[San::Dns("web.example")]);
    assert_eq!(fixture.who(&web).await.unwrap().role(), pb::Role::Editor);
    // Two URIs are no SPIFFE ID.
    let two = authority.issue("c", &[spiffe, San::Uri("https://example.org/")]);
    assert_eq!(fixture.who(&two).await.unwrap().principal, "subject:CN=c");
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spiffe_pattern_stands_for_all_ids_below_and_the_longest_match_wins() {
    let authority = ClientAuthority::new("Clients");
    let fixture = Fixture::start(&[&authority]).await;
    let (operator, account) = (fixture.operator().await, fixture.account().await);
    for (value, role) in [
        ("spiffe://example.org/*", pb::Role::Reader),
        ("spiffe://example.org/ns/shop/*", pb::Role::Editor),
        ("spiffe://example.org/ns/shop/web", pb::Role::Admin),
    ] {
        create(&operator, &identity(SpiffeId, value, &account, role))
            .await
            .unwrap();
    }
    for (id, role) in [
        ("spiffe://example.org/x", Some(pb::Role::Reader)),
        ("spiffe://example.org/ns/shop", Some(pb::Role::Reader)),
        ("spiffe://example.org/ns/shop/api/v2", Some(pb::Role::Editor)),
        ("spiffe://example.org/ns/shop/web", Some(pb::Role::Admin)),
        ("spiffe://example.org/ns/shop/website", Some(pb::Role::Editor)),
        ("spiffe://other.example.org/x", None),
        ("spiffe://example.org/ns/../x", None),
    ] {
        let who = fixture.who(&authority.issue("client", &[San::Uri(id)])).await;
        match role {
            Some(role) => {
                let who = who.unwrap();
                assert_eq!((who.principal.as_str(), who.role()), (id, role));
            }
            None => assert_eq!(reason(&who.unwrap_err()), "CLIENT_IDENTITY_UNKNOWN", "{id}"),
        }
    }
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_names_of_different_identities_are_ambiguous() {
    let authority = ClientAuthority::new("Clients");
    let fixture = Fixture::start(&[&authority]).await;
    let (operator, account) = (fixture.operator().await, fixture.account().await);
    for (name, role) in [
        ("a.example", pb::Role::Reader),
        ("b.example", pb::Role::Editor),
        ("c.example", pb::Role::Reader),
    ] {
        create(&operator, &identity(DnsName, name, &account, role))
            .await
            .unwrap();
    }
    let ambiguous = authority.issue("client", &[San::Dns("a.example"), San::Dns("b.example")]);
    let expected = (Code::Unauthenticated, "CLIENT_IDENTITY_AMBIGUOUS".to_owned());
    assert_eq!(code_and_reason(&fixture.who(&ambiguous).await.unwrap_err()), expected);
    let refused = fixture.admin_with(Some(&ambiguous)).await.unwrap_err();
    assert_eq!(code_and_reason(&refused), expected, "an access key does not help");
    let same = authority.issue("client", &[San::Dns("c.example"), San::Dns("a.example")]);
    assert_eq!(fixture.who(&same).await.unwrap().principal, "dns_name:c.example");
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_certificate_needs_an_access_key() {
    let authority = ClientAuthority::new("Clients");
    let fixture = Fixture::start(&[&authority]).await;
    let names = [
        San::Dns("a.example"),
        San::Uri("spiffe://example.org/web"),
        San::Dns("b.example"),
    ];
    let unknown = authority.issue("client", &names);
    let refused = fixture.who(&unknown).await.unwrap_err();
    assert_eq!(
        code_and_reason(&refused),
        (Code::Unauthenticated, "CLIENT_IDENTITY_UNKNOWN".to_owned())
    );
    // An operator needs these names to create a client identity.
    let details = refused.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!(metadata["spiffe_id"], "spiffe://example.org/web");
    assert_eq!(metadata["dns_name"], "a.example b.example");
    assert_eq!(metadata["subject"], "CN=client");
    let who = fixture.admin_with(Some(&unknown)).await.unwrap();
    assert_eq!((who.client_identity.as_str(), who.role()), ("", pb::Role::Admin));
    // A text that is no access key is not ignored.
    let broken = fixture.who_with(&unknown, "nonsense").await.unwrap_err();
    assert_eq!(reason(&broken), "UNAUTHENTICATED");
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_is_known_and_unknown_again_within_two_seconds() {
    let authority = ClientAuthority::new("Clients");
    let fixture = Fixture::start(&[&authority]).await;
    let (operator, account) = (fixture.operator().await, fixture.account().await);
    let client = authority.issue("client", &[]);
    fixture.who(&client).await.unwrap_err();
    create(&operator, &identity(Subject, "CN=client", &account, pb::Role::Reader))
        .await
        .unwrap();
    let changed = Instant::now();
    until(async || fixture.who(&client).await.is_ok()).await;
    assert!(
        changed.elapsed() < Duration::from_millis(2500),
        "{:?}",
        changed.elapsed()
    );

    let disable = format!("update account set disabled = true where account_id = {account}");
    let enable = format!("update account set disabled = false where account_id = {account}");
    let sql = fixture.server.sql().await;
    sql.execute(&disable, &[]).await.unwrap();
    until(async || {
        fixture
            .who(&client)
            .await
            .is_err_and(|refused| reason(&refused) == "ACCOUNT_DISABLED")
    })
    .await;
    sql.execute(&enable, &[]).await.unwrap();
    until(async || fixture.who(&client).await.is_ok()).await;

    delete(&operator, Subject, "CN=client").await.unwrap();
    let changed = Instant::now();
    until(async || fixture.who(&client).await.is_err()).await;
    assert!(
        changed.elapsed() < Duration::from_millis(2500),
        "{:?}",
        changed.elapsed()
    );
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_an_identity_together_have_what_both_have() {
    let authority = ClientAuthority::new("Clients");
    let fixture = Fixture::start(&[&authority]).await;
    let (operator, account) = (fixture.operator().await, fixture.account().await);
    let scoped = pb::Scope {
        region_ids: vec!["cn-hangzhou".to_owned(), "cn-beijing".to_owned()],
        resource_group_ids: Vec::new(),
        name_prefixes: vec!["shop-".to_owned()],
    };
    let request = pb::CreateClientIdentityRequest {
        scope: Some(scoped.clone()),
        ..identity(Subject, "CN=editor", &account, pb::Role::Editor)
    };
    assert_eq!(create(&operator, &request).await.unwrap().scope, Some(scoped.clone()));
    let editor = authority.issue("editor", &[]);

    let who = fixture.admin_with(Some(&editor)).await.unwrap();
    let (id, _) = fixture.server.admin_key().split_once('.').unwrap();
    assert_eq!(who.principal, format!("{id} subject:CN=editor"));
    assert_eq!(
        (who.access_key_id.as_str(), who.client_identity.as_str()),
        (id, "subject:CN=editor")
    );
    assert_eq!((who.role(), who.scope), (pb::Role::Editor, Some(scoped)));

    let reader = fixture.server.add_key("reader", Account::First).await;
    let narrow = "update access_key set scope_region_ids = '{cn-beijing}', scope_name_prefixes = '{shop-eu-,pay-}'
                  where role = 'reader'";
    let sql = fixture.server.sql().await;
    sql.execute(narrow, &[]).await.unwrap();
    let who = fixture.who_with(&editor, &reader).await.unwrap();
    let both = pb::Scope {
        region_ids: vec!["cn-beijing".to_owned()],
        resource_group_ids: Vec::new(),
        name_prefixes: vec!["shop-eu-".to_owned()],
    };
    assert_eq!((who.role(), who.scope), (pb::Role::Reader, Some(both)));

    let elsewhere = fixture.server.add_key("admin", Account::New).await;
    let consumer = fixture.server.add_key("consumer", Account::First).await;
    let other_region = fixture.server.add_key("admin", Account::First).await;
    let (other_id, _) = other_region.split_once('.').unwrap();
    let move_away = "update access_key set scope_region_ids = '{cn-shanghai}' where access_key_id = $1";
    sql.execute(move_away, &[&other_id]).await.unwrap();
    for (key, word) in [
        (&elsewhere, "accounts"),
        (&consumer, "roles"),
        (&other_region, "scopes"),
    ] {
        let refused = fixture.who_with(&editor, key).await.unwrap_err();
        assert_eq!(
            code_and_reason(&refused),
            (Code::PermissionDenied, "CREDENTIALS_CONFLICT".to_owned())
        );
        assert!(refused.message().contains(word), "{refused}");
    }
    // The trail of the account shows the conflict.
    let denied =
        "select 1 from audit_event where outcome = 'denied' and reason = 'CREDENTIALS_CONFLICT' and principal = $1";
    until(async || sql.query_opt(denied, &[&other_id]).await.unwrap().is_some()).await;
    let wrong = fixture
        .who_with(&editor, &format!("{id}.{}", "A".repeat(43)))
        .await
        .unwrap_err();
    assert_eq!(
        reason(&wrong),
        "UNAUTHENTICATED",
        "an identity does not replace the secret"
    );
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expires_during_a_connection_ends_its_calls() {
    let authority = ClientAuthority::new("Clients");
    let fixture = Fixture::start(&[&authority]).await;
    let (operator, account) = (fixture.operator().await, fixture.account().await);
    create(&operator, &identity(Subject, "CN=client", &account, pb::Role::Reader))
        .await
        .unwrap();
    let client = authority.issue_until("client", &[], seconds_from_now(4));
    let mut open = AdminServiceClient::new(fixture.channel(Some(&client)));
    open.describe_caller(pb::DescribeCallerRequest {}).await.unwrap();
    let mut refused = None;
    until(async || {
        refused = open.describe_caller(pb::DescribeCallerRequest {}).await.err();
        tokio::time::sleep(Duration::from_millis(100)).await;
        refused.is_some()
    })
    .await;
    assert_eq!(
        code_and_reason(&refused.unwrap()),
        (Code::Unauthenticated, "CLIENT_CERTIFICATE_EXPIRED".to_owned())
    );
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_create_list_and_delete_client_identities() {
    let authority = ClientAuthority::new("Clients");
    let fixture = Fixture::start(&[&authority]).await;
    let (operator, account) = (fixture.operator().await, fixture.account().await);
    let other = fixture.server.add_key("admin", Account::New).await;
    let other = fixture.account_of(&other).await;
    let good = identity(SpiffeId, "spiffe://example.org/web", &account, pb::Role::Reader);
    let scope = |regions: &[&str], groups: &[&str], prefixes: &[&str]| {
        let list = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Some(pb::Scope {
            region_ids: list(regions),
            resource_group_ids: list(groups),
            name_prefixes: list(prefixes),
        })
    };
    for (request, expected) in [
        (
            identity(ClientIdentityKind::Unspecified, "a", &account, pb::Role::Reader),
            "FIELD_INVALID",
        ),
        (identity(SpiffeId, "", &account, pb::Role::Reader), "FIELD_INVALID"),
        (
            identity(SpiffeId, "spiffe://example.org", &account, pb::Role::Reader),
            "FIELD_INVALID",
        ),
        (
            identity(SpiffeId, "spiffe://*", &account, pb::Role::Reader),
            "FIELD_INVALID",
        ),
        (
            identity(DnsName, "*.example", &account, pb::Role::Reader),
            "FIELD_INVALID",
        ),
        (
            identity(Subject, "CN=a, O=b", &account, pb::Role::Reader),
            "FIELD_INVALID",
        ),
        (
            identity(Subject, "CN=a\u{0}", &account, pb::Role::Reader),
            "FIELD_INVALID",
        ),
        (identity(DnsName, "a.example", "", pb::Role::Reader), "FIELD_INVALID"),
        (
            identity(DnsName, "a.example", &account, pb::Role::Unspecified),
            "FIELD_INVALID",
        ),
        (
            identity(DnsName, "a.example", &account, pb::Role::Operator),
            "FIELD_INVALID",
        ),
        (
            identity(DnsName, "a.example", "0", pb::Role::Reader),
            "ACCOUNT_NOT_FOUND",
        ),
        (
            identity(DnsName, "a.example", "9999999999999999", pb::Role::Reader),
            "ACCOUNT_NOT_FOUND",
        ),
        (
            pb::CreateClientIdentityRequest {
                scope: scope(&["nowhere"], &[], &[]),
                ..good.clone()
            },
            "REGION_NOT_FOUND",
        ),
        (
            pb::CreateClientIdentityRequest {
                scope: scope(&[], &["rg-0"], &[]),
                ..good.clone()
            },
            "RESOURCE_GROUP_NOT_FOUND",
        ),
        (
            pb::CreateClientIdentityRequest {
                scope: scope(&[], &[], &["a b"]),
                ..good.clone()
            },
            "FIELD_INVALID",
        ),
        (
            pb::CreateClientIdentityRequest {
                scope: scope(&[], &[], &["a"; 21]),
                ..good.clone()
            },
            "FIELD_INVALID",
        ),
    ] {
        let refused = create(&operator, &request).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{request:?}");
    }

    let created = create(&operator, &good).await.unwrap();
    assert!(created.created_by.starts_with("ck") && created.create_time.is_some());
    assert_eq!(
        create(&operator, &good).await.unwrap(),
        created,
        "the call can be repeated"
    );
    for taken in [
        pb::CreateClientIdentityRequest {
            role: pb::Role::Admin.into(),
            ..good.clone()
        },
        pb::CreateClientIdentityRequest {
            account_id: other.clone(),
            ..good.clone()
        },
        pb::CreateClientIdentityRequest {
            scope: scope(&[], &[], &["a"]),
            ..good.clone()
        },
    ] {
        let refused = create(&operator, &taken).await.unwrap_err();
        assert_eq!(
            code_and_reason(&refused),
            (Code::AlreadyExists, "CLIENT_IDENTITY_EXISTS".to_owned())
        );
    }
    for name in ["b.example", "a.example"] {
        create(&operator, &identity(DnsName, name, &other, pb::Role::Reader))
            .await
            .unwrap();
    }
    let list = async |account_id: &str| {
        let (mut values, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListClientIdentitiesRequest {
                account_id: account_id.to_owned(),
                page_size: 1,
                page_token,
            };
            let page = operator
                .clone()
                .list_client_identities(request)
                .await
                .unwrap()
                .into_inner();
            values.extend(page.client_identities.into_iter().map(|identity| identity.value));
            if page.next_page_token.is_empty() {
                return values;
            }
            page_token = page.next_page_token;
        }
    };
    assert_eq!(list("").await, ["a.example", "b.example", "spiffe://example.org/web"]);
    assert_eq!(list(&other).await, ["a.example", "b.example"]);
    delete(&operator, DnsName, "A.example").await.unwrap();
    let gone = delete(&operator, DnsName, "a.example").await.unwrap_err();
    assert_eq!(
        code_and_reason(&gone),
        (Code::NotFound, "CLIENT_IDENTITY_NOT_FOUND".to_owned())
    );
    assert_eq!(list(&other).await, ["b.example"]);

    // Each change is in the trail of its account and in the trail of the operators.
    let audited = "select account_id::text, method, resource_id, detail->>'role' from audit_event
                   where resource_type = 'client_identity' and resource_id = 'dns_name:a.example' order by account_id, position";
    let rows = fixture.server.sql().await.query(audited, &[]).await.unwrap();
    let shown: Vec<_> = rows
        .iter()
        .map(|row| [row.get::<_, String>(0), row.get(1), row.get(3)])
        .collect();
    let (made, removed) = ("[null, \"reader\"]", "[\"reader\", null]");
    assert_eq!(
        shown,
        [
            ["0", "CreateClientIdentity", made],
            ["0", "DeleteClientIdentity", removed],
            [&other, "CreateClientIdentity", made],
            [&other, "DeleteClientIdentity", removed],
        ]
    );
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_manages_client_identities_and_uses_one() {
    let authority = ClientAuthority::new("Clients");
    let fixture = Fixture::start(&[&authority]).await;
    let account = fixture.account().await;
    let path = |name: &str| fixture.dir.path().join(name).to_str().unwrap().to_owned();
    let operator = fixture.server.add_key("operator", Account::Operators).await;
    crate::harness::write_secret(path("operator.key"), operator);
    let client = authority.issue("client", &[San::Uri("spiffe://example.org/web")]);
    std::fs::write(path("client.pem"), &client.certificate).unwrap();
    crate::harness::write_secret(path("client-key.pem"), &client.key);
    // The listener's certificate has the name that the client expects.
    let localhost = pki::self_signed(Key::P256, "localhost");
    crate::harness::write_secret(path("tls-key.pem"), &localhost.key);
    std::fs::write(path("tls.pem"), &localhost.certificate).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;

    let endpoint = format!("https://localhost:{}", fixture.server.address().port());
    let run = |args: &[&str]| {
        let tls = ["--endpoint", &endpoint, "--ca-file", &path("tls.pem")];
        certkeep(&[args, &tls].concat())
    };
    let as_operator = ["--access-key-file", &path("operator.key")];
    let as_client = [
        "--client-cert",
        &path("client.pem"),
        "--client-key",
        &path("client-key.pem"),
    ];
    let refused = run(&[&["whoami"], &as_client[..]].concat());
    assert!(
        stderr(&refused).contains("CLIENT_IDENTITY_UNKNOWN"),
        "{}",
        stderr(&refused)
    );

    let name = ["--spiffe-id", "spiffe://example.org/*"];
    let create = [
        &["identity", "create"],
        &name[..],
        &["--account", &account, "--role", "editor"],
    ]
    .concat();
    let scope = ["--scope-region", "cn-hangzhou", "--scope-name-prefix", "shop-"];
    let created = run(&[&create, &scope[..], &as_operator].concat());
    assert!(created.status.success(), "{}", stderr(&created));
    assert!(
        stdout(&created).contains("scope         regions cn-hangzhou; names shop-"),
        "{}",
        stdout(&created)
    );
    let listed = run(&[&["identity", "list"], &as_operator[..]].concat());
    assert!(
        stdout(&listed).contains("spiffe://example.org/*  SPIFFE ID  "),
        "{}",
        stdout(&listed)
    );
    until(async || run(&[&["whoami"], &as_client[..]].concat()).status.success()).await;
    let who = stdout(&run(&[&["whoami"], &as_client[..]].concat()));
    assert!(
        who.contains("identity      spiffe://example.org/web\nrole          editor\n") && !who.contains("access key"),
        "{who}"
    );
    let deleted = run(&[&["identity", "delete"], &name[..], &as_operator].concat());
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    let half = run(&["whoami", "--client-cert", &path("client.pem")]);
    assert_eq!(half.status.code(), Some(2));
    fixture.server.stop().await;
}
