//! A cache of CA certificates. A few of them are part of almost every upload.

use openssl::error::ErrorStack;
use openssl::pkey::{PKeyRef, Public};
use openssl::x509::X509;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::x509::Certificate;
use crate::digest;

/// The maximum number of cached signatures. One takes about a hundred bytes, all of them about a megabyte.
const MAX_SIGNATURES: usize = 10_000;
/// The maximum number of DER bytes of the cached certificates. The form in OpenSSL takes seven times as much memory,
/// and twenty times for a crafted certificate: at most 20 MiB in all.
const MAX_DER_BYTES: u64 = 1024 * 1024;
/// The size in bytes of an ordinary certificate.
const USUAL_DER_BYTES: u64 = 1024;

/// A SHA-256 hash.
pub(super) type Hash = [u8; 32];

/// The results of OpenSSL for CA certificates: the parsed certificates, and which key signed which certificate. The
/// service keeps one cache for all threads, as long as the process lives. The cache is bounded. It evicts the entries
/// first that nobody reads again.
///
/// The cache never changes which certificates are accepted. It identifies a certificate by the hash of the whole
/// certificate, and a public key by the hash of its `SubjectPublicKeyInfo`. Only successes are cached. A failure may
/// have been an allocation failure.
///
/// Server certificates are not cached. Each is seen once, and would evict certificates that are seen again.
pub struct Authorities {
    /// The key is the hash of the certificate.
    loaded: Cache<Hash, Loaded, DerBytes>,
    /// The key is the hash of the certificate and the hash of the public key that signed it.
    signed: Cache<(Hash, Hash), ()>,
}

/// A certificate that OpenSSL has parsed.
#[derive(Clone)]
struct Loaded {
    x509: X509,
    der_bytes: u64,
}

#[derive(Clone)]
struct DerBytes;

impl Weighter<Hash, Loaded> for DerBytes {
    fn weight(&self, _: &Hash, loaded: &Loaded) -> u64 {
        loaded.der_bytes
    }
}

impl Default for Authorities {
    fn default() -> Self {
        Self {
            loaded: Cache::with_weighter((MAX_DER_BYTES / USUAL_DER_BYTES) as usize, MAX_DER_BYTES, DerBytes),
            signed: Cache::new(MAX_SIGNATURES),
        }
    }
}

impl Authorities {
    /// Lets OpenSSL parse the DER encoding of a CA certificate. `hash` is its SHA-256.
    pub(super) fn load(&self, hash: Hash, der: &[u8]) -> Result<X509, ErrorStack> {
        if let Some(loaded) = self.loaded.get(&hash) {
            return Ok(loaded.x509);
        }
        let x509 = X509::from_der(der)?;
        let loaded = Loaded {
            x509: x509.clone(),
            der_bytes: der.len() as u64,
        };
        self.loaded.insert(hash, loaded);
        Ok(x509)
    }

    /// Whether the key of `issuer` signed `child`. `key` is this key, decoded by OpenSSL.
    pub(super) fn signed(&self, child: &Certificate<'_>, issuer: &Certificate<'_>, key: &PKeyRef<Public>) -> bool {
        let signature = child
            .authority
            .map(|authority| (authority, digest::sha256(issuer.spki())));
        if signature.is_some_and(|signature| self.signed.get(&signature).is_some()) {
            return true;
        }
        let is_right = child.openssl.verify(key).unwrap_or(false);
        // Clears the error queue of this thread, so that the next use of OpenSSL does not find this error.
        drop(ErrorStack::get());
        if let Some(signature) = signature
            && is_right
        {
            self.signed.insert(signature, ());
        }
        is_right
    }
}

#[cfg(test)]
mod tests {
    use openssl::x509::extension::BasicConstraints;

    use super::super::test_pair::{self, AT, AUTHORITY, Entity};
    use super::super::{CertificateError, Policy, UnverifiedCa, UnverifiedPair};
    use super::*;
    use crate::secret::Secret;

    /// The errors for which the certificates are refused.
    fn faults(given: &[&X509], server: &Entity, authorities: &Authorities) -> Vec<CertificateError> {
        let text: Vec<_> = given.iter().flat_map(|x509| x509.to_pem().unwrap()).collect();
        let pair = UnverifiedPair::read(&text, &Secret::from(server.key_pem()));
        match pair.verify(AT, &Policy::default(), authorities) {
            Ok(_) => Vec::new(),
            Err(error) => error.certificate,
        }
    }

