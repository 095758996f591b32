//! How many instructions the steps of an upload take, counted by valgrind: `make bench-instructions`.
//!
//! The numbers are of the dev profile, in which the tests are built too: certkeep at opt-level 1, its Rust dependencies at 2, OpenSSL as
//! ever. A release takes fewer in certkeep's own code. Each run makes its own keys, so that two runs on one machine differ by a hundredth, or
//! a few where little is counted; machines with other processors take other paths through OpenSSL, and are not compared.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "the macros write functions; a benchmark may panic"
)]

use std::hint::black_box;

use certkeep::account::AccountId;
use certkeep::app::{CertificateName, ListedFingerprints, RequestId, Uploaded};
use certkeep::certificate::{Authorities, CertificateFacts, Finding, Policy, UnverifiedPair, VerifiedPair};
use certkeep::clock::Timestamp;
use certkeep::grpc;
use certkeep::inventory::{CertificateId, RegionId, ResourceGroupId};
use certkeep::seal::{KeyRing, SealedPair};
use certkeep::secret::Secret;
use gungraun::Callgrind;
use gungraun::prelude::*;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name};
use prost::Message;

/// 2024-01-01, in seconds since 1970: the certificates begin here.
const BEGIN: i64 = 1_704_067_200;
/// 2024-06-01: the time of the upload.
const AT: Timestamp = Timestamp::from_secs(1_717_200_000);

#[derive(Clone, Copy)]
enum Keys {
    P256,
    Rsa2048,
}

/// A leaf and the intermediate that issued it, as a caller sends them, and what they are uploaded to.
struct Upload {
    certificates: Vec<u8>,
    private_key: Secret,
    policy: Policy,
    authorities: Authorities,
    key_ring: KeyRing,
    id: CertificateId,
    region: RegionId,
    request_id: RequestId,
}

/// Who has a name and a key.
struct Entity {
    name: &'static str,
    key: PKey<Private>,
}

impl Upload {
    fn new(keys: Keys) -> Self {
        let [root, issuer, server] = ["Root", "Intermediate", "www.example.com"].map(|name| Entity::new(name, keys));
        let above = certificate(&root, None, &issuer, |builder| {
            let authority = KeyUsage::new().critical().key_cert_sign().crl_sign().build().unwrap();
            builder
                .append_extension(BasicConstraints::new().critical().ca().pathlen(0).build().unwrap())
                .unwrap();
            builder.append_extension(authority).unwrap();
        });
        let leaf = certificate(&issuer, Some(&above), &server, |builder| {
            let names = SubjectAlternativeName::new()
                .dns("www.example.com")
                .dns("example.com")
                .build(&builder.x509v3_context(None, None))
                .unwrap();
            builder
                .append_extension(BasicConstraints::new().critical().build().unwrap())
                .unwrap();
            builder
                .append_extension(KeyUsage::new().critical().digital_signature().build().unwrap())
                .unwrap();
            builder
                .append_extension(ExtendedKeyUsage::new().server_auth().build().unwrap())
                .unwrap();
            builder.append_extension(names).unwrap();
        });
        let folder = tempfile::tempdir().unwrap();
        let account = AccountId::from_i64(1_234_567_890_123_456);
        Self {
            certificates: [leaf, above]
                .iter()
                .flat_map(|certificate| certificate.to_pem().unwrap())
                .collect(),
            private_key: Secret::from(server.key.private_key_to_pem_pkcs8().unwrap()),
            policy: Policy::default(),
            authorities: Authorities::default(),
            key_ring: KeyRing::create(&folder.path().join("key-ring")).unwrap(),
            id: CertificateId::new(account, AT, [7; 8]),
            region: RegionId::from_stored("cn-hangzhou".to_owned()),
            request_id: RequestId::random().unwrap(),
        }
    }

    fn read(&self) -> UnverifiedPair {
        UnverifiedPair::read(&self.certificates, &self.private_key)
    }

    fn check(&self, pair: UnverifiedPair, authorities: &Authorities) -> VerifiedPair {
        pair.verify(AT, &self.policy, authorities).unwrap()
    }

    fn seal(&self, pair: VerifiedPair) -> SealedPair {
        self.key_ring.seal(self.key_ring.first_id(), pair, self.id).unwrap()
    }

    fn render(&self, facts: CertificateFacts, findings: Vec<Finding>) -> Vec<u8> {
        let name = CertificateName::default_for(&facts);
        let uploaded = Uploaded {
            id: Some(self.id),
            region: self.region.clone(),
            name,
            revision: 1,
            version: 1,
            resource_group: ResourceGroupId::default_of(self.id.account),
            facts,
            findings,
            account_fingerprints: ListedFingerprints::default(),
            ali_cloud: None,
        };
        grpc::uploaded(self.request_id, uploaded).encode_to_vec()
    }

    /// All of it, one step after the other.
    fn whole(&self) -> (Vec<u8>, Vec<u8>) {
        let sealed = self.seal(self.check(self.read(), &self.authorities));
        let private_key = sealed.private_key().as_bytes().to_vec();
        let (facts, _, findings) = sealed.into_certificate().into_parts();
        (private_key, self.render(facts, findings))
    }
}

impl Entity {
    fn new(name: &'static str, keys: Keys) -> Self {
        let key = match keys {
            Keys::P256 => {
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
                PKey::from_ec_key(EcKey::generate(&group).unwrap())
            }
            Keys::Rsa2048 => PKey::from_rsa(Rsa::generate(2048).unwrap()),
        };
        Self {
            name,
            key: key.unwrap(),
        }
    }

