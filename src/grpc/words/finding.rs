//! The words for findings.

use super::FieldName;
use super::certificate::key_kind;
use crate::app::{
    CaMark, CertificateKind, ClientFamily, CompromisedKey, DroppedBlock, Encoding, ExponentError, Field, FindingCode,
    FindingKind, KeyFlaw, KeyIdentifierPart, NameKind, SanError, SerialError, WeakHash,
};

/// What was found, in one sentence.
pub(in crate::grpc) fn finding(kind: &FindingKind, name: FieldName) -> String {
    match kind {
        FindingKind::ChainReordered => "the certificates were given in another order than they are served".to_owned(),
        FindingKind::RootDropped => "the root was given and is not served".to_owned(),
        FindingKind::DuplicateDropped => "the certificate was given more than once".to_owned(),
        FindingKind::KeyFoundInCertificateField => format!(
            "{} also contains the private key",
            name(Field::Certificate(CertificateKind::Server))
        ),
        FindingKind::SelfSigned => "the certificate is signed by its own key, not by a CA".to_owned(),
        FindingKind::Expired { not_after } => format!("the certificate expired at {not_after}"),
        FindingKind::NotYetValid { not_before } => format!("the certificate is not valid before {not_before}"),
        FindingKind::ExpiresSoon { not_after, days } => {
            format!("the certificate expires at {not_after}, in {days} days")
        }
        FindingKind::RsaKeySmall { bits } => format!("the RSA key has {bits} bits"),
        FindingKind::SignatureWeak { hash } => {
            let hash = match hash {
                WeakHash::Md2 => "MD2",
                WeakHash::Md5 => "MD5",
                WeakHash::Sha1 => "SHA-1",
            };
            format!("the certificate is signed with {hash}")
        }
        FindingKind::CaAsLeaf => "the server certificate is a CA certificate".to_owned(),
        FindingKind::SanMissing => {
            "the certificate has no subject alternative names, and clients look nowhere else for the server's name"
                .to_owned()
        }
        FindingKind::SanWithoutServer => {
            "the subject alternative names contain neither a DNS name nor an IP address".to_owned()
        }
        FindingKind::SanUnreadable => "the subject alternative names cannot be read".to_owned(),
        FindingKind::SanInvalid { position, error, more } => {
            let error = match error {
                SanError::AddressAsDnsName => "is an IP address in the form of a DNS name",
                SanError::NotDnsName => "is not a DNS name",
                SanError::NotIpAddress => "is not an IP address",
                SanError::NotMailAddress => "is not a mail address",
                SanError::NotUri => "is not an absolute URI",
                SanError::Unreadable => "cannot be read",
            };
            let more = match more {
                0 => String::new(),
                1 => " (1 more is invalid)".to_owned(),
                more => format!(" ({more} more are invalid)"),
            };
            format!("subject alternative name {position} {error}{more}")
        }
        FindingKind::ChainIncomplete { issuer } => format!("the issuer of the certificate is missing: {issuer}"),
        FindingKind::ChainExpired { not_before, not_after } => {
            format!("the issuer is valid only from {not_before} to {not_after}")
        }
        FindingKind::IssuerNotCa {
            lacks: CaMark::BasicConstraints,
        } => "the basic constraints do not mark the certificate as a CA certificate".to_owned(),
        FindingKind::IssuerNotCa {
            lacks: CaMark::KeyCertSign,
        } => "the key usage lacks keyCertSign".to_owned(),
        FindingKind::PathLengthExceeded { limit, below } => format!(
            "the issuer allows at most {limit} CA certificates between itself and a server certificate, and there are {below}"
        ),
        FindingKind::NameConstraintsUnreadable => {
            "the name constraints of the issuer cannot be read, so clients refuse the certificates below it".to_owned()
        }
        FindingKind::NameConstraintViolated { name } => {
            let name = match name {
                NameKind::DnsName => "a DNS name",
                NameKind::MailAddress => "a mail address",
                NameKind::Uri => "a URI",
                NameKind::IpAddress => "an IP address",
                NameKind::Subject => "a subject",
            };
            format!("the certificate has {name} that the name constraints of an issuer do not permit")
        }
        FindingKind::KeyUsageUnfit => "the key usage lacks digitalSignature".to_owned(),
        FindingKind::EkuUnfit => "the extended key usage lacks serverAuth".to_owned(),
        FindingKind::Precertificate => "the certificate is a precertificate, which no server can use".to_owned(),
        FindingKind::CriticalExtensionUnknown { oid, more, clients } => {
            let oid = oid.as_deref().unwrap_or("with a long identifier");
            let more = match more {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            format!(
                "some clients do not process the critical extension {oid}{more}: {} the certificate",
                refuse(clients)
            )
        }
        FindingKind::SerialInvalid { error } => match error {
            SerialError::Negative => "the serial number is negative: Go refuses the certificate",
            SerialError::Zero => "the serial number is zero",
            SerialError::TooLong => "the serial number has more than 20 bytes",
        }
        .to_owned(),
        FindingKind::VersionNot3 => "the certificate is not of version 3".to_owned(),
        FindingKind::ValidityTooLong { days, limit } => {
            format!("the certificate is valid for {days} days, and {limit} are allowed")
        }
        FindingKind::KeyTypeUnsupportedByEnvoy {
            algorithm,
            bits,
            versions,
        } => {
            let versions = versions.join(" and ");
            format!("Envoy {versions} cannot serve {algorithm} keys of {bits} bits")
        }
        FindingKind::KeyRoca => {
            "the RSA modulus is from a faulty library for chips (ROCA), so it can be factored".to_owned()
        }
        FindingKind::KeyClosePrimes => "the primes of the RSA modulus are so close that it can be factored".to_owned(),
        FindingKind::KeyExponentUnsafe { error } => match error {
            ExponentError::Trivial => "the public exponent of the RSA key is 0 or 1, so the key protects nothing",
            ExponentError::Even => "the public exponent of the RSA key is even, which fits no private key",
            ExponentError::TooLong => "the public exponent of the RSA key has more than 64 bits",
        }
        .to_owned(),
        FindingKind::KeySmallPrivateExponent => {
            "the private exponent of the RSA key is so small that it can be computed".to_owned()
        }
        FindingKind::KeyCompromised { source } => match source {
            CompromisedKey::Package(place) => format!("the private key is published: {place}"),
            CompromisedKey::Collection => {
                "the private key is published: a collection of github.com/badkeys has it".to_owned()
            }
            CompromisedKey::Blocklist { list, collection: None } => {
                format!("the key is on the operator's list of compromised keys {list}")
            }
            CompromisedKey::Blocklist {
                list,
                collection: Some(collection),
            } => {
                format!("the key is on the operator's list of compromised keys {list}, collection {collection}")
            }
            CompromisedKey::SharedPrime => {
                "a prime of the RSA modulus is published, because other keys have it too: github.com/badkeys/badkeys"
                    .to_owned()
            }
        },
        FindingKind::AlreadyStored { id } => format!("the account already has this certificate: {id}"),
        FindingKind::KeyReused { id } => format!("another certificate of the account has the same key: {id}"),
        FindingKind::KeyTypeChanged { before, after } => {
            format!("the new key is an {after} key, and the present key is an {before} key")
        }
        FindingKind::ExpiresEarlier { before, after } => {
            format!("the new certificate expires at {after}, and the present one expires later, at {before}")
        }
        FindingKind::NamesChanged { added, removed } => format!(
            "the names differ: {added} are only in the new certificate, and {removed} are only in the present one"
        ),
        FindingKind::ExpiredDropped { not_after } => {
            format!("the issuer expired at {not_after}, so it is not served")
        }
        FindingKind::ChainExpiresFirst { not_after } => {
            format!("the issuer expires at {not_after}, before the server certificate does")
        }
        FindingKind::IssuerUnverified { key } => {
            format!(
                "the issuer has {}, whose signatures certkeep does not verify, so only its name puts it into the chain",
                key_kind(key)
            )
        }
        FindingKind::IdentifierContradicts { part } => {
            let part = match part {
                KeyIdentifierPart::KeyIdentifier => "another key identifier",
                KeyIdentifierPart::IssuerAndSerial => "another issuer or serial number",
            };
            format!(
                "the authority key identifier names {part} than its issuer has, so OpenSSL does not build this chain"
            )
        }
        FindingKind::ExtensionUnreadable { extension, clients } => {
            format!(
                "the extension {extension} cannot be read: {} the certificate",
                refuse(clients)
            )
        }
        FindingKind::EncodingRefusedBy { encoding, clients } => {
            let encoding = match encoding {
                Encoding::SignatureAlgorithmsDiffer => "the certificate names two different signature algorithms",
                Encoding::EmptyIssuer => "the issuer's name is empty",
                Encoding::Time => "a time of the validity is not in DER",
                Encoding::PrintableString => {
                    "a PrintableString of the subject or the issuer has a character that this type does not allow"
                }
                Encoding::StringCharacters => {
                    "a string of the subject or the issuer has characters that its type does not allow"
                }
                Encoding::StringType => "an attribute of the subject or the issuer has an unusual type",
                Encoding::LargeObjectIdentifier => "an object identifier has a number of more than 31 bits",
                Encoding::RsaWithoutNull => "the algorithm of the RSA key lacks its parameters (NULL)",
                Encoding::CompressedPoint => "the point of the ECDSA key is compressed",
                Encoding::HybridPoint => "the point of the ECDSA key is in hybrid form",
                Encoding::CurveSecp256k1 => "the ECDSA key is on the curve secp256k1",
                Encoding::ConstraintType => "the name constraints restrict a type of names that clients do not process",
                Encoding::ConstraintDistance => "the name constraints have a minimum or a maximum",
            };
            format!("{encoding}: {} the certificate", refuse(clients))
        }
        FindingKind::MustStapleWithoutOcsp => {
            "the certificate requires a stapled OCSP response, but names no OCSP responder".to_owned()
        }
        FindingKind::NameNotInSan { common_name } => {
            format!("the common name {common_name} is not among the subject alternative names")
        }
        FindingKind::KeyFactorable { flaw } => match flaw {
            KeyFlaw::SmallFactor => "the RSA modulus has a factor below 131072",
            KeyFlaw::UnequalPrimes => "the primes of the RSA key have different lengths",
            KeyFlaw::NearMultiples => {
                "small multiples of the primes of the RSA modulus are so close that it can be factored"
            }
            KeyFlaw::SharedLowerHalf => "the primes of the RSA key share their lower half, so it can be factored",
            KeyFlaw::PrimeModulus => "the RSA modulus is a prime, so the private key can be computed",
            KeyFlaw::RegularModulus => "the bits of the RSA modulus have a pattern, so it can be factored",
            KeyFlaw::RepeatedByte => "the RSA modulus repeats one byte 16 times, so the key was not made at random",
            KeyFlaw::NumberNearEnd => {
                "the private number of the ECDSA key is less than 2^128 away from 0 or from the order of the curve"
            }
            KeyFlaw::PatternedNumber => "the private number of the ECDSA key has a simple pattern",
            KeyFlaw::PatternedSeed => "the seed of the private key has a simple pattern",
        }
        .to_owned(),
        FindingKind::NamesNotSearchable { names } => {
            format!("the certificate has {names} names, and a search by domain finds the first 1,000")
        }
        FindingKind::LabelWrong { right } => {
            format!("the BEGIN line of a block says something else than its content, which is a {right}")
        }
        FindingKind::BlockDropped { block } => match block {
            DroppedBlock::DhParameters => "a block of DH PARAMETERS was left out",
            DroppedBlock::DsaParameters => "a block of DSA PARAMETERS was left out",
            DroppedBlock::EcParameters => "a block of EC PARAMETERS was left out",
            DroppedBlock::PublicKey => "a public key was left out",
            DroppedBlock::Crl => "a list of revoked certificates (X509 CRL) was left out",
            DroppedBlock::Certificate => "a certificate beside the private key was left out",
        }
        .to_owned(),
    }
}

/// The clients that refuse a certificate, as the beginning of a sentence.
fn refuse(clients: &[ClientFamily]) -> String {
    let names: Vec<_> = clients
        .iter()
        .map(|client| match client {
            ClientFamily::OpenSsl => "OpenSSL 3",
            ClientFamily::Go => "Go",
            ClientFamily::GnuTls => "GnuTLS",
            ClientFamily::Browsers => "browsers",
        })
        .collect();
    match &names[..] {
        [] => "some clients refuse".to_owned(),
        ["browsers"] => "browsers refuse".to_owned(),
        [one] => format!("{one} refuses"),
        [first @ .., last] => format!("{} and {last} refuse", first.join(", ")),
    }
}

/// What to do, in one sentence.
pub(in crate::grpc) fn remedy(code: FindingCode) -> &'static str {
    match code {
        FindingCode::ChainReordered => "nothing to do: certkeep stores and serves the chain in the right order",
        FindingCode::RootDropped => "nothing to do: clients trust their own copy of the root",
        FindingCode::DuplicateDropped => "nothing to do: certkeep stores and serves the certificate once",
        FindingCode::KeyFoundInCertificateField => {
            "send the private key separately, so that tools on the way treat it as a secret"
        }
        FindingCode::SelfSigned => {
            "use a certificate from a CA that your clients trust, unless they trust this certificate"
        }
        FindingCode::Expired => "renew the certificate: clients refuse it",
        FindingCode::NotYetValid => "wait until its validity begins, and check the clocks",
        FindingCode::ExpiresSoon => "renew the certificate now",
        FindingCode::RsaKeySmall => "create a new key of at least 2048 bits and have it certified",
        FindingCode::SignatureWeak => "have the certificate reissued with a signature over SHA-256 or better",
        FindingCode::CaAsLeaf => "use a certificate that was issued for a server: a CA key does not belong on a server",
        FindingCode::SanMissing => "have the certificate reissued with the server's names as subject alternative names",
        FindingCode::SanInvalid => {
            "have the certificate reissued without the invalid name: no client matches it, and some refuse the certificate"
        }
        FindingCode::ChainIncomplete => "add the missing issuer's certificate: the CA publishes it",
        FindingCode::ChainExpired => "replace it with the current certificate of the issuer, from its CA",
        FindingCode::IssuerNotCa => {
            "get the chain from the CA again: clients trust nothing that this certificate signed"
        }
        FindingCode::PathLengthExceeded => "have the certificate issued by a CA nearer to the root",
        FindingCode::NameConstraintViolated => "have the certificate issued by a CA that may certify these names",
        FindingCode::KeyUsageUnfit => {
            "have the certificate reissued with the key usage digitalSignature, which TLS 1.3 requires"
        }
        FindingCode::EkuUnfit => "have the certificate reissued with the extended key usage serverAuth",
        FindingCode::CriticalExtensionUnknown => {
            "have the certificate reissued without the extension, or with the extension not critical"
        }
        FindingCode::SerialInvalid => "have the certificate reissued with a positive serial number of at most 20 bytes",
        FindingCode::VersionNot3 => "have the certificate reissued as version 3: only version 3 has names and usages",
        FindingCode::ValidityTooLong => {
            "have it issued for a shorter time if browsers use it; a private CA may ignore the limit"
        }
        FindingCode::KeyTypeUnsupportedByEnvoy => "for Envoy, use RSA of at least 2048 bits or ECDSA on P-256",
        FindingCode::KeyRoca | FindingCode::KeyClosePrimes => {
            "create a new key with other software, have it certified, and have the old certificate revoked"
        }
        FindingCode::KeyExponentUnsafe | FindingCode::KeySmallPrivateExponent => {
            "create a new key with the public exponent 65537 and have it certified"
        }
        FindingCode::KeyCompromised => {
            "create your own key, have it certified, and have the old certificate revoked: anyone can get this key"
        }
        FindingCode::AlreadyStored => {
            "delete one of the two, unless both are in use; a client token keeps a retried upload from storing twice"
        }
        FindingCode::KeyReused => {
            "create a new key for each certificate: one stolen key compromises all its certificates"
        }
        FindingCode::KeyTypeChanged => {
            "nothing to do if all clients and servers accept keys of the new type; otherwise roll back"
        }
        FindingCode::ExpiresEarlier => {
            "check that this is the new certificate, and not an old file; otherwise roll back"
        }
        FindingCode::NamesChanged => "nothing to do if the names changed on purpose; otherwise roll back",
        FindingCode::ExpiredDropped => "nothing to do: certkeep serves the path that is valid",
        FindingCode::ChainExpiresFirst => {
            "renew the certificate before its issuer expires, or get a newer certificate of the issuer"
        }
        FindingCode::IssuerUnverified => "check the chain with a client that accepts the issuer's key",
        FindingCode::IdentifierContradicts => {
            "get the issuer's certificate that the identifier names, or have the certificate reissued"
        }
        FindingCode::ExtensionUnreadable => "have the certificate reissued with a correct extension, or without it",
        FindingCode::EncodingRefusedBy => "have the certificate reissued by software that encodes it as RFC 5280 says",
        FindingCode::MustStapleWithoutOcsp => {
            "have the certificate reissued without the TLS feature extension: no server can get the response"
        }
        FindingCode::NameNotInSan => {
            "have the certificate reissued with this name as a subject alternative name: clients ignore the common name"
        }
        FindingCode::KeyFactorable => {
            "create a new key with other software, have it certified, and have the old certificate revoked"
        }
        FindingCode::NamesNotSearchable => {
            "nothing to do if you search by other criteria; otherwise use several certificates with fewer names"
        }
        FindingCode::LabelWrong => {
            "nothing to do here: certkeep goes by the content; correct the label for other programs"
        }
        FindingCode::BlockDropped => "nothing to do: certkeep stores only the certificates and the private key",
    }
}

#[cfg(test)]
mod tests {
    use super::super::field_name;
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn readme_shows_these_sentences() {
        let expires_soon = FindingKind::ExpiresSoon {
            not_after: Timestamp::from_secs(1_796_688_000),
            days: 8,
        };
        for kind in [expires_soon, FindingKind::RootDropped, FindingKind::ChainReordered] {
            let indent = " ".repeat(13);
            let shown = format!(
                "{indent}{}\n{indent}{}\n",
                finding(&kind, field_name),
                remedy(kind.code())
            );
            assert!(include_str!("../../../README.md").contains(&shown), "{shown}");
        }
    }
}
