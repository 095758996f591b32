//! The words for wrong certificates and private keys.

use super::FieldName;
use crate::app::{
    CaCertificateError, CertificateError, CertificateKind, Field, MlDsaForm, PemError, PrivateKeyError, TextError,
    UnsupportedKey, X509Error,
};

const SUPPORTED_KEYS: &str =
    "RSA or RSA-PSS of 1024 to 16384 bits, ECDSA on P-256, P-384, P-521 or secp256k1, Ed25519, Ed448, or ML-DSA";

/// Portable: csplit of macOS and BusyBox knows other options than GNU's.
const SPLIT: &str = "`(umask 077; mkdir -p pairs; awk '/-----BEGIN/ {n++} n {print > (\"pairs/\" n \".pem\")}' FILE)`";

pub(super) fn certificate(error: &CertificateError, name: FieldName) -> String {
    let field = name(Field::Certificate(CertificateKind::Server));
    let key = name(Field::PrivateKey);
    match error {
        CertificateError::Missing => format!("{field} is empty; it must contain the certificate and its chain in PEM"),
        CertificateError::TooMany => {
            format!("{field} contains more than 20 certificates; keep only the server certificate and its issuers")
        }
        CertificateError::Text(error) => text(*error, &field),
        CertificateError::HoldsPrivateKey => format!(
            "{field} contains a private key and no certificate; check whether the certificate and the key are swapped"
        ),
        CertificateError::OtherPrivateKey => format!(
            "{field} contains a private key that differs from {key}; keep only the key that belongs to the certificate"
        ),
        CertificateError::Malformed { index, error } => {
            format!(
                "certificate {index} of {field} {}; get it from the CA again",
                x509(*error)
            )
        }
        CertificateError::UnsupportedKey(key) => unsupported_key("the certificate is for", key),
        CertificateError::TwoPairs => format!(
            "{field} contains two pairs; give one pair, or write each block to its own file with {SPLIT} and run `certkeep import pairs`"
        ),
        CertificateError::LeafAmbiguous { first, second } => format!(
            "certificates {first} and {second} of {field} both belong to {key}; keep only the one that is to be served"
        ),
        CertificateError::Unrelated {
            index,
            subject,
            has_name_of_issuer: true,
        } => format!(
            "certificate {index} of {field} ({subject}) has the name of the missing issuer, but it is for another key; \
             get the right certificate of this issuer from the CA"
        ),
        CertificateError::Unrelated { index, subject, .. } => format!(
            "certificate {index} of {field} ({subject}) is on no path from the server certificate to a root; remove it, or add \
             the certificate that is missing between them"
        ),
        CertificateError::TooComplex => {
            format!("checking {field} takes too many steps; keep only the server certificate and its issuers")
        }
    }
}

pub(super) fn ca_certificate(error: &CaCertificateError, name: FieldName) -> String {
    let field = name(Field::Certificate(CertificateKind::Ca));
    match error {
        CaCertificateError::Missing => format!("{field} is empty; it must contain one CA certificate in PEM"),
        CaCertificateError::Several => {
            format!("{field} contains more than one certificate; upload each CA certificate by itself")
        }
        CaCertificateError::HoldsPrivateKey => {
            format!("{field} contains a private key; upload the certificate alone, since the key stays with its CA")
        }
        CaCertificateError::Text(error) => text(*error, &field),
        CaCertificateError::Malformed(error) => format!("{field} {}; get it from the CA again", x509(*error)),
        CaCertificateError::SignatureWrong => {
            format!("{field} names itself as its issuer, but its own key did not sign it; get it from the CA again")
        }
        CaCertificateError::UnsupportedKey(key) => unsupported_key(&format!("{field} is for"), key),
    }
}

