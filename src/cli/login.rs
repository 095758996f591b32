//! `certkeep login`.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use certkeep_client::{Endpoint, is_same_server};
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::answer::{Effect, answered};
use super::connection::{self, AccessKey, Connection, Origin, Value};
use super::context;
use super::contexts::{self, ClientCertificate, Context};
use super::print::{self, ListOutput, line, lines, plain};
use super::settings::variable;
use super::{CONNECTION, Failure};
use crate::grpc::pb;

const DEFAULT_NAME: &str = "default";
/// The longest line with an access key. certkeep makes none longer than 256 octets.
const MAX_LINE_LEN: usize = 1024;
const CHUNK_LEN: usize = 256;

#[derive(Args)]
pub(super) struct LoginArgs {
    /// Name of the context. It is replaced if it exists.
    #[arg(default_value = DEFAULT_NAME, value_parser = contexts::name)]
    name: String,
    /// URL of the server. Default: that of the existing context with this name.
    #[arg(long, value_name = "URL", help_heading = CONNECTION)]
    endpoint: Option<String>,
    /// Send keys in plain text to an http endpoint that is not this machine. The context keeps this choice. Default: the existing
    /// context's, else no. [env: CERTKEEP_DANGER_PLAINTEXT=true]
    #[arg(long, help_heading = CONNECTION)]
    danger_plaintext: bool,
    /// PEM file of CA certificates that verify an https endpoint. Default: the existing context's, else the system's.
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    ca_file: Option<PathBuf>,
    /// Region of commands that need one. Default: the existing context's.
    #[arg(long)]
    region: Option<String>,
    /// File with one line, `<id>.<secret>`. The context keeps the path. Without it and without a client certificate, the access key
    /// is read from the terminal or from standard input, and kept in a file of its own.
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    access_key_file: Option<PathBuf>,
    /// PEM file with a client certificate and its chain, for an https endpoint. Default: the existing context's.
    #[arg(long, value_name = "FILE", requires = "client_key", help_heading = CONNECTION)]
    client_cert: Option<PathBuf>,
    /// PEM file with the private key of --client-cert.
    #[arg(long, value_name = "FILE", requires = "client_cert", help_heading = CONNECTION)]
    client_key: Option<PathBuf>,
}

pub(super) async fn login(args: LoginArgs) -> Result<(), Failure> {
    let LoginArgs {
        name,
        endpoint,
        danger_plaintext,
        ca_file,
        region,
        access_key_file,
        client_cert,
        client_key,
    } = args;
    let dir = context::dir()?;
    // Another server has other CA certificates and other regions.
    let before = dir.read()?.by_name.remove(&name);
    let before = before.filter(|before| {
        endpoint
            .as_ref()
            .is_none_or(|url| is_same_server(url, &before.endpoint))
    });
    let endpoint = endpoint.or_else(|| Some(before.as_ref()?.endpoint.clone()));
    let endpoint = endpoint.ok_or_else(|| {
        Failure::usage(format!(
            "context {name} does not exist yet: name its server with --endpoint"
        ))
    })?;
    let url = Endpoint::parse(&endpoint).map_err(|rule| Failure::usage(format!("--endpoint is no URL: {rule}")))?;
    let may_expose = danger_plaintext || before.as_ref().is_some_and(|before| before.danger_plaintext);
    // The context does not keep a choice that its endpoint does not need, and none of the environment.
    let kept_danger_plaintext = may_expose && url.is_exposed();
    let danger_plaintext = may_expose || connection::danger_plaintext(variable)?;
    let ca_file = ca_file.map(absolute).transpose()?;
    let ca_file = ca_file.or_else(|| before.as_ref()?.ca_file.clone());
    let region = region
        .or_else(|| before.as_ref()?.region.clone())
        .filter(|region| !region.is_empty());
    let client_certificate = match (client_cert, client_key) {
        (Some(certificate), Some(private_key)) => Some(ClientCertificate {
            certificate: absolute(certificate)?,
            private_key: absolute(private_key)?,
        }),
        _ => before.as_ref().and_then(|before| before.client_certificate.clone()),
    };
    let key_file = match access_key_file {
        Some(file) => Some(absolute(file)?),
        None if client_certificate.is_some() => before.and_then(|before| before.access_key_file),
        None => None,
    };
    let flag = |path: &PathBuf, name| Value::new(path.clone(), Origin::Flag(name));
    let mut connection = Connection {
        context: None,
        endpoint: Value::new(endpoint.clone(), Origin::Flag("--endpoint")),
        danger_plaintext,
        ca_file: ca_file.as_ref().map(|file| flag(file, "--ca-file")),
        client_certificate: client_certificate
            .clone()
            .map(|client| Value::new(client, Origin::Flag("--client-cert"))),
        access_key: match &key_file {
            Some(file) => AccessKey::File(flag(file, "--access-key-file")),
            None => AccessKey::None,
        },
        region: None,
    };
    // Before anybody types a key.
    connection.check_plaintext()?;
    if key_file.is_none() && client_certificate.is_none() {
        connection.access_key = AccessKey::Text(Value::new(entered_key(&endpoint).await?, Origin::Input));
    }
    let answer = connection
        .connect_as_admin()?
        .describe_caller(pb::DescribeCallerRequest {})
        .await;
    let caller = answered(answer, Effect::Reads)?;

    let new_key = match &connection.access_key {
        AccessKey::Text(text) => connection::access_key(&text.value),
        _ => None,
    };
    let context = Context {
        endpoint: endpoint.clone(),
        danger_plaintext: kept_danger_plaintext,
        access_key_file: key_file,
        client_certificate,
        ca_file,
        region,
    };
    dir.edit()?.set(&name, context, new_key.as_ref())?;
    lines(&[line("context", &name), line("endpoint", &endpoint)])?;
    print::caller(&caller, ListOutput::Table)
}

