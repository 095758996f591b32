//! The real Envoy takes its certificates from certkeep, and serves them to clients while they change.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use certkeep::grpc::pb;
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::calls::{self, renewal_of, roll_back};
use crate::external::tool;
use crate::harness::{Account, REGION, TestServer, temp_dir, until, upload_of};
use crate::operation::http;
use crate::pki::{self, Key, Pair};
use crate::process::Certkeep;
use crate::proof::{figure, times};

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls";
/// The certificate selector and its mapper, as Envoy's API names them.
const ON_DEMAND: &str = "cert_selectors.on_demand_secret.v3.Config";
const SNI: &str = "cert_mappers.sni.v3.SNI";

/// A running Envoy that serves HTTPS.
pub struct Envoy {
    child: Child,
    dir: TempDir,
    https: SocketAddr,
}

/// Where an Envoy gets its certificates.
pub struct Source<'a> {
    pub certkeep: SocketAddr,
    pub key: &'a str,
    /// `GRPC` or `DELTA_GRPC`.
    pub api: &'a str,
    /// The name of the secret. `None`: the SNI host name of each client.
    pub secret: Option<&'a str>,
}

impl Source<'_> {
    fn config(&self, node: &str) -> Value {
        let sds = json!({
            "resource_api_version": "V3",
            "api_config_source": {
                "api_type": self.api, "transport_api_version": "V3",
                "grpc_services": [{
                    "envoy_grpc": {
                        "cluster_name": "certkeep",
                        "retry_policy": {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"}},
                    },
                    "initial_metadata": [{"key": "authorization", "value": format!("Bearer {}", self.key)}],
                }],
            },
        });
        let mut listeners = match self.secret {
            Some(name) => listeners(&json!({
                "tls_certificate_sds_secret_configs": [{"name": name, "sds_config": sds}],
            })),
            None => listeners(&json!({
                "custom_tls_certificate_selector": {
                    "name": "on_demand",
                    "typed_config": {
                        "@type": format!("{TLS}.{ON_DEMAND}"),
                        "config_source": sds,
                        "certificate_mapper": {
                            "name": "sni",
                            "typed_config": {"@type": format!("{TLS}.{SNI}"), "default_value": "no-name"},
                        },
                    },
                },
            })),
        };
        if self.secret.is_none() {
            let tls = &mut listeners[0]["filter_chains"][0]["transport_socket"]["typed_config"];
            tls["disable_stateless_session_resumption"] = json!(true);
            tls["disable_stateful_session_resumption"] = json!(true);
        }
        let http2 = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        json!({
            "node": {"id": node, "cluster": "test"},
            "admin": {"address": address(0)},
            "static_resources": {
                "clusters": [{
                    "name": "certkeep", "type": "STATIC", "connect_timeout": "1s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": http2, "explicit_http_config": {"http2_protocol_options": {}},
                        },
                    },
                    "load_assignment": {"cluster_name": "certkeep", "endpoints": [{
                        "lb_endpoints": [{"endpoint": {"address": address(self.certkeep.port())}}],
                    }]},
                }],
                "listeners": listeners,
            },
        })
    }
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// One listener that answers HTTPS with this `common_tls_context`.
fn listeners(tls: &Value) -> Value {
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3";
    json!([{
        "name": "https", "address": address(0),
        "filter_chains": [{
            "transport_socket": {"name": "tls", "typed_config": {
                "@type": format!("{TLS}.v3.DownstreamTlsContext"),
                "common_tls_context": tls,
            }},
            "filters": [{"name": "http", "typed_config": {
                "@type": format!("{manager}.HttpConnectionManager"),
                "stat_prefix": "https",
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/"}, "direct_response": {"status": 200}},
                ]}]},
                "http_filters": [{"name": "router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                }}],
            }}],
        }],
    }])
}

/// The configuration of an Envoy with this `common_tls_context`, without certkeep.
pub fn static_config(tls: &Value) -> Value {
    json!({
        "node": {"id": "static", "cluster": "test"},
        "admin": {"address": address(0)},
        "static_resources": {"listeners": listeners(tls)},
    })
}

impl Envoy {
    /// Starts an Envoy, and waits until its listener accepts connections.
    pub async fn start(version: &str, node: &str, source: &Source<'_>) -> Self {
        let envoy = Self::run(version, &source.config(node)).await;
        envoy.unwrap_or_else(|log| panic!("Envoy did not start:\n{log}"))
    }

