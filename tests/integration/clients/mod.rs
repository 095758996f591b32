//! What certkeep says about clients is true: families of clients are asked about certificates of each kind, about those of the package
//! cryptography_vectors, and about the system's roots. No program tells what browsers do.

mod asking;
mod cases;
mod vectors;

use std::collections::BTreeSet;
use std::fmt::Write;

use certkeep::app::{CheckServerCertificate, ClientFamily, FindingCode, FindingKind, Policy, SerialError, check};
use certkeep::secret::Secret;
use openssl::x509::X509;

/// A trusted root, a server certificate, the certificates between them, and a time at which all are valid, all in DER. The root may be the
/// server certificate.
pub struct Chain {
    pub name: String,
    pub root: Vec<u8>,
    pub leaf: Vec<u8>,
    pub between: Vec<Vec<u8>>,
    /// Seconds since 1970.
    pub at: i64,
}

/// Nothing, or why a client refuses a chain.
pub type Verdict = Result<(), String>;

/// What certkeep says about a chain.
struct Own {
    findings: Vec<FindingKind>,
    /// The families that refuse the chain, as the findings name them.
    named: BTreeSet<ClientFamily>,
    /// Whether a finding says that clients refuse the chain, whatever their family is.
    is_refused: bool,
}

/// These findings say that clients refuse the certificate, and do not name a family.
const EVERY_CLIENT: &[FindingCode] = &[
    FindingCode::EkuUnfit,
    FindingCode::IssuerNotCa,
    FindingCode::KeyUsageUnfit,
    FindingCode::NameConstraintViolated,
    FindingCode::SanInvalid,
    FindingCode::SignatureWeak,
    FindingCode::VersionNot3,
];

impl Own {
    /// `None` if certkeep refuses the certificates.
    fn of(chain: &Chain) -> Option<Self> {
        let mut certificates = vec![&chain.leaf];
        certificates.extend(&chain.between);
        if chain.root != chain.leaf {
            certificates.push(&chain.root);
        }
        let text: String = certificates.iter().map(|der| pem(der)).collect();
        let request = CheckServerCertificate {
            server_certificate: Secret::from(text.into_bytes()),
            private_key: Secret::from(Vec::new()),
        };
        let report = check(&request, &Policy::default()).report;
        if !report.error.certificate.is_empty() {
            return None;
        }
        let findings: Vec<_> = report.error.findings.into_iter().map(|finding| finding.kind).collect();
        Some(Self {
            named: findings.iter().flat_map(named).collect(),
            is_refused: findings.iter().any(|kind| EVERY_CLIENT.contains(&kind.code())),
            findings,
        })
    }
}

/// The families of clients that a finding names.
fn named(kind: &FindingKind) -> Vec<ClientFamily> {
    match kind {
        FindingKind::CriticalExtensionUnknown { clients, .. }
        | FindingKind::ExtensionUnreadable { clients, .. }
        | FindingKind::EncodingRefusedBy { clients, .. } => clients.clone(),
        FindingKind::Precertificate => ClientFamily::ALL.to_vec(),
        FindingKind::SerialInvalid {
            error: SerialError::Negative,
        } => vec![ClientFamily::Go],
        _ => Vec::new(),
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let base64 = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
}

/// A chain about which certkeep and a family disagree, and why.
struct Exception {
    chain: &'static str,
    family: ClientFamily,
    reason: &'static str,
}

/// Compares certkeep with the families. A refusal that certkeep does not tell, and a refusal that it tells wrongly, are disagreements. GnuTLS
/// also refuses what certkeep does not tell: certtool prints each certificate, and fails where it cannot.
fn compare(chains: &[Chain], exceptions: &[Exception]) -> usize {
    let own: Vec<_> = chains.iter().map(Own::of).collect();
    let (read, own): (Vec<_>, Vec<_>) = chains
        .iter()
        .zip(own)
        .filter_map(|(chain, own)| Some((chain, own?)))
        .unzip();
    let mut told = String::new();
    let mut uses = vec![0; exceptions.len()];
    for (family, verdicts) in [
        (ClientFamily::OpenSsl, asking::openssl(&read)),
        (ClientFamily::Go, asking::go(&read)),
        (ClientFamily::GnuTls, asking::gnutls(&read)),
    ] {
        assert_eq!(verdicts.len(), read.len(), "{family:?}");
        assert!(
            verdicts.iter().any(Result::is_ok),
            "{family:?} accepts nothing: {:?}",
            verdicts.first()
        );
        for ((chain, own), verdict) in read.iter().zip(&own).zip(verdicts) {
            let is_named = own.named.contains(&family);
            let says = match verdict {
                Ok(()) if is_named => "accepts".to_owned(),
                Err(why) if !is_named && !own.is_refused && family != ClientFamily::GnuTls => why,
                _ => continue,
            };
            let is_of = |exception: &Exception| exception.chain == chain.name && exception.family == family;
            match exceptions.iter().position(is_of) {
                Some(place) => uses[place] += 1,
                None => writeln!(told, "{}: {family:?} {says}; certkeep: {:?}", chain.name, own.findings).unwrap(),
            }
        }
    }
    for (exception, uses) in exceptions.iter().zip(uses) {
        assert!(exception.reason.ends_with('.'), "{}", exception.chain);
        if uses == 0 {
            writeln!(told, "{}: {:?} and certkeep agree", exception.chain, exception.family).unwrap();
        }
    }
    assert!(told.is_empty(), "\n{told}");
    read.len()
}

#[test]
fn certificates_of_each_kind() {
    let chains = cases::all();
    let good = chains.iter().filter(|chain| chain.name.starts_with("good"));
    for chain in good {
        let own = Own::of(chain).unwrap();
        assert_eq!(own.findings, [FindingKind::RootDropped], "{}", chain.name);
    }
    let compared = compare(&chains, cases::EXCEPTIONS);
    assert!(compared > 200, "{compared}");
}

#[test]
fn certificates_of_cryptography_vectors() {
    let chains = vectors::all();
    let compared = compare(&chains, vectors::EXCEPTIONS);
    assert!(compared > 300, "{compared}");
}

/// Clients that refuse an ordinary root would be noticed, so a finding about one is a false alarm.
#[test]
fn roots_of_the_system_have_no_findings_about_clients() {
    let roots = vectors::roots();
    for root in &roots {
        let own = Own::of(root).unwrap();
        let subject = X509::from_der(&root.leaf).unwrap();
        assert!(own.named.is_empty(), "{:?}: {:?}", subject.subject_name(), own.findings);
    }
}
