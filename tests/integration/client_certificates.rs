//! Client certificates on the gRPC listener, over real TLS.

use std::path::Path;
use std::time::Duration;

use certkeep::clock;
use certkeep::config::TlsFiles;
use certkeep::grpc::pb;
use certkeep::grpc::pb::admin_service_client::AdminServiceClient;
use tempfile::TempDir;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::harness::{TestServer, bearer, temp_dir, until};
use crate::pki::{self, ClientAuthority, Key, Pair, San};

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
        std::fs::write(path("tls-key.pem"), &listener.key).unwrap();
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
