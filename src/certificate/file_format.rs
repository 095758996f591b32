//! Files of certificates and private keys in other formats, made PEM. Only the command line uses this: the wire stays PEM, and no password travels.

use std::fmt;

use openssl::pkcs7::Pkcs7;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::provider::Provider;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use zeroize::Zeroizing;

use super::der_form::DerForm;
use super::finding::DroppedBlock;
use super::pem::{self, Block, Label};
use super::text::{self, PlainText};
use crate::secret::Secret;

/// The format of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say it, and Display writes them for people")]
pub enum FileFormat {
    Pem,
    DerCertificate,
    DerPrivateKey,
    Pkcs7,
    Pkcs12,
    /// A key store of Java before Java 9. The second kind is JCEKS.
    JavaKeyStore,
    /// The store of Traefik.
    AcmeJson,
    OpenSshKey,
    SshPublicKey,
    PuttyKey,
    CertificateRequest,
    Crl,
    PublicKey,
    /// Parameters of a key exchange or of keys.
    Parameters,
    Empty,
    /// None of the above.
    Unknown,
}

/// Why a file cannot be made PEM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileFormatError {
    /// The format of the file.
    pub format: FileFormat,
    /// The cause.
    pub cause: FormatCause,
}

/// The cause of a [`FileFormatError`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FormatCause {
    /// The file is encrypted, and there is no password.
    PasswordMissing,
    /// The password does not open the file.
    PasswordWrong,
    /// The file is damaged, or has a part that certkeep cannot read.
    Damaged,
    /// certkeep does not read the format, which may hold a certificate or a private key.
    NotRead,
    /// The file holds neither a certificate nor a private key.
    HoldsNeither,
}

/// A file as PEM text.
pub struct PemFile {
    /// The text, which may contain a private key.
    pub text: Zeroizing<String>,
    /// The format of the file.
    pub format: FileFormat,
}

impl FileFormat {
    /// The format of a file with these octets.
    pub fn of(bytes: &[u8]) -> Self {
        let text = PlainText::of(bytes);
        if pem::begins(&text) {
            return Self::of_blocks(&text);
        }
        match text::decode_base64(&text) {
            Some(der) => Self::of_octets(&der).unwrap_or(Self::Unknown),
            None => Self::of_octets(bytes).unwrap_or_else(|| Self::of_text(&text)),
        }
    }

    /// PEM, unless no block can be a certificate or a private key that certkeep reads.
    fn of_blocks(text: &[u8]) -> Self {
        let mut format = None;
        for block in pem::blocks(text) {
            let other = match block.map(|block| block.label) {
                Ok(Label::CertificateRequest) => Self::CertificateRequest,
                Ok(Label::OpenSsh) => Self::OpenSshKey,
                Ok(Label::Pkcs7) => Self::Pkcs7,
                Ok(Label::Pkcs12) => Self::Pkcs12,
                Ok(Label::Harmless(DroppedBlock::Crl)) => Self::Crl,
                Ok(Label::Harmless(DroppedBlock::PublicKey)) => Self::PublicKey,
                Ok(Label::Harmless(_) | Label::EcParameters) => Self::Parameters,
                Ok(_) | Err(_) => return Self::Pem,
            };
            format.get_or_insert(other);
        }
        format.unwrap_or(Self::Pem)
    }

