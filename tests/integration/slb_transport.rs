//! The door for clients of Alibaba Cloud's SLB API, below its answers: TLS, and lists that break off.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use certkeep::config::{Config, TlsFiles};
use certkeep::grpc::pb;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{TestServer, temp_dir, write_secret};
use crate::pki::{self, Key};
use crate::proxy::{Proxy, Way};
use crate::slb::{SlbCaller, SlbRequest, Style, parse_answer, start, upload_three_pages};

const NAME: &str = "certkeep.example";

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_tls_work_with_every_protocol_and_calls_in_plain_text_fail() {
    let (plain, dir) = (start().await, temp_dir());
    let pair = pki::self_signed(Key::P256, NAME);
    let files = TlsFiles {
        certificate: dir.path().join("tls.pem"),
        private_key: dir.path().join("tls-key.pem"),
        client_ca: None,
    };
    std::fs::write(&files.certificate, &pair.certificate).unwrap();
    write_secret(&files.private_key, &pair.key);
    let change = |config: &mut Config| {
        config.slb_listen = Some("127.0.0.1:0".parse().unwrap());
        config.tls = Some(files);
    };
    let server = plain.replica(change).await;
    let caller = SlbCaller {
        address: server.slb_address(),
        ..SlbCaller::new(&plain, pb::Role::Reader).await
    };
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();

    for (offered, chosen) in [
        (&["h2"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
        (&["http/1.1", "h2"], Some("h2")),
    ] {
        for style in [Style::V2, Style::Acs3] {
            let mut stream = connect(&caller, &roots, offered).await;
            let protocol = stream.get_ref().1.alpn_protocol();
            assert_eq!(protocol, chosen.map(str::as_bytes), "{offered:?}");
            let request = caller.request("DescribeRegions", &[]).style(style);
            let (status, body) = match chosen {
                Some("h2") => {
                    let (mut calls, connection) = h2::client::handshake(stream).await.unwrap();
                    tokio::spawn(connection);
                    let (response, _) = calls.send_request(request.http_2(), true).unwrap();
                    let (head, mut body) = response.await.unwrap().into_parts();
                    let mut octets = Vec::new();
                    while let Some(part) = body.data().await {
                        octets.extend(part.unwrap());
                    }
                    (head.status.as_u16(), String::from_utf8(octets).unwrap())
                }
                _ => {
                    stream.write_all(&request.octets()).await.unwrap();
                    let mut octets = Vec::new();
                    stream.read_to_end(&mut octets).await.unwrap();
                    let answer = parse_answer(octets);
                    (answer.status, answer.body)
                }
            };
            assert_eq!(status, 200, "{offered:?} {style:?}: {body}");
            assert!(body.contains("\"RegionId\":\"cn-hangzhou\""), "{body}");
        }
    }

    let mut stream = TcpStream::connect(caller.address).await.unwrap();
    let request = caller.request("DescribeRegions", &[]).octets();
    stream.write_all(&request).await.unwrap();
    let mut octets = Vec::new();
    let _ = stream.read_to_end(&mut octets).await;
    assert!(!octets.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&octets));
    server.stop().await;
    plain.stop().await;
}

async fn connect(caller: &SlbCaller, roots: &RootCertStore, protocols: &[&str]) -> TlsStream<TcpStream> {
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(caller.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(NAME.try_into().unwrap(), stream).await.unwrap()
}

/// The time of a packet to the database. The second page of a list takes at least twice as long.
const SLOW: Way = Way::Slow(Duration::from_millis(200));

#[derive(Clone, Copy, Debug)]
enum Http {
    Http1,
    Http2,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_off_is_no_whole_answer() {
    let server = start().await;
    let caller = SlbCaller::new(&server, pb::Role::Reader).await;
    upload_three_pages(&server).await;
    tokio::join!(
        break_off(&server, &caller, Http::Http1, "JSON"),
        break_off(&server, &caller, Http::Http1, "XML"),
        break_off(&server, &caller, Http::Http2, "JSON"),
        break_off(&server, &caller, Http::Http2, "XML"),
    );
    server.stop().await;
}

/// Reads a list from its own replica, first with its database, and then without it after the first page.
async fn break_off(server: &TestServer, caller: &SlbCaller, http: Http, format: &str) {
    let (proxy, database) = Proxy::before(server.database());
    let change = |config: &mut Config| config.slb_listen = Some("127.0.0.1:0".parse().unwrap());
    let replica = server.replica_on(database, "", change).await;
    let caller = SlbCaller {
        address: replica.slb_address(),
        ..caller.clone()
    };
    let end = match format {
        "XML" => "</DescribeServerCertificatesResponse>",
        _ => "}]}}",
    };
    for (way, is_whole) in [(Way::Open, true), (Way::Cut, false)] {
        let list = caller.request("DescribeServerCertificates", &[("Format", format)]);
        proxy.set(SLOW);
        let after_first_page = || proxy.set(way);
        let (text, has_ended) = match http {
            Http::Http1 => over_http_1(&caller, &list, after_first_page).await,
            Http::Http2 => over_http_2(&caller, &list, after_first_page).await,
        };
        proxy.set(Way::Open);
        let seen = (has_ended, text.contains(end));
        assert_eq!(seen, (is_whole, is_whole), "{format} over {http:?}, {way:?}");
        let expected = if is_whole { 230..=230 } else { 99..=100 };
        let ids = ids(&text);
        assert!(expected.contains(&ids), "{format} over {http:?}, {way:?}: {ids}");
    }
    replica.stop().await;
}

/// Reads a list to its end. `next` adds the next octets, and is false at the end.
async fn read(mut next: impl AsyncFnMut(&mut Vec<u8>) -> bool, after_first_page: impl Fn()) -> String {
    let mut octets = Vec::new();
    while next(&mut octets).await && ids(&String::from_utf8_lossy(&octets)) < 99 {}
    after_first_page();
    while next(&mut octets).await {}
    String::from_utf8(octets).unwrap()
}

/// The certificates in a list. The end of a chunk can hide one of a page.
fn ids(text: &str) -> usize {
    let ids = ["\"ServerCertificateId\"", "<ServerCertificateId>"];
    ids.iter().map(|id| text.matches(id).count()).sum()
}

/// The text of the list, and whether it has ended as HTTP says (RFC 9112 7.1).
async fn over_http_1(caller: &SlbCaller, list: &SlbRequest, after_first_page: impl Fn()) -> (String, bool) {
    let mut stream = TcpStream::connect(caller.address).await.unwrap();
    stream.write_all(&list.octets()).await.unwrap();
    let next = async |octets: &mut Vec<u8>| stream.read_buf(octets).await.is_ok_and(|len| len > 0);
    let text = read(next, after_first_page).await;
    assert!(
        text.starts_with("HTTP/1.1 200 ") && text.contains("transfer-encoding: chunked"),
        "{text}"
    );
    let has_ended = text.ends_with("\r\n0\r\n\r\n");
    (text, has_ended)
}

/// The text of the list, and whether it has ended as HTTP says. Otherwise the door reset it (RFC 9113 8.1).
async fn over_http_2(caller: &SlbCaller, list: &SlbRequest, after_first_page: impl Fn()) -> (String, bool) {
    let stream = TcpStream::connect(caller.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 20);
    let (mut calls, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let (response, _) = calls.send_request(list.http_2(), true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    assert_eq!(head.status, 200);
    let mut reset = None;
    let next = async |octets: &mut Vec<u8>| {
        let part = body.data().await.transpose().unwrap_or_else(|error| {
            reset = Some(error);
            None
        });
        octets.extend(part.iter().flatten());
        part.is_some()
    };
    let text = read(next, after_first_page).await;
    assert!(
        reset.iter().all(|error| error.is_reset() && error.is_remote()),
        "{reset:?}"
    );
    (text, reset.is_none())
}
