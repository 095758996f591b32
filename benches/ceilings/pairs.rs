//! Certificates and keys, made when the harness runs.

use std::thread;

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name};

use crate::Outcome;

/// What the names of all leaves end with. The texts before it have one length, so that their rows do too.
pub const DOMAIN: &str = ".bench.example.com";
const DAYS: u32 = 90;
const RSA_BITS: u32 = 2048;

/// Leaf and intermediate in PEM, and the leaf's key.
pub struct Pair {
    pub certificates: String,
    pub key: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    P256,
    /// 2048 bits.
    Rsa,
}

impl Key {
    fn make(self) -> Result<PKey<Private>, ErrorStack> {
        match self {
            Self::P256 => {
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
                PKey::from_ec_key(EcKey::generate(&group)?)
            }
            Self::Rsa => PKey::from_rsa(Rsa::generate(RSA_BITS)?),
        }
    }

    /// How many leaves, and of how many keys: those of RSA take long to make.
    fn pool(self) -> (usize, Option<usize>) {
        match self {
            Self::P256 => (20_000, None),
            Self::Rsa => (4_000, Some(32)),
        }
    }
}

/// Pairs of distinct leaves of one intermediate.
pub fn make(key: Key) -> Outcome<Vec<Pair>> {
    let issuer = Issuer::make(key)?;
    let (leaves, keys) = key.pool();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let issuer = &issuer;
    let part = |thread: usize| -> Result<Vec<Pair>, ErrorStack> {
        let places = (thread..leaves).step_by(threads);
        let kept = keys
            .map(|keys| {
                (0..keys.div_ceil(threads))
                    .map(|_| key.make())
                    .collect::<Result<Vec<_>, _>>()
            })
            .transpose()?;
        places
            .map(|place| match &kept {
                Some(kept) => issuer.pair(&kept[place / threads % kept.len()], place),
                None => issuer.pair(&key.make()?, place),
            })
            .collect()
    };
    thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        let mut pairs = Vec::with_capacity(leaves);
        for part in parts {
            pairs.extend(part.join().map_err(|_| "no pairs could be made")??);
        }
        Ok(pairs)
    })
}

/// The intermediate.
struct Issuer {
    key: PKey<Private>,
    certificate: X509,
    pem: String,
}

impl Issuer {
    fn make(key: Key) -> Result<Self, ErrorStack> {
        let (root, key) = (key.make()?, key.make()?);
        let root_name = name("Bench Root")?;
        let mut builder = builder(&key, &name("Bench Intermediate")?, &root_name)?;
        builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        let subject_key = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
        builder.append_extension(subject_key)?;
        builder.sign(&root, MessageDigest::sha256())?;
        let certificate = builder.build();
        let pem = text(certificate.to_pem()?);
        Ok(Self { key, certificate, pem })
    }

    fn pair(&self, key: &PKey<Private>, place: usize) -> Result<Pair, ErrorStack> {
        let host = format!("h{place:07}{DOMAIN}");
        let mut builder = builder(key, &name(&host)?, self.certificate.subject_name())?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
        builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let extensions = [
            SubjectAlternativeName::new()
                .dns(&host)
                .dns(&format!("www.{host}"))
                .build(&context)?,
            SubjectKeyIdentifier::new().build(&context)?,
            AuthorityKeyIdentifier::new().keyid(true).build(&context)?,
        ];
        for extension in extensions {
            builder.append_extension(extension)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Pair {
            certificates: text(builder.build().to_pem()?) + &self.pem,
            key: text(key.private_key_to_pem_pkcs8()?),
        })
    }
}

fn builder(
    key: &PKey<Private>,
    subject: &X509Name,
    issuer: &openssl::x509::X509NameRef,
) -> Result<X509Builder, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(120, MsbOption::ONE, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(DAYS)?)?;
    Ok(builder)
}

fn name(common_name: &str) -> Result<X509Name, ErrorStack> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)?;
    Ok(name.build())
}

fn text(pem: Vec<u8>) -> String {
    String::from_utf8_lossy(&pem).into_owned()
}