pub(super) fn private_key(error: &PrivateKeyError, name: FieldName) -> String {
    let field = name(Field::PrivateKey);
    match error {
        PrivateKeyError::Missing => format!("{field} is empty; it must contain the private key in PEM"),
        PrivateKeyError::TooLarge { bytes } => format!("{field} has {bytes} bytes; at most 65536 are allowed"),
        PrivateKeyError::Pem(error) => pem(*error, &field),
        PrivateKeyError::HoldsCertificate => format!(
            "{field} contains a certificate and no private key; check whether the certificate and the key are swapped"
        ),
        PrivateKeyError::TwoKeys => {
            format!(
                "{field} contains two private keys; write each block to its own file with {SPLIT} and keep the key that belongs to the certificate"
            )
        }
        PrivateKeyError::PublicKey => format!("{field} contains a public key; use the private key that belongs to it"),
        PrivateKeyError::Request => {
            format!("{field} contains a certificate request; use the private key that was made with it")
        }
        PrivateKeyError::Pkcs7 => {
            format!("{field} contains a PKCS #7 bundle, which holds no private key; use the file with the private key")
        }
        PrivateKeyError::Pkcs12 => pkcs12(&field),
        PrivateKeyError::OtherBlock => {
            format!("{field} contains a PEM block that is not a private key; keep only the private key")
        }
        PrivateKeyError::Encrypted => {
            format!("{field} is encrypted; decrypt it with `openssl pkey -in FILE -out FILE.pem` and use the result")
        }
        PrivateKeyError::Unsupported(UnsupportedKey::Format { name }) => format!(
            "{field} is in the format of {name}; convert a copy of it with `ssh-keygen -p -N '' -m PKCS8 -f FILE`"
        ),
        PrivateKeyError::Unsupported(key) => unsupported_key(&format!("{field} is"), key),
        PrivateKeyError::Malformed => format!("{field} is not encoded as its BEGIN line says; export it again"),
        PrivateKeyError::MlDsaForm(form) => {
            let form = match form {
                MlDsaForm::BareSeed => "the bytes of an ML-DSA seed without a tag",
                MlDsaForm::BareExpandedKey => "the bytes of an expanded ML-DSA key without a tag",
                MlDsaForm::BareSeedAndExpandedKey => "the bytes of an ML-DSA seed and an expanded key without tags",
                MlDsaForm::SeedAsOctetString => "an ML-DSA seed with the tag of an expanded key (04)",
            };
            format!(
                "{field} contains {form}; RFC 9881 section 6 requires a seed with the tag 80, an expanded key with the tag 04 (OCTET STRING), \
                 or a SEQUENCE of both; export the key again, for example with OpenSSL 3.5 or newer"
            )
        }
        PrivateKeyError::NoCurve => {
            format!("{field} does not name its curve; export it again as PKCS #8, or with its EC parameters")
        }
        PrivateKeyError::Inconsistent => {
            format!("the parts of {field} contradict each other; export it again from where it was made")
        }
        PrivateKeyError::CompositeFactor => {
            format!("a factor of {field} is not a prime, so the key cannot sign; create a new key with other software")
        }
        PrivateKeyError::Mismatch => format!(
            "{field} does not belong to {}; use the key for which the certificate was issued",
            name(Field::Certificate(CertificateKind::Server))
        ),
    }
}

fn text(error: TextError, field: &str) -> String {
    match error {
        TextError::TooLarge { bytes } => format!("{field} has {bytes} bytes; at most 262144 are allowed"),
        TextError::Pem(error) => pem(error, field),
        TextError::Trusted => format!(
            "{field} contains a TRUSTED CERTIFICATE block, which only OpenSSL reads; convert it with `openssl x509 -in FILE -out FILE.pem`"
        ),
        TextError::Pkcs7 => {
            format!(
                "{field} contains a PKCS #7 bundle; convert it with `openssl pkcs7 -print_certs -in FILE -out FILE.pem`"
            )
        }
        TextError::Pkcs12 => pkcs12(field),
        TextError::Request => {
            format!("{field} contains a certificate request; use the certificate that the CA issued for it")
        }
        TextError::PublicKey => format!("{field} contains a bare public key; use the certificate that contains it"),
        TextError::OtherBlock => {
            format!("{field} contains a PEM block that is not a certificate; keep only CERTIFICATE blocks")
        }
    }
}

fn pem(error: PemError, field: &str) -> String {
    match error {
        PemError::NoBlock => format!(
            "{field} contains no PEM block; include the BEGIN and END lines; the commands of `certkeep` also read DER, PKCS #7 and PKCS #12"
        ),
        PemError::NotClosed { block } => {
            format!("block {block} of {field} has a BEGIN line without its END line; use the whole block")
        }
        PemError::NotOpened { block } => {
            format!("{field} has an END line without its BEGIN line after block {block}; use the whole block")
        }
        PemError::LabelMismatch { block } => {
            format!("the BEGIN and END lines of block {block} of {field} differ; use the whole block")
        }
        PemError::Incomplete { block } => {
            format!("block {block} of {field} has a BEGIN or an END without the dashes after it; use the whole block")
        }
        PemError::NotBase64 { block } => {
            format!("block {block} of {field} contains other text than base64; use the block unchanged")
        }
    }
}

fn pkcs12(field: &str) -> String {
    format!("{field} contains a PKCS #12 key store; convert it with `openssl pkcs12 -nodes -in FILE -out FILE.pem`")
}

/// A predicate of the certificate.
fn x509(error: X509Error) -> &'static str {
    match error {
        X509Error::NotDer => "is not encoded in DER",
        X509Error::TrailingBytes => "has bytes after its end",
        X509Error::Unreadable => "is not an X.509 certificate",
        X509Error::LongName => "has a name of more than 256 attributes",
        X509Error::DuplicateExtension => "has the same extension twice",
        X509Error::PublicKey => "has an invalid public key",
    }
}

fn unsupported_key(start: &str, key: &UnsupportedKey) -> String {
    format!(
        "{start} {}, which is not supported; use {SUPPORTED_KEYS}",
        key_kind(key)
    )
}

/// What the key is, with its article.
pub(in crate::grpc) fn key_kind(key: &UnsupportedKey) -> String {
    match key {
        UnsupportedKey::Algorithm { name } => format!("a key of the algorithm {name}"),
        UnsupportedKey::Curve { name } => format!("an EC key on the curve {name}"),
        UnsupportedKey::ExplicitCurve => "an EC key with explicit curve parameters".to_owned(),
        UnsupportedKey::RsaSize { bits } => format!("an RSA key of {bits} bits"),
        UnsupportedKey::RsaExponent => "an RSA key with a public exponent of more than 64 bits".to_owned(),
        UnsupportedKey::MultiPrimeRsa => "an RSA key of more than two primes".to_owned(),
        UnsupportedKey::Format { name } => format!("a key in the format of {name}"),
    }
}
