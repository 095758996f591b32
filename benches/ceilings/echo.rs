//! An empty unary call in the server's own configuration: what tonic costs before a service does anything.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::io::{BufRead, BufReader, Write};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use certkeep::server::{Listener, Runtimes, Serving};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};

use crate::Outcome;
use crate::calls::Calls;
use crate::child::KeptChild;
use crate::load::Target;
use crate::wire;

const PATH: &str = "/certkeep.bench.Echo/Echo";

/// The echo's process, and calls of it.
pub struct Echo {
    _child: KeptChild,
    pub target: Target,
    pub calls: Rc<Calls>,
    /// The size of an answer.
    pub answer: usize,
}

impl Echo {
    /// One whose requests and answers have the sizes of these calls: one of them is made.
    pub async fn of(calls: &Calls, target: Target) -> Outcome<Self> {
        let connection = wire::connect(target.address).await?;
        let (head, frame) = calls.next();
        let (mut answer, request) = (0, frame.len() - wire::PREFIX);
        wire::call(&connection, head, frame, |piece| answer += piece.len()).await?;
        let answer = answer - wire::PREFIX;

        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--echo", &answer.to_string()]).stdout(Stdio::piped());
        let mut child = KeptChild::spawn(&mut command)?;
        let out = child.child.stdout.take().ok_or("the echo has no standard output")?;
        let mut first = String::new();
        BufReader::new(out).read_line(&mut first)?;
        let address = first.trim_end().parse().map_err(|_| "the echo did not start")?;
        Ok(Self {
            target: Target {
                address,
                pid: child.pid(),
                ..target
            },
            _child: child,
            calls: Rc::new(calls.of_path(PATH, wire::framed(&vec![b'q'; request])?)?),
            answer,
        })
    }
}

/// The echo itself: says where it listens, and serves until it is told to stop.
pub fn serve(answer: usize) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // As certkeep itself.
        let runtimes = Runtimes::start()?;
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), None, 1000).await?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", listener.address()?)?;
        out.flush()?;
        let routes = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(60)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .max_concurrent_streams(256)
            .max_connection_age(Duration::from_secs(1800))
            .add_service(Answer(Bytes::from(vec![b'a'; answer])));
        let _serving = Serving::begin(&runtimes, &listener.serve(&runtimes), |connections, stop| {
            routes.clone().serve_with_incoming_shutdown(connections, stop)
        });
        std::future::pending().await
    })
}

#[derive(Clone)]
struct Answer(Bytes);

impl NamedService for Answer {
    const NAME: &'static str = "certkeep.bench.Echo";
}

impl UnaryService<Bytes> for Answer {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        ready(Ok(Response::new(self.0.clone())))
    }
}

impl tower::Service<http::Request<Body>> for Answer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.clone();
        Box::pin(async move { Ok(Grpc::new(Raw).unary(answer, request).await) })
    }
}

/// Messages as their bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
