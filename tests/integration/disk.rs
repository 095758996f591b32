//! The disk of the private Postgres is full, and then it is not.
//!
//! The disk is a small tmpfs in a mount namespace of its own, which root may make anywhere and others may make in a user
//! namespace. A limit or a quota would not do: Postgres is told EFBIG or EDQUOT then, and not that there is no space.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use certkeep::grpc::pb;
use certkeep::grpc::pb::certificate_service_client::CertificateServiceClient;
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::bad_input::reason;
use crate::harness::{Client, bearer, temp_dir, until, upload_of};
use crate::load::resumes_within;
use crate::operation::{NOT_SERVING, SERVING, health_of};
use crate::pki::{self, Key};
use crate::process::CERTKEEP;

/// Mounts the disk, runs certkeep on it, and does what it is told. When nobody can tell it anything any more it ends, and
/// with it, the first process of its namespace, all others and the disk.
const SCRIPT: &str = r#"
mount -t tmpfs -o size=128m,mode=711 tmpfs "$1" || exit 1
"$2" serve --listen 127.0.0.1:0 --data-dir "$1" --admin-key "$3/admin.key" --key-ring "$3/key-ring" </dev/null &
while read -r word; do
  case "$word" in
    fill) cat /dev/zero 2>/dev/null >"$1/ballast" ;;
    clear) rm "$1/ballast" ;;
    crash) kill -9 "$(head -n 1 "$1/postgres/postmaster.pid")" ;;
  esac
  echo "$word"
done
"#;

/// certkeep on a private Postgres on a small disk.
struct OnSmallDisk {
    child: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
    client: Client,
    channel: Channel,
    dir: TempDir,
}

impl OnSmallDisk {
    fn start() -> Self {
        let dir = temp_dir();
        let (disk, keys) = (dir.path().join("disk"), dir.path().join("keys"));
        std::fs::create_dir(&disk).unwrap();
        std::fs::create_dir(&keys).unwrap();
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        let mut child = unshare
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", SCRIPT, "sh"])
            .args([disk.as_path(), CERTKEEP.as_ref(), keys.as_path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let words = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        // Its last line is an example of an upload.
        while !banner.contains("\nupload") && answers.read_line(&mut banner).unwrap() > 0 {}
        let first = banner.lines().next().unwrap_or_default();
        let address = first.rsplit(' ').next().unwrap_or_default();
        assert!(
            address.contains(':'),
            "certkeep did not start on a disk of its own: {banner:?}"
        );
        let key = std::fs::read_to_string(keys.join("admin.key")).unwrap();
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        Self {
            child,
            words,
            answers,
            client: CertificateServiceClient::with_interceptor(channel.clone(), bearer(key.trim())),
            channel,
            dir,
        }
    }

    /// Waits until Postgres has exited this often.
    async fn postgres_exits(&self, times: usize) {
        let log = self.dir.path().join("log");
        until(async || {
            let log = std::fs::read_to_string(&log).unwrap();
            log.matches("Postgres exited").count() >= times
        })
        .await;
    }

    /// Says a word to the script and waits until it is done.
    fn tell(&mut self, word: &str) {
        writeln!(self.words, "{word}").unwrap();
        assert_eq!(line(&mut self.answers).trim(), word);
    }
}

impl Drop for OnSmallDisk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(from: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_uploads_damages_nothing_and_is_forgotten_when_there_is_room() {
    let mut server = OnSmallDisk::start();
    let mut client = server.client.clone();
    let upload = upload_of(&pki::issued(Key::Rsa(2048), "disk.example"));
    let mut acknowledged = Vec::new();
    let first = client.upload_server_certificate(upload.clone()).await.unwrap();
    acknowledged.push(first.into_inner().server_certificate_id);

    server.tell("fill");
    // The pages that are there already are filled first. A large certificate fills no gap that a small one left.
    let mut refused = 0;
    for _ in 0..500 {
        match client.upload_server_certificate(upload.clone()).await {
            Ok(answer) => acknowledged.push(answer.into_inner().server_certificate_id),
            Err(status) => {
                assert_eq!(
                    (status.code(), reason(&status)),
                    (Code::Unavailable, "DATABASE_UNAVAILABLE".into())
                );
                refused += 1;
            }
        }
        if refused == 20 {
            break;
        }
    }
    assert_eq!(refused, 20, "the disk is full");
    // Balancers keep the reads.
    let channel = server.channel.clone();
    until(async || {
        client.upload_server_certificate(upload.clone()).await.is_err()
            && health_of(channel.clone(), "certkeep.write").await == NOT_SERVING
    })
    .await;
    assert_eq!(health_of(channel.clone(), "certkeep.read").await, SERVING);
    all_are_there(&mut client, &acknowledged).await;

    server.tell("clear");
    resumes_within(&client, Duration::from_secs(5)).await;
    let again = client.upload_server_certificate(upload.clone()).await.unwrap();
    acknowledged.push(again.into_inner().server_certificate_id);
    all_are_there(&mut client, &acknowledged).await;

    // Postgres dies, and cannot start while the disk is full. After six exits certkeep waits its longest pause.
    server.tell("fill");
    server.tell("crash");
    server.postgres_exits(6).await;
    let refused = client.upload_server_certificate(upload).await.unwrap_err();
    assert_eq!(reason(&refused), "DATABASE_UNAVAILABLE");
    server.tell("clear");
    resumes_within(&client, Duration::from_secs(5)).await;
    all_are_there(&mut client, &acknowledged).await;
}

async fn all_are_there(client: &mut Client, ids: &[String]) {
    for id in ids {
        let get = pb::GetServerCertificateRequest {
            server_certificate_id: id.clone(),
            ..Default::default()
        };
        client.get_server_certificate(get).await.unwrap();
    }
}