    fn of_octets(bytes: &[u8]) -> Option<Self> {
        const JKS: [&[u8]; 2] = [b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"];
        if JKS.iter().any(|magic| bytes.starts_with(magic)) {
            return Some(Self::JavaKeyStore);
        }
        let is_whole = |rest: &[u8]| rest.is_empty();
        match DerForm::of(bytes) {
            Some(DerForm::Certificate) => Some(Self::DerCertificate),
            Some(DerForm::Pkcs8 | DerForm::Pkcs1 | DerForm::Sec1 | DerForm::EncryptedPkcs8) => {
                Some(Self::DerPrivateKey)
            }
            Some(DerForm::PublicKey) => Some(Self::PublicKey),
            Some(DerForm::Pkcs7) => Some(Self::Pkcs7),
            Some(DerForm::Pkcs12) => Some(Self::Pkcs12),
            None if X509Certificate::from_der(bytes).is_ok_and(|(rest, _)| is_whole(rest)) => {
                Some(Self::DerCertificate)
            }
            None if X509CertificationRequest::from_der(bytes).is_ok_and(|(rest, _)| is_whole(rest)) => {
                Some(Self::CertificateRequest)
            }
            None if CertificateRevocationList::from_der(bytes).is_ok_and(|(rest, _)| is_whole(rest)) => Some(Self::Crl),
            None => None,
        }
    }

    fn of_text(text: &[u8]) -> Self {
        let text = text.trim_ascii();
        let has = |word: &str| memchr::memmem::find(text, word.as_bytes()).is_some();
        let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word.as_bytes()));
        if text.is_empty() {
            Self::Empty
        } else if begins(&["PuTTY-User-Key-File-"]) {
            Self::PuttyKey
        } else if begins(&["ssh-rsa ", "ssh-ed25519 ", "ecdsa-sha2-"]) {
            Self::SshPublicKey
        } else if begins(&["{"])
            && ["\"Certificates\"", "\"certificate\"", "\"key\""]
                .iter()
                .all(|word| has(word))
        {
            Self::AcmeJson
        } else {
            Self::Unknown
        }
    }

    /// Whether a file of this format may hold a certificate or a private key.
    pub fn may_hold_pair(self) -> bool {
        !matches!(
            self,
            Self::SshPublicKey
                | Self::CertificateRequest
                | Self::Crl
                | Self::PublicKey
                | Self::Parameters
                | Self::Empty
                | Self::Unknown
        )
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pem => "PEM",
            Self::DerCertificate => "DER certificate",
            Self::DerPrivateKey => "DER private key",
            Self::Pkcs7 => "PKCS #7",
            Self::Pkcs12 => "PKCS #12",
            Self::JavaKeyStore => "Java key store (JKS)",
            Self::AcmeJson => "acme.json of Traefik",
            Self::OpenSshKey => "OpenSSH private key",
            Self::SshPublicKey => "SSH public key",
            Self::PuttyKey => "PuTTY private key",
            Self::CertificateRequest => "certificate request",
            Self::Crl => "list of revoked certificates (CRL)",
            Self::PublicKey => "public key",
            Self::Parameters => "key parameters",
            Self::Empty => "empty file",
            Self::Unknown => "unknown format",
        })
    }
}

impl PemFile {
    /// Makes a file PEM. `password` opens PKCS#12 and encrypted private keys; an empty password is tried in any case.
    ///
    /// A PEM text stays as it is, except for its encoding, its encrypted private keys and its blocks of PKCS#7 and PKCS#12. A text that is not
    /// PEM and not of another format is an error.
    pub fn read(bytes: &[u8], password: Option<&Secret>) -> Result<Self, FileFormatError> {
        let format = FileFormat::of(bytes);
        let failed = |cause| FileFormatError { format, cause };
        let text = PlainText::of(bytes);
        let text = if pem::begins(&text) {
            of_pem(&text, password).map_err(failed)?
        } else {
            let decoded = text::decode_base64(&text);
            let octets = decoded.as_ref().map_or(bytes, |octets| octets);
            of_octets(format, octets, password).map_err(failed)?
        };
        Ok(Self {
            text: utf_8(text),
            format,
        })
    }
}

/// The text as UTF-8. Characters that are not UTF-8 stand outside of blocks, or make a block invalid.
fn utf_8(mut text: Zeroizing<Vec<u8>>) -> Zeroizing<String> {
    let text = String::from_utf8(std::mem::take(&mut text)).unwrap_or_else(|error| {
        let bytes = Zeroizing::new(error.into_bytes());
        String::from_utf8_lossy(&bytes).into_owned()
    });
    Zeroizing::new(text)
}

