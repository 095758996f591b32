//! The private Postgres as a whole, on the PostgreSQL of this machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

use super::pid_file::PidFile;
use super::postmaster::is_postmaster;
use super::*;

/// A data directory whose server is gone when this is dropped, however the test ended.
struct Room {
    data_dir: DataDir,
    _parent: TempDir,
}

impl Room {
    fn new(below: &str) -> Self {
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), Permissions::from_mode(0o711)).unwrap();
        let data_dir = DataDir::lock(&parent.path().join(below)).unwrap();
        Self {
            data_dir,
            _parent: parent,
        }
    }

    fn cluster(&self) -> PathBuf {
        self.data_dir.path().join("postgres")
    }

    fn pid(&self) -> Option<Pid> {
        PidFile::read(&self.cluster())
            .map(|file| file.pid)
            .filter(|pid| is_postmaster(*pid, &self.cluster()))
    }

    async fn start(&self) -> PrivatePostgres {
        PrivatePostgres::start(&self.data_dir, &Settings::default(), None)
            .await
            .unwrap()
    }

    async fn refusal(&self) -> Error {
        PrivatePostgres::start(&self.data_dir, &Settings::default(), None)
            .await
            .unwrap_err()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        while let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::QUIT);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

async fn query_as(socket_dir: &Path, role: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["-XAtq", "-U", role, "-d", PrivatePostgres::DATABASE, "-c", sql, "-h"])
        .arg(socket_dir)
        .output()
        .await
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

