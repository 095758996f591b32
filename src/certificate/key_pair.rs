//! A server certificate with its chain and its private key.

use std::fmt;

use super::given::{CertificateError, Given, TextError, Unread};
use super::listing::{self, ListedCertificate};
use super::path::Path;
use super::path_search;
use super::pem::{self, Block};
use super::rules::{self, Findings, Refusals, cut_at};
use super::text::PlainText;
use super::text_notes::TextNotes;
use super::x509::Certificate;
use super::{
    Authorities, CertificateFacts, Chain, Finding, FindingCode, FindingKind, Policy, PrivateKey, PrivateKeyError,
    VerifiedCertificate,
};
use super::{leaf, public_key::PublicKey};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// The limit of a subject in an error, in characters. Error details must be short.
const MAX_SUBJECT_CHARS: usize = 64;

/// The maximum number of searchable subject alternative names. A certificate can have tens of thousands of names, and each searchable
/// name costs the store a row.
pub const MAX_SEARCHABLE_NAMES: usize = 1000;

/// Certificates and a private key, parsed from PEM. Nothing proves yet that they belong together.
#[derive(Debug)]
pub struct UnverifiedPair {
    certificates: Vec<GivenCertificate>,
    private_key: Result<PrivateKey, PrivateKeyError>,
    /// The errors of the text of the certificates.
    errors: Vec<CertificateError>,
    key_was_among_certificates: bool,
    /// Whether the errors of one text are about the other text too, which is empty.
    is_told: bool,
    notes: TextNotes,
}

/// A certificate of the text.
struct GivenCertificate {
    der: Vec<u8>,
    /// Its first position in the text, counted from 1.
    index: usize,
    is_repeated: bool,
}

/// A chain in the order in which it is served, and the private key of its leaf. The policy accepts both. Only a `VerifiedPair` is
/// sealed and stored.
#[derive(Debug)]
pub struct VerifiedPair {
    certificate: VerifiedCertificate,
    private_key: PrivateKey,
}

/// Why a pair is refused, and all findings. At least one of the first three fields is set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PairError {
    /// The errors of the certificates.
    pub certificate: Vec<CertificateError>,
    /// The error of the private key.
    pub private_key: Option<PrivateKeyError>,
    /// The findings for which the policy refuses the pair, each code once.
    pub rejected: Vec<FindingCode>,
    /// All findings, the most severe first.
    pub findings: Vec<Finding>,
}

/// The result of examining a pair, or certificates without their key.
#[derive(Debug)]
pub struct Report {
    /// Whether an upload would store the pair.
    pub is_accepted: bool,
    /// The errors and the findings. A missing key is no error here.
    pub error: PairError,
    /// The facts about the leaf, if it can be parsed.
    pub leaf: Option<CertificateFacts>,
    /// The chain that an upload would store.
    pub chain: Option<Chain>,
    /// The leaf and its issuers, in the order in which they are served. The root, if it was given, is the last.
    pub listing: Vec<ListedCertificate>,
}

/// The result of an examination.
struct Examined {
    leaf: Option<CertificateFacts>,
    chain: Option<Chain>,
    listing: Vec<ListedCertificate>,
    error: PairError,
}

/// Whether the result lists the certificates.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Listing {
    Wanted,
    Unwanted,
}

impl UnverifiedPair {
    /// Parses both PEM texts. [`verify`](Self::verify) returns their errors.
    ///
    /// The certificates: 1 to 20 in any order, at most 256 KiB. The private key: one, not encrypted, at most 64 KiB, with a
    /// supported algorithm and consistent parts. It may be in the text of the certificates instead.
    pub fn read(server_certificate: &[u8], private_key: &Secret) -> Self {
        // People give the file that has both twice.
        let is_same = private_key.expose() == server_certificate;
        let (private_key, notes) = match is_same {
            true => (Err(PrivateKeyError::Missing), TextNotes::default()),
            false => PrivateKey::parse(private_key),
        };
        let mut pair = Self {
            certificates: Vec::new(),
            private_key,
            errors: Vec::new(),
            key_was_among_certificates: false,
            is_told: false,
            notes,
        };
        let text = PlainText::of(server_certificate);
        match Given::read(&text) {
            Ok(given) => {
                pair.decode(&given.certificates);
                pair.notes.add(given.notes);
                if !given.keys.is_empty() {
                    pair.take_key(&given.keys);
                }
            }
            Err(Unread::Missing) if matches!(pair.private_key, Err(PrivateKeyError::HoldsCertificate)) => {}
            Err(unread) => {
                let is_key_missing = matches!(pair.private_key, Err(PrivateKeyError::Missing));
                pair.is_told = is_key_missing && pem::begun(&text).any(|label| label.is_private_key());
                pair.errors.push(unread.into());
            }
        }
        pair
    }

