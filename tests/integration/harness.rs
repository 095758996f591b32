//! One Postgres for the whole run. Each test gets a database that is cloned from a migrated template, and a certkeep on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use certkeep::account::AccountId;
use certkeep::app::{CertificateId, FirstAccount, Policy};
use certkeep::clock::Timestamp;
use certkeep::config::{Config, DatabaseConfig, DatabaseSource, KeyProviders};
use certkeep::grpc::pb;
use certkeep::grpc::pb::certificate_service_client::CertificateServiceClient;
use certkeep::postgres::{DataDir, PrivatePostgres, Settings};
use certkeep::secret::Existing;
use certkeep::server::{Database, Server};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

pub const REGION: &str = "cn-hangzhou";
const TEMPLATE: &str = "template_certkeep";

/// A directory that another user can pass through. If the tests run as root, Postgres runs as another user.
pub fn temp_dir() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::with_prefix("certkeep-test-").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

pub fn path_env() -> Option<std::ffi::OsString> {
    #[expect(clippy::disallowed_methods, reason = "the tests search for programs as a user would")]
    std::env::var_os("PATH")
}

/// The socket directory of the run's Postgres.
fn postgres() -> &'static Path {
    static SOCKET_DIR: OnceLock<PathBuf> = OnceLock::new();
    SOCKET_DIR.get_or_init(|| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        // Postgres has its own runtime, because the runtime of a test ends with the test.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let dir = temp_dir().keep();
                let data_dir = DataDir::lock(&dir).unwrap();
                let postgres = PrivatePostgres::start(
                    &data_dir,
                    &Settings::default(),
                    path_env().as_deref(),
                    &CancellationToken::new(),
                )
                .await
                .unwrap();
                stop_with_this_process(&dir);
                prepare(&dir, postgres.socket_dir()).await;
                ready.send(postgres.socket_dir().to_owned()).unwrap();
                let _running = (postgres, data_dir);
                std::future::pending::<()>().await;
            });
        });
        is_ready.recv().expect("the tests' Postgres did not start")
    })
}

/// Stops Postgres when the test process ends for any reason. The end of the process closes its end of a pipe. A shell at the
/// other end then stops Postgres and removes its files.
fn stop_with_this_process(data_dir: &Path) {
    use std::os::unix::process::CommandExt;
    let pid_file = data_dir.join("postgres/postmaster.pid");
    let pid = std::fs::read_to_string(pid_file)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let script = r#"read -r _; kill -INT "$1"; while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; rm -rf "$2""#;
    let watcher = Command::new("sh")
        .args(["-c", script, "sh", &pid])
        .arg(data_dir)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    // The pipe stays open until this process ends.
    std::mem::forget(watcher);
}

/// Lets certkeep's role create databases and connect to them. Creates the template.
async fn prepare(data_dir: &Path, socket_dir: &Path) {
    std::fs::write(data_dir.join("pg_hba.conf"), "local all all peer map=certkeep\n").unwrap();
    as_superuser(
        socket_dir,
        "alter role certkeep createdb; alter role certkeep_owner createdb; select pg_reload_conf()",
    );
    let client = connect(socket_dir, PrivatePostgres::DATABASE).await;
    client
        .batch_execute(&format!("create database {TEMPLATE}"))
        .await
        .unwrap();
    let store = certkeep::store::Store::new(&store_settings(socket_dir, TEMPLATE)).unwrap();
    store.migrate().await.unwrap();
    store.close();
}

fn as_superuser(socket_dir: &Path, sql: &str) {
    let prefix: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["runuser", "-u", "postgres", "--", "psql"],
        false => &["psql"],
    };
    let mut psql = Command::new(prefix[0]);
    psql.args(&prefix[1..])
        .args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-c",
            sql,
            "-h",
        ])
        .arg(socket_dir)
        .stdout(Stdio::null());
    assert!(psql.status().unwrap().success());
}

fn connection_string(socket_dir: &Path, database: &str) -> String {
    format!(
        "host='{}' port={} user={} dbname={database}",
        socket_dir.display(),
        PrivatePostgres::PORT,
        PrivatePostgres::ROLE
    )
}

fn store_settings(socket_dir: &Path, database: &str) -> certkeep::store::Settings {
    certkeep::store::Settings {
        connection_string: connection_string(socket_dir, database),
        owner_connection_string: None,
        danger_unverified_database: false,
        max_connections: 4,
        timeline_file: None,
    }
}

async fn connect(socket_dir: &Path, database: &str) -> tokio_postgres::Client {
    connect_to(&connection_string(socket_dir, database)).await
}

