//! How much longer the checks of an upload take because memory is wiped when it is freed: `cargo bench -p wiping-allocator`.
//!
//! Two processes take turns, one with the allocator of the binary, and one with the same allocator without wiping. The ratio of their
//! medians is printed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark may panic and prints its result"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use certkeep::certificate::{Authorities, Policy, UnverifiedPair};
use certkeep::grpc::pb::UploadServerCertificateRequest;
use certkeep::secret::Secret;
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Name};
use prost::Message;
use wiping_allocator::{WipingAllocator, wipe_openssl};

/// How often each process runs.
const TURNS: usize = 10;
/// The uploads of one turn.
const UPLOADS: u32 = 2000;

/// Both kinds of blocks come from mimalloc, so either side can free them.
struct Switch(AtomicBool);

// SAFETY: each function hands its arguments to the same function of an allocator. `mi_free` is the end of both `dealloc`.
unsafe impl GlobalAlloc for Switch {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { WipingAllocator.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise. A size of 0 wipes nothing.
        unsafe {
            let size = if self.0.load(Ordering::Relaxed) {
                layout.size()
            } else {
                0
            };
            WipingAllocator.dealloc(memory, Layout::from_size_align_unchecked(size, layout.align()));
        }
    }
}

#[global_allocator]
static ALLOCATOR: Switch = Switch(AtomicBool::new(false));

fn request(key: Key) -> Vec<u8> {
    let key = match key {
        Key::P256 => {
            let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
        }
        Key::Rsa2048 => PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
    };
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "www.example.com").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    certificate
        .set_not_after(&Asn1Time::days_from_now(90).unwrap())
        .unwrap();
    let names = SubjectAlternativeName::new()
        .dns("www.example.com")
        .build(&certificate.x509v3_context(None, None))
        .unwrap();
    certificate.append_extension(names).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    UploadServerCertificateRequest {
        server_certificate: text(certificate.build().to_pem().unwrap()),
        private_key: text(key.private_key_to_pem_pkcs8().unwrap()),
        ..Default::default()
    }
    .encode_to_vec()
}

#[derive(Clone, Copy, Debug)]
enum Key {
    P256,
    Rsa2048,
}

/// Nanoseconds for each upload.
fn measure(key: Key) -> u128 {
    let request = request(key);
    let now = certkeep::clock::now();
    let began = Instant::now();
    for _ in 0..UPLOADS {
        let request = UploadServerCertificateRequest::decode(request.as_slice()).unwrap();
        let private_key = Secret::from(request.private_key.into_bytes());
        let pair = UnverifiedPair::read(request.server_certificate.as_bytes(), &private_key);
        drop(pair.verify(now, &Policy::default(), &Authorities::default()));
    }
    began.elapsed().as_nanos() / u128::from(UPLOADS)
}

fn child(mode: &str, key: Key) -> u128 {
    let key = format!("{key:?}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args([mode, &key])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn median(mut times: Vec<u128>) -> u128 {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let key = |name: &str| if name == "P256" { Key::P256 } else { Key::Rsa2048 };
    match arguments.first().map(String::as_str) {
        Some(mode @ ("wiping" | "plain")) => {
            if mode == "wiping" {
                wipe_openssl().unwrap();
                ALLOCATOR.0.store(true, Ordering::Relaxed);
            }
            println!("{}", measure(key(&arguments[1])));
        }
        _ => {
            for key in [Key::P256, Key::Rsa2048] {
                let (mut wiping, mut plain) = (Vec::new(), Vec::new());
                for _ in 0..TURNS {
                    wiping.push(child("wiping", key));
                    plain.push(child("plain", key));
                }
                let (wiping, plain) = (median(wiping), median(plain));
                let ratio = wiping as f64 / plain as f64;
                println!("{key:?}: {wiping} ns with wiping, {plain} ns without, ratio {ratio:.3}");
            }
        }
    }
}