/// Converts the blocks that the wire does not accept.
fn of_pem(text: &[u8], password: Option<&Secret>) -> Result<Zeroizing<Vec<u8>>, FormatCause> {
    let mut made = Zeroizing::new(Vec::with_capacity(2 * text.len()));
    let is_converted = |block: &Block<'_>| {
        matches!(block.label, Label::Pkcs7 | Label::Pkcs12 | Label::Encrypted) || block.has_encrypted_header()
    };
    let blocks: Result<Vec<_>, _> = pem::blocks(text).collect();
    // The service says what is wrong with broken PEM.
    let blocks = blocks.unwrap_or_default();
    if !blocks.iter().any(is_converted) {
        made.extend_from_slice(text);
        return Ok(made);
    }
    for block in &blocks {
        if block.has_encrypted_header() {
            let key = open(password, |password| {
                PKey::private_key_from_pem_passphrase(block.whole, password)
            })?;
            write_key(&key, &mut made)?;
            continue;
        }
        let der = || block.decode().map_err(|_| FormatCause::Damaged);
        match block.label {
            Label::Pkcs7 => write_pkcs7(&der()?, &mut made)?,
            Label::Pkcs12 => write_pkcs12(&der()?, password, &mut made)?,
            Label::Encrypted => write_encrypted(&der()?, password, &mut made)?,
            _ => {
                made.extend_from_slice(block.whole);
                made.push(b'\n');
            }
        }
    }
    Ok(made)
}

fn of_octets(format: FileFormat, octets: &[u8], password: Option<&Secret>) -> Result<Zeroizing<Vec<u8>>, FormatCause> {
    let mut made = Zeroizing::new(Vec::with_capacity(3 * octets.len() + 256));
    match format {
        FileFormat::DerCertificate => pem::write("CERTIFICATE", octets, &mut made),
        FileFormat::DerPrivateKey => match DerForm::of(octets) {
            Some(DerForm::Pkcs1) => pem::write("RSA PRIVATE KEY", octets, &mut made),
            Some(DerForm::Sec1) => pem::write("EC PRIVATE KEY", octets, &mut made),
            Some(DerForm::EncryptedPkcs8) => write_encrypted(octets, password, &mut made)?,
            _ => pem::write("PRIVATE KEY", octets, &mut made),
        },
        FileFormat::Pkcs7 => write_pkcs7(octets, &mut made)?,
        FileFormat::Pkcs12 => write_pkcs12(octets, password, &mut made)?,
        other if other.may_hold_pair() => return Err(FormatCause::NotRead),
        _ => return Err(FormatCause::HoldsNeither),
    }
    Ok(made)
}

/// Opens something with the password, or with the empty one. Old files are encrypted with RC2 and DES.
fn open<T, E>(password: Option<&Secret>, open: impl Fn(&[u8]) -> Result<T, E>) -> Result<T, FormatCause> {
    // Without the provider, only such old files do not open.
    let _legacy = Provider::try_load(None, "legacy", true);
    let (opened, cause) = match password {
        Some(password) => (open(password.expose()), FormatCause::PasswordWrong),
        None => (open(b""), FormatCause::PasswordMissing),
    };
    opened.or_else(|_| open(b"")).map_err(|_| cause)
}

fn write_encrypted(der: &[u8], password: Option<&Secret>, made: &mut Vec<u8>) -> Result<(), FormatCause> {
    let key = open(password, |password| {
        PKey::private_key_from_pkcs8_passphrase(der, password)
    })?;
    write_key(&key, made)
}

fn write_key(key: &PKey<Private>, made: &mut Vec<u8>) -> Result<(), FormatCause> {
    let der = Zeroizing::new(key.private_key_to_pkcs8().map_err(|_| FormatCause::Damaged)?);
    pem::write("PRIVATE KEY", &der, made);
    Ok(())
}

fn write_certificate(certificate: &openssl::x509::X509Ref, made: &mut Vec<u8>) -> Result<(), FormatCause> {
    let der = certificate.to_der().map_err(|_| FormatCause::Damaged)?;
    pem::write("CERTIFICATE", &der, made);
    Ok(())
}