    /// Starts an Envoy with this configuration, and waits until its listener accepts connections. Answers its log if it does not start.
    pub async fn run(version: &str, configuration: &Value) -> Result<Self, String> {
        let dir = temp_dir();
        let (config, admin, log) = (
            dir.path().join("envoy.json"),
            dir.path().join("admin"),
            dir.path().join("log"),
        );
        std::fs::write(&config, configuration.to_string()).unwrap();
        let child = Command::new(tool(&format!("bin/envoy-{version}")))
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "info"])
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut envoy = Self {
            child,
            dir,
            https: ([127, 0, 0, 1], 0).into(),
        };
        let began = Instant::now();
        loop {
            let failed = began.elapsed() > Duration::from_secs(30) || envoy.child.try_wait().unwrap().is_some();
            if failed {
                return Err(envoy.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            // The administration answers before, and ends if Envoy then refuses its configuration.
            if !envoy.log().contains("starting main dispatch loop") {
                continue;
            }
            let Ok(Ok(admin)) = std::fs::read_to_string(&admin).map(|address| address.parse::<SocketAddr>()) else {
                continue;
            };
            let (_, listeners) = http(admin, "/listeners?format=json");
            let Ok(listeners) = serde_json::from_str::<Value>(&body(&listeners)) else {
                continue;
            };
            let port = &listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"];
            if let Some(port) = port.as_u64() {
                envoy.https.set_port(port as u16);
                if TcpStream::connect(envoy.https).is_ok() {
                    return Ok(envoy);
                }
            }
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The SHA-256 of the certificate that a new client gets.
    pub fn served(&self, name: &str) -> Result<Vec<u8>, String> {
        fingerprint(&connect(self.https, name)?)
    }

    /// Waits until a new client gets this certificate, and answers how long that took.
    pub async fn until_served(&self, name: &str, pair: &Pair) -> Duration {
        let began = Instant::now();
        let wanted = sha256(pair);
        while self.served(name).as_ref() != Ok(&wanted) {
            let log = || self.log();
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{:?}\n{}",
                self.served(name),
                log()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        began.elapsed()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of an answer that can be chunked.
fn body(text: &str) -> String {
    let from = text.find('{').unwrap_or_default();
    let to = text.rfind('}').map_or(text.len(), |at| at + 1);
    let chunk_len = |line: &str| line.trim().chars().all(|c| c.is_ascii_hexdigit()) && !line.trim().is_empty();
    let lines = text[from..to].lines().filter(|line| !chunk_len(line));
    lines.collect::<Vec<_>>().join("\n")
}

pub fn sha256(pair: &Pair) -> Vec<u8> {
    pair.x509
        .digest(openssl::hash::MessageDigest::sha256())
        .unwrap()
        .to_vec()
}

fn connect(address: SocketAddr, name: &str) -> Result<SslStream<TcpStream>, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let connector = builder.build();
    connector.connect(name, stream).map_err(|error| error.to_string())
}

fn fingerprint(stream: &SslStream<TcpStream>) -> Result<Vec<u8>, String> {
    let certificate = stream.ssl().peer_certificate().ok_or("no certificate")?;
    let digest = certificate.digest(openssl::hash::MessageDigest::sha256());
    Ok(digest.map_err(|error| error.to_string())?.to_vec())
}

fn request(stream: &mut SslStream<TcpStream>) -> Result<(), String> {
    let ask = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(ask.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut octets = [0; 1024];
        match stream.read(&mut octets) {
            Ok(0) => return Err("the connection ended".to_owned()),
            Ok(len) => answer.extend_from_slice(&octets[..len]),
            Err(error) => return Err(error.to_string()),
        }
    }
    match answer.starts_with(b"HTTP/1.1 200") {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&answer).into_owned()),
    }
}

/// Clients that open new connections, and clients that keep theirs.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Counts>>,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    requests: usize,
    failures: Vec<String>,
    /// When the last handshake that got each certificate began.
    last_begun: HashMap<Vec<u8>, Instant>,
}

impl Load {
    fn start(address: SocketAddr, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |keeps: bool| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut counts = Counts::default();
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) && counts.failures.len() < 10 {
                    let begun = Instant::now();
                    let done = match kept.take() {
                        Some(stream) => Ok(stream),
                        None => connect(address, name).inspect(|stream| {
                            counts.connections += 1;
                            counts.last_begun.insert(fingerprint(stream).unwrap(), begun);
                        }),
                    };
                    let done = done.and_then(|mut stream| request(&mut stream).map(|()| stream));
                    match done {
                        Ok(stream) => {
                            counts.requests += 1;
                            kept = keeps.then_some(stream);
                        }
                        Err(error) => counts.failures.push(error),
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                counts
            })
        };
        let clients = [false, false, true, true].map(client);
        Self {
            stop,
            clients: clients.into(),
        }
    }

    fn end(self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Counts::default();
        for client in self.clients {
            let counts = client.join().unwrap();
            all.connections += counts.connections;
            all.requests += counts.requests;
            all.failures.extend(counts.failures);
            for (certificate, begun) in counts.last_begun {
                let last = all.last_begun.entry(certificate).or_insert(begun);
                *last = begun.max(*last);
            }
        }
        all
    }
}

