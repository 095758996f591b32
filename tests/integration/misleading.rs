//! Texts that try to mislead whoever reads the command line's output: from a certificate, a caller of the service, or a server.

use std::convert::Infallible;
use std::pin::Pin;
use std::process::{Command, Output};
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use certkeep::grpc::pb;
use http_body::Frame;
use prost::Message;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::harness::temp_dir;
use crate::pki::{self, Key};
use crate::process::{CERTKEEP, stderr, stdout};

/// Turns the direction, clears the screen (as C0 and as C1), hides a character, ends the line, and draws colours that certkeep draws.
const HOSTILE: &str = "a\u{202e}b\u{1b}[2J\u{9b}2J\u{200b}\u{2028}\u{2066}\nid  fake\r\u{7f}\u{feff}\u{1b}[31m";

fn is_hostile(c: char) -> bool {
    "\u{202e}\u{1b}\u{9b}\u{200b}\u{2028}\u{2066}\r\u{7f}\u{feff}".contains(c)
}

/// The frames of an answer, the last one first.
struct Frames(Vec<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop().map(Ok))
    }
}

fn answer(message: &impl Message) -> Response {
    let bytes = message.encode_to_vec();
    let mut data = vec![0];
    data.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    data.extend_from_slice(&bytes);
    let mut status = http::HeaderMap::new();
    status.insert("grpc-status", http::HeaderValue::from_static("0"));
    let frames = Frames(vec![Frame::trailers(status), Frame::data(data.into())]);
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(axum::body::Body::new(frames)).unwrap()
}

fn refusal() -> Response {
    let text = HOSTILE.to_owned();
    let mut details =
        ErrorDetails::with_error_info(HOSTILE, "certkeep", [("lost_names".to_owned(), HOSTILE.to_owned())]);
    details.set_bad_request(vec![tonic_types::FieldViolation::new(HOSTILE, HOSTILE)]);
    details.set_request_info(HOSTILE, "");
    Status::with_error_details(Code::InvalidArgument, text, details).into_http()
}

fn certificate() -> pb::ServerCertificate {
    let hostile = || HOSTILE.to_owned();
    pb::ServerCertificate {
        server_certificate_id: hostile(),
        server_certificate_name: hostile(),
        region_id: hostile(),
        common_name: hostile(),
        subject: hostile(),
        issuer: hostile(),
        subject_alternative_names: vec![hostile()],
        serial_number: hostile(),
        fingerprint: hostile(),
        etag: hostile(),
        tags: vec![pb::Tag {
            key: hostile(),
            value: hostile(),
        }],
        ..Default::default()
    }
}

async fn serve(request: Request) -> Response {
    match request.uri().path().rsplit('/').next() {
        Some("GetServerCertificate") => answer(&pb::GetServerCertificateResponse {
            server_certificate: Some(certificate()),
            request_id: HOSTILE.to_owned(),
        }),
        Some("DescribeServerCertificates") => answer(&pb::DescribeServerCertificatesResponse {
            server_certificates: vec![certificate()],
            ..Default::default()
        }),
        Some("ListTagResources") => answer(&pb::ListTagResourcesResponse {
            tag_resources: vec![pb::TagResource {
                resource_id: HOSTILE.to_owned(),
                tag_key: HOSTILE.to_owned(),
                tag_value: HOSTILE.to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        _ => refusal(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_texts_cannot_mislead_the_reader() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(serve);
    let server = tonic::transport::Server::builder().add_routes(router.into());
    let serving = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let run = |args: &[&str]| -> Output {
        let mut command = Command::new(CERTKEEP);
        command.args(args).args(["--endpoint", &endpoint]);
        command.env("CERTKEEP_ACCESS_KEY", "ck1.secret").output().unwrap()
    };
    let id = "1231579085529123_15d6fcb45a3_1328245761_-2147483648";
    for args in [&["get", id][..], &["describe"], &["tags", id]] {
        let shown = run(args);
        let text = stdout(&shown);
        assert!(shown.status.success(), "{}", stderr(&shown));
        assert!(!text.contains(is_hostile), "{args:?}: {text:?}");
        assert!(text.contains(r"a\u{202e}b\u{1b}[2J\u{9b}2J"), "{args:?}: {text:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("id  fake")),
            "{args:?}: {text:?}"
        );

        let json = run(&[args, &["--output", "json"]].concat());
        let text = stdout(&json);
        assert!(!text.contains(is_hostile), "{args:?}: {text:?}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(value.to_string().contains('\u{202e}'), "the same text");
    }
    for args in [&["whoami"][..], &["delete", id], &["regions"]] {
        let refused = run(args);
        let text = stderr(&refused);
        assert!(!refused.status.success());
        assert!(!text.contains(is_hostile), "{args:?}: {text:?}");
        assert!(text.matches(r"a\u{202e}b\u{1b}[2J").count() >= 4, "{args:?}: {text:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("id  fake")),
            "{args:?}: {text:?}"
        );
    }
    serving.abort();
}

#[test]
fn a_certificates_texts_cannot_mislead_the_reader() {
    let dir = temp_dir();
    let pair = pki::self_signed(Key::P256, "a\u{202e}b\u{200b}.example");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, &pair.certificate).unwrap();
    std::fs::write(&key, &pair.key).unwrap();
    let check = |extra: &[&str]| {
        let mut command = Command::new(CERTKEEP);
        command.arg("check").arg(&cert).arg(&key).args(extra);
        stdout(&command.output().unwrap())
    };
    let text = check(&[]);
    assert!(
        !text.contains(is_hostile) && text.contains(r"a\u{202e}b\u{200b}.example"),
        "{text:?}"
    );
    let json = check(&["--output", "json"]);
    assert!(
        !json.contains(is_hostile) && json.contains(r"a\u202eb\u200b.example"),
        "{json:?}"
    );
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
}