    fn distinguished_name(&self) -> X509Name {
        let mut name = X509Name::builder().unwrap();
        for (attribute, value) in [("C", "DE"), ("O", "Example Organization"), ("CN", self.name)] {
            name.append_entry_by_text(attribute, value).unwrap();
        }
        name.build()
    }
}

fn certificate(by: &Entity, above: Option<&X509>, of: &Entity, extend: impl FnOnce(&mut X509Builder)) -> X509 {
    let mut builder = X509::builder().unwrap();
    let serial = BigNum::from_slice(&[0x5a; 16]).unwrap();
    builder.set_version(2).unwrap();
    builder
        .set_serial_number(&Asn1Integer::from_bn(&serial).unwrap())
        .unwrap();
    builder.set_issuer_name(&by.distinguished_name()).unwrap();
    builder.set_subject_name(&of.distinguished_name()).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(BEGIN).unwrap()).unwrap();
    builder
        .set_not_after(&Asn1Time::from_unix(BEGIN + 397 * 86_400).unwrap())
        .unwrap();
    builder.set_pubkey(&of.key).unwrap();
    extend(&mut builder);
    let own = SubjectKeyIdentifier::new()
        .build(&builder.x509v3_context(None, None))
        .unwrap();
    builder.append_extension(own).unwrap();
    if let Some(above) = above {
        let authority = AuthorityKeyIdentifier::new()
            .keyid(true)
            .build(&builder.x509v3_context(Some(above), None))
            .unwrap();
        builder.append_extension(authority).unwrap();
    }
    builder.sign(&by.key, MessageDigest::sha256()).unwrap();
    builder.build()
}

/// An upload, with whatever is done only once for a process done before.
fn upload(keys: Keys) -> &'static Upload {
    let upload = Box::leak(Box::new(Upload::new(keys)));
    upload.whole();
    upload
}

fn read_upload(keys: Keys) -> (&'static Upload, UnverifiedPair) {
    let upload = upload(keys);
    (upload, upload.read())
}

fn first_upload(keys: Keys) -> (&'static Upload, UnverifiedPair, Authorities) {
    let (upload, pair) = read_upload(keys);
    (upload, pair, Authorities::default())
}

fn signer(keys: Keys) -> PKey<Private> {
    let key = Entity::new("signer", keys).key;
    // The first signature sets up the key.
    let mut signer = openssl::sign::Signer::new_without_digest(&key).unwrap();
    signer.sign_oneshot_to_vec(&[7; 32]).unwrap();
    drop(signer);
    key
}

fn checked_upload(keys: Keys) -> (&'static Upload, VerifiedPair) {
    let (upload, pair) = read_upload(keys);
    (upload, upload.check(pair, &upload.authorities))
}

fn told_upload(keys: Keys) -> (&'static Upload, CertificateFacts, Vec<Finding>) {
    let (upload, pair) = checked_upload(keys);
    let (facts, _, findings) = pair.into_parts().0.into_parts();
    (upload, facts, findings)
}

#[library_benchmark]
#[bench::p256(args = (Keys::P256), setup = upload)]
#[bench::rsa_2048(args = (Keys::Rsa2048), setup = upload)]
fn parse(upload: &Upload) -> UnverifiedPair {
    black_box(upload.read())
}

// Of an issuer that was seen before.
#[library_benchmark]
#[bench::p256(args = (Keys::P256), setup = read_upload)]
#[bench::rsa_2048(args = (Keys::Rsa2048), setup = read_upload)]
fn check((upload, pair): (&Upload, UnverifiedPair)) -> VerifiedPair {
    black_box(upload.check(pair, &upload.authorities))
}

#[library_benchmark]
#[bench::p256(args = (Keys::P256), setup = first_upload)]
#[bench::rsa_2048(args = (Keys::Rsa2048), setup = first_upload)]
fn check_new_issuer((upload, pair, none): (&Upload, UnverifiedPair, Authorities)) -> (VerifiedPair, Authorities) {
    (black_box(upload.check(pair, &none)), none)
}

// For comparison with the tests of the primes of an RSA key, which are a part of `check`.
#[library_benchmark]
#[bench::rsa_2048(args = (Keys::Rsa2048), setup = signer)]
fn sign(key: PKey<Private>) -> Vec<u8> {
    let mut signer = openssl::sign::Signer::new_without_digest(&key).unwrap();
    black_box(signer.sign_oneshot_to_vec(&[7; 32]).unwrap())
}

#[library_benchmark]
#[bench::p256(args = (Keys::P256), setup = checked_upload)]
#[bench::rsa_2048(args = (Keys::Rsa2048), setup = checked_upload)]
fn seal((upload, pair): (&Upload, VerifiedPair)) -> SealedPair {
    black_box(upload.seal(pair))
}

#[library_benchmark]
#[bench::p256(args = (Keys::P256), setup = told_upload)]
#[bench::rsa_2048(args = (Keys::Rsa2048), setup = told_upload)]
fn render((upload, facts, findings): (&Upload, CertificateFacts, Vec<Finding>)) -> Vec<u8> {
    black_box(upload.render(facts, findings))
}

#[library_benchmark]
#[bench::p256(args = (Keys::P256), setup = upload)]
#[bench::rsa_2048(args = (Keys::Rsa2048), setup = upload)]
fn whole(upload: &Upload) -> (Vec<u8>, Vec<u8>) {
    black_box(upload.whole())
}

library_benchmark_group!(
    name = steps,
    benchmarks = [parse, check, check_new_issuer, sign, seal, render, whole]
);

// Instructions alone: caches are simulated for no real machine.
main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = steps
);