fn write_pkcs7(der: &[u8], made: &mut Vec<u8>) -> Result<(), FormatCause> {
    let bundle = Pkcs7::from_der(der).map_err(|_| FormatCause::Damaged)?;
    let certificates = bundle.signed().and_then(|signed| signed.certificates());
    let certificates = certificates.filter(|certificates| !certificates.is_empty());
    for certificate in certificates.ok_or(FormatCause::HoldsNeither)? {
        write_certificate(certificate, made)?;
    }
    Ok(())
}

fn write_pkcs12(der: &[u8], password: Option<&Secret>, made: &mut Vec<u8>) -> Result<(), FormatCause> {
    let store = Pkcs12::from_der(der).map_err(|_| FormatCause::Damaged)?;
    let parsed = open(password, |password| {
        // The library's argument is a C string of UTF-8.
        let password = std::str::from_utf8(password).ok().filter(|text| !text.contains('\0'));
        password
            .ok_or(())
            .and_then(|password| store.parse2(password).map_err(|_| ()))
    })?;
    if let Some(key) = &parsed.pkey {
        write_key(key, made)?;
    }
    for certificate in parsed.cert.iter().map(|one| &**one).chain(parsed.ca.iter().flatten()) {
        write_certificate(certificate, made)?;
    }
    match made.is_empty() {
        true => Err(FormatCause::HoldsNeither),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::stack::Stack;
    use openssl::symm::Cipher;
    use openssl::x509::{X509, X509Req};

    use super::super::Contents;
    use super::super::test_pair::{self, Entity, TestPair, pem as block};
    use super::*;

    fn read(bytes: &[u8], password: Option<&str>) -> Result<Contents, FileFormatError> {
        let password = password.map(|text| Secret::from(text.to_owned()));
        PemFile::read(bytes, password.as_ref()).map(|file| Contents::of(file.text.as_bytes()))
    }

    fn error(bytes: &[u8], password: Option<&str>) -> (FileFormat, FormatCause) {
        let error = read(bytes, password).unwrap_err();
        (error.format, error.cause)
    }

    /// The same certificates and the same key, in whatever form.
    fn assert_same(read: &Contents, expected: &Contents) {
        let fingerprints = |contents: &Contents| {
            let mut all: Vec<_> = contents
                .certificates
                .iter()
                .map(|one| one.fingerprint.to_string())
                .collect();
            all.sort();
            all
        };
        assert_eq!(fingerprints(read), fingerprints(expected));
        assert_eq!(read.private_key, expected.private_key);
        assert_eq!(read.error, None);
    }

    fn pkcs7(certificates: &[&X509]) -> Vec<u8> {
        let mut stack = Stack::new().unwrap();
        for certificate in certificates {
            stack.push((*certificate).clone()).unwrap();
        }
        let signer = test_pair::ec();
        let flags = openssl::pkcs7::Pkcs7Flags::empty();
        // The signer's own certificate is among the certificates.
        Pkcs7::sign(&signer.certificate, &signer.key, &stack, b"", flags)
            .unwrap()
            .to_der()
            .unwrap()
    }

    #[test]
    fn pkcs_12_of_every_age_is_read_with_its_password_alone() {
        let _legacy = Provider::try_load(None, "legacy", true).unwrap();
        let [root, issuer, server] = ["root", "issuer", "server"].map(Entity::new);
        let (leaf, above) = (issuer.certify_server(&server), root.certify_authority(&issuer));
        let text = [leaf.to_pem().unwrap(), above.to_pem().unwrap(), server.key_pem()].concat();
        let expected = Contents::of(&text);
        let store = |algorithms: Option<(Nid, Nid)>, password: &str| {
            let mut chain = Stack::new().unwrap();
            chain.push(above.clone()).unwrap();
            let mut builder = Pkcs12::builder();
            builder.pkey(&server.key).cert(&leaf).ca(chain);
            if let Some((key, certificate)) = algorithms {
                builder
                    .key_algorithm(key)
                    .cert_algorithm(certificate)
                    .mac_md(MessageDigest::sha1());
            }
            builder.build2(password).unwrap().to_der().unwrap()
        };
        let (des, rc2) = (
            Nid::PBE_WITHSHA1AND3_KEY_TRIPLEDES_CBC,
            Nid::PBE_WITHSHA1AND40BITRC2_CBC,
        );
        for algorithms in [None, Some((des, des)), Some((des, rc2))] {
            let der = store(algorithms, "secret");
            for bytes in [der.clone(), block("PKCS12", &der), base64(&der)] {
                assert_same(&read(&bytes, Some("secret")).unwrap(), &expected);
                let format = FileFormat::Pkcs12;
                assert_eq!(error(&bytes, None), (format, FormatCause::PasswordMissing));
                assert_eq!(error(&bytes, Some("wrong")), (format, FormatCause::PasswordWrong));
                assert_eq!(error(&bytes, Some("sec\0ret")), (format, FormatCause::PasswordWrong));
            }
            let open = store(algorithms, "");
            assert_same(&read(&open, None).unwrap(), &expected);
            assert_same(&read(&open, Some("of another file")).unwrap(), &expected);
        }
        let der = store(None, "secret");
        assert_eq!(error(&der[..der.len() / 2], Some("secret")).1, FormatCause::Damaged);
    }

    fn base64(der: &[u8]) -> Vec<u8> {
        use base64::Engine;
        base64::prelude::BASE64_STANDARD.encode(der).into_bytes()
    }

    #[test]
    fn pkcs_7_is_read_in_der_and_in_pem() {
        let [root, issuer] = ["root", "issuer"].map(Entity::new);
        let (above, top) = (root.certify_authority(&issuer), root.certify_authority(&root));
        let der = pkcs7(&[&above, &top]);
        for bytes in [
            der.clone(),
            block("PKCS7", &der),
            block("CERTIFICATE", &der),
            base64(&der),
        ] {
            let found = read(&bytes, None).unwrap().certificates;
            assert_eq!(found.iter().filter(|one| one.is_ca).count(), 2);
        }
        // Other blocks beside it stay.
        let pair = test_pair::ec();
        let text = [pair.key_pem(), block("PKCS7", &der), pair.certificate_pem()].concat();
        let found = read(&text, None).unwrap();
        assert!(found.private_key.unwrap().is_ok() && found.certificates.len() > 2);
        assert_eq!(
            error(&block("PKCS7", b"x"), None),
            (FileFormat::Pkcs7, FormatCause::Damaged)
        );
    }

    #[test]
    fn der_is_read() {
        for pair in [
            TestPair::of(test_pair::rsa_key(1024)),
            test_pair::ec(),
            test_pair::ed25519(),
        ] {
            let certificate = Contents::of(&pair.certificate_pem());
            let key = Contents::of(&pair.key_pem());
            let der = pair.certificate.to_der().unwrap();
            for bytes in [der.clone(), base64(&der)] {
                assert_same(&read(&bytes, None).unwrap(), &certificate);
            }
            let own_form = match (pair.key.rsa(), pair.key.ec_key()) {
                (Ok(rsa), _) => rsa.private_key_to_der().unwrap(),
                (_, Ok(ec)) => ec.private_key_to_der().unwrap(),
                _ => pair.key.private_key_to_pkcs8().unwrap(),
            };
            for bytes in [pair.key.private_key_to_pkcs8().unwrap(), own_form] {
                assert_same(&read(&bytes, None).unwrap(), &key);
            }
        }
    }

    #[test]
    fn encrypted_keys_are_read_with_their_password() {
        let _legacy = Provider::try_load(None, "legacy", true).unwrap();
        let key = test_pair::rsa_key(1024);
        let expected = Contents::of(&key.private_key_to_pem_pkcs8().unwrap());
        let der = key
            .private_key_to_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret")
            .unwrap();
        let rsa = key.rsa().unwrap();
        let old = |cipher| rsa.private_key_to_pem_passphrase(cipher, b"secret").unwrap();
        for bytes in [
            der.clone(),
            block("ENCRYPTED PRIVATE KEY", &der),
            block("PRIVATE KEY", &der),
            old(Cipher::des_ede3_cbc()),
            old(Cipher::des_cbc()),
            old(Cipher::aes_128_cbc()),
        ] {
            assert_same(&read(&bytes, Some("secret")).unwrap(), &expected);
            assert_eq!(error(&bytes, None).1, FormatCause::PasswordMissing);
            assert_eq!(error(&bytes, Some("wrong")).1, FormatCause::PasswordWrong);
        }
        // The rest of the text stays.
        let pair = test_pair::ec();
        let encrypted = pair
            .key
            .private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret")
            .unwrap();
        let both = [pair.certificate_pem(), encrypted].concat();
        let found = read(&both, Some("secret")).unwrap();
        assert_same(
            &found,
            &Contents::of(&[pair.certificate_pem(), pair.key_pem()].concat()),
        );
    }

    #[test]
    fn texts_become_utf_8() {
        let pair = test_pair::ec();
        let text = String::from_utf8([pair.certificate_pem(), pair.key_pem()].concat()).unwrap();
        let expected = Contents::of(text.as_bytes());
        let wide: Vec<_> = format!("\u{feff}{text}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let latin_1 = [b"friendlyName: f\xfcr K\xf6ln\n", text.as_bytes()].concat();
        for bytes in [wide, latin_1, base64(text.as_bytes())] {
            assert_same(&read(&bytes, None).unwrap(), &expected);
        }
        // Broken PEM stays, because the service says what is wrong.
        let broken = &text[..text.len() - 30];
        assert_eq!(
            *PemFile::read(broken.as_bytes(), None).map_err(|_| ()).unwrap().text,
            broken
        );
    }

    #[test]
    fn what_is_not_read_is_named() {
        use FileFormat as Format;
        let key = test_pair::ec().key;
        let mut request = X509Req::builder().unwrap();
        request.set_pubkey(&key).unwrap();
        request.sign(&key, MessageDigest::sha256()).unwrap();
        let request = request.build();
        let named = |bytes: &[u8]| error(bytes, None);
        let holds_neither = |format| (format, FormatCause::HoldsNeither);
        let not_read = |format| (format, FormatCause::NotRead);
        let acme = br#"{"le": {"Account": {}, "Certificates": [{"certificate": "LS0t", "key": "LS0t"}]}}"#;
        for (bytes, expected) in [
            (&b"\xfe\xed\xfe\xed\0\0\0\x02"[..], not_read(Format::JavaKeyStore)),
            (b"\xce\xce\xce\xce\0\0\0\x02", not_read(Format::JavaKeyStore)),
            (acme, not_read(Format::AcmeJson)),
            (b"PuTTY-User-Key-File-3: ssh-rsa", not_read(Format::PuttyKey)),
            (b"ssh-ed25519 AAAA me@example", holds_neither(Format::SshPublicKey)),
            (&request.to_der().unwrap(), holds_neither(Format::CertificateRequest)),
            (&key.public_key_to_der().unwrap(), holds_neither(Format::PublicKey)),
            (b" \n", holds_neither(Format::Empty)),
            (b"how to renew", holds_neither(Format::Unknown)),
            (b"\xff\xfe\xfd", holds_neither(Format::Unknown)),
        ] {
            assert_eq!(named(bytes), expected);
        }
        for (bytes, format) in [
            (request.to_pem().unwrap(), Format::CertificateRequest),
            (key.public_key_to_pem().unwrap(), Format::PublicKey),
            (block("DH PARAMETERS", b"x"), Format::Parameters),
            (block("X509 CRL", b"x"), Format::Crl),
            (block("OPENSSH PRIVATE KEY", b"x"), Format::OpenSshKey),
            (key.private_key_to_pem_pkcs8().unwrap(), Format::Pem),
        ] {
            assert_eq!(FileFormat::of(&bytes), format);
        }
    }
}