/// A connection for the test itself.
pub async fn connect_to(connection_string: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(connection_string, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// The connection string of a new, migrated database.
pub async fn database() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let socket_dir = tokio::task::spawn_blocking(postgres).await.unwrap();
    let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let client = connect(socket_dir, PrivatePostgres::DATABASE).await;
    client
        .batch_execute(&format!("create database {name} template {TEMPLATE}"))
        .await
        .unwrap();
    connection_string(socket_dir, &name)
}

/// The connection strings of a new, empty database: of the role that serves, and of the owner.
pub async fn database_with_two_roles() -> (String, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let socket_dir = tokio::task::spawn_blocking(postgres).await.unwrap();
    let name = format!("two{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let as_owner = |serving: String| serving.replace("user=certkeep ", "user=certkeep_owner ");
    let owner = connect_to(&as_owner(connection_string(socket_dir, PrivatePostgres::DATABASE))).await;
    owner.batch_execute(&format!("create database {name}")).await.unwrap();
    let serving = connection_string(socket_dir, &name);
    (serving.clone(), as_owner(serving))
}

/// A certkeep in this process, with its own database.
pub struct TestServer {
    server: Option<Server>,
    dir: TempDir,
    database: String,
    admin_key: String,
}

pub type Client = CertificateServiceClient<InterceptedService<Channel, Bearer>>;

#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

/// The authorization of an access key.
pub fn bearer(key: &str) -> Bearer {
    Bearer(Some(format!("Bearer {key}").parse().unwrap()))
}

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server with a changed configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(database().await, change).await
    }

    /// A server with this policy.
    pub async fn start_with_policy(policy: &str) -> Self {
        Self::start_as(database().await, |_| {}, policy.parse().unwrap()).await
    }

    /// A server on this database.
    pub async fn start_on(database: String, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_as(database, change, Policy::default()).await
    }

    /// Another server on the same database, with the same key ring and access key.
    pub async fn replica(&self, change: impl FnOnce(&mut Config)) -> Self {
        self.replica_with_policy("", change).await
    }

    /// Another server on the same database, with this policy.
    pub async fn replica_with_policy(&self, policy: &str, change: impl FnOnce(&mut Config)) -> Self {
        self.replica_on(self.database.clone(), policy, change).await
    }

    /// Another server on the same data, with its own connection string.
    pub async fn replica_on(&self, database: String, policy: &str, change: impl FnOnce(&mut Config)) -> Self {
        let shared = |config: &mut Config| {
            config.database.key_ring = self.key_ring_file();
            config.database.admin_key = self.admin_key_file();
            change(config);
        };
        let policy = match policy {
            "" => Policy::default(),
            policy => policy.parse().unwrap(),
        };
        Self::start_as(database, shared, policy).await
    }

    async fn start_as(database: String, change: impl FnOnce(&mut Config), policy: Policy) -> Self {
        let dir = temp_dir();
        let mut config = config(&dir, &database);
        change(&mut config);
        let opened = Database::open(&config.database, None).await.unwrap();
        opened.key_ring_or_new().await.unwrap();
        FirstAccount::make(opened.store(), &config.database.admin_key, Existing::Keep)
            .await
            .unwrap();
        opened.close().await;
        let admin_key = std::fs::read_to_string(&config.database.admin_key)
            .unwrap()
            .trim()
            .to_owned();
        let server = Server::start(&config, policy, None, &CancellationToken::new())
            .await
            .unwrap();
        Self {
            server: Some(server),
            dir,
            database,
            admin_key,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.as_ref().unwrap().address())
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.server.as_ref().unwrap().address()
    }

    pub fn slb_address(&self) -> std::net::SocketAddr {
        self.server.as_ref().unwrap().slb_address().unwrap()
    }

    pub fn metrics_address(&self) -> std::net::SocketAddr {
        self.server.as_ref().unwrap().metrics_address().unwrap()
    }

    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The connection string of the server's database.
    pub fn database(&self) -> &str {
        &self.database
    }

    pub fn admin_key(&self) -> &str {
        &self.admin_key
    }

    pub fn admin_key_file(&self) -> PathBuf {
        self.dir.path().join("admin.key")
    }

    pub fn key_ring_file(&self) -> PathBuf {
        self.dir.path().join("key-ring")
    }

    /// A client with the admin's key.
    pub fn client(&self) -> Client {
        self.client_with(Some(&format!("Bearer {}", self.admin_key)))
    }

    pub fn client_with(&self, authorization: Option<&str>) -> Client {
        let bearer = Bearer(authorization.map(|value| value.parse().unwrap()));
        CertificateServiceClient::with_interceptor(self.channel(), bearer).max_decoding_message_size(16 * 1024 * 1024)
    }

    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(self.endpoint()).unwrap().connect_lazy()
    }

    /// A connection to the server's database.
    pub async fn sql(&self) -> tokio_postgres::Client {
        connect_to(&self.database).await
    }

    /// The number of rows in each table that an upload writes to.
    pub async fn rows(&self) -> [i64; 4] {
        rows(&self.sql().await).await
    }

    /// Adds an access key to the database: for the first account, for a new account, or for the operators.
    pub async fn add_key(&self, role: &str, account: Account) -> String {
        let sql = self.sql().await;
        let account_id: i64 = match account {
            Account::First => sql
                .query_one("select account_id from account where name = 'default'", &[])
                .await
                .unwrap()
                .get(0),
            Account::Operators => AccountId::OPERATORS.as_i64(),
            Account::New => {
                let insert =
                    "insert into account (account_id, name) select 2000000000000000 + count(*), 'account ' || count(*)
                              from account returning account_id";
                sql.query_one(insert, &[]).await.unwrap().get(0)
            }
        };
        let secret = "s".repeat(43);
        let hash = certkeep::digest::sha256(secret.as_bytes());
        let insert = "insert into access_key (account_id, access_key_id, secret_sha256, role)
                      select $1, 'cktest' || count(*), $2, $3 from access_key returning access_key_id";
        let row = sql
            .query_one(insert, &[&account_id, &hash.as_slice(), &role])
            .await
            .unwrap();
        format!("{}.{secret}", row.get::<_, String>(0))
    }

    /// Gives an access key a scope.
    pub async fn limit_key(&self, key: &str, limits: &crate::scope::Limits) {
        let (id, _) = key.split_once('.').unwrap();
        let update = "update access_key set scope_region_ids = nullif($2::text[], '{}'),
                        scope_resource_group_ids = nullif($3::text[], '{}'), scope_name_prefixes = nullif($4::text[], '{}')
                      where access_key_id = $1";
        let limits: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&id, &limits.regions, &limits.groups, &limits.prefixes];
        assert_eq!(self.sql().await.execute(update, &limits).await.unwrap(), 1);
    }

    pub async fn stop(mut self) {
        self.server.take().unwrap().stop().await;
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Account {
    First,
    New,
    Operators,
}

pub fn config(dir: &TempDir, database: &str) -> Config {
    Config {
        key_blocklists: Vec::new(),
        server_certificate_quota: 10_000,
        ca_certificate_quota: 1_000,
        access_key_quota: 1_000,
        access_key_rate: 1_000_000,
        account_rate: 1_000_000,
        delete_retention: Duration::from_secs(7 * 24 * 60 * 60),
        purge_wait: Duration::ZERO,
        version_retention: 10,
        version_retention_time: Duration::from_secs(90 * 24 * 60 * 60),
        audit_retention: Some(Duration::from_secs(400 * 24 * 60 * 60)),
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        max_connections: 1000,
        max_connections_per_address: None,
        call_memory: 192 * 1024 * 1024,
        reflection: true,
        max_streams: 256,
        max_connection_age: Duration::from_secs(1800),
        keepalive: Duration::from_secs(60),
        drain_time: Duration::from_secs(5),
        slb_listen: None,
        slb_listen_required: true,
        metrics_listen: None,
        metrics_certificates: 0,
        otlp_endpoint: None,
        otlp_headers: http::HeaderMap::new(),
        trace_sample_ratio: 1.0,
        cas: None,
        regions: None,
        database: DatabaseConfig {
            // At least ten connections are shared, for any number of cores.
            max_connections: 20,
            data_dir: dir.path().to_owned(),
            key_ring: dir.path().join("key-ring"),
            key_providers: KeyProviders::default(),
            admin_key: dir.path().join("admin.key"),
            source: DatabaseSource::Url {
                url: database.to_owned(),
                owner_url: None,
                danger_unverified_database: false,
            },
        },
    }
}

/// Waits until this many backends run this function's statement and wait for a lock.
pub async fn until_waiting(sql: &tokio_postgres::Client, function: &str, count: i64) {
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'
                     and split_part(query, E'\n', 1) in ('-- ' || $1, '-- ' || $1 || '_together')";
    until(async || {
        // Otherwise a transaction sees its first snapshot of the statistics again.
        sql.execute("select pg_stat_clear_snapshot()", &[]).await.unwrap();
        sql.query_one(waiting, &[&function]).await.unwrap().get::<_, i64>(0) >= count
    })
    .await;
}

/// Waits until the condition is true.
pub async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("what was waited for did not come about");
}

