//! Envoy's SecretDiscoveryService with a client made by hand, which does what the available Envoys do not.

use std::collections::HashMap;
use std::time::Duration;

use certkeep::grpc::envoy::config::core::v3::Node;
use certkeep::grpc::envoy::config::core::v3::data_source::Specifier;
use certkeep::grpc::envoy::extensions::transport_sockets::tls::v3::Secret;
use certkeep::grpc::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use certkeep::grpc::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use certkeep::grpc::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use certkeep::grpc::pb;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::bad_input::reason;
use crate::envoy::{delete, upload};
use crate::harness::{Account, Bearer, REGION, TestServer, bearer, until};
use crate::pki::{self, Key};
use crate::scope::Limits;

type Client = SecretDiscoveryServiceClient<InterceptedService<Channel, Bearer>>;

fn client(server: &TestServer, key: &str) -> Client {
    SecretDiscoveryServiceClient::with_interceptor(server.channel(), bearer(key))
}

/// A proxy that refuses the secret with this name.
pub async fn refuse(channel: Channel, key: &str, name: &str) {
    let mut stream = Delta::open_on(channel, key, subscribe(&[name])).await;
    let (_, _, nonce) = stream.secret().await;
    stream.send(answer(&nonce, Some("unfit"))).await;
    stream.is_quiet("x1").await;
}

