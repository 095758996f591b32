//! Tests of the whole private Postgres with the PostgreSQL of this machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

use super::pid_file::{PidFile, Status};
use super::postmaster::{command_lines, is_postmaster};
use super::*;

/// A data directory. When this is dropped, its server is killed, also after a failed test.
struct TestDir {
    data_dir: DataDir,
    _parent: TempDir,
}

impl TestDir {
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

    /// The process of the running server that names itself so.
    fn process(&self, name: &str) -> Option<Pid> {
        let found = command_lines().find(|(pid, line)| {
            let dir = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
            line.starts_with(name.as_bytes()) && dir.is_ok_and(|dir| dir == self.cluster())
        });
        found.map(|(pid, _)| pid)
    }

    async fn start(&self) -> PrivatePostgres {
        PrivatePostgres::start(&self.data_dir, &Settings::default(), None, &CancellationToken::new())
            .await
            .unwrap()
    }

    async fn refusal(&self) -> Error {
        PrivatePostgres::start(&self.data_dir, &Settings::default(), None, &CancellationToken::new())
            .await
            .unwrap_err()
    }
}

impl Drop for TestDir {
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
    query_as(postgres.socket_dir(), PrivatePostgres::OWNER_ROLE, sql)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_first_start_creates_a_cluster_and_the_second_finds_the_data() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    assert!(postgres.is_new());
    assert_eq!(query(&postgres, "SELECT current_user").await, "certkeep_owner");
    query(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    let socket_dir = postgres.socket_dir().to_owned();
    postgres.stop().await;
    assert_eq!(dir.pid(), None);
    assert!(!socket_dir.exists());

    let postgres = dir.start().await;
    assert!(!postgres.is_new());
    assert_eq!(query(&postgres, "SELECT answer FROM kept").await, "42");
    postgres.stop().await;
}

#[tokio::test]
async fn it_is_durable_and_listens_only_on_its_socket() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
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
async fn the_roles_cannot_read_files_and_other_roles_cannot_connect() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    let role = |role| query_as(postgres.socket_dir(), role, "SELECT pg_read_file('PG_VERSION')");
    for own in [PrivatePostgres::ROLE, PrivatePostgres::OWNER_ROLE] {
        let denied = role(own).await.unwrap_err();
        assert!(denied.contains("permission denied"), "{denied}");
    }
    let rejected = role("stranger").await.unwrap_err();
    assert!(rejected.contains("pg_hba.conf rejects connection"), "{rejected}");
    if rustix::process::geteuid().is_root() {
        let refused = role("postgres").await.unwrap_err();
        assert!(refused.contains("Peer authentication failed"), "{refused}");
    }
    postgres.stop().await;
}

#[tokio::test]
async fn its_log_contains_no_statements_and_no_rows() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    let sql = "CREATE TABLE t (v text UNIQUE); INSERT INTO t VALUES ('hush'); INSERT INTO t VALUES ('hush')";
    query_as(postgres.socket_dir(), PrivatePostgres::OWNER_ROLE, sql)
        .await
        .unwrap_err();
    let log = fs::read_to_string(dir.data_dir.path().join("postgres.log")).unwrap();
    assert!(log.contains("duplicate key value"), "{log}");
    assert!(!log.contains("hush"), "{log}");
    postgres.stop().await;
}