/// The path from the root directory: commands run in any directory.
fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path)
        .map_err(|error| Failure::usage(format!("{} has no absolute path: {error}", path.display())))
}

/// The access key from a terminal, which does not show it, or else from standard input.
async fn entered_key(endpoint: &str) -> Result<Zeroizing<String>, Failure> {
    let line = hidden_line(&format!("access key for {endpoint} (<id>.<secret>, not shown): ")).await?;
    match connection::access_key(&line) {
        Some(_) => Ok(line),
        None => Err(Failure::usage("this is no access key: it is one line, <id>.<secret>")),
    }
}

/// The first line of standard input. A terminal shows the prompt, and not the line.
pub(super) async fn hidden_line(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("standard input cannot be read: {error}"));
    let _hidden = match io::stdin().is_terminal() {
        true => Some(HiddenInput::begin(prompt).map_err(failed)?),
        false => None,
    };
    // A thread of its own: the read cannot be interrupted, and the runtime would wait for its own threads.
    let (sender, line) = oneshot::channel();
    std::thread::spawn(move || {
        // If the command has ended, nobody needs the line.
        let _ = sender.send(read_line());
    });
    tokio::select! {
        line = line => line.map_err(|error| Failure::from_error(&error))?.map_err(failed),
        // The terminal shows again what is typed.
        _ = tokio::signal::ctrl_c() => Err(Failure::silent(130)),
    }
}

/// The first line of standard input, without the buffer of the standard library, which nobody wipes.
fn read_line() -> io::Result<Zeroizing<String>> {
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // With its final capacity: growing would leave a copy in memory.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE_LEN + CHUNK_LEN));
    let mut chunk = Zeroizing::new([0; CHUNK_LEN]);
    while line.len() <= MAX_LINE_LEN {
        match input.read(chunk.as_mut_slice()) {
            Ok(0) => break,
            Ok(len) => line.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            break;
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| io::Error::other("it is not valid UTF-8"))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// A terminal that does not show what is typed, until this is dropped.
struct HiddenInput(Termios);

impl HiddenInput {
    fn begin(prompt: &str) -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The end of the line is shown.
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        let hidden = Self(before);
        let mut screen = io::stderr();
        write!(screen, "{}", plain(prompt))?;
        screen.flush()?;
        Ok(hidden)
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // A terminal that is gone needs no change.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
