//! The structure of a DER encoding, by its first octets. People and programs write wrong labels and wrong file names.

/// A structure that certkeep knows by its beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DerForm {
    /// A `Certificate` of version 2 or 3 (RFC 5280 4.1).
    Certificate,
    /// A `OneAsymmetricKey` (RFC 5958 2).
    Pkcs8,
    /// An `RSAPrivateKey` (RFC 8017 A.1.2), or the old form of a DSA key.
    Pkcs1,
    /// An `ECPrivateKey` (RFC 5915 3).
    Sec1,
    /// An `EncryptedPrivateKeyInfo` (RFC 5958 3).
    EncryptedPkcs8,
    /// A `SubjectPublicKeyInfo` (RFC 5280 4.1.2.7).
    PublicKey,
    /// A `ContentInfo` of signed data (RFC 5652 5).
    Pkcs7,
    /// A `PFX` (RFC 7292 4).
    Pkcs12,
}

/// The octets that decide.
pub(super) const OCTETS: usize = 24;

/// `pkcs-7 signedData` as an OBJECT IDENTIFIER.
const SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
/// The beginnings of the encryption schemes of PKCS#5 and PKCS#12 as OBJECT IDENTIFIERs.
const ENCRYPTIONS: [&[u8]; 2] = [
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05",
    b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01",
];

impl DerForm {
    /// The structure that begins with these octets. BER's indefinite lengths are read too, because PKCS#7 and PKCS#12 have them.
    pub(super) fn of(start: &[u8]) -> Option<Self> {
        let content = content(start)?;
        match content {
            [2, 1, 3, 0x30, ..] => Some(Self::Pkcs12),
            [2, 1, 0 | 1, 0x30, ..] => Some(Self::Pkcs8),
            [2, 1, 0 | 1, 2, ..] => Some(Self::Pkcs1),
            [2, 1, 1, 4, ..] => Some(Self::Sec1),
            [6, ..] => content.starts_with(SIGNED_DATA).then_some(Self::Pkcs7),
            _ => {
                let inner = self::content(content)?;
                match inner {
                    [0xa0, 3, 2, 1, ..] => Some(Self::Certificate),
                    [6, ..] if ENCRYPTIONS.iter().any(|oid| inner.starts_with(oid)) => Some(Self::EncryptedPkcs8),
                    [6, ..] => Some(Self::PublicKey),
                    _ => None,
                }
            }
        }
    }
}

/// The octets after the head of a SEQUENCE.
fn content(start: &[u8]) -> Option<&[u8]> {
    match start {
        [0x30, long @ 0x81..=0x84, rest @ ..] => rest.get(usize::from(long - 0x80)..),
        [0x30, 0..=0x80, rest @ ..] => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use openssl::nid::Nid;
    use openssl::pkcs12::Pkcs12;
    use openssl::symm::Cipher;

    use super::super::test_pair::{self, Entity};
    use super::*;

    #[test]
    fn structures_are_known_by_their_beginning() {
        let (rsa, ec) = (test_pair::rsa_key(1024), test_pair::ec_key(Nid::X9_62_PRIME256V1));
        let certificate = test_pair::ec().certificate;
        let encrypted = ec.private_key_to_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret");
        let pfx = Pkcs12::builder().pkey(&ec).build2("secret");
        let authority = Entity::new("root");
        for (der, form) in [
            (certificate.to_der(), Some(DerForm::Certificate)),
            (
                authority.certify_authority(&authority).to_der(),
                Some(DerForm::Certificate),
            ),
            (ec.private_key_to_pkcs8(), Some(DerForm::Pkcs8)),
            (rsa.private_key_to_pkcs8(), Some(DerForm::Pkcs8)),
            (test_pair::ed25519().key.private_key_to_pkcs8(), Some(DerForm::Pkcs8)),
            (rsa.rsa().unwrap().private_key_to_der(), Some(DerForm::Pkcs1)),
            (ec.ec_key().unwrap().private_key_to_der(), Some(DerForm::Sec1)),
            (encrypted, Some(DerForm::EncryptedPkcs8)),
            (ec.public_key_to_der(), Some(DerForm::PublicKey)),
            (rsa.public_key_to_der(), Some(DerForm::PublicKey)),
            (pfx.unwrap().to_der(), Some(DerForm::Pkcs12)),
            (Ok(hex::decode("06052b81040022").unwrap()), None),
            (Ok(b"openssh-key-v1\0".to_vec()), None),
        ] {
            let der = der.unwrap();
            assert_eq!(DerForm::of(&der), form);
            assert_eq!(DerForm::of(&der[..der.len().min(OCTETS)]), form);
            // Cut anywhere, it is this form or none.
            for len in 0..der.len().min(OCTETS) {
                assert!(DerForm::of(&der[..len]).is_none_or(|cut| Some(cut) == form || cut == DerForm::PublicKey));
            }
        }
    }
}