#[tokio::test]
async fn a_killed_postgres_is_restarted() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    query(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    let killed = dir.pid().unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    let since = Instant::now();
    let answer = loop {
        match query_as(
            postgres.socket_dir(),
            PrivatePostgres::OWNER_ROLE,
            "SELECT answer FROM kept",
        )
        .await
        {
            Ok(answer) => break answer,
            Err(error) => assert!(since.elapsed() < Duration::from_secs(20), "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(answer, "42");
    assert_ne!(dir.pid(), Some(killed));
    postgres.stop().await;
    assert_eq!(dir.pid(), None);
}

#[tokio::test]
async fn a_running_postgres_is_taken_over_and_watched() {
    let dir = TestDir::new("data");
    drop(dir.start().await);
    let left = dir.pid().unwrap();

    let postgres = dir.start().await;
    assert_eq!(dir.pid(), Some(left));
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
    assert_ne!(dir.pid(), Some(left));
    postgres.stop().await;
    assert_eq!(dir.pid(), None);
}

#[tokio::test]
async fn a_postgres_that_was_killed_with_certkeep_is_recovered() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
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
    kill_process(dir.pid().unwrap(), Signal::KILL).unwrap();

    let postgres = dir.start().await;
    assert_eq!(query(&postgres, "SELECT answer FROM kept").await, "42");
    postgres.stop().await;
    let _ = busy.await.unwrap();
}

#[tokio::test]
async fn a_pid_of_another_process_is_ignored() {
    let dir = TestDir::new("data");
    dir.start().await.stop().await;
    // The pid of this test: a running process that is not a postmaster.
    let text = format!(
        "{}\n{}\n1700000000\n5432\n/etc\n\n\nready   \n",
        std::process::id(),
        dir.cluster().display()
    );
    fs::write(PidFile::path(&dir.cluster()), text).unwrap();
    let postgres = dir.start().await;
    assert_eq!(query(&postgres, "SELECT 1").await, "1");
    postgres.stop().await;
}

#[tokio::test]
async fn an_aborted_start_leaves_no_process_running() {
    let dir = TestDir::new("data");
    dir.start().await.stop().await;
    let settings = Settings::default();
    let cancel = CancellationToken::new();
    let mut start = Box::pin(PrivatePostgres::start(&dir.data_dir, &settings, None, &cancel));
    while dir.pid().is_none() {
        tokio::select! {
            _ = &mut start => return,
            () = sleep(Duration::from_millis(1)) => {}
        }
    }
    drop(start);
    let since = Instant::now();
    while dir.pid().is_some() {
        assert!(since.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cancelled_start_waits_for_the_end_of_its_postgres() {
    let dir = TestDir::new(&format!("{}/data", "long".repeat(30)));
    dir.start().await.stop().await;
    let (settings, cancel) = (Settings::default(), CancellationToken::new());
    let mut start = Box::pin(PrivatePostgres::start(&dir.data_dir, &settings, None, &cancel));
    while dir.pid().is_none() {
        tokio::select! {
            started = &mut start => return started.unwrap().stop().await,
            () = sleep(Duration::from_millis(1)) => {}
        }
    }
    let socket_dir = PidFile::read(&dir.cluster()).and_then(|file| file.socket_dir);
    cancel.cancel();
    let error = start.await.unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
    assert_eq!(dir.pid(), None);
    assert!(socket_dir.is_none_or(|dir| !dir.exists()));
}

/// Such a server works in the cluster, but its arguments do not name the cluster.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_postgres_that_was_started_by_hand_is_shut_down_with_its_children() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    query(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    postgres.stop().await;
    let run_as = RunAs::resolve(None, None).await.unwrap();
    let wanted = Wanted::Major(
        Cluster::of(dir.data_dir.path()).major().unwrap().unwrap(),
        &dir.cluster(),
    );
    let binaries = Binaries::find(None, None, wanted, &run_as).await.unwrap();
    let mut by_hand = run_as
        .command(&binaries.postgres())
        .env("PGDATA", dir.cluster())
        .args(["-c", "listen_addresses=", "-k"])
        .arg(dir.cluster())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let since = Instant::now();
    let child = loop {
        if let Some(pid) = dir.process("postgres: checkpointer") {
            break pid;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "no checkpointer");
        sleep(Duration::from_millis(20)).await;
    };
    let pid = dir.pid().unwrap();
    leftover::end(&dir.cluster()).await;
    assert_eq!(dir.process("postgres: checkpointer"), Some(child));
    let postgres = dir.start().await;
    assert!(by_hand.wait().await.unwrap().success(), "no clean shutdown");
    assert_ne!(dir.pid(), Some(pid));
    assert_eq!(query(&postgres, "SELECT answer FROM kept").await, "42");
    postgres.stop().await;
}

#[tokio::test]
async fn an_unfinished_cluster_is_removed() {
    let dir = TestDir::new("data");
    let unfinished = dir.data_dir.path().join("postgres.new-0123456789abcdef");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    let postgres = dir.start().await;
    assert!(postgres.is_new());
    assert!(!unfinished.exists());
    postgres.stop().await;
}

#[tokio::test]
async fn data_of_another_major_version_is_refused() {
    let dir = TestDir::new("data");
    fs::create_dir(dir.cluster()).unwrap();
    fs::write(dir.cluster().join("PG_VERSION"), "12\n").unwrap();
    let error = dir.refusal().await;
    assert!(matches!(error, Error::OtherMajor { data: 12, .. }), "{error}");
}

#[tokio::test]
async fn a_directory_that_is_not_a_cluster_is_refused_and_not_changed() {
    let dir = TestDir::new("data");
    fs::create_dir(dir.cluster()).unwrap();
    fs::write(dir.cluster().join("photo.jpg"), "precious").unwrap();
    let error = dir.refusal().await;
    assert!(matches!(error, Error::NotACluster { .. }), "{error}");
    assert!(dir.cluster().join("photo.jpg").exists());
}

#[tokio::test]
async fn a_failed_start_reports_the_end_of_the_log() {
    let dir = TestDir::new("data");
    dir.start().await.stop().await;
    fs::write(dir.cluster().join("postgresql.conf"), "shared_buffers = -7\n").unwrap();
    let Error::Died { tail, .. } = dir.refusal().await else {
        panic!("another error")
    };
    assert!(tail.contains("shared_buffers"), "{tail}");
}

#[tokio::test]
async fn a_long_path_gets_a_short_socket_path_that_is_found_again() {
    let dir = TestDir::new(&format!("{}/data", "long".repeat(30)));
    let postgres = dir.start().await;
    let socket_dir = postgres.socket_dir().to_owned();
    assert!(socket_dir.starts_with("/tmp"));
    assert_eq!(fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    assert_eq!(query(&postgres, "SELECT 1").await, "1");
    drop(postgres);

    let postgres = dir.start().await;
    assert_eq!(postgres.socket_dir(), socket_dir);
    assert_eq!(query(&postgres, "SELECT 1").await, "1");
    postgres.stop().await;
    assert!(!socket_dir.exists());
}

#[tokio::test]
async fn a_pid_file_that_names_no_process_is_removed() {
    let dir = TestDir::new("data");
    dir.start().await.stop().await;
    for text in ["", "garbage\n", "0\n"] {
        fs::write(PidFile::path(&dir.cluster()), text).unwrap();
        let postgres = dir.start().await;
        assert_eq!(query(&postgres, "SELECT 1").await, "1");
        postgres.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_lost_its_pid_file_is_replaced() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    query(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    let left = dir.pid().unwrap();
    drop(postgres);
    fs::write(PidFile::path(&dir.cluster()), "garbage").unwrap();
    let postgres = dir.start().await;
    assert!(!is_postmaster(left, &dir.cluster()));
    assert_eq!(query(&postgres, "SELECT answer FROM kept").await, "42");
    postgres.stop().await;
}

#[tokio::test]
async fn a_failed_start_reports_the_detail_of_the_error() {
    let dir = TestDir::new("data");
    dir.start().await.stop().await;
    fs::set_permissions(dir.cluster(), Permissions::from_mode(0o755)).unwrap();
    let Error::Died { tail, .. } = dir.refusal().await else {
        panic!("another error")
    };
    assert!(tail.contains("DETAIL:") && tail.contains("0700"), "{tail}");
}

#[tokio::test]
async fn the_log_does_not_show_the_rows_of_a_failed_statement() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    query(&postgres, "CREATE TABLE secret (text text PRIMARY KEY)").await;
    let twice = "INSERT INTO secret VALUES ('hunter2'), ('hunter2')";
    for role in [PrivatePostgres::OWNER_ROLE, PrivatePostgres::ROLE] {
        query(&postgres, "GRANT ALL ON secret TO certkeep").await;
        let refused = query_as(postgres.socket_dir(), role, twice).await.unwrap_err();
        assert!(refused.contains("hunter2"), "{refused}");
    }
    let log = fs::read_to_string(dir.data_dir.path().join("postgres.log")).unwrap();
    assert_eq!(log.matches("duplicate key").count(), 2, "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    postgres.stop().await;
}

#[tokio::test]
async fn a_server_that_lost_its_socket_is_restarted() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    query(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    let killed = dir.pid().unwrap();
    fs::remove_file(postgres.socket_dir().join(".s.PGSQL.5432")).unwrap();
    let select = "SELECT answer FROM kept";
    let since = Instant::now();
    while query_as(postgres.socket_dir(), PrivatePostgres::OWNER_ROLE, select)
        .await
        .is_err()
    {
        assert!(since.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(dir.pid(), Some(killed));

    // The same, while no certkeep watches.
    drop(postgres);
    let left = dir.pid().unwrap();
    fs::remove_dir_all(dir.data_dir.path().join("socket")).unwrap();
    let postgres = dir.start().await;
    assert_ne!(dir.pid(), Some(left));
    assert_eq!(query(&postgres, select).await, "42");
    postgres.stop().await;
}

/// The status of a server that recovers from the crash of one of its processes is ready.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_server_that_recovers() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    query(
        &postgres,
        "CREATE TABLE kept AS SELECT n FROM generate_series(1, 400000) AS n",
    )
    .await;
    let left = dir.pid().unwrap();
    drop(postgres);
    let victim = dir.process("postgres: checkpointer").unwrap();
    kill_process(victim, Signal::KILL).unwrap();
    let since = Instant::now();
    // Recovery is held, so that the start meets it.
    let recovering = loop {
        if let Some(pid) = dir.process("postgres: startup") {
            kill_process(pid, Signal::STOP).unwrap();
            break pid;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "no recovery");
    };
    assert_eq!(PidFile::read(&dir.cluster()).unwrap().status, Status::Ready);
    let settings = Settings::default();
    let cancel = CancellationToken::new();
    let mut start = Box::pin(PrivatePostgres::start(&dir.data_dir, &settings, None, &cancel));
    let early = tokio::time::timeout(Duration::from_secs(3), &mut start).await;
    assert!(early.is_err(), "ready during the recovery");
    kill_process(recovering, Signal::CONT).unwrap();
    let postgres = start.await.unwrap();
    assert_eq!(dir.pid(), Some(left));
    assert_eq!(query(&postgres, "SELECT count(*) FROM kept").await, "400000");
    postgres.abandon().await;
    assert_eq!(dir.pid(), Some(left), "it was only taken over");
}

/// A server that shuts down while a process of it hangs, as during a recovery, waits for that process forever.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_shutdown_that_hangs_is_ended_by_the_next_start() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    query(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    drop(postgres);
    let left = dir.pid().unwrap();
    kill_process(dir.process("postgres: checkpointer").unwrap(), Signal::STOP).unwrap();
    kill_process(left, Signal::INT).unwrap();
    while PidFile::read(&dir.cluster()).unwrap().status != Status::Stopping {
        sleep(Duration::from_millis(20)).await;
    }
    // Only the time that the start sees counts.
    let file = fs::File::options()
        .append(true)
        .open(PidFile::path(&dir.cluster()))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let mut start = Box::pin(dir.start());
    let early = tokio::time::timeout(Duration::from_secs(3), &mut start).await;
    assert!(early.is_err() && dir.pid() == Some(left), "the shutdown got no time");
    let postgres = start.await;
    assert_ne!(dir.pid(), Some(left));
    assert_eq!(query(&postgres, "SELECT answer FROM kept").await, "42");
    postgres.stop().await;
}

/// A process of a killed server that does not end by itself keeps the next server from starting.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn processes_of_a_killed_server_are_ended() {
    let dir = TestDir::new("data");
    let postgres = dir.start().await;
    query(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    let socket_dir = postgres.socket_dir().to_owned();
    let sleep_long = "SELECT pg_sleep(300)";
    let busy = tokio::spawn(async move { query_as(&socket_dir, PrivatePostgres::ROLE, sleep_long).await });
    let since = Instant::now();
    let hanging = loop {
        if let Some(pid) = dir.process("postgres: certkeep certkeep [local] SELECT") {
            break pid;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "no session");
        sleep(Duration::from_millis(20)).await;
    };
    kill_process(hanging, Signal::STOP).unwrap();
    kill_process(dir.pid().unwrap(), Signal::KILL).unwrap();
    let since = Instant::now();
    let select = "SELECT answer FROM kept";
    while query_as(postgres.socket_dir(), PrivatePostgres::OWNER_ROLE, select)
        .await
        .is_err()
    {
        assert!(since.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(50)).await;
    }
    busy.await.unwrap().unwrap_err();
    postgres.stop().await;
}