/// A stream in the incremental form.
struct Delta {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

fn node() -> Option<Node> {
    Some(Node {
        id: "by-hand".to_owned(),
        ..Default::default()
    })
}

fn subscribe(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: node(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

fn answer(nonce: &str, refusal: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        response_nonce: nonce.to_owned(),
        error_detail: refusal.map(|message| tonic_types::Status {
            code: 13,
            message: message.to_owned(),
            details: Vec::new(),
        }),
        ..Default::default()
    }
}

impl Delta {
    async fn open(server: &TestServer, key: &str, first: DeltaDiscoveryRequest) -> Self {
        Self::open_on(server.channel(), key, first).await
    }

    async fn open_on(channel: Channel, key: &str, first: DeltaDiscoveryRequest) -> Self {
        let (requests, sent) = mpsc::channel(16);
        requests.send(first).await.unwrap();
        let mut client = SecretDiscoveryServiceClient::with_interceptor(channel, bearer(key));
        let responses = client.delta_secrets(ReceiverStream::new(sent)).await.unwrap();
        Self {
            requests,
            responses: responses.into_inner(),
        }
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.responses.message()).await;
        next.expect("there is a response")
            .map(|response| response.expect("the stream goes on"))
    }

    /// The status that ends the stream.
    async fn refused(&mut self) -> Status {
        self.next().await.err().expect("the stream ends with an error")
    }

    /// The name and the version of the next secret, and the nonce.
    async fn secret(&mut self) -> (String, String, String) {
        let response = self.next().await.unwrap();
        assert_eq!((response.resources.len(), response.removed_resources.len()), (1, 0));
        let resource = &response.resources[0];
        let secret = Secret::decode(&resource.resource.as_ref().unwrap().value[..]).unwrap();
        assert_eq!(secret.name, resource.name);
        (resource.name.clone(), resource.version.clone(), response.nonce)
    }

    /// The names of the next removal, and the nonce.
    async fn removed(&mut self) -> (Vec<String>, String) {
        let response = self.next().await.unwrap();
        assert_eq!(response.resources.len(), 0);
        (response.removed_resources, response.nonce)
    }

    /// Nothing more comes for everything that was sent until now: the answer to this name, which is unknown, is the next message.
    async fn is_quiet(&mut self, unknown: &str) {
        self.send(subscribe(&[unknown])).await;
        assert_eq!(self.removed().await.0, [unknown]);
    }
}

/// The version of a secret that is one certificate.
fn version(id: &str, number: i64) -> String {
    format!("{id}/{number}")
}

async fn server_and_key() -> (TestServer, String) {
    let server = TestServer::start().await;
    let key = server.add_key("consumer", Account::First).await;
    (server, key)
}

async fn deliveries(server: &TestServer) -> i64 {
    let count = "select count(*) from audit_event where outcome = 'delivered'";
    server.sql().await.query_one(count, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_told_once_and_its_refusal_changes_nothing() {
    let (server, key) = server_and_key().await;
    let mut stream = Delta::open(&server, &key, subscribe(&["web"])).await;
    let (names, nonce) = stream.removed().await;
    assert_eq!(names, ["web"]);
    // Envoy before 1.30 refuses a response without resources.
    stream.send(answer(&nonce, Some("no resources"))).await;
    stream.is_quiet("x1").await;

    let id = upload(&server, "web", &pki::self_signed(Key::P256, "web.example")).await;
    let (name, now, nonce) = stream.secret().await;
    assert_eq!((name, now), ("web".to_owned(), version(&id, 1)));
    stream.send(answer(&nonce, None)).await;
    // Any nonce, and a list that repeats nothing.
    stream.send(answer("of another stream", None)).await;
    stream.is_quiet("x2").await;
    // A rename of another certificate to this name makes the name ambiguous. The proxy keeps what it has.
    let other = upload(&server, "other", &pki::self_signed(Key::P256, "other.example")).await;
    rename(&server, &other, "web").await;
    stream.is_quiet("x3").await;
    // The proxy also gets its renewals.
    crate::envoy::renew(&server, &id, &pki::self_signed(Key::P256, "new.example")).await;
    let (name, sent, nonce) = stream.secret().await;
    assert_eq!((name.as_str(), sent), ("web", version(&id, 2)));
    stream.send(answer(&nonce, None)).await;
    rename(&server, &other, "other").await;
    delete(&server, &id).await;
    let (names, nonce) = stream.removed().await;
    assert_eq!(names, ["web"]);
    stream.send(answer(&nonce, Some("no resources"))).await;
    stream.is_quiet("x4").await;
    assert_eq!(deliveries(&server).await, 2);
    server.stop().await;
}

async fn rename(server: &TestServer, id: &str, name: &str) {
    let request = pb::SetServerCertificateNameRequest {
        region_id: REGION.to_owned(),
        server_certificate_id: id.to_owned(),
        server_certificate_name: name.to_owned(),
        ..Default::default()
    };
    server.client().set_server_certificate_name(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_continues_gets_only_what_is_new() {
    let (server, key) = server_and_key().await;
    let pair = pki::self_signed(Key::P256, "web.example");
    let id = upload(&server, "web", &pair).await;
    let mut first = Delta::open(&server, &key, subscribe(&[&id, "web", "www.web.example"])).await;
    let mut got = HashMap::new();
    for _ in 0..3 {
        let (name, version, nonce) = first.secret().await;
        first.send(answer(&nonce, None)).await;
        got.insert(name, version);
    }
    // All three names mean the same certificate. A rename changes no version.
    assert_eq!(got.values().collect::<Vec<_>>(), vec![&version(&id, 1); 3]);
    drop(first);
    let mut known = got.clone();
    known.insert("web".to_owned(), version(&id, 7));
    let again = DeltaDiscoveryRequest {
        initial_resource_versions: known,
        ..subscribe(&[&id, "web", "www.web.example"])
    };
    // On another replica too.
    let replica = server.replica(|_| {}).await;
    let mut second = Delta::open(&replica, &key, again).await;
    let (name, _, nonce) = second.secret().await;
    assert_eq!(name, "web");
    second.send(answer(&nonce, None)).await;
    second.is_quiet("x1").await;
    // It holds the certificate, although it was sent only one of the three.
    let held = "select count(*) from lease join holder using (holder_id) where name = 'by-hand' and served_version = 1";
    let sql = server.sql().await;
    until(async || sql.query_one(held, &[]).await.unwrap().get::<_, i64>(0) == 1).await;
    // It asks again for what it has lost, and no longer for the rest.
    second
        .send(DeltaDiscoveryRequest {
            resource_names_unsubscribe: vec![id.clone()],
            ..subscribe(&["www.web.example"])
        })
        .await;
    assert_eq!(second.secret().await.0, "www.web.example");
    assert_eq!(deliveries(&server).await, 5);
    drop(second);
    until(async || sql.query_one(held, &[]).await.unwrap().get::<_, i64>(0) == 0).await;
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_has_all_authorities_of_a_name() {
    let (server, key) = server_and_key().await;
    let add = async |name: &str| {
        let request = pb::UploadCaCertificateRequest {
            region_id: REGION.to_owned(),
            ca_certificate: pki::root(name).certificate,
            ca_certificate_name: "partners".to_owned(),
            ..Default::default()
        };
        let added = server.client().upload_ca_certificate(request).await.unwrap();
        added.into_inner().ca_certificate_id
    };
    let one = add("Root 1").await;
    let mut stream = Delta::open(&server, &key, subscribe(&["ca/partners"])).await;
    let (_, first, nonce) = stream.secret().await;
    assert_eq!(first, version(&one, 1));
    stream.send(answer(&nonce, None)).await;
    add("Root 2").await;
    let (_, second, _) = stream.secret().await;
    assert_eq!((second.len(), second.contains('/')), (64, false));

    let fetch = async |names: &[&str]| {
        let request = DiscoveryRequest {
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        let fetched = client(&server, &key).fetch_secrets(request).await.unwrap();
        fetched.into_inner()
    };
    let fetched = fetch(&["ca/partners", "ca/nobody", &one]).await;
    assert_eq!(fetched.resources.len(), 2);
    let counts: Vec<_> = fetched.resources.iter().map(authorities).collect();
    assert_eq!(counts, [2, 1]);
    assert_eq!(fetch(&["ca/partners"]).await.version_info, second);
    // No key has left.
    assert_eq!(deliveries(&server).await, 0);

    // With a damaged certificate, the stream goes on, and the proxy keeps the bundle that it has.
    let swap = "update certificate as changed set chain = other.chain from certificate as other
                where other.common_name = 'Root 1' and changed.common_name = 'Root 2'";
    assert_eq!(server.sql().await.execute(swap, &[]).await.unwrap(), 1);
    let mut new = Delta::open(&server, &key, subscribe(&["ca/partners", &one])).await;
    let (name, _, _) = new.secret().await;
    assert_eq!(name, one);
    server.stop().await;
}

/// The number of CA certificates in a secret.
fn authorities(secret: &prost_types::Any) -> usize {
    let secret = Secret::decode(&secret.value[..]).unwrap();
    let Some(Type::ValidationContext(context)) = secret.r#type else {
        panic!("not a validation context");
    };
    let Some(Specifier::InlineBytes(pem)) = context.trusted_ca.unwrap().specifier else {
        panic!("no PEM");
    };
    String::from_utf8(pem).unwrap().matches("BEGIN CERTIFICATE").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_the_world_form_checks_nonces_of_its_own_stream_only() {
    let (server, key) = server_and_key().await;
    let id = upload(&server, "web", &pki::self_signed(Key::P256, "web.example")).await;
    let (requests, sent) = mpsc::channel(16);
    let ask = |names: &[&str], nonce: &str, refusal: Option<&str>| DiscoveryRequest {
        node: node(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        error_detail: answer("", refusal).error_detail,
        ..Default::default()
    };
    // A nonce of an earlier stream.
    requests.send(ask(&["web"], "old-1", None)).await.unwrap();
    let stream = client(&server, &key)
        .stream_secrets(ReceiverStream::new(sent))
        .await
        .unwrap();
    let mut stream = stream.into_inner();
    let first: DiscoveryResponse = stream.message().await.unwrap().unwrap();
    assert_eq!((first.version_info, first.resources.len()), (version(&id, 1), 1));
    // This list is older than the response.
    requests.send(ask(&["other"], "old-1", None)).await.unwrap();
    requests
        .send(ask(&["web", "nothing"], &first.nonce, None))
        .await
        .unwrap();
    let other = upload(&server, "other", &pki::self_signed(Key::P256, "other.example")).await;
    requests.send(ask(&["web", "other"], &first.nonce, None)).await.unwrap();
    let second = stream.message().await.unwrap().unwrap();
    assert_eq!(second.version_info, version(&other, 1));
    // Refused: one event, with the words of the proxy only in the lease.
    let long = format!("no\n\u{1b}{}", "x".repeat(1000));
    requests
        .send(ask(&["web", "other"], &second.nonce, Some(&long)))
        .await
        .unwrap();
    let sql = server.sql().await;
    let rejection = "select rejection from lease where rejected_version = 1";
    until(async || sql.query_opt(rejection, &[]).await.unwrap().is_some()).await;
    let text: String = sql.query_one(rejection, &[]).await.unwrap().get(0);
    assert_eq!((text.chars().count(), text.contains(char::is_control)), (256, false));
    let events = "select count(*), min(principal) from event where kind = 'rejected'";
    until(async || sql.query_one(events, &[]).await.unwrap().get::<_, i64>(0) == 1).await;
    drop(requests);
    assert!(stream.message().await.unwrap().is_none());
    // Another stream of the same proxy does not get it.
    let mut again = Delta::open(&server, &key, subscribe(&["other"])).await;
    again.is_quiet("x1").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_end_the_stream_with_one_reason() {
    let (server, key) = server_and_key().await;
    let many: Vec<_> = (0..1001).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(513);
    let mut of_another_type = subscribe(&["web"]);
    of_another_type.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let mut without_node = subscribe(&["web"]);
    without_node.node = None;
    let mut long_node = subscribe(&["web"]);
    long_node.node.as_mut().unwrap().id = "x".repeat(1025);
    for (request, field) in [
        (subscribe(&many), "resource_names_subscribe"),
        (subscribe(&[&long]), "resource_names_subscribe"),
        (of_another_type, "type_url"),
        (without_node, "node.id"),
        (long_node, "node.id"),
    ] {
        let mut stream = Delta::open(&server, &key, request).await;
        let refused = stream.refused().await;
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "FIELD_INVALID")
        );
        assert!(refused.message().starts_with(field), "{}", refused.message());
    }
    // Names that can be no name are only unknown.
    let odd = ["", "*", "\u{0}", "a b", "ca/", "../../etc/passwd", "' or 1=1 --"];
    let mut stream = Delta::open(&server, &key, subscribe(&odd)).await;
    for _ in odd {
        assert_eq!(stream.removed().await.0.len(), 1);
    }
    stream.is_quiet("x1").await;
    let mut too_large = subscribe(&[]);
    too_large.node.as_mut().unwrap().cluster = "x".repeat(2 * 1024 * 1024);
    let mut large = Delta::open(&server, &key, too_large).await;
    let refused = large.refused().await;
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_sees_its_own_account_and_scope_only_and_loses_its_stream_with_its_key() {
    let (server, key) = server_and_key().await;
    let stranger = server.add_key("consumer", Account::New).await;
    let limits = Limits {
        regions: vec![],
        groups: vec![],
        prefixes: vec!["shop-".to_owned()],
    };
    server.limit_key(&key, &limits).await;
    let mine = upload(&server, "shop-web", &pki::self_signed(Key::P256, "shop.example")).await;
    let other = upload(&server, "pay-web", &pki::self_signed(Key::P256, "pay.example")).await;
    let names = [mine.as_str(), "shop-web", "www.shop.example"];
    let others = [other.as_str(), "pay-web", "www.pay.example"];
    let mut foreign = Delta::open(&server, &stranger, subscribe(&names)).await;
    for _ in names {
        assert_eq!(foreign.removed().await.0.len(), 1);
    }
    let mut stream = Delta::open(&server, &key, subscribe(&others)).await;
    for _ in others {
        assert_eq!(stream.removed().await.0.len(), 1);
    }
    stream.send(subscribe(&names)).await;
    for _ in names {
        stream.secret().await;
    }
    // It comes into the scope, and leaves it.
    rename(&server, &other, "shop-pay").await;
    let came: Vec<_> = [stream.secret().await.0, stream.secret().await.0].into();
    assert_eq!(came, [other.as_str(), "www.pay.example"]);
    rename(&server, &other, "pay-web").await;
    let left = [stream.removed().await.0, stream.removed().await.0].concat();
    assert_eq!(left, came);

    let disable = "update access_key set disabled = true where access_key_id = $1";
    let (id, _) = key.split_once('.').unwrap();
    server.sql().await.execute(disable, &[&id]).await.unwrap();
    let refused = stream.refused().await;
    assert_eq!(reason(&refused), "ACCESS_KEY_DISABLED");
    server.stop().await;
}