async fn query(postgres: &PrivatePostgres, sql: &str) -> String {
    query_as(postgres.socket_dir(), PrivatePostgres::ROLE, sql)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_fresh_start_serves_and_a_second_one_finds_the_data() {
    let room = Room::new("data");
    let postgres = room.start().await;
    assert!(postgres.is_new());
    assert_eq!(query(&postgres, "SELECT current_user").await, "certkeep");
    query(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    let socket_dir = postgres.socket_dir().to_owned();
    postgres.stop().await;
    assert_eq!(room.pid(), None);
    assert!(!socket_dir.exists());

    let postgres = room.start().await;
    assert!(!postgres.is_new());
    assert_eq!(query(&postgres, "SELECT answer FROM kept").await, "42");
    postgres.stop().await;
}

#[tokio::test]
async fn it_is_durable_and_reached_by_its_socket_alone() {
    let room = Room::new("data");
    let postgres = room.start().await;
    for (setting, value) in [
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("log_statement", "none"),
    ] {
        assert_eq!(query(&postgres, &format!("SHOW {setting}")).await, value, "{setting}");
    }
    assert_eq!(
        query(
            &postgres,
            "SELECT datcollate FROM pg_database WHERE datname = 'certkeep'"
        )
        .await,
        "C"
    );
    assert!(
        query(&postgres, "SHOW server_version")
            .await
            .starts_with(postgres.version())
    );
    assert_eq!(fs::metadata(postgres.socket_dir()).unwrap().mode() & 0o777, 0o700);
    postgres.stop().await;
}

#[tokio::test]
async fn the_role_reads_no_files_and_nobody_else_gets_in() {
    let room = Room::new("data");
    let postgres = room.start().await;
    let role = |role| query_as(postgres.socket_dir(), role, "SELECT pg_read_file('PG_VERSION')");
    let denied = role(PrivatePostgres::ROLE).await.unwrap_err();
    assert!(denied.contains("permission denied"), "{denied}");
    let rejected = role("stranger").await.unwrap_err();
    assert!(rejected.contains("pg_hba.conf rejects connection"), "{rejected}");
    if rustix::process::geteuid().is_root() {
        let refused = role("postgres").await.unwrap_err();
        assert!(refused.contains("Peer authentication failed"), "{refused}");
    }
    postgres.stop().await;
}

#[tokio::test]
async fn its_log_holds_neither_statements_nor_rows() {
    let room = Room::new("data");
    let postgres = room.start().await;
    let sql = "CREATE TABLE t (v text UNIQUE); INSERT INTO t VALUES ('hush'); INSERT INTO t VALUES ('hush')";
    query_as(postgres.socket_dir(), PrivatePostgres::ROLE, sql)
        .await
        .unwrap_err();
    let log = fs::read_to_string(room.data_dir.path().join("postgres.log")).unwrap();
    assert!(log.contains("duplicate key value"), "{log}");
    assert!(!log.contains("hush"), "{log}");
    postgres.stop().await;
}

#[tokio::test]
async fn a_killed_postgres_is_started_again() {
    let room = Room::new("data");
    let postgres = room.start().await;
    query(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    let killed = room.pid().unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    let since = Instant::now();
    let answer = loop {
        match query_as(postgres.socket_dir(), PrivatePostgres::ROLE, "SELECT answer FROM kept").await {
            Ok(answer) => break answer,
            Err(error) => assert!(since.elapsed() < Duration::from_secs(20), "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(answer, "42");
    assert_ne!(room.pid(), Some(killed));
    postgres.stop().await;
    assert_eq!(room.pid(), None);
}

#[tokio::test]
async fn a_running_postgres_is_taken_over_and_watched() {
    let room = Room::new("data");
    drop(room.start().await);
    let left = room.pid().unwrap();

    let postgres = room.start().await;
    assert_eq!(room.pid(), Some(left));
    assert!(!postgres.is_new());
    kill_process(left, Signal::KILL).unwrap();
    let since = Instant::now();
    while query_as(postgres.socket_dir(), PrivatePostgres::ROLE, "SELECT 1")
        .await
        .is_err()
    {
        assert!(since.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(room.pid(), Some(left));
    postgres.stop().await;
    assert_eq!(room.pid(), None);
}

#[tokio::test]
async fn a_postgres_that_was_killed_with_certkeep_is_recovered() {
    let room = Room::new("data");
    let postgres = room.start().await;
    query(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    let busy = tokio::spawn({
        let socket_dir = postgres.socket_dir().to_owned();
        async move {
            query_as(
                &socket_dir,
                PrivatePostgres::ROLE,
                "SELECT count(*) FROM generate_series(1, 6000000)",
            )
            .await
        }
    });
    sleep(Duration::from_millis(200)).await;
    drop(postgres);
    sleep(Duration::from_millis(50)).await;
    kill_process(room.pid().unwrap(), Signal::KILL).unwrap();

    let postgres = room.start().await;
    assert_eq!(query(&postgres, "SELECT answer FROM kept").await, "42");
    postgres.stop().await;
    let _ = busy.await.unwrap();
}

#[tokio::test]
async fn a_number_that_another_process_has_by_now_is_not_believed() {
    let room = Room::new("data");
    room.start().await.stop().await;
    // This process stands for the other one: alive, and no postmaster.
    let text = format!(
        "{}\n{}\n1700000000\n5432\n/etc\n\n\nready   \n",
        std::process::id(),
        room.cluster().display()
    );
    fs::write(PidFile::path(&room.cluster()), text).unwrap();
    let postgres = room.start().await;
    assert_eq!(query(&postgres, "SELECT 1").await, "1");
    postgres.stop().await;
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing_running() {
    let room = Room::new("data");
    room.start().await.stop().await;
    let settings = Settings::default();
    let mut start = Box::pin(PrivatePostgres::start(&room.data_dir, &settings, None));
    while room.pid().is_none() {
        tokio::select! {
            _ = &mut start => return,
            () = sleep(Duration::from_millis(1)) => {}
        }
    }
    drop(start);
    let since = Instant::now();
    while room.pid().is_some() {
        assert!(since.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cluster_that_was_not_finished_is_removed() {
    let room = Room::new("data");
    let unfinished = room.data_dir.path().join("postgres.new-0123456789abcdef");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    let postgres = room.start().await;
    assert!(postgres.is_new());
    assert!(!unfinished.exists());
    postgres.stop().await;
}

#[tokio::test]
async fn data_of_another_major_version_is_refused() {
    let room = Room::new("data");
    fs::create_dir(room.cluster()).unwrap();
    fs::write(room.cluster().join("PG_VERSION"), "12\n").unwrap();
    let error = room.refusal().await;
    assert!(matches!(error, Error::OtherMajor { data: 12, .. }), "{error}");
}

#[tokio::test]
async fn a_directory_that_is_no_cluster_is_left_alone() {
    let room = Room::new("data");
    fs::create_dir(room.cluster()).unwrap();
    fs::write(room.cluster().join("photo.jpg"), "precious").unwrap();
    let error = room.refusal().await;
    assert!(matches!(error, Error::NotACluster { .. }), "{error}");
    assert!(room.cluster().join("photo.jpg").exists());
}

#[tokio::test]
async fn a_postgres_that_cannot_start_says_why() {
    let room = Room::new("data");
    room.start().await.stop().await;
    fs::write(room.cluster().join("postgresql.conf"), "shared_buffers = -7\n").unwrap();
    let Error::Died { tail, .. } = room.refusal().await else {
        panic!("another error")
    };
    assert!(tail.contains("shared_buffers"), "{tail}");
}

#[tokio::test]
async fn a_long_path_gets_a_short_socket_that_is_found_again() {
    let room = Room::new(&format!("{}/data", "long".repeat(30)));
    let postgres = room.start().await;
    let socket_dir = postgres.socket_dir().to_owned();
    assert!(socket_dir.starts_with("/tmp"));
    assert_eq!(fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    assert_eq!(query(&postgres, "SELECT 1").await, "1");
    drop(postgres);

    let postgres = room.start().await;
    assert_eq!(postgres.socket_dir(), socket_dir);
    assert_eq!(query(&postgres, "SELECT 1").await, "1");
    postgres.stop().await;
    assert!(!socket_dir.exists());
}
