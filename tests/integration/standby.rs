//! A Postgres with a synchronous standby. Everything acknowledged is on the standby, and certkeep follows its promotion.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use certkeep::grpc::pb;
use tempfile::TempDir;

use crate::bad_input::reason;
use crate::calls::stored;
use crate::harness::{REGION, TestServer, connect_to, temp_dir, until, upload_of};
use crate::load::{Load, resumes_within};
use crate::operation::{http, metric};
use crate::pki::{self, Key};
use crate::process::{children, kill, signal, stdout};
use crate::proof::{figure, times};
use crate::watches::Watch;

/// The directory of PostgreSQL's programs, which Debian keeps out of PATH.
fn programs() -> PathBuf {
    let pg_config = Command::new("pg_config").arg("--bindir").output();
    let from_path = pg_config.ok().map(|output| PathBuf::from(stdout(&output).trim()));
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = installed.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    let found = from_path
        .into_iter()
        .chain(debian)
        .find(|dir| dir.join("initdb").exists());
    found.expect("PostgreSQL's initdb, postgres and pg_basebackup are installed")
}

/// A program of PostgreSQL, run as the user that may.
fn program(name: &str) -> Command {
    let path = programs().join(name);
    let mut command = if rustix::process::geteuid().is_root() {
        let mut runuser = Command::new("runuser");
        runuser.args(["-u", "postgres", "--"]).arg(path);
        runuser
    } else {
        Command::new(path)
    };
    command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// One of the two Postgres servers, with its data and its socket in one directory. Dropping it stops the server.
struct Node {
    dir: PathBuf,
    started: Option<Child>,
}

impl Node {
    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn connection_string(&self) -> String {
        format!("host='{}' port=5432 user=certkeep dbname=postgres", self.dir.display())
    }

    async fn start(dir: &Path) -> Self {
        let mut node = Self {
            dir: dir.to_owned(),
            started: None,
        };
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(node.data());
        let socket = format!("unix_socket_directories={}", dir.display());
        for setting in ["listen_addresses=", &socket, "unix_socket_permissions=0700"] {
            postgres.args(["-c", setting]);
        }
        node.started = Some(postgres.spawn().unwrap());
        let began = Instant::now();
        while tokio_postgres::connect(&node.connection_string(), tokio_postgres::NoTls)
            .await
            .is_err()
        {
            assert!(began.elapsed() < Duration::from_secs(20), "Postgres did not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        node
    }

    fn postmaster(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.parse().ok()
    }

    /// Kills all its processes at once, as when a machine dies.
    fn kill(&self) {
        let postmaster = self.postmaster().unwrap();
        let all = children(postmaster);
        kill(postmaster);
        for pid in all.into_iter().filter_map(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        // Otherwise a new process with the same number would be taken for this one.
        std::fs::remove_file(self.data().join("postmaster.pid")).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(postmaster) = self.postmaster() {
            signal(postmaster, rustix::process::Signal::QUIT);
        }
        if let Some(mut started) = self.started.take() {
            let _ = started.wait();
        }
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// A primary and its standby. The primary commits only after the standby has the commit.
async fn pair(dir: &TempDir) -> (Node, Node) {
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    for node in [&a, &b] {
        std::fs::create_dir(node).unwrap();
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("postgres").arg(node));
        }
    }
    // Only the owner of the socket and root can open it.
    let mut initdb = program("initdb");
    run(initdb.args(["-A", "trust", "-U", "certkeep", "-D"]).arg(a.join("data")));
    let primary = Node::start(&a).await;
    let mut backup = program("pg_basebackup");
    backup.args(["-R", "-X", "stream", "-c", "fast", "-U", "certkeep", "-D"]);
    run(backup.arg(b.join("data")).arg("-h").arg(&a));
    let standby = Node::start(&b).await;
    let sql = connect_to(&primary.connection_string()).await;
    sql.execute("alter system set synchronous_standby_names = '*'", &[])
        .await
        .unwrap();
    sql.execute("select pg_reload_conf()", &[]).await.unwrap();
    let synchronous = "select count(*) from pg_stat_replication where sync_state = 'sync'";
    let began = Instant::now();
    while sql.query_one(synchronous, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "the standby does not follow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (primary, standby)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_killed_under_load_loses_nothing_and_its_promoted_standby_is_written_to() {
    let failovers = times(1, 10);
    let (mut acknowledged, mut longest_outage) = (0, Duration::ZERO);
    for _ in 0..failovers {
        let (uploads, outage) = fail_over().await;
        acknowledged += uploads;
        longest_outage = longest_outage.max(outage);
    }
    figure("primary databases killed", failovers);
    figure("uploads acknowledged, none lost", acknowledged);
    figure(
        "longest outage after the promotion began, ms",
        longest_outage.as_millis(),
    );
}

/// Calls with this deadline.
fn within<T>(message: T, deadline: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Ends the wait of a statement for the standby. Postgres then shows its commit, and the standby lacks it.
async fn cut_short(sql: &tokio_postgres::Client, statement: &str, way: &str) {
    let waiting = "select pid from pg_stat_activity where wait_event = 'SyncRep' and query like $1 || '%' order by query_start limit 1";
    until(async || sql.query_opt(waiting, &[&statement]).await.unwrap().is_some()).await;
    let pid: i32 = sql.query_one(waiting, &[&statement]).await.unwrap().get(0);
    sql.execute(&format!("select {way}($1)"), &[&pid]).await.unwrap();
}

async fn until_synchronous(sql: &tokio_postgres::Client) {
    let synchronous = "select count(*) from pg_stat_replication where sync_state = 'sync'";
    until(async || sql.query_one(synchronous, &[]).await.unwrap().get::<_, i64>(0) == 1).await;
}

/// The standby is away, an upload waits for it, and the wait is cut short.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_standby_lacks_is_acknowledged_by_no_look_up_and_no_repeated_call() {
    let rounds = times(1, 10);
    for _ in 0..rounds {
        a_commit_is_lost_and_was_not_acknowledged().await;
    }
    figure(
        "commits whose wait for the standby was cut short, none acknowledged",
        4 * rounds,
    );
}

async fn a_commit_is_lost_and_was_not_acknowledged() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let dir = temp_dir();
    let (primary, standby) = pair(&dir).await;
    let hosts = format!(
        "host='{},{}' port=5432 user=certkeep dbname=postgres target_session_attrs=read-write",
        primary.dir.display(),
        standby.dir.display()
    );
    let server = TestServer::start_on(hosts, |_| {}).await;
    let mut client = server.client();
    let upload = |name: &str| pb::UploadServerCertificateRequest {
        client_token: name.to_owned(),
        ..upload_of(&pki::self_signed(Key::P256, name))
    };
    let kept = stored(&client, &upload("kept.example")).await;
    let sql = connect_to(&primary.connection_string()).await;
    let standby_dir = standby.dir.clone();

    drop(standby);
    let waits = upload("waits.example");
    let calling = tokio::spawn({
        let (mut client, request) = (client.clone(), within(waits.clone(), DEADLINE));
        async move { client.upload_server_certificate(request).await }
    });
    cut_short(&sql, "-- store::upload", "pg_terminate_backend").await;
    calling.await.unwrap().unwrap_err();
    let replay = client.upload_server_certificate(within(waits.clone(), DEADLINE)).await;
    replay.unwrap_err();
    // The standby returns and receives the upload.
    let standby = Node::start(&standby_dir).await;
    until_synchronous(&sql).await;
    let replayed = stored(&client, &waits).await;

    drop(standby);
    let mut lost = Vec::new();
    for (number, way) in ["pg_cancel_backend", "pg_terminate_backend"].into_iter().enumerate() {
        let request = upload(&format!("lost-{number}.example"));
        lost.push(request.clone());
        let calling = tokio::spawn({
            let (mut client, request) = (client.clone(), within(request.clone(), DEADLINE));
            async move { client.upload_server_certificate(request).await }
        });
        cut_short(&sql, "-- store::upload", way).await;
        calling.await.unwrap().unwrap_err();
        client
            .upload_server_certificate(within(request, DEADLINE))
            .await
            .unwrap_err();
    }
    let tagging = pb::TagResourcesRequest {
        region_id: REGION.to_owned(),
        resource_type: "certificate".to_owned(),
        resource_ids: vec![kept.clone()],
        tags: crate::calls::tags(&[("team", "shop")]),
    };
    let calling = tokio::spawn({
        let (mut client, request) = (client.clone(), within(tagging.clone(), DEADLINE));
        async move { client.tag_resources(request).await }
    });
    cut_short(&sql, "-- store::set_tags", "pg_cancel_backend").await;
    calling.await.unwrap().unwrap_err();
    client.tag_resources(within(tagging, DEADLINE)).await.unwrap_err();
    let names = "select common_name from certificate order by 1";
    let stored_names = async |sql: &tokio_postgres::Client| -> Vec<String> {
        let rows = sql.query(names, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let all = ["kept.example", "lost-0.example", "lost-1.example", "waits.example"];
    assert_eq!(stored_names(&sql).await, all, "the old primary shows what is lost");

    primary.kill();
    let standby = Node::start(&standby_dir).await;
    let sql = connect_to(&standby.connection_string()).await;
    sql.execute("select pg_promote(true, 20)", &[]).await.unwrap();
    resumes_within(&client, Duration::from_secs(5)).await;
    let remaining = stored_names(&sql).await;
    assert_eq!(remaining, ["again.example", "kept.example", "waits.example"]);
    assert_eq!(stored(&client, &waits).await, replayed);
    // What was lost is stored when it is sent again.
    for request in lost {
        stored(&client, &request).await;
    }
    server.stop().await;
}

/// After a failover, the old primary comes back unfenced, and the new one goes away.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_that_comes_back_gets_no_changes() {
    let dir = temp_dir();
    let (primary, standby) = pair(&dir).await;
    let hosts = format!(
        "host='{},{}' port=5432 user=certkeep dbname=postgres target_session_attrs=read-write",
        primary.dir.display(),
        standby.dir.display()
    );
    let server = TestServer::start_on(hosts.clone(), |config| {
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let (client, hint) = (server.client(), server.data_dir().join("database-timeline"));
    let upload = upload_of(&pki::self_signed(Key::P256, "timeline.example"));
    let first = stored(&client, &upload).await;
    let timeline = || {
        let text = std::fs::read_to_string(&hint).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(timeline(), "1");
    // Otherwise the old primary would wait for a standby.
    let sql = connect_to(&primary.connection_string()).await;
    sql.execute("alter system set synchronous_standby_names = ''", &[])
        .await
        .unwrap();
    let (primary_dir, standby_dir) = (primary.dir.clone(), standby.dir.clone());
    primary.kill();
    let sql = connect_to(&standby.connection_string()).await;
    sql.execute("select pg_promote(true, 20)", &[]).await.unwrap();
    resumes_within(&client, Duration::from_secs(5)).await;
    let second = stored(&client, &upload).await;
    assert_eq!(timeline(), "2");

    let primary = Node::start(&primary_dir).await;
    drop(standby);
    let began = Instant::now();
    let mut refused = 0;
    while began.elapsed() < Duration::from_secs(times(2, 60) as u64) {
        let error = client
            .clone()
            .upload_server_certificate(upload.clone())
            .await
            .unwrap_err();
        assert!(
            ["DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&reason(&error).as_str()),
            "{error}"
        );
        refused += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let old = connect_to(&primary.connection_string()).await;
    let count = "select count(*) from certificate";
    assert_eq!(old.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1);
    until(async || http(server.metrics_address(), "/readyz").0.contains("503")).await;
    let hosts_refused = "certkeep_database_hosts_refused_total";
    assert!(metric(&http(server.metrics_address(), "/metrics").1, hosts_refused) >= 1.0);
    // A start with the same data directory refuses it too, and names both.
    let settings = certkeep::store::Settings {
        connection_string: hosts,
        owner_connection_string: None,
        danger_unverified_database: false,
        max_connections: 1,
        timeline_file: Some(hint.clone()),
    };
    let error = certkeep::store::Store::new(&settings)
        .unwrap()
        .migrate()
        .await
        .unwrap_err();
    let error = certkeep::telemetry::causes(&error);
    for host in [&primary_dir, &standby_dir] {
        assert!(error.contains(&*host.to_string_lossy()), "{error}");
    }

    let _standby = Node::start(&standby_dir).await;
    resumes_within(&client, Duration::from_secs(5)).await;
    for id in [first, second] {
        crate::calls::get(&client, &id).await.unwrap();
    }
    figure("uploads that an old primary did not get", refused);
    server.stop().await;
}

/// An asynchronous standby lacks the last event. A watch that has it must start again.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_learns_that_a_failover_lost_an_event_it_has() {
    let dir = temp_dir();
    let (primary, standby) = pair(&dir).await;
    let hosts = format!(
        "host='{},{}' port=5432 user=certkeep dbname=postgres target_session_attrs=read-write",
        primary.dir.display(),
        standby.dir.display()
    );
    let server = TestServer::start_on(hosts, |_| {}).await;
    let upload = upload_of(&pki::self_signed(Key::P256, "a.example"));
    let kept = stored(&server.client(), &upload).await;
    let sql = connect_to(&primary.connection_string()).await;
    for setting in [
        "alter system set synchronous_standby_names = ''",
        "select pg_reload_conf()",
    ] {
        sql.execute(setting, &[]).await.unwrap();
    }
    let synchronous = "select count(*) from pg_stat_replication where sync_state = 'sync'";
    until(async || sql.query_one(synchronous, &[]).await.unwrap().get::<_, i64>(0) == 0).await;
    let standby_dir = standby.dir.clone();
    drop(standby);

    let mut watch = Watch::open(&server, server.admin_key(), Default::default())
        .await
        .unwrap();
    let before = watch.next().await.unwrap();
    assert_eq!(before.server_certificate_id, kept);
    watch.next().await.unwrap();
    let before = watch.token.clone();
    let lost = stored(&server.client(), &upload).await;
    assert_eq!(watch.next().await.unwrap().server_certificate_id, lost);
    primary.kill();
    let standby = Node::start(&standby_dir).await;
    let sql = connect_to(&standby.connection_string()).await;
    sql.execute("select pg_promote(true, 20)", &[]).await.unwrap();
    resumes_within(&server.client(), Duration::from_secs(5)).await;

    // Its stream may have ended while there was no database.
    let end = watch.end().await;
    assert!(
        ["RESUME_TOKEN_EXPIRED", "STREAM_ENDED", "DATABASE_UNAVAILABLE"].contains(&reason(&end).as_str()),
        "{end}"
    );
    let resume = async |token: &str| {
        let request = pb::WatchServerCertificatesRequest {
            resume_token: token.to_owned(),
            ..Default::default()
        };
        Watch::open(&server, server.admin_key(), request).await
    };
    assert_eq!(
        reason(&resume(&watch.token).await.err().unwrap()),
        "RESUME_TOKEN_EXPIRED"
    );
    // Another event takes the position of the lost one.
    let other = stored(&server.client(), &upload).await;
    assert_eq!(
        reason(&resume(&watch.token).await.err().unwrap()),
        "RESUME_TOKEN_EXPIRED"
    );
    // The event of this token was on the standby.
    let mut resumed = resume(&before).await.unwrap();
    while resumed.next().await.unwrap().server_certificate_id != other {}
    server.stop().await;
}

/// Kills a primary under load and promotes its standby: how many uploads were acknowledged, and how long the service was gone after the
/// promotion began.
async fn fail_over() -> (usize, Duration) {
    let dir = temp_dir();
    let (primary, standby) = pair(&dir).await;
    let hosts = format!(
        "host='{},{}' port=5432 user=certkeep dbname=postgres target_session_attrs=read-write",
        primary.dir.display(),
        standby.dir.display()
    );
    let server = TestServer::start_on(hosts, |_| {}).await;
    let load = Load::start(&server.client());
    load.acknowledges(100).await;
    primary.kill();
    // Callers find the primary gone before the standby takes over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let sql = connect_to(&standby.connection_string()).await;
    sql.execute("select pg_promote(true, 20)", &[]).await.unwrap();
    resumes_within(&server.client(), Duration::from_secs(5)).await;
    let outage = began.elapsed();
    load.acknowledges(50).await;
    let outcome = load.stop().await;
    outcome.refused_only_as(&["DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN"]);
    outcome.is_whole(server.client(), &standby.connection_string()).await;
    server.stop().await;
    (outcome.acknowledged.len(), outage)
}
