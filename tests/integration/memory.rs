//! Secrets are wiped from the memory of the process when a call and its connection have ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use certkeep::grpc::pb::delivery_service_client::DeliveryServiceClient;
use certkeep::grpc::pb::{self, KeyPairFormat};
use openssl::pkey::{PKey, Private};

use crate::harness::{Account, TestServer, bearer, until, upload_of};
use crate::pki::{self, Key};
use crate::process::{CERTKEEP, Certkeep};

/// The length of a piece that the search knows. Fewer octets could be in memory by chance.
const PIECE: usize = 16;
/// How much memory is read at once.
const BLOCK: usize = 64 * 1024;

/// Pieces of secrets, each with the name of its secret.
struct Pieces {
    names: BTreeMap<[u8; PIECE], &'static str>,
    /// Whether a piece begins with these two octets: a search in the map for each octet of memory would take a minute.
    beginnings: Vec<bool>,
}

impl Pieces {
    fn new() -> Self {
        Self {
            names: BTreeMap::new(),
            beginnings: vec![false; 1 << 16],
        }
    }

    fn add(&mut self, name: &'static str, secret: &[u8]) {
        for window in secret.windows(PIECE) {
            self.names.insert(window.try_into().unwrap(), name);
            self.beginnings[usize::from(u16::from_be_bytes([window[0], window[1]]))] = true;
        }
    }

    fn add_key(&mut self, key: &PKey<Private>) {
        let pem = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        // The first line is the same for all keys of this length.
        let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with("-----")).skip(2).collect();
        self.add("PEM", lines.join("\n").as_bytes());
        let rsa = key.rsa().unwrap();
        let numbers = [Some(rsa.d()), rsa.p(), rsa.q(), rsa.dmp1(), rsa.dmq1(), rsa.iqmp()];
        for mut number in numbers.map(|number| number.unwrap().to_vec()) {
            self.add("DER", &number);
            // OpenSSL's numbers begin with their lowest octet.
            number.reverse();
            self.add("number", &number);
        }
    }
}

/// How many pieces of each secret the memory of this process has.
fn found(pid: u32, pieces: &Pieces) -> BTreeMap<&'static str, usize> {
    let memory = File::open(format!("/proc/{pid}/mem"))
        .expect("reading the memory of certkeep, which refuses tracing, needs root with CAP_SYS_PTRACE");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut found = BTreeMap::new();
    let (mut bytes, zeros) = (vec![0; BLOCK], vec![0; BLOCK]);
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        // Blocks overlap, so that each piece lies in one block.
        for block in (start..end).step_by(BLOCK - PIECE) {
            let Ok(len) = memory.read_at(&mut bytes, block) else {
                // Unmapped since the list was read.
                break;
            };
            // The allocator reserves a lot of memory that was never written.
            if bytes[..len] != zeros[..len] {
                find(&bytes[..len], pieces, &mut found);
            }
        }
    }
    found
}

fn find(bytes: &[u8], pieces: &Pieces, found: &mut BTreeMap<&'static str, usize>) {
    let mut beginning = 0;
    for (at, octet) in bytes.iter().enumerate() {
        beginning = (beginning << 8 | usize::from(*octet)) & 0xffff;
        if pieces.beginnings[beginning]
            && let Some(begin) = at.checked_sub(1)
            && let Some(piece) = bytes.get(begin..begin + PIECE)
            && let Some(name) = pieces.names.get(piece)
        {
            *found.entry(*name).or_default() += 1;
        }
    }
}

/// The clients' connections that this address has not closed. Those to Postgres come and go.
fn connections(address: SocketAddr) -> usize {
    /// States of Linux's `tcp_states.h`.
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let port = format!(":{:04X}", address.port());
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| fields[1].ends_with(&port) && ![TIME_WAIT, LISTEN].contains(&fields[3]))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_private_key_and_no_access_key_stay_in_memory() {
    let server = TestServer::start().await;
    let consumer_key = server.add_key("consumer", Account::First).await;
    let process = Certkeep::start_replica(&server);
    let pair = pki::issued(Key::Rsa(2048), "a.example");
    let mut pieces = Pieces::new();
    pieces.add_key(&PKey::private_key_from_pem(pair.key.as_bytes()).unwrap());
    for key in [server.admin_key(), consumer_key.as_str()] {
        // The id before the last part is public.
        let secret = key.rsplit(['_', '.', '-']).next().unwrap();
        pieces.add("access key", secret.as_bytes());
    }
    {
        let uploaded = process
            .client_with_key(server.admin_key())
            .upload_server_certificate(upload_of(&pair))
            .await
            .unwrap()
            .into_inner();
        let request = pb::GetKeyPairRequest {
            server_certificate_id: uploaded.server_certificate_id,
            format: KeyPairFormat::Pem.into(),
            ..Default::default()
        };
        let mut consumer = DeliveryServiceClient::with_interceptor(process.channel(), bearer(&consumer_key));
        let delivered = consumer.get_key_pair(request).await.unwrap().into_inner();
        assert!(!delivered.private_key.is_empty());
        assert_ne!(connections(process.address), 0);
        // The connection is open, and its header table has the access keys: the search finds secrets.
        assert!(found(process.pid(), &pieces).contains_key("access key"));
    }
    until(async || connections(process.address) == 0).await;
    // The last buffers are freed a moment after the socket, and only other calls overwrite the stacks of threads.
    let began = Instant::now();
    let mut left = found(process.pid(), &pieces);
    let other_key = format!("ck9.{}", "A".repeat(43));
    while !left.is_empty() && began.elapsed() < Duration::from_secs(20) {
        let mut other = process.client_with_key(&other_key);
        other
            .describe_regions(pb::DescribeRegionsRequest::default())
            .await
            .unwrap_err();
        left = found(process.pid(), &pieces);
    }
    assert_eq!(left, BTreeMap::new(), "pieces of secrets in memory");
    process.terminate();
    server.stop().await;
}

/// `.cargo/config.toml` asks the C compiler for it.
#[test]
fn the_c_libraries_detect_an_overwritten_stack() {
    let binary = fs::read(CERTKEEP).unwrap();
    assert!(memchr::memmem::find(&binary, b"__stack_chk_fail").is_some());
}
