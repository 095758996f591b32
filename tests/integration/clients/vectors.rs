//! The certificates of PyPI's cryptography_vectors, and the system's roots.

use std::path::{Path, PathBuf};

use certkeep::app::ClientFamily::OpenSsl;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::x509::X509;

use super::{Chain, Exception};

/// Where distributions keep the roots that their programs trust.
const ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/opt/homebrew/etc/ca-certificates/cert.pem",
];

pub const EXCEPTIONS: &[Exception] = &[
    trusted("custom/mismatch_inner_outer_sig_algorithm.der"),
    trusted("custom/rsa_pss_cert_invalid_mgf.der"),
    trusted("custom/rsa_pss_cert_no_sig_params.der"),
    trusted("custom/rsa_pss_cert_unsupported_mgf_hash.der"),
];

/// A certificate whose two signature algorithms differ.
const fn trusted(chain: &'static str) -> Exception {
    Exception {
        chain,
        family: OpenSsl,
        reason: "OpenSSL does not verify the signature of a certificate that it trusts.",
    }
}

/// Each certificate as its own root.
pub fn all() -> Vec<Chain> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/lib");
    let folder = std::fs::read_dir(&packages).ok().and_then(|mut versions| {
        versions.find_map(|version| {
            let folder = version.ok()?.path().join("site-packages/cryptography_vectors/x509");
            folder.is_dir().then_some(folder)
        })
    });
    let folder = folder.unwrap_or_else(|| {
        panic!(
            "{} lacks cryptography_vectors: run `make test-tools`, which installs it",
            packages.display()
        )
    });
    let mut chains = Vec::new();
    for file in files(&folder) {
        let content = std::fs::read(&file).unwrap();
        let read = X509::stack_from_pem(&content).unwrap_or_default();
        let certificates = if read.is_empty() {
            X509::from_der(&content).into_iter().collect()
        } else {
            read
        };
        let name = file.strip_prefix(&folder).unwrap().display().to_string();
        chains.extend(certificates.iter().map(|certificate| alone(&name, certificate)));
    }
    chains
}

pub fn roots() -> Vec<Chain> {
    let text = ROOTS.iter().find_map(|path| std::fs::read(path).ok());
    let text = text.expect("the system has no roots: install the package ca-certificates");
    let roots = X509::stack_from_pem(&text).unwrap();
    assert!(roots.len() > 50, "{}", roots.len());
    roots.iter().map(|root| alone("root", root)).collect()
}

fn alone(name: &str, certificate: &X509) -> Chain {
    let der = certificate.to_der().unwrap();
    let (begin, end) = (seconds(certificate.not_before()), seconds(certificate.not_after()));
    Chain {
        name: name.to_owned(),
        root: der.clone(),
        leaf: der,
        between: Vec::new(),
        at: begin + (end - begin) / 2,
    }
}

/// Seconds since 1970, or 0 if OpenSSL cannot read the time.
fn seconds(time: &Asn1TimeRef) -> i64 {
    let since = Asn1Time::from_unix(0).unwrap().diff(time);
    since.map_or(0, |since| i64::from(since.days) * 86_400 + i64::from(since.secs))
}

/// All files below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    files
}
