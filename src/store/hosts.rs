//! Tries the hosts of a connection string in turn, each with its own timeout. tokio-postgres limits only the TCP connect: it would
//! wait forever for a host that accepts and never answers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::Connect;
use postgres_openssl::{MakeTlsConnector, TlsStream};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, Socket};

use super::error::Cause;
use super::group_commit::RoundTrip;
use super::timeline::Timelines;

/// If a caller leaves after this time without an answer, the host counts as silent.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// Connects to the first host that answers and meets the conditions of the connection string. The host that answered last is tried
/// first. So a dead host costs its timeout once, not for each connection. If no host can be used, and a later attempt may succeed with
/// one of them, the error is that host's.
#[derive(Clone)]
pub(super) struct Hosts {
    /// A configuration for each host.
    hosts: Arc<[Config]>,
    /// The names of the hosts, with their ports.
    names: Arc<[String]>,
    tls: MakeTlsConnector,
    /// The timeout for one host. It covers TCP, TLS, authentication, and the query whether the host accepts writes.
    timeout: Duration,
    first: Arc<First>,
    round_trip: RoundTrip,
    timelines: Timelines,
}

/// The host to try first.
enum First {
    /// The host that answered last.
    Last(AtomicUsize),
    /// Begins with each host in turn, for `load_balance_hosts=random`.
    Each(AtomicUsize),
}

impl Hosts {
    pub(super) fn new(
        config: &Config,
        tls: MakeTlsConnector,
        timeout: Duration,
        round_trip: RoundTrip,
        timelines: Timelines,
    ) -> Self {
        let first = match config.get_load_balance_hosts() {
            LoadBalanceHosts::Random => First::Each(AtomicUsize::new(0)),
            _ => First::Last(AtomicUsize::new(0)),
        };
        let hosts = each(config, timeout);
        Self {
            names: hosts.iter().map(name).collect(),
            hosts: hosts.into(),
            tls,
            timeout,
            first: Arc::new(first),
            round_trip,
            timelines,
        }
    }

    /// Connects to one host. A server whose timeline is too low is closed like one that cannot be reached.
    async fn open(&self, host: usize) -> Result<(Client, JoinHandle<()>, Instant), Error> {
        let (client, connection) = self.hosts[host].connect(self.tls.clone()).await?;
        let running = tokio::spawn(drive(connection));
        let Ok(accepted) = self.timelines.check(&client, &self.names[host]).await? else {
            return closed(&client, running).await;
        };
        Ok((client, running, accepted))
    }

    /// The longest time to try all hosts.
    pub(super) fn time(&self) -> Duration {
        self.timeout * self.hosts.len() as u32
    }
}

impl Connect for Hosts {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(async move {
            let count = self.hosts.len();
            let first = self.first.next();
            let mut tried = 0;
            // Another attempt may succeed with this host.
            let mut transient = None;
            loop {
                let host = (first + tried) % count;
                tried += 1;
                let turn = Turn {
                    first: &self.first,
                    next: (host + 1) % count,
                    began: Instant::now(),
                };
                let connecting = self.open(host);
                // The last host gets the rest of the pool's timeout.
                let connected = if tried == count {
                    connecting.await
                } else {
                    match tokio::time::timeout(self.timeout, connecting).await {
                        Ok(connected) => connected,
                        Err(_) => {
                            tracing::warn!(host = self.names[host], "a host of the database URL does not answer");
                            transient = Some(Error::__private_api_timeout());
                            continue;
                        }
                    }
                };
                match connected {
                    Ok((client, running, accepted)) => {
                        turn.take(host);
                        // The next connection measures again.
                        if let Ok(time) = round_trip(&client).await {
                            self.round_trip.set(time);
                        }
                        // Another connection may have seen a newer primary meanwhile.
                        if self.timelines.is_outdated(accepted) {
                            return closed(&client, running).await;
                        }
                        return Ok((client, running));
                    }
                    Err(error) => {
                        let cause = Cause::from(&error);
                        if tried == count {
                            return Err(transient.filter(|_| cause.is_lasting()).unwrap_or(error));
                        }
                        tracing::info!(%cause, host = self.names[host], "a host of the database URL was passed over");
                        if !cause.is_lasting() {
                            transient = Some(error);
                        }
                    }
                }
            }
        })
    }
}

/// Closes a connection. Answers the error of a query on a closed connection.
async fn closed<T>(client: &Client, running: JoinHandle<()>) -> Result<T, Error> {
    running.abort();
    let _ = running.await;
    loop {
        client.simple_query("").await?;
    }
}

/// Exchanges the messages of a connection until it ends.
async fn drive(mut connection: Connection<Socket, TlsStream<Socket>>) {
    loop {
        match std::future::poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notice(notice))) if is_unreplicated(&notice) => {
                // The statement gets no answer, as if the connection was lost.
                tracing::warn!("a commit did not wait for the synchronous standby");
                return;
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(cause = %Cause::from(&error), "a connection to the database broke");
                return;
            }
            None => return,
        }
    }
}