    fn is_unrelated(faults: &[CertificateError], place: usize) -> bool {
        matches!(faults, [CertificateError::Unrelated { index, .. }] if *index == place)
    }

    /// A CA certificate with key identifiers.
    fn certify(by: &Entity, of: &Entity, [issuer, subject]: [&str; 2]) -> X509 {
        let issuer = format!("DER:30:03:80:01:{issuer}");
        let identifiers = [
            ("subjectKeyIdentifier", subject),
            ("authorityKeyIdentifier", issuer.as_str()),
        ];
        by.certify(of, &[AUTHORITY, &identifiers].concat())
    }

    #[test]
    fn authorities_are_remembered_and_servers_are_not() {
        let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
        let leaf = issuer.certify_server(&server);
        let (above, own) = (root.certify_authority(&issuer), root.certify_authority(&root));
        let authorities = Authorities::default();
        for _ in 0..2 {
            assert_eq!(faults(&[&leaf, &above, &own], &server, &authorities), []);
            assert_eq!((authorities.loaded.len(), authorities.signed.len()), (2, 2));
        }
        let ca = UnverifiedCa::read(&own.to_pem().unwrap());
        assert!(ca.verify(AT, &Policy::default(), &authorities).is_ok());
        assert_eq!((authorities.loaded.len(), authorities.signed.len()), (2, 2));
    }

    #[test]
    fn a_forgery_of_what_is_remembered_is_refused() {
        let [server, issuer, root] = ["server", "issuer", "root"].map(Entity::new);
        let leaf = issuer.certify(&server, &[("2.5.29.35", "DER:30:03:80:01:01")]);
        let above = certify(&root, &issuer, ["02", "01"]);
        let own = certify(&root, &root, ["02", "02"]);
        let authorities = Authorities::default();
        assert_eq!(faults(&[&leaf, &above, &own], &server, &authorities), []);

        // The same names and key identifiers with another key: for the issuer, for the root, and for the root that
        // signs the true issuer.
        let [other_issuer, other_root] = ["issuer", "root"].map(Entity::new);
        let forged_issuer = certify(&root, &other_issuer, ["02", "01"]);
        let forged_root = certify(&other_root, &other_root, ["02", "02"]);
        let forged_above = certify(&other_root, &issuer, ["02", "01"]);
        // The same certificate with another signature.
        let mut bent = above.to_der().unwrap();
        *bent.last_mut().unwrap() ^= 1;
        let bent = X509::from_der(&bent).unwrap();
        for _ in 0..2 {
            for (given, place) in [
                ([&leaf, &above, &forged_root], 3),
                ([&leaf, &forged_above, &own], 3),
                ([&leaf, &bent, &own], 3),
            ] {
                assert!(is_unrelated(&faults(&given, &server, &authorities), place));
            }
            let without_issuer = faults(&[&leaf, &forged_issuer], &server, &authorities);
            assert!(is_unrelated(&without_issuer, 2));
        }
    }

    #[test]
    fn a_remembered_signature_counts_like_any_other() {
        let server = Entity::new("server");
        let issuers: Vec<_> = (0..19).map(|_| Entity::new("issuer")).collect();
        let mut given = vec![issuers[0].certify_server(&server)];
        given.extend((0..19).map(|place| issuers[(place + 1) % 19].certify_authority(&issuers[place])));
        let given: Vec<_> = given.iter().collect();
        let authorities = Authorities::default();
        for _ in 0..3 {
            assert_eq!(faults(&given, &server, &authorities), [CertificateError::TooComplex]);
        }
    }

    #[test]
    fn it_is_bounded() {
        let authorities = Authorities::default();
        let mut builder = test_pair::builder(&test_pair::ec().key);
        builder
            .append_extension(BasicConstraints::new().ca().build().unwrap())
            .unwrap();
        let x509 = test_pair::sign(builder, &test_pair::ec().key);
        let der = x509.to_der().unwrap();
        for number in 0..3 * MAX_SIGNATURES {
            let hash = digest::sha256(&number.to_be_bytes());
            authorities.load(hash, &der).unwrap();
            authorities.signed.insert((hash, hash), ());
        }
        assert!(authorities.signed.len() <= MAX_SIGNATURES);
        assert!(authorities.loaded.weight() <= MAX_DER_BYTES);
    }
}