    fn decode(&mut self, blocks: &[Block<'_>]) {
        for (place, block) in blocks.iter().enumerate() {
            let mut der = match block.decode() {
                Ok(der) => der,
                Err(error) => {
                    self.errors.push(CertificateError::Text(TextError::Pem(error)));
                    continue;
                }
            };
            let der = std::mem::take(&mut *der);
            match self.certificates.iter_mut().find(|certificate| certificate.der == der) {
                Some(first) => first.is_repeated = true,
                None => self.certificates.push(GivenCertificate {
                    der,
                    index: place + 1,
                    is_repeated: false,
                }),
            }
        }
    }

    /// Takes the private key in the text of the certificates. There must be no other.
    fn take_key(&mut self, blocks: &[Block<'_>]) {
        self.key_was_among_certificates = true;
        match &self.private_key {
            Err(PrivateKeyError::Missing) => {
                self.private_key = PrivateKey::of_blocks(blocks, &mut self.notes);
                if matches!(self.private_key, Err(PrivateKeyError::TwoKeys)) && self.has_two_leaves() {
                    self.errors.push(CertificateError::TwoPairs);
                    self.is_told = true;
                    // Which certificates belong together, nobody has said.
                    self.certificates.clear();
                }
            }
            Ok(key) => {
                let other = PrivateKey::of_blocks(blocks, &mut self.notes);
                if !other.is_ok_and(|other| other.public_key() == key.public_key()) {
                    self.errors.push(CertificateError::OtherPrivateKey);
                }
            }
            // The error of the other key comes first.
            Err(_) => {}
        }
    }

    fn has_two_leaves(&self) -> bool {
        let authorities = Authorities::default();
        let is_leaf = |given: &&GivenCertificate| {
            Certificate::read(&given.der, &authorities).is_ok_and(|certificate| !certificate.fields.is_ca())
        };
        self.certificates.iter().filter(is_leaf).count() > 1
    }

    /// Proves that the private key belongs to one of the certificates, the leaf. Orders the chain, collects the
    /// findings at this time, and applies the policy. The error contains all errors and findings.
    pub fn verify(self, at: Timestamp, policy: &Policy, authorities: &Authorities) -> Result<VerifiedPair, PairError> {
        let examined = self.examine(at, policy, authorities, Listing::Unwanted);
        let Examined { leaf, chain, error, .. } = examined;
        match (self.private_key, leaf, chain) {
            (Ok(private_key), Some(facts), Some(chain)) if error.is_none() => Ok(VerifiedPair {
                certificate: VerifiedCertificate::new(facts, chain, error.findings),
                private_key,
            }),
            _ => Err(error),
        }
    }

    /// Makes the checks of an upload and reports all their results. Signs once with the key.
    pub fn report(self, at: Timestamp, policy: &Policy, authorities: &Authorities) -> Report {
        let mut examined = self.examine(at, policy, authorities, Listing::Wanted);
        match &self.private_key {
            Err(PrivateKeyError::Missing) => examined.error.private_key = None,
            Ok(key) if examined.error.private_key.is_none() && !key.signs() => {
                examined.error.private_key = Some(PrivateKeyError::Inconsistent);
            }
            _ => {}
        }
        Report {
            is_accepted: self.private_key.is_ok() && examined.error.is_none(),
            error: examined.error,
            leaf: examined.leaf,
            chain: examined.chain,
            listing: examined.listing,
        }
    }

    fn examine(&self, at: Timestamp, policy: &Policy, authorities: &Authorities, listing: Listing) -> Examined {
        let mut findings = Findings::by(policy);
        let mut examined = Examined {
            leaf: None,
            chain: None,
            listing: Vec::new(),
            error: PairError {
                certificate: self.errors.clone(),
                private_key: self.private_key.as_ref().err().filter(|_| !self.is_told).cloned(),
                ..PairError::default()
            },
        };
        if self.key_was_among_certificates {
            findings.note(FindingKind::KeyFoundInCertificateField, None);
        }
        self.notes.tell(&mut findings);
        // The certificates that can be parsed, with their positions in the text.
        let (mut certificates, mut places) = (Vec::new(), Vec::new());
        for given in &self.certificates {
            match Certificate::read(&given.der, authorities) {
                Ok(certificate) => {
                    certificates.push(certificate);
                    places.push(given);
                }
                Err(error) => examined.error.certificate.push(CertificateError::Malformed {
                    index: given.index,
                    error,
                }),
            }
        }
        if let Some((leaf, key)) = self.leaf(&certificates, &places, &mut examined.error) {
            examined.leaf = key
                .as_ref()
                .map(|key| CertificateFacts::of(&certificates[leaf].fields, key));
            let private_key = self.private_key.as_ref().ok();
            let private_key = private_key.filter(|private| key.as_ref().is_some_and(|key| private.belongs_to(key)));
            if private_key.is_some_and(|private| !private.has_prime_factors()) {
                examined.error.private_key = Some(PrivateKeyError::CompositeFactor);
            }
            let keys = (key.as_ref(), private_key);
            match walk(&certificates, &places, leaf, keys, at, authorities, &mut findings) {
                Ok(path) => {
                    // If a certificate cannot be parsed, it seems missing, and its issuers seem unrelated.
                    if certificates.len() == self.certificates.len() {
                        rules::missing(&certificates, &path, &mut findings);
                        let unrelated = unrelated(&certificates, &places, &path);
                        examined.error.certificate.extend(unrelated);
                    }
                    let served = path.served().map(|index| certificates[index].der.to_vec());
                    examined.chain = Some(Chain::of(served));
                    if let Some(facts) = &mut examined.leaf {
                        let names = facts.subject_alternative_names.len();
                        if names > MAX_SEARCHABLE_NAMES {
                            findings.note(FindingKind::NamesNotSearchable { names }, Some(&certificates[leaf]));
                        }
                        let ends = path.served().map(|index| certificates[index].not_after());
                        facts.chain_not_after = ends.fold(facts.not_after, Timestamp::min);
                    }
                    if listing == Listing::Wanted {
                        examined.listing = listing::of(&certificates, &path);
                    }
                }
                Err(error) => examined.error.certificate.push(error),
            }
        }
        examined.error.findings = findings.into_noted();
        examined.error.rejected = rules::rejected(&examined.error.findings);
        examined
    }

    /// The leaf, and its public key if it can be parsed: the certificate of the private key, or else the likely leaf.
    fn leaf(
        &self,
        certificates: &[Certificate<'_>],
        places: &[&GivenCertificate],
        error: &mut PairError,
    ) -> Option<(usize, Option<PublicKey>)> {
        if let Ok(key) = &self.private_key {
            match leaf::of_key(certificates, key)[..] {
                [leaf] => return Some((leaf, certificates[leaf].public_key().ok().cloned())),
                [first, second, ..] => {
                    error.certificate.push(CertificateError::LeafAmbiguous {
                        first: places[first].index,
                        second: places[second].index,
                    });
                    return None;
                }
                [] => {}
            }
        }
        let leaf = leaf::guess(certificates)?;
        match leaf::public_key(&certificates[leaf], places[leaf].index) {
            Ok(key) => {
                // A certificate that cannot be parsed may be the one for the key.
                let all_are_read = certificates.len() == self.certificates.len();
                if self.private_key.is_ok() && all_are_read {
                    error.private_key = Some(PrivateKeyError::Mismatch);
                }
                Some((leaf, Some(key)))
            }
            Err(fault) => {
                error.certificate.push(fault);
                Some((leaf, None))
            }
        }
    }
}

/// Builds the path from the leaf towards a root, and notes its findings.
fn walk(
    certificates: &[Certificate<'_>],
    places: &[&GivenCertificate],
    leaf: usize,
    keys: (Option<&PublicKey>, Option<&PrivateKey>),
    at: Timestamp,
    authorities: &Authorities,
    findings: &mut Findings<'_>,
) -> Result<Path, CertificateError> {
    let mut refusals = Refusals::among(certificates, at);
    let path = path_search::from_leaf(certificates, leaf, at, &mut refusals, authorities);
    let path = path.map_err(|_| CertificateError::TooComplex)?;
    for (certificate, given) in certificates.iter().zip(places) {
        if given.is_repeated {
            findings.note(FindingKind::DuplicateDropped, Some(certificate));
        }
    }
    for index in path.root.into_iter().chain(path.other_roots.iter().copied()) {
        findings.note(FindingKind::RootDropped, Some(&certificates[index]));
    }
    for &index in &path.expired {
        let expired = &certificates[index];
        let not_after = expired.not_after();
        findings.note(FindingKind::ExpiredDropped { not_after }, Some(expired));
    }
    if !path.served().is_sorted() {
        findings.note(FindingKind::ChainReordered, None);
    }
    rules::apply(certificates, &path, keys, at, &mut refusals, findings).map_err(|_| CertificateError::TooComplex)?;
    Ok(path)
}

fn unrelated(certificates: &[Certificate<'_>], places: &[&GivenCertificate], path: &Path) -> Vec<CertificateError> {
    let last = path.open_end().map(|last| &certificates[last]);
    let error = |&index: &usize| CertificateError::Unrelated {
        index: places[index].index,
        subject: cut_at(MAX_SUBJECT_CHARS, certificates[index].subject()),
        has_name_of_issuer: last.is_some_and(|last| last.names_as_issuer(&certificates[index])),
    };
    path.unrelated.iter().map(error).collect()
}

impl VerifiedPair {
    /// The leaf and its chain.
    pub fn certificate(&self) -> &VerifiedCertificate {
        &self.certificate
    }

    /// The leaf's private key.
    pub fn private_key(&self) -> &PrivateKey {
        &self.private_key
    }

    /// The certificate and its private key.
    pub fn into_parts(self) -> (VerifiedCertificate, PrivateKey) {
        (self.certificate, self.private_key)
    }
}

impl PairError {
    /// Whether there is no error and no finding that the policy refuses.
    fn is_none(&self) -> bool {
        self.certificate.is_empty() && self.private_key.is_none() && self.rejected.is_empty()
    }
}

impl fmt::Debug for GivenCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {}", self.index)
    }
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Integer;
    use openssl::bn::BigNum;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::x509::X509;
    use pkcs8::der::Encode;

    use super::super::key_type::MlDsa;
    use super::super::test_pair::{self, AT, Entity, TestPair, der, integer, pem, sequence, verify};
    use super::super::{DroppedBlock, PemError, Severity, UnsupportedKey, X509Error};
    use super::*;

    fn codes(findings: &[Finding]) -> Vec<FindingCode> {
        findings.iter().map(|finding| finding.code()).collect()
    }

    fn text(certificates: &[&X509]) -> Vec<u8> {
        certificates
            .iter()
            .flat_map(|certificate| certificate.to_pem().unwrap())
            .collect()
    }

    #[test]
    fn a_key_and_its_certificate_are_verified() {
        for key in [
            test_pair::rsa_key(1024),
            test_pair::rsa_key(2048),
            test_pair::rsa_pss_key(2048, &[]),
            test_pair::rsa_pss_key(2048, &test_pair::pss_parameters(test_pair::SHA256, 32)),
            test_pair::ec_key(Nid::X9_62_PRIME256V1),
            test_pair::ec_key(Nid::SECP384R1),
            test_pair::ec_key(Nid::SECP521R1),
            test_pair::ec_key(Nid::SECP256K1),
            PKey::generate_ed25519().unwrap(),
            PKey::generate_ed448().unwrap(),
        ] {
            let pkcs8 = key.private_key_to_pkcs8().unwrap();
            let pair = TestPair::of(key);
            let (certificate, key) = pair.verify().into_parts();
            let (facts, chain, _) = certificate.into_parts();
            assert_eq!(facts.subject, "CN=localhost");
            assert_eq!(chain.der().collect::<Vec<_>>(), [pair.certificate.to_der().unwrap()]);
            assert_eq!(key.pkcs8_der().expose(), pkcs8);
        }
    }

    #[test]
    fn a_post_quantum_key_is_kept_in_its_own_form() {
        for set in MlDsa::ALL {
            let (key, seed) = test_pair::ml_dsa_key(set);
            let expanded = der(4, &key.raw_private_key().unwrap());
            let both = sequence(&[&der(4, &seed), &expanded]);
            let pair = TestPair::of(key);
            for body in [der(0x80, &seed), expanded, both] {
                let algorithm = sequence(&[&set.oid().to_der().unwrap()]);
                let pkcs8 = sequence(&[&integer(&[]), &algorithm, &der(4, &body)]);
                let verified = verify(&pair.certificate_pem(), &pem("PRIVATE KEY", &pkcs8)).unwrap();
                assert_eq!(verified.private_key().pkcs8_der().expose(), pkcs8);
                assert!(verified.private_key().signs());
                assert!(codes(verified.certificate().findings()).contains(&FindingCode::KeyTypeUnsupportedByEnvoy));
            }
        }
    }

    #[test]
    fn chains_mix_post_quantum_and_older_keys() {
        let entity = |name: &str, post_quantum: bool| Entity {
            key: match post_quantum {
                true => test_pair::ml_dsa_key(MlDsa::MlDsa65).0,
                false => test_pair::ec_key(Nid::X9_62_PRIME256V1),
            },
            ..Entity::new(name)
        };
        for (issuer, server) in [(true, true), (true, false), (false, true)] {
            let [root, issuer, server] =
                [("root", issuer), ("issuer", issuer), ("server", server)].map(|(name, kind)| entity(name, kind));
            let (leaf, above) = (issuer.certify_server(&server), root.certify_authority(&issuer));
            let pair = verify(&text(&[&above, &leaf]), &server.key_pem()).unwrap();
            let served: Vec<_> = [&leaf, &above].map(|certificate| certificate.to_der().unwrap()).into();
            assert_eq!(pair.certificate().chain().der().collect::<Vec<_>>(), served);
        }
    }

    #[test]
    fn a_good_pair_gives_no_finding() {
        let [root, issuer, server] = ["root", "issuer", "server"].map(Entity::new);
        let chain = [&issuer.certify_server(&server), &root.certify_authority(&issuer)];
        let pair = verify(&text(&chain), &server.key_pem()).unwrap();
        assert_eq!(pair.certificate().findings(), []);
    }

    #[test]
    fn the_leaf_is_the_one_of_the_key_wherever_it_stands() {
        let [root, issuer, server] = ["root", "issuer", "server"].map(Entity::new);
        let (leaf, above) = (issuer.certify_server(&server), root.certify_authority(&issuer));
        let top = root.certify_authority(&root);
        let pair = verify(&text(&[&top, &above, &leaf, &above]), &server.key_pem()).unwrap();
        assert_eq!(pair.certificate().facts().subject, "CN=server");
        let served: Vec<_> = [&leaf, &above].map(|certificate| certificate.to_der().unwrap()).into();
        assert_eq!(pair.certificate().chain().der().collect::<Vec<_>>(), served);
        assert_eq!(
            codes(pair.certificate().findings()),
            [
                FindingCode::DuplicateDropped,
                FindingCode::RootDropped,
                FindingCode::ChainReordered
            ]
        );
        assert_eq!(
            pair.certificate()
                .findings()
                .iter()
                .map(|finding| finding.subject.as_str())
                .collect::<Vec<_>>(),
            ["CN=issuer", "CN=root", ""]
        );
    }

    #[test]
    fn a_key_of_no_certificate_is_a_mismatch() {
        let mine = test_pair::ec();
        for other in [test_pair::ec(), test_pair::rsa(), test_pair::ed25519()] {
            let error = verify(&mine.certificate_pem(), &other.key_pem()).unwrap_err();
            assert_eq!(
                (error.certificate, error.private_key),
                (vec![], Some(PrivateKeyError::Mismatch))
            );
        }
    }

    #[test]
    fn two_certificates_of_the_key_are_ambiguous() {
        let [issuer, server] = ["issuer", "server"].map(Entity::new);
        let (first, second) = (issuer.certify_server(&server), issuer.certify(&server, &[]));
        let top = issuer.certify_authority(&issuer);
        let error = verify(&text(&[&first, &top, &second]), &server.key_pem()).unwrap_err();
        assert_eq!(
            error.certificate,
            [CertificateError::LeafAmbiguous { first: 1, second: 3 }]
        );
        assert!(verify(&text(&[&first, &top, &first]), &server.key_pem()).is_ok());
    }

    #[test]
    fn what_stands_on_no_path_is_named() {
        let [root, issuer, server, stranger] = ["root", "issuer", "server", "stranger"].map(Entity::new);
        let leaf = issuer.certify_server(&server);
        let top = root.certify_authority(&root);
        let other = stranger.certify_authority(&stranger);
        let error = verify(&text(&[&other, &leaf, &top]), &server.key_pem()).unwrap_err();
        assert_eq!(
            error.certificate,
            [(1, "CN=stranger"), (3, "CN=root")].map(|(index, subject)| CertificateError::Unrelated {
                index,
                subject: subject.into(),
                has_name_of_issuer: false,
            })
        );
        assert_eq!(codes(&error.findings), [FindingCode::ChainIncomplete]);
        let issuer = "CN=issuer".to_owned();
        assert_eq!(error.findings[0].kind, FindingKind::ChainIncomplete { issuer });
    }

    #[test]
    fn every_fault_is_answered_at_once() {
        let pair = test_pair::rsa();
        let error = verify(&pair.key_pem(), &pair.certificate_pem()).unwrap_err();
        assert_eq!(error.certificate, [CertificateError::HoldsPrivateKey]);
        assert_eq!(error.private_key, Some(PrivateKeyError::HoldsCertificate));

        let error = verify(b"", b"x").unwrap_err();
        assert_eq!(error.certificate, [CertificateError::Missing]);
        assert_eq!(error.private_key, Some(PrivateKeyError::Pem(PemError::NoBlock)));

        let broken = pem("CERTIFICATE", b"x");
        let text = [broken.clone(), pair.certificate_pem(), pem("CERTIFICATE", b"y"), broken].concat();
        let error = verify(&text, &pair.key_pem()).unwrap_err();
        let malformed = |index| CertificateError::Malformed {
            index,
            error: X509Error::NotDer,
        };
        assert_eq!(error.certificate, [malformed(1), malformed(3)]);
        assert_eq!(error.private_key, None);
        assert!(codes(&error.findings).contains(&FindingCode::SelfSigned));
    }

    #[test]
    fn a_key_among_the_certificates_is_taken() {
        let pair = test_pair::ec();
        let both = [pair.key_pem(), pair.certificate_pem()].concat();
        for key in [vec![], pair.key_pem()] {
            let verified = verify(&both, &key).unwrap();
            assert!(codes(verified.certificate().findings()).contains(&FindingCode::KeyFoundInCertificateField));
            assert_eq!(
                verified.private_key().pkcs8_der().expose(),
                pair.key.private_key_to_pkcs8().unwrap()
            );
        }
        let error = verify(&both, &test_pair::ec().key_pem()).unwrap_err();
        assert_eq!(error.certificate, [CertificateError::OtherPrivateKey]);
        assert_eq!(error.private_key, Some(PrivateKeyError::Mismatch));
    }

    #[test]
    fn both_texts_may_be_the_same_and_other_blocks_are_left_out() {
        let pair = test_pair::ec();
        let both = [pair.certificate_pem(), pair.key_pem()].concat();
        let verified = verify(&both, &both).unwrap();
        let dropped = |found: &[Finding]| {
            let mut dropped = Vec::new();
            for finding in found {
                if let FindingKind::BlockDropped { block } = finding.kind {
                    dropped.push(block);
                }
            }
            dropped
        };
        assert_eq!(dropped(verified.certificate().findings()), []);
        let verified = verify(&pair.certificate_pem(), &both).unwrap();
        assert_eq!(dropped(verified.certificate().findings()), [DroppedBlock::Certificate]);

        let parameters = pem("DH PARAMETERS", b"x");
        let (certificate, key) = (
            [pair.certificate_pem(), parameters.clone(), parameters].concat(),
            [pem("EC PARAMETERS", b"x"), pair.key_pem()].concat(),
        );
        let verified = verify(&certificate, &key).unwrap();
        assert_eq!(
            dropped(verified.certificate().findings()),
            [DroppedBlock::EcParameters, DroppedBlock::DhParameters]
        );
    }

    #[test]
    fn wrong_labels_are_told() {
        let pair = test_pair::ec();
        let key = pem("RSA PRIVATE KEY", &pair.key.private_key_to_pkcs8().unwrap());
        let certificate = pem("PKCS7", &pair.certificate.to_der().unwrap());
        let verified = verify(&certificate, &key).unwrap();
        let wrong = |right| FindingKind::LabelWrong { right };
        let kinds: Vec<_> = verified
            .certificate()
            .findings()
            .iter()
            .map(|finding| &finding.kind)
            .collect();
        assert!(
            kinds.contains(&&wrong("PRIVATE KEY")) && kinds.contains(&&wrong("CERTIFICATE")),
            "{kinds:?}"
        );
        // A key under the label of a certificate is a key.
        let key = pem("CERTIFICATE", &pair.key.private_key_to_pkcs8().unwrap());
        let verified = verify(&[pair.certificate_pem(), key].concat(), b"").unwrap();
        assert!(codes(verified.certificate().findings()).contains(&FindingCode::KeyFoundInCertificateField));
    }

    #[test]
    fn one_mistake_gives_one_error() {
        let pair = test_pair::ec();
        let request = pem("CERTIFICATE REQUEST", b"x");
        let told = |certificate: &[u8], key: &[u8]| {
            let error = verify(certificate, key).unwrap_err();
            (error.certificate, error.private_key)
        };
        // The key stands in the other field.
        assert_eq!(
            told(&pair.key_pem(), b""),
            (vec![CertificateError::HoldsPrivateKey], None)
        );
        assert_eq!(
            told(&[request, pair.key_pem()].concat(), b""),
            (vec![CertificateError::Text(TextError::Request)], None)
        );
        assert_eq!(
            told(b"", &pair.certificate_pem()),
            (vec![], Some(PrivateKeyError::HoldsCertificate))
        );
        assert_eq!(
            told(b"", b""),
            (vec![CertificateError::Missing], Some(PrivateKeyError::Missing))
        );
        let other = test_pair::rsa();
        let two = [&pair, &other]
            .map(|pair| [pair.certificate_pem(), pair.key_pem()].concat())
            .concat();
        assert_eq!(told(&two, b""), (vec![CertificateError::TwoPairs], None));
    }

    #[test]
    fn a_leaf_of_an_unsupported_key_is_refused() {
        let pair = TestPair::of(test_pair::ec_key(Nid::BRAINPOOL_P256R1));
        let unsupported = UnsupportedKey::Curve {
            name: "brainpoolP256r1".into(),
        };
        let error = verify(&pair.certificate_pem(), &pair.key_pem()).unwrap_err();
        assert_eq!(
            error.certificate,
            [CertificateError::UnsupportedKey(unsupported.clone())]
        );
        assert_eq!(error.private_key, Some(PrivateKeyError::Unsupported(unsupported)));
    }

    #[test]
    fn a_leaf_whose_point_is_off_its_curve_is_refused() {
        let pair = test_pair::ec();
        let spki = pair.key.public_key_to_der().unwrap();
        let mut der = pair.certificate.to_der().unwrap();
        let end = der.windows(spki.len()).position(|window| window == spki).unwrap() + spki.len();
        der[end - 1] ^= 1;
        let error = verify(&pem("CERTIFICATE", &der), &pair.key_pem()).unwrap_err();
        let malformed = CertificateError::Malformed {
            index: 1,
            error: X509Error::PublicKey,
        };
        assert_eq!((error.certificate, error.private_key), (vec![malformed], None));
    }

    #[test]
    fn a_policy_refuses_what_it_is_told_to() {
        let pair = test_pair::ec();
        let verify = |policy: &str| {
            UnverifiedPair::read(&pair.certificate_pem(), &Secret::from(pair.key_pem())).verify(
                AT,
                &policy.parse().unwrap(),
                &Authorities::default(),
            )
        };
        let error = verify("default,SELF_SIGNED=reject").unwrap_err();
        assert_eq!(error.rejected, [FindingCode::SelfSigned]);
        assert_eq!(error.findings[0].severity, Severity::Error);
        assert_eq!(
            verify("strict").unwrap_err().rejected,
            [FindingCode::ValidityTooLong, FindingCode::SanMissing]
        );
        assert!(verify("strict,VALIDITY_TOO_LONG=report,SAN_MISSING=report").is_ok());
    }

    #[test]
    fn what_is_refused_for_several_certificates_is_told_once() {
        let [root, issuer, server] = ["root", "issuer", "server"].map(Entity::new);
        let odd = |issuer: &Entity, subject: &Entity| {
            let zero = Asn1Integer::from_bn(&BigNum::new().unwrap()).unwrap();
            let unknown = [("1.2.3.4", "critical,DER:05:00")];
            issuer.certify_with(subject, &unknown, |builder| builder.set_serial_number(&zero).unwrap())
        };
        let given = text(&[&odd(&issuer, &server), &odd(&root, &issuer)]);
        let policy = "default,SERIAL_INVALID=reject,CRITICAL_EXTENSION_UNKNOWN=reject";
        let pair = UnverifiedPair::read(&given, &Secret::from(server.key_pem()));
        let error = pair
            .verify(AT, &policy.parse().unwrap(), &Authorities::default())
            .unwrap_err();
        assert_eq!(
            error.rejected,
            [FindingCode::SerialInvalid, FindingCode::CriticalExtensionUnknown]
        );
    }

    #[test]
    fn names_that_no_search_finds_are_told() {
        for (count, is_told) in [(1000, false), (1001, true)] {
            let names: Vec<_> = (0..count).map(|number| format!("DNS:h{number}.example")).collect();
            let pair = TestPair::with_extensions(test_pair::ec().key, &[("subjectAltName", &names.join(","))]);
            let told = codes(pair.verify().certificate().findings()).contains(&FindingCode::NamesNotSearchable);
            assert_eq!(told, is_told, "{count}");
        }
    }

    #[test]
    fn a_report_has_everything() {
        let [root, issuer, server] = ["root", "issuer", "server"].map(Entity::new);
        let (leaf, above) = (issuer.certify_server(&server), root.certify_authority(&issuer));
        let top = root.certify_authority(&root);
        let given = text(&[&top, &leaf, &above]);
        let report = |key: Vec<u8>| {
            UnverifiedPair::read(&given, &Secret::from(key)).report(AT, &Policy::default(), &Authorities::default())
        };
        let whole = report(server.key_pem());
        assert!(whole.is_accepted);
        assert_eq!(whole.chain.unwrap().to_pem().into_bytes(), text(&[&leaf, &above]));
        assert_eq!(
            whole
                .listing
                .iter()
                .map(|listed| (listed.subject.as_str(), listed.place))
                .collect::<Vec<_>>(),
            [
                ("CN=server", listing::Place::Path),
                ("CN=issuer", listing::Place::Path),
                ("CN=root", listing::Place::Root)
            ]
        );
        let without_key = report(Vec::new());
        assert!(!without_key.is_accepted);
        assert_eq!(without_key.error.private_key, None);
        assert_eq!(without_key.leaf.unwrap().subject, "CN=server", "the leaf is guessed");
        let other_key = report(test_pair::ec().key_pem());
        assert_eq!(other_key.error.private_key, Some(PrivateKeyError::Mismatch));
        assert_eq!(other_key.listing.len(), 3);
    }

    #[test]
    fn shows_nothing_of_the_key() {
        let pair = test_pair::ec();
        let unverified = UnverifiedPair::read(&pair.certificate_pem(), &Secret::from(pair.key_pem()));
        for shown in [format!("{unverified:?}"), format!("{:?}", pair.verify())] {
            assert!(shown.contains("PrivateKey(<redacted>)"), "{shown}");
        }
    }
}