/// Whether a warning says that a commit takes effect although the synchronous standby may lack it. Its text depends on the language
/// of the server. The name of Postgres's function does not.
fn is_unreplicated(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
}

/// The shorter of two measurements, because a busy machine delays some answers.
async fn round_trip(client: &Client) -> Result<Duration, Error> {
    let mut shortest = Duration::MAX;
    for _ in 0..2 {
        let asked = Instant::now();
        client.simple_query("").await?;
        shortest = shortest.min(asked.elapsed());
    }
    Ok(shortest)
}

impl First {
    fn next(&self) -> usize {
        match self {
            Self::Last(host) => host.load(Ordering::Relaxed),
            Self::Each(host) => host.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn set(&self, host: usize) {
        if let Self::Last(last) = self {
            last.store(host, Ordering::Relaxed);
        }
    }
}

/// An attempt to connect to one host. If the attempt takes long and fails, the next caller begins with another host. This is also
/// true if the caller left before the host's timeout, because some callers always have less time.
struct Turn<'a> {
    first: &'a First,
    next: usize,
    began: Instant,
}

impl Turn<'_> {
    /// The host answered.
    fn take(mut self, host: usize) {
        self.next = host;
        self.first.set(host);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.began.elapsed() >= SILENT_AFTER {
            self.first.set(self.next);
        }
    }
}

/// Splits a configuration into one for each host. A configuration that tokio-postgres would refuse is not split, so that
/// tokio-postgres refuses it.
fn each(config: &Config, timeout: Duration) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let fits = |len: usize| len == 0 || len == count;
    if count == 0 || !fits(hosts.len()) || !fits(addresses.len()) || (ports.len() > 1 && !fits(ports.len())) {
        return vec![config.clone()];
    }
    let one = |n: usize| {
        let mut one = without_hosts(config);
        match hosts.get(n) {
            Some(Host::Tcp(name)) => one.host(name),
            Some(Host::Unix(path)) => one.host_path(path),
            None => &mut one,
        };
        if let Some(address) = addresses.get(n) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(n).or(ports.first()) {
            one.port(*port);
        }
        // This timeout is for one of the addresses of a host name.
        one.connect_timeout(timeout / 2);
        one
    };
    (0..count).map(one).collect()
}

/// The host of a configuration with one host, and its port.
fn name(config: &Config) -> String {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (Some(Host::Tcp(name)), _) => format!("{name}:{port}"),
        (Some(Host::Unix(path)), _) => format!("{}:{port}", path.display()),
        (None, Some(address)) => format!("{address}:{port}"),
        (None, None) => format!("localhost:{port}"),
    }
}

/// The same configuration without hosts.
fn without_hosts(config: &Config) -> Config {
    let mut other = Config::new();
    other
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    if let Some(user) = config.get_user() {
        other.user(user);
    }
    if let Some(password) = config.get_password() {
        other.password(password);
    }
    if let Some(name) = config.get_dbname() {
        other.dbname(name);
    }
    if let Some(options) = config.get_options() {
        other.options(options);
    }
    if let Some(name) = config.get_application_name() {
        other.application_name(name);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        other.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        other.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        other.keepalives_retries(retries);
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

    fn parsed(text: &str) -> Config {
        text.parse().unwrap()
    }

    #[test]
    fn each_host_has_all_that_the_connection_string_says() {
        let all = "user=u password=p dbname=d options='-c x=1' application_name=a sslmode=require sslnegotiation=direct \
                   tcp_user_timeout=7 keepalives=0 keepalives_idle=8 keepalives_interval=9 keepalives_retries=10 \
                   target_session_attrs=read-write channel_binding=require load_balance_hosts=random";
        let text = format!("{all} host=h1,/run hostaddr=192.0.2.1,192.0.2.2 port=1,2");
        let mut expected = [
            "host=h1 hostaddr=192.0.2.1 port=1",
            "host=/run hostaddr=192.0.2.2 port=2",
        ]
        .map(|host| parsed(&format!("{all} {host}")));
        for one in &mut expected {
            one.connect_timeout(TIMEOUT / 2);
        }
        assert_eq!(each(&parsed(&text), TIMEOUT), expected);
    }

    #[test]
    fn one_port_is_that_of_all_hosts_and_none_the_usual_one() {
        let ports = |text: &str| -> Vec<_> {
            let each = each(&parsed(text), TIMEOUT);
            each.iter().map(|one| one.get_ports().to_vec()).collect()
        };
        assert_eq!(ports("host=a,b port=7"), [[7], [7]]);
        assert_eq!(ports("hostaddr=192.0.2.1,192.0.2.2"), [[0_u16; 0], []]);
        assert_eq!(ports("host=a,b,c port=7,8"), [[7, 8]], "left as it is");
    }
}
