//! libpq's `sslmode` values, against a Postgres that has a certificate.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use certkeep::store::{Settings, Store};
use tempfile::TempDir;

use crate::harness::temp_dir;
use crate::pki::{self, Key};

/// A Postgres that serves TLS on a loopback port; it ends with this.
struct TlsPostgres {
    child: Child,
    port: u16,
    dir: TempDir,
}

fn program(name: &str) -> PathBuf {
    let places = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"];
    let dirs = places
        .iter()
        .filter_map(|place| std::fs::read_dir(place).ok())
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = dirs
        .map(|dir| dir.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found
        .pop()
        .unwrap_or_else(|| panic!("PostgreSQL's {name} is missing: run tools/install postgres"))
}

/// As the user of Postgres, which refuses to run as root.
fn command(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program);
    command
}

impl TlsPostgres {
    fn start(certificate: &pki::Pair) -> Self {
        let dir = temp_dir();
        let data = dir.path().join("data");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let initdb = command(&program("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-A", "trust", "-U", "certkeep"])
            .stdout(Stdio::null())
            .status();
        assert!(initdb.unwrap().success());
        // Written by whom Postgres runs as: it refuses a key that others may read.
        for (name, text) in [
            ("server.crt", &certificate.certificate),
            ("server.key", &certificate.key),
        ] {
            let mut write = command(Path::new("sh"));
            write
                .args(["-c", "umask 077; cat > \"$1\"", "sh"])
                .arg(data.join(name))
                .stdin(Stdio::piped());
            let mut write = write.spawn().unwrap();
            std::io::Write::write_all(&mut write.stdin.take().unwrap(), text.as_bytes()).unwrap();
            assert!(write.wait().unwrap().success());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = command(&program("postgres"))
            .arg("-D")
            .arg(&data)
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
                "-c",
                "ssl=on",
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "Postgres did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { child, port, dir }
    }

    /// Whether the store can speak to it with these parameters.
    async fn accepts(&self, host: &str, parameters: &str) -> bool {
        let settings = Settings {
            connection_string: format!("postgres://certkeep@{host}:{}/postgres?{parameters}", self.port),
            owner_connection_string: None,
            danger_unverified_database: false,
            max_connections: 1,
            timeline_file: None,
        };
        let store = Store::new(&settings).unwrap();
        let started = Instant::now();
        loop {
            match store.access().await {
                Ok(_) => return true,
                // It may still be starting.
                Err(_) if started.elapsed() < Duration::from_millis(300) => {
                    tokio::time::sleep(Duration::from_millis(50)).await
                }
                Err(_) => return false,
            }
        }
    }
}

impl Drop for TlsPostgres {
    fn drop(&mut self) {
        // setpriv became Postgres: it is the child itself.
        if let Some(pid) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_proves_what_libpq_says_and_no_more() {
    let server = pki::self_signed(Key::P256, "localhost");
    let stranger = pki::self_signed(Key::P256, "localhost");
    let postgres = TlsPostgres::start(&server);
    let root = postgres.dir.path().join("root.pem");
    let other = postgres.dir.path().join("other.pem");
    std::fs::write(&root, &server.certificate).unwrap();
    std::fs::write(&other, &stranger.certificate).unwrap();
    let (root, other) = (
        format!("sslrootcert={}", root.display()),
        format!("sslrootcert={}", other.display()),
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    for (host, parameters, accepted) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), true),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", format!("sslmode=verify-ca&{root}"), true),
        ("127.0.0.1", format!("sslmode=verify-ca&{other}"), false),
        ("localhost", format!("sslmode=verify-full&{root}"), true),
        // The certificate is for another name.
        ("127.0.0.1", format!("sslmode=verify-full&{root}"), false),
        ("localhost", format!("sslmode=verify-full&{other}"), false),
        // The system's roots do not know it.
        ("localhost", "sslmode=verify-full".to_owned(), false),
        ("localhost", "sslrootcert=system".to_owned(), false),
    ] {
        assert_eq!(
            postgres.accepts(host, &parameters).await,
            accepted,
            "{host} {parameters}"
        );
    }
}