pub async fn upload(server: &TestServer, name: &str, pair: &Pair) -> String {
    let request = pb::UploadServerCertificateRequest {
        server_certificate_name: name.to_owned(),
        ..upload_of(pair)
    };
    let uploaded = server.client().upload_server_certificate(request).await.unwrap();
    uploaded.into_inner().server_certificate_id
}

/// The new pair may lose names.
pub async fn renew(server: &TestServer, id: &str, pair: &Pair) {
    let request = pb::RenewServerCertificateRequest {
        allow_lost_names: true,
        ..renewal_of(id, pair)
    };
    calls::renew(&server.client(), request).await.unwrap();
}

pub async fn delete(server: &TestServer, id: &str) {
    let request = pb::DeleteServerCertificateRequest {
        region_id: REGION.to_owned(),
        server_certificate_id: id.to_owned(),
        force: true,
        ..Default::default()
    };
    server.client().delete_server_certificate(request).await.unwrap();
}

/// Renews over all key types, rolls back, kills certkeep, renews while it is away, and deletes, under load.
async fn serves_through_all_changes(version: &str, api: &str) {
    const NAME: &str = "shop.example";
    let server = TestServer::start().await;
    let key = server.add_key("consumer", Account::First).await;
    let certkeep = Certkeep::start_replica(&server);
    let address = certkeep.address;
    // The pair of each version.
    let mut pairs = vec![pki::issued(Key::P256, NAME)];
    let id = upload(&server, "", &pairs[0]).await;
    let source = Source {
        certkeep: address,
        key: &key,
        api,
        secret: Some(NAME),
    };
    let envoy = Envoy::start(version, "edge-1", &source).await;
    envoy.until_served(NAME, &pairs[0]).await;
    let load = Load::start(envoy.https, NAME);

    let (mut waits, mut changes) = (Vec::new(), Vec::new());
    for _ in 0..times(1, 40) {
        let (rsa, p384) = (pki::issued(Key::Rsa(2048), NAME), pki::issued(Key::P384, NAME));
        // It does not cover www.shop.example.
        let p256 = pki::expiring(NAME, 400);
        for pair in [rsa, p384, p256] {
            renew(&server, &id, &pair).await;
            changes.push((sha256(&pairs[pairs.len() - 1]), Instant::now()));
            waits.push(envoy.until_served(NAME, &pair).await);
            pairs.push(pair);
        }
    }
    // The certificate before is served again, so its last handshake says nothing about the last renewal.
    changes.pop();
    let [.., before, last] = &pairs[..] else { unreachable!() };
    roll_back(&server.client(), &id, pairs.len() as i64 - 1, "")
        .await
        .unwrap();
    changes.push((sha256(last), Instant::now()));
    waits.push(envoy.until_served(NAME, before).await);

    // Envoy serves on while certkeep is away, and gets what happened meanwhile.
    certkeep.kill();
    let pair = pki::issued(Key::P256, NAME);
    renew(&server, &id, &pair).await;
    let certkeep = Certkeep::start_replica_at(&server, address);
    envoy.until_served(NAME, &pair).await;

    // A proxy that has a certificate goes on to serve it when it is deleted.
    delete(&server, &id).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(envoy.served(NAME), Ok(sha256(&pair)));

    let counts = load.end();
    assert_eq!(counts.failures, Vec::<String>::new(), "{}", envoy.log());
    assert!(counts.connections > 20 && counts.requests > 20);
    waits.sort();
    let late = changes.iter().filter_map(|(before, moment)| {
        let last = counts.last_begun.get(before)?;
        last.checked_duration_since(*moment)
    });
    let name = |what: &str| format!("Envoy {version} {api}: {what}");
    figure(
        &name("new connections, of which failed"),
        format!("{}, 0", counts.connections),
    );
    figure(&name("requests, of which failed"), format!("{}, 0", counts.requests));
    figure(&name("renewals and rollbacks"), waits.len());
    figure(
        &name("from a change to the first handshake, median and longest"),
        format!(
            "{} ms, {} ms",
            waits[waits.len() / 2].as_millis(),
            waits[waits.len() - 1].as_millis()
        ),
    );
    figure(
        &name("last handshake with the certificate before began after the change"),
        format!("{} ms", late.max().unwrap_or_default().as_millis()),
    );
    certkeep.terminate();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_1_40_in_the_state_of_the_world_form_serves_through_all_changes() {
    serves_through_all_changes("1.40.0", "GRPC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_1_40_in_the_incremental_form_serves_through_all_changes() {
    serves_through_all_changes("1.40.0", "DELTA_GRPC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_1_36_in_the_incremental_form_serves_through_all_changes() {
    serves_through_all_changes("1.36.4", "DELTA_GRPC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_fetches_the_certificate_of_each_host_name_on_demand() {
    let server = TestServer::start().await;
    let key = server.add_key("consumer", Account::First).await;
    let source = Source {
        certkeep: server.address(),
        key: &key,
        api: "DELTA_GRPC",
        secret: None,
    };
    let envoy = Envoy::start("1.40.0", "edge-1", &source).await;

    // An unknown name fails at once, and works as soon as there is a certificate.
    let began = Instant::now();
    envoy.served("a.example").unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let first = pki::expiring("a.example", 30);
    let id = upload(&server, "first", &first).await;
    envoy.until_served("a.example", &first).await;
    // The certificate of next year goes live by its upload.
    let next = pki::self_signed(Key::P256, "a.example");
    upload(&server, "next", &next).await;
    envoy.until_served("a.example", &next).await;
    // A certificate with an earlier end does not.
    upload(&server, "earlier", &pki::expiring("a.example", 300)).await;
    assert_eq!(envoy.served("www.a.example"), Ok(sha256(&next)));
    delete(&server, &id).await;
    assert_eq!(envoy.served("a.example"), Ok(sha256(&next)));

    let names = times(20, 1000);
    let key = Key::P256.make();
    let mut pairs = Vec::new();
    for number in 0..names {
        let name = format!("host-{number}.example");
        let pair = pki::pair(&key, pki::certificate(&key, &name, None));
        upload(&server, "", &pair).await;
        pairs.push((name, pair));
    }
    let mut waits = Vec::new();
    for (name, pair) in &pairs {
        let began = Instant::now();
        assert_eq!(envoy.served(name), Ok(sha256(pair)), "{name}\n{}", envoy.log());
        waits.push(began.elapsed());
    }
    waits.sort();
    figure("host names on demand", names);
    figure(
        "first handshake of a host name on demand, median and longest",
        format!(
            "{} ms, {} ms",
            waits[names / 2].as_millis(),
            waits[names - 1].as_millis()
        ),
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_envoy_refuses_is_told_once_and_the_one_before_is_served() {
    const NAME: &str = "shop.example";
    for (version, api, unfit) in [("1.40.0", "GRPC", Key::Secp256k1), ("1.36.4", "DELTA_GRPC", Key::Ed448)] {
        let server = TestServer::start().await;
        let sql = server.sql().await;
        let key = server.add_key("consumer", Account::First).await;
        let first = pki::self_signed(Key::P256, NAME);
        let id = upload(&server, "", &first).await;
        let source = Source {
            certkeep: server.address(),
            key: &key,
            api,
            secret: Some(NAME),
        };
        let envoy = Envoy::start(version, "edge/1", &source).await;
        envoy.until_served(NAME, &first).await;
        renew(&server, &id, &pki::self_signed(unfit, NAME)).await;
        let lease = "select holder.name, user_agent, rejection from lease join holder using (holder_id) where rejected_version = 2";
        until(async || sql.query_opt(lease, &[]).await.unwrap().is_some()).await;
        let row = sql.query_one(lease, &[]).await.unwrap();
        let [holder, user_agent, why]: [String; 3] = [row.get(0), row.get(1), row.get(2)];
        assert_eq!((holder.as_str(), user_agent), ("edge/1", format!("envoy/{version}")));
        assert!(!why.is_empty() && !why.contains(char::is_control), "{why}");
        let count = async |what: &str| sql.query_one(what, &[]).await.unwrap().get::<_, i64>(0);
        let events = "select count(*) from event where kind = 'rejected'";
        until(async || count(events).await == 1).await;
        // It is not sent again.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let deliveries = "select count(*) from audit_event where outcome = 'delivered'";
        assert_eq!((count(deliveries).await, count(events).await), (2, 1));
        assert_eq!(envoy.served(NAME), Ok(sha256(&first)));
        let good = pki::self_signed(Key::P384, NAME);
        renew(&server, &id, &good).await;
        envoy.until_served(NAME, &good).await;
        let behind = "select count(*) from lease where rejected_version is not null";
        until(async || count(behind).await == 0).await;
        server.stop().await;
    }
}
