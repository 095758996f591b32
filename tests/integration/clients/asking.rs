//! Asks clients about chains.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Chain, Verdict, pem};
use crate::external::tool;
use crate::harness::temp_dir;

/// Those of Go's crypto/x509, by tests/go/verdicts.
pub fn go(chains: &[&Chain]) -> Vec<Verdict> {
    let mut verdicts = Command::new(tool("go/verdicts"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, stdout) = (verdicts.stdin.take().unwrap(), verdicts.stdout.take().unwrap());
    let answers = std::thread::scope(|scope| {
        scope.spawn(move || {
            for chain in chains {
                let certificates = [&chain.root, &chain.leaf].into_iter().chain(&chain.between);
                let certificates: Vec<_> = certificates.map(|der| BASE64_STANDARD.encode(der)).collect();
                writeln!(stdin, "{} {}", chain.at, certificates.join(" ")).unwrap();
            }
        });
        let lines = BufReader::new(stdout).lines().map(Result::unwrap);
        lines
            .map(|line| if line.is_empty() { Ok(()) } else { Err(line) })
            .collect()
    });
    assert!(verdicts.wait().unwrap().success());
    answers
}

/// Those of the system's OpenSSL.
pub fn openssl(chains: &[&Chain]) -> Vec<Verdict> {
    let missing = "openssl is missing: apt-get install openssl, dnf install openssl, or brew install openssl";
    each(chains, missing, |chain, dir| {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["verify", "-partial_chain", "-attime", &chain.at.to_string(), "-CAfile"])
            .arg(dir.join("root"));
        if !chain.between.is_empty() {
            openssl.arg("-untrusted").arg(dir.join("between"));
        }
        openssl.arg(dir.join("leaf"));
        openssl
    })
}

/// Those of GnuTLS, now: certtool has no option for the time.
pub fn gnutls(chains: &[&Chain]) -> Vec<Verdict> {
    let missing = "certtool is missing: apt-get install gnutls-bin, dnf install gnutls-utils, or brew install gnutls";
    each(chains, missing, |_, dir| {
        let mut certtool = Command::new("certtool");
        certtool
            .args(["--verify", "--load-ca-certificate"])
            .arg(dir.join("root"))
            .arg("--infile")
            .arg(dir.join("chain"));
        certtool
    })
}

/// What a command says about each chain.
fn each(chains: &[&Chain], missing: &str, command: impl Fn(&Chain, &Path) -> Command + Sync) -> Vec<Verdict> {
    let ask = |chain: &Chain, dir: &Path| {
        let between: String = chain.between.iter().map(|der| pem(der)).collect();
        let leaf = pem(&chain.leaf);
        for (name, text) in [
            ("root", &pem(&chain.root)),
            ("leaf", &leaf),
            ("between", &between),
            ("chain", &format!("{leaf}{between}")),
        ] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let output = command(chain, dir).output().expect(missing);
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace('\n', " ")),
        }
    };
    std::thread::scope(|scope| {
        let parts = chains.chunks(chains.len().div_ceil(2).max(1));
        let threads: Vec<_> = parts
            .map(|part| {
                let ask = &ask;
                scope.spawn(move || {
                    let dir = temp_dir();
                    part.iter().map(|chain| ask(chain, dir.path())).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}
