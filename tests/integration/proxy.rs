//! The connections between certkeep and its Postgres. A test can break them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::harness::temp_dir;

const SOCKET: &str = ".s.PGSQL.5432";

/// The treatment of bytes on the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    Open,
    /// The proxy closes every existing and every new connection.
    Cut,
    /// No bytes arrive, and the connections stay open. Connections from this time never recover, as if a firewall forgot them.
    Swallows,
    /// Every packet takes this long.
    Slow(Duration),
}

/// The moment to cut a connection, relative to one statement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// The statement does not arrive.
    BeforeStatement,
    /// The statement took effect, and its answer does not arrive.
    BeforeAnswer,
}

#[derive(Clone)]
struct Trap {
    text: &'static [u8],
    moment: Moment,
    way_afterwards: Way,
}

/// The prepared statements of certkeep's store, by the name in their first line.
type Statements = Arc<Mutex<BTreeMap<String, String>>>;

/// Forwards a unix socket to another.
pub struct Proxy {
    dir: TempDir,
    way: Arc<watch::Sender<Way>>,
    trap: Arc<Mutex<Option<Trap>>>,
    statements: Statements,
    forwarding: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of the Postgres of this connection string. Also returns the connection string of the proxy.
    pub fn before(database: &str) -> (Self, String) {
        let socket_dir = database.split('\'').nth(1).unwrap();
        let dir = temp_dir();
        let through = database.replace(socket_dir, dir.path().to_str().unwrap());
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let way = Arc::new(watch::Sender::new(Way::Open));
        let trap = Arc::new(Mutex::new(None));
        let upstream = Path::new(socket_dir).join(SOCKET);
        let statements = Statements::default();
        let forwarding = tokio::spawn(accept(
            listener,
            upstream,
            way.clone(),
            trap.clone(),
            statements.clone(),
        ));
        let proxy = Self {
            dir,
            way,
            trap,
            statements,
            forwarding,
        };
        (proxy, through)
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Closes every connection, then accepts new connections.
    pub async fn cut_all(&self) {
        self.set(Way::Cut);
        // Each open connection holds a receiver of the way.
        crate::harness::until(async || self.way.receiver_count() == 0).await;
        self.set(Way::Open);
    }

    /// Cuts the connection that carries the next statement with this text in a parameter.
    pub fn cut_at(&self, text: &'static str, moment: Moment, way_afterwards: Way) {
        *self.trap.lock().unwrap() = Some(Trap {
            text: text.as_bytes(),
            moment,
            way_afterwards,
        });
    }

    /// The statements that were sent, by the names of the store's functions.
    pub fn statements(&self) -> BTreeMap<String, String> {
        self.statements.lock().unwrap().clone()
    }

    /// Whether the statement was sent and the connection was cut.
    pub fn has_cut(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.forwarding.abort();
        self.set(Way::Cut);
        let _ = std::fs::remove_file(self.dir.path().join(SOCKET));
    }
}

async fn accept(
    listener: UnixListener,
    upstream: PathBuf,
    way: Arc<watch::Sender<Way>>,
    trap: Arc<Mutex<Option<Trap>>>,
    statements: Statements,
) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if *way.borrow() == Way::Cut {
            continue;
        }
        let Ok(server) = UnixStream::connect(&upstream).await else {
            continue;
        };
        tokio::spawn(forward(client, server, way.clone(), trap.clone(), statements.clone()));
    }
}

/// Forwards both directions of one connection, until one end or the way closes it.
async fn forward(
    client: UnixStream,
    server: UnixStream,
    way: Arc<watch::Sender<Way>>,
    trap: Arc<Mutex<Option<Trap>>>,
    statements: Statements,
) {
    let (mut from_client, to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let (to_client, to_server) = (delayed(to_client), delayed(to_server));
    let mut changes = way.subscribe();
    let (mut question, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut answer_is_cut = None;
    let mut swallows = false;
    loop {
        let now = *changes.borrow_and_update();
        swallows |= now == Way::Swallows;
        if now == Way::Cut {
            return;
        }
        let due = match now {
            Way::Slow(time) => time,
            _ => Duration::ZERO,
        };
        tokio::select! {
            _ = changes.changed() => {}
            read = read(&mut from_client, &mut question) => {
                let Some(len) = read else { return };
                if swallows {
                    continue;
                }
                note(&statements, &question[..len]);
                match sprung(&trap, &question[..len]) {
                    Some(Trap { moment: Moment::BeforeStatement, way_afterwards, .. }) => {
                        way.send_replace(way_afterwards);
                        return;
                    }
                    before_answer => answer_is_cut = answer_is_cut.or(before_answer),
                }
                if to_server.send((Instant::now() + due, question[..len].to_vec())).is_err() { return }
            }
            read = read(&mut from_server, &mut answer) => {
                let Some(len) = read else { return };
                if let Some(trap) = &answer_is_cut {
                    way.send_replace(trap.way_afterwards);
                    return;
                }
                if swallows {
                    continue;
                }
                if to_client.send((Instant::now() + due, answer[..len].to_vec())).is_err() { return }
            }
        }
    }
}

/// Notes the statements in these bytes: each ends with a zero byte.
fn note(statements: &Statements, question: &[u8]) {
    for part in question.split(|byte| *byte == 0) {
        let Ok(sql) = std::str::from_utf8(part) else { continue };
        if let Some(name) = sql.strip_prefix("-- store::").and_then(|rest| rest.lines().next()) {
            statements.lock().unwrap().insert(name.to_owned(), sql.to_owned());
        }
    }
}

fn sprung(trap: &Mutex<Option<Trap>>, question: &[u8]) -> Option<Trap> {
    trap.lock()
        .unwrap()
        .take_if(|trap| question.windows(trap.text.len()).any(|window| window == trap.text))
}

async fn read(from: &mut OwnedReadHalf, buffer: &mut [u8]) -> Option<usize> {
    from.read(buffer).await.ok().filter(|len| *len > 0)
}

/// Writes all bytes when they are due. As on a long network path, bytes in transit do not delay later bytes.
fn delayed(mut to: OwnedWriteHalf) -> mpsc::UnboundedSender<(Instant, Vec<u8>)> {
    let (sender, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((time, bytes)) = due.recv().await {
            tokio::time::sleep_until(time).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    sender
}