/// The key ring in this file. It contains its keys in plain.
pub async fn key_ring(path: &Path) -> certkeep::seal::KeyRing {
    certkeep::seal::KeyRing::read(path, &KeyProviders::default())
        .await
        .unwrap()
}

/// The numbers of certificates, private keys, tags and events.
pub async fn rows(sql: &tokio_postgres::Client) -> [i64; 4] {
    let counts = "select (select count(*) from certificate), (select count(*) from private_key),
                    (select count(*) from certificate_tag), (select count(*) from event)";
    let row = sql.query_one(counts, &[]).await.unwrap();
    [row.get(0), row.get(1), row.get(2), row.get(3)]
}

/// The id of a server certificate, from the columns of its row.
pub fn stored_id(account_id: i64, created_ms: i64, random: i64) -> CertificateId {
    CertificateId::new(
        AccountId::from_i64(account_id),
        Timestamp::from_millis(created_ms),
        random.to_be_bytes(),
    )
}

/// Writes a secret to a file that only its owner may read.
pub fn write_secret(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    std::io::Write::write_all(&mut file, text.as_ref()).unwrap();
}

/// An upload of this pair without other fields.
pub fn upload_of(pair: &crate::pki::Pair) -> pb::UploadServerCertificateRequest {
    pb::UploadServerCertificateRequest {
        region_id: REGION.to_owned(),
        server_certificate: pair.certificate.clone(),
        private_key: pair.key.clone(),
        ..Default::default()
    }
}
