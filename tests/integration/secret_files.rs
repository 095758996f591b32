//! The files that contain secrets: who may have access to them, at a start and while certkeep serves; and a ring that is gone.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use certkeep::server::Server;
use certkeep::telemetry::causes;
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::harness::{TestServer, config, database, temp_dir, until, upload_of, write_secret};
use crate::key_ring::{line, write_ring};
use crate::operation::{http, metric};
use crate::pki::{self, Key};
use crate::process::{Certkeep, certkeep, stderr, stdout};

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

async fn start(config: &certkeep::config::Config) -> Result<Server, certkeep::server::StartError> {
    let policy = certkeep::app::Policy::default();
    Server::start(config, policy, None, &tokio_util::sync::CancellationToken::new()).await
}

/// Runs `certkeep migrate` with these arguments, and returns the error.
fn refused(args: &[&str]) -> String {
    let output = certkeep(args);
    assert!(!output.status.success(), "{}", stdout(&output));
    stderr(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_others_may_read_and_a_directory_that_they_may_write_are_refused_with_the_command_that_mends_it() {
    let dir = temp_dir();
    let path = |name: &str| dir.path().join(name);
    let own = format!("certkeep runs as user {}", rustix::process::geteuid().as_raw());

    // The database URL.
    let url = path("url");
    write_secret(&url, database().await);
    let data_dir = path("data");
    std::fs::create_dir(&data_dir).unwrap();
    let [url_text, data_dir_text] = [&url, &data_dir].map(|path| path.to_str().unwrap());
    let migrate = ["migrate", "--data-dir", data_dir_text, "--database-url-file", url_text];
    assert!(certkeep(&migrate).status.success());
    chmod(&url, 0o644);
    let error = refused(&migrate);
    for part in [
        &format!("{url_text} has mode 0644"),
        &own,
        &format!("run `chmod 600 {url_text}`"),
    ] {
        assert!(error.contains(part.as_str()), "{error}");
    }
    chmod(&url, 0o600);

    // The data directory.
    for mode in [0o777, 0o757, 0o1777] {
        chmod(&data_dir, mode);
        let error = refused(&migrate);
        assert!(
            error.contains(&format!("{data_dir_text} has mode {mode:04o}")),
            "{error}"
        );
        assert!(error.contains(&format!("run `chmod go-w {data_dir_text}`")), "{error}");
    }
    chmod(&data_dir, 0o755);

    // The key ring and the TLS key, at a start.
    let pair = pki::self_signed(Key::P256, "localhost");
    write_secret(path("tls-key.pem"), &pair.key);
    std::fs::write(path("tls.pem"), &pair.certificate).unwrap();
    let mut config = config(&dir, &std::fs::read_to_string(&url).unwrap());
    config.tls = Some(certkeep::config::TlsFiles {
        certificate: path("tls.pem"),
        private_key: path("tls-key.pem"),
        client_ca: None,
    });
    let ring = config.database.key_ring.clone();
    write_secret(&ring, line(7));
    for file in [&ring, &path("tls-key.pem")] {
        for mode in [0o604, 0o660, 0o620] {
            chmod(file, mode);
            let error = start(&config).await.err().unwrap();
            let error = causes(&error);
            let expected = format!("{} has mode {mode:04o}", file.display());
            assert!(error.contains(&expected) && error.contains("chmod 600"), "{error}");
        }
        chmod(file, 0o400);
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&ring, Some(1000), Some(1000)).unwrap();
        let error = causes(&start(&config).await.err().unwrap());
        assert!(
            error.contains("user 1000 and group 1000") && error.contains("sudo -u '#1000'"),
            "{error}"
        );
        std::os::unix::fs::chown(&ring, Some(0), Some(0)).unwrap();
        // As a Kubernetes Secret with fsGroup: a link to root's file, for a group of the process.
        chmod(&ring, 0o440);
        let link = path("ring-link");
        std::os::unix::fs::symlink("key-ring", &link).unwrap();
        config.database.key_ring = link;
    }
    let server = start(&config).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_in_a_file_that_others_may_read_is_refused_and_a_pipe_is_read() {
    let server = TestServer::start().await;
    let dir = temp_dir();
    let key = dir.path().join("access.key");
    write_secret(&key, server.admin_key());
    let (endpoint, key_text) = (server.endpoint(), key.to_str().unwrap().to_owned());
    let run = |file: &str| -> Output { certkeep(&["whoami", "--endpoint", &endpoint, "--access-key-file", file]) };
    assert!(run(&key_text).status.success());
    chmod(&key, 0o644);
    let error = stderr(&run(&key_text));
    assert!(
        error.contains("has mode 0644") && error.contains("chmod 600"),
        "{error}"
    );
    let pipe = dir.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
    let (writer, text) = (pipe.clone(), server.admin_key().to_owned());
    let written = std::thread::spawn(move || std::fs::write(writer, text));
    let output = run(pipe.to_str().unwrap());
    assert!(output.status.success(), "{}", stderr(&output));
    written.join().unwrap().unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_is_a_pipe_is_refused_at_once() {
    let dir = temp_dir();
    let config = config(&dir, &database().await);
    mkfifoat(CWD, &config.database.key_ring, Mode::from_raw_mode(0o600)).unwrap();
    let starting = start(&config);
    let started = tokio::time::timeout(Duration::from_secs(20), starting).await;
    let error = causes(&started.expect("the start hangs").err().unwrap());
    assert!(error.contains("is a pipe, not a regular file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_is_deleted_replaced_or_exposed_while_certkeep_serves_is_logged_and_shown_in_a_metric() {
    let server = TestServer::start().await;
    let ring = server.key_ring_file();
    let kept = std::fs::read_to_string(&ring).unwrap();
    let log = server.data_dir().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let args = ["--database-url", server.database(), "--metrics-listen", "127.0.0.1:0"];
    let replica = Certkeep::start_as(server.data_dir(), &args, |command| {
        command.stderr(Stdio::from(file));
    });
    let mut lines = replica.banner.lines();
    let address = lines.find_map(|line| line.strip_prefix("metrics   http://")?.strip_suffix("/metrics"));
    let address = address.unwrap().parse().unwrap();
    let usable = || metric(&http(address, "/metrics").1, "certkeep_key_ring_usable ");
    until(async || http(address, "/metrics").1.contains("certkeep_key_ring_usable 1")).await;

    let pipe = ring.with_extension("pipe");
    mkfifoat(CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
    let digit = if kept.trim_end().ends_with('0') { '1' } else { '0' };
    let wrong = format!("{}{digit}\n", &kept.trim_end()[..kept.trim_end().len() - 1]);
    for (cause, change) in [
        (
            "there is no key ring",
            &(|| std::fs::remove_file(&ring).unwrap()) as &dyn Fn(),
        ),
        ("has another key under the id", &|| write_ring(&ring, &wrong)),
        ("lacks the key-encryption key", &|| write_ring(&ring, &line(7))),
        ("is not an id of 16 hex digits", &|| {
            write_ring(&ring, &kept[..kept.len() - 9])
        }),
        ("has mode 0644", &|| chmod(&ring, 0o644)),
        ("is a pipe", &|| std::fs::rename(&pipe, &ring).unwrap()),
    ] {
        change();
        until(async || usable() == 0.0).await;
        until(async || std::fs::read_to_string(&log).unwrap().contains(cause)).await;
        // The ring in memory serves.
        let pair = pki::self_signed(Key::P256, "a.example");
        let mut client = replica.client_with_key(server.admin_key());
        client.upload_server_certificate(upload_of(&pair)).await.unwrap();

        write_ring(&ring, &kept);
        until(async || usable() == 1.0).await;
    }
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(
        log.matches("the file of the key ring cannot be used").count(),
        6,
        "{log}"
    );
    replica.terminate();
    server.stop().await;
}
