//! The official clients of Alibaba Cloud's SLB API call certkeep unchanged.
//!
//! tests/slb/ has a program for each language. It reads lines from its input, and writes a line for each. A line of the input is a list
//! of calls, which the program makes at the same time. A line of the output is the list of their answers.
//!
//! A call has `style` (the client, and the way in which it is used), `endpoint`, `access_key_id`, `secret`, `region`, `action` and
//! `parameters`, by the API's names; a list is a list. `format` asks for XML. `method` is another method than the client's own. `time`
//! and `nonce` replace those of the client. `send_twice` sends the signed request a second time, and answers the second answer.
//!
//! An answer has `answer` (what the client read), `xml` (a body that the client does not read), `error` (as the client tells it), or
//! `failure` (anything else).

mod actions;
mod errors;
mod terraform;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use certkeep::grpc::pb;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use openssl::x509::extension::BasicConstraints;
use serde_json::{Map, Value, json};

use crate::external::tool;
use crate::harness::{REGION, TestServer};
use crate::pki::{self, Pair};
use crate::slb::SlbCaller;

/// A program and the styles of its clients.
struct Language {
    command: &'static [&'static str],
    styles: &'static [&'static str],
}

/// aliyun-python-sdk-slb; alibabacloud-slb20140515 with both signatures; alibabacloud-tea-openapi with a body and both signatures.
const PYTHON: Language = Language {
    command: &["python/bin/python", "../../tests/slb/python/client.py"],
    styles: &["core", "acs3", "v2", "acs3-form", "v2-form"],
};

/// @alicloud/pop-core.
const NODE: Language = Language {
    command: &["slb-node/client.js"],
    styles: &["pop-get", "pop-post"],
};

/// alibaba-cloud-sdk-go: its service slb, and a form.
const GO: Language = Language {
    command: &["slb-go/client"],
    styles: &["go", "go-form"],
};

/// A running program.
struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(language: &Language) -> Self {
        let mut words = language.command.iter().map(|word| tool(word));
        let first = words.next().unwrap();
        let mut command = match first.extension() {
            Some(_) => {
                let mut node = Command::new("node");
                node.arg(first);
                node
            }
            None => Command::new(first),
        };
        let mut child = command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is missing: run `tools/install node`");
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn ask(&mut self, calls: &[Value]) -> Vec<Answer> {
        writeln!(self.stdin.as_ref().unwrap(), "{}", json!(calls)).unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answers: Vec<Value> = serde_json::from_str(&line).expect("the client has ended");
        assert_eq!(answers.len(), calls.len());
        answers.into_iter().map(Answer).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The program ends with its input.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// What a client told about a call.
struct Answer(Value);

impl Answer {
    fn ok(self) -> Value {
        assert!(self.0["answer"].is_object(), "{}", self.0);
        self.0["answer"].clone()
    }

    /// The status, the code and the message of an error, which has a request id.
    fn error(&self) -> (u64, String, String) {
        let error = &self.0["error"];
        assert!(error.is_object(), "{}", self.0);
        let request_id = error["request_id"].as_str().unwrap();
        assert_eq!(
            (request_id.len(), request_id.to_uppercase()),
            (36, request_id.to_owned())
        );
        let text = |name: &str| error[name].as_str().unwrap().to_owned();
        (error["status"].as_u64().unwrap(), text("code"), text("message"))
    }
}

/// A client of one style that calls with an access key.
struct Client<'a> {
    program: &'a mut Program,
    style: &'static str,
    caller: SlbCaller,
}

impl Client<'_> {
    fn of(&self, action: &str, parameters: &Value) -> Value {
        json!({
            "style": self.style,
            "endpoint": self.caller.address.to_string(),
            "access_key_id": self.caller.id,
            "secret": self.caller.secret,
            "region": REGION,
            "action": action,
            "parameters": parameters,
        })
    }

    fn ask(&mut self, action: &str, parameters: &Value) -> Answer {
        let call = self.of(action, parameters);
        self.program.ask(&[call]).remove(0)
    }

    /// A call with other members than the usual ones.
    fn ask_with(&mut self, action: &str, parameters: &Value, members: &Value) -> Answer {
        let mut call = self.of(action, parameters);
        for (name, value) in members.as_object().unwrap() {
            call[name] = value.clone();
        }
        self.program.ask(&[call]).remove(0)
    }

    fn call(&mut self, action: &str, parameters: &Value) -> Value {
        let answer = self.ask(action, parameters);
        assert!(answer.0["answer"].is_object(), "{} {action}: {}", self.style, answer.0);
        answer.ok()
    }
}

/// Runs `what` for each style of each language, each language in a thread of its own.
async fn each_client(caller: SlbCaller, what: impl Fn(&mut Client<'_>) + Clone + Send + 'static) {
    let threads = [PYTHON, NODE, GO].map(|language| {
        let (caller, what) = (caller.clone(), what.clone());
        tokio::task::spawn_blocking(move || {
            let mut program = Program::start(&language);
            for &style in language.styles {
                what(&mut Client {
                    program: &mut program,
                    style,
                    caller: caller.clone(),
                });
            }
        })
    });
    for thread in threads {
        thread.await.unwrap();
    }
}

async fn start(change: impl FnOnce(&mut certkeep::config::Config)) -> (TestServer, SlbCaller) {
    let server = TestServer::start_with(|config| {
        config.slb_listen = Some("127.0.0.1:0".parse().unwrap());
        change(config);
    })
    .await;
    let caller = SlbCaller::new(&server, pb::Role::Editor).await;
    (server, caller)
}

/// The members of an object that another has too are equal there, and they are at least `count`.
fn assert_shared(one: &Value, other: &Value, count: usize) {
    let of_other: &Map<String, Value> = other.as_object().unwrap();
    let shared: Vec<_> = one
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "RequestId" && of_other.contains_key(*name))
        .collect();
    assert!(shared.len() >= count, "{one} {other}");
    for (name, value) in shared {
        assert_eq!(value, &of_other[name], "{name}");
    }
}

/// A certificate of this key that may be an authority. Without an issuer, it is self-signed.
fn authority(key: &PKey<Private>, name: &str, issuer: Option<(&X509, &PKey<Private>)>) -> X509 {
    let mut builder = pki::builder(key, name);
    let issuer_name = issuer.map_or_else(
        || pki::subject(name),
        |(issuer, _)| issuer.subject_name().to_owned().unwrap(),
    );
    builder.set_issuer_name(&issuer_name).unwrap();
    builder
        .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
        .unwrap();
    let signer = issuer.map_or(key, |(_, key)| key);
    builder.sign(signer, openssl::hash::MessageDigest::sha256()).unwrap();
    builder.build()
}

/// An upload of this pair with a name.
fn upload(pair: &Pair, name: &str) -> Value {
    json!({
        "RegionId": REGION,
        "ServerCertificate": pair.certificate,
        "PrivateKey": pair.key,
        "ServerCertificateName": name,
    })
}

fn item(answer: &Value, list: &str, item: &str) -> Vec<Value> {
    // The Go client shows an empty list as null.
    answer[list][item].as_array().cloned().unwrap_or_default()
}
