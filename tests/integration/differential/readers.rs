//! What certkeep, OpenSSL's command line and Python's cryptography say about pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use certkeep::app::{CheckServerCertificate, Policy, check};
use certkeep::grpc::{field_name, violation};
use certkeep::secret::Secret;
use openssl::pkey::PKey;

use super::Case;

/// Nothing, or why a pair is refused.
pub type Verdict = Result<(), String>;

/// As `certkeep check` finds it: the reason of the first error.
pub fn certkeep(case: &Case) -> Verdict {
    let request = CheckServerCertificate {
        server_certificate: Secret::from(case.certificate.clone()),
        private_key: Secret::from(case.key.clone()),
    };
    let checked = check(&request, &Policy::default());
    match checked.violations.first() {
        Some(first) => Err(violation(first, field_name).reason().name().to_owned()),
        None if checked.report.is_accepted => Ok(()),
        None => Err("NO_KEY".to_owned()),
    }
}

/// Those of the system's OpenSSL, in the order of the cases: it reads the first certificate and the key, finds the key
/// consistent, and both have one public key.
pub fn openssl(cases: &[Case]) -> Vec<Verdict> {
    let texts = |text: fn(&Case) -> &[u8]| cases.iter().map(text).collect::<BTreeSet<_>>();
    let certificates = public_keys(&texts(|case| &case.certificate), &["x509", "-noout", "-pubkey"]);
    let keys = public_keys(
        &texts(|case| &case.key),
        &["pkey", "-check", "-pubout", "-passin", "pass:"],
    );
    let verdict = |case: &Case| {
        let of_certificate = certificates[&case.certificate[..]]
            .as_ref()
            .map_err(|error| format!("certificate: {error}"))?;
        let of_key = keys[&case.key[..]]
            .as_ref()
            .map_err(|error| format!("private key: {error}"))?;
        if of_key == of_certificate || are_equal(of_key, of_certificate) {
            Ok(())
        } else {
            Err("pair: the public keys differ".to_owned())
        }
    };
    cases.iter().map(verdict).collect()
}

/// What the command prints as the public key of each text.
fn public_keys<'a>(texts: &BTreeSet<&'a [u8]>, command: &[&str]) -> BTreeMap<&'a [u8], Result<String, String>> {
    let texts: Vec<_> = texts.iter().copied().collect();
    let read = |texts: &[&'a [u8]]| -> Vec<_> {
        let keys = texts.iter().map(|text| (*text, public_key(text, command)));
        keys.collect()
    };
    std::thread::scope(|scope| {
        let parts = texts.chunks(texts.len().div_ceil(2).max(1));
        let threads: Vec<_> = parts.map(|part| scope.spawn(|| read(part))).collect();
        let keys = threads.into_iter().flat_map(|thread| thread.join().unwrap());
        keys.collect()
    })
}

fn public_key(text: &[u8], command: &[&str]) -> Result<String, String> {
    let mut openssl = Command::new("openssl")
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is missing: apt-get install openssl, dnf install openssl, or brew install openssl");
    let mut stdin = openssl.stdin.take().unwrap();
    // What it has not read when it ends is of no interest.
    let _ = stdin.write_all(text);
    drop(stdin);
    let output = openssl.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_sound = command[0] != "pkey" || out.contains("Key is valid");
    match out.find("-----BEGIN PUBLIC KEY-----") {
        Some(begin) if output.status.success() && is_sound => Ok(out[begin..].to_owned()),
        _ => Err(told.lines().take(3).collect::<Vec<_>>().join(" ")),
    }
}

/// Whether two public keys in PEM are one, however their points are encoded.
fn are_equal(one: &str, other: &str) -> bool {
    let read = |text: &str| PKey::public_key_from_pem(text.as_bytes());
    matches!((read(one), read(other)), (Ok(one), Ok(other)) if one.public_eq(&other))
}

/// Those of the Python package, in the order of the cases: it reads certificate and key, both have one public key, and that
/// verifies what the key signs.
pub fn cryptography(cases: &[Case]) -> Vec<Verdict> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/tools/python/bin/python");
    let mut reader = Command::new(&python)
        .arg(root.join("tests/integration/differential/reader.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|_| {
            panic!(
                "{} is missing: run `make test-tools`, which installs it",
                python.display()
            )
        });
    let (mut stdin, stdout) = (reader.stdin.take().unwrap(), reader.stdout.take().unwrap());
    let verdicts: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(move || {
            for case in cases {
                let [certificate, key] = [&case.certificate, &case.key].map(|text| BASE64_STANDARD.encode(text));
                // A reader that is gone has told nothing, which is seen below.
                let _ = writeln!(stdin, "{certificate} {key}");
            }
        });
        let lines = BufReader::new(stdout).lines().map(Result::unwrap);
        lines
            .map(|line| if line.is_empty() { Ok(()) } else { Err(line) })
            .collect()
    });
    if verdicts.len() != cases.len() {
        let mut told = String::new();
        reader.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        panic!("cryptography's reader ended, run `make test-tools`, which installs what it needs: {told}");
    }
    reader.wait().unwrap();
    verdicts
}
