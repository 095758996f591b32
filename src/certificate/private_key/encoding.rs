//! The encodings of a private key in a PEM text.

use zeroize::Zeroizing;

use super::{PrivateKey, PrivateKeyError, ec, pkcs8_form, rsa};
use crate::certificate::finding::DroppedBlock;
use crate::certificate::pem::{Block, Label};
use crate::certificate::text_notes::TextNotes;
use crate::certificate::unsupported_key::UnsupportedKey;

/// The limit of different encodings in a text. A key has few forms, and parsing each form costs arithmetic.
const MAX_DISTINCT: usize = 4;

/// One encoding of a private key. Its PEM is decoded, its DER is not parsed.
#[derive(Eq, PartialEq)]
pub(super) struct Encoding {
    label: Label,
    der: Zeroizing<Vec<u8>>,
    /// The `ECParameters` that OpenSSL writes before an EC PRIVATE KEY.
    parameters: Option<Zeroizing<Vec<u8>>>,
}

impl Encoding {
    /// The different encodings in blocks of private keys and of EC PARAMETERS, in the order of the blocks. Parameters are left out if no EC
    /// PRIVATE KEY follows them.
    pub(super) fn distinct(blocks: &[Block<'_>], notes: &mut TextNotes) -> Result<Vec<Self>, PrivateKeyError> {
        if blocks
            .iter()
            .any(|block| block.label == Label::Encrypted || block.has_encrypted_header())
        {
            return Err(PrivateKeyError::Encrypted);
        }
        let mut encodings = Vec::new();
        let mut parameters = None;
        for block in blocks {
            let before = parameters.take();
            if before.is_some() && block.label != Label::Sec1 {
                notes.drop(DroppedBlock::EcParameters);
            }
            match block.label {
                Label::EcParameters => parameters = Some(block),
                Label::Sec1 => push(&mut encodings, block, before.map(decode).transpose()?)?,
                _ => push(&mut encodings, block, None)?,
            }
        }
        if parameters.is_some() {
            notes.drop(DroppedBlock::EcParameters);
        }
        Ok(encodings)
    }

    pub(super) fn read(self) -> Result<PrivateKey, PrivateKeyError> {
        match self.label {
            Label::Pkcs8 => pkcs8_form::read(self.der),
            Label::Pkcs1 => rsa::read_pkcs1(&self.der),
            Label::Sec1 => ec::read_sec1(&self.der, self.parameters.as_ref().map(|der| der.as_slice())),
            Label::Dsa => Err(PrivateKeyError::Unsupported(UnsupportedKey::Algorithm {
                name: "DSA".into(),
            })),
            _ => Err(PrivateKeyError::Unsupported(UnsupportedKey::Format { name: "OpenSSH" })),
        }
    }
}

/// Adds the encoding of the block, unless it is there already.
fn push(
    encodings: &mut Vec<Encoding>,
    block: &Block<'_>,
    parameters: Option<Zeroizing<Vec<u8>>>,
) -> Result<(), PrivateKeyError> {
    let encoding = Encoding {
        label: block.label,
        der: decode(block)?,
        parameters,
    };
    if encodings.contains(&encoding) {
        return Ok(());
    }
    if encodings.len() == MAX_DISTINCT {
        return Err(PrivateKeyError::TwoKeys);
    }
    encodings.push(encoding);
    Ok(())
}

fn decode(block: &Block<'_>) -> Result<Zeroizing<Vec<u8>>, PrivateKeyError> {
    block.decode().map_err(PrivateKeyError::Pem)
}

#[cfg(test)]
mod tests {
    use openssl::dsa::Dsa;
    use openssl::ec::{Asn1Flag, EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::symm::Cipher;

    use super::*;
    use crate::certificate::test_pair::{self, der, integer, pem, sequence};
    use crate::secret::Secret;

    fn parse(text: &[u8]) -> Result<Vec<u8>, PrivateKeyError> {
        let (key, _) = PrivateKey::parse(&Secret::from(text.to_vec()));
        key.map(|key| key.pkcs8_der().expose().to_vec())
    }

    fn pkcs8(key: &PKey<Private>) -> Vec<u8> {
        pem("PRIVATE KEY", &key.private_key_to_pkcs8().unwrap())
    }

    /// PKCS#1 or SEC 1, as `openssl genrsa -traditional` and `openssl ecparam -genkey` write them.
    fn traditional(key: &PKey<Private>) -> Vec<u8> {
        match key.rsa() {
            Ok(rsa) => pem("RSA PRIVATE KEY", &rsa.private_key_to_der().unwrap()),
            Err(_) => pem("EC PRIVATE KEY", &key.ec_key().unwrap().private_key_to_der().unwrap()),
        }
    }

    fn p256_parameters() -> Vec<u8> {
        pem("EC PARAMETERS", &hex::decode("06082a8648ce3d030107").unwrap())
    }

    fn p384_parameters() -> Vec<u8> {
        pem("EC PARAMETERS", &hex::decode("06052b81040022").unwrap())
    }

    /// OpenSSL's PKCS#8 of a key, in version 2 with the public key (RFC 5958 2).
    fn version_2(pkcs8: &[u8], public: &[u8]) -> Vec<u8> {
        let header = match pkcs8[1] {
            0x82 => 4,
            0x81 => 3,
            _ => 2,
        };
        let public = der(0x81, &[&[0], public].concat());
        sequence(&[&integer(&[1]), &pkcs8[header + 3..], &public])
    }

    #[test]
    fn rsa_keys_are_read_in_every_form() {
        let key = test_pair::rsa_key(1024);
        let public = key.rsa().unwrap().public_key_to_der_pkcs1().unwrap();
        let pss = test_pair::rsa_pss_pkcs8(&key, &[]);
        for text in [
            traditional(&key),
            pkcs8(&key),
            pem("PRIVATE KEY", &version_2(&key.private_key_to_pkcs8().unwrap(), &public)),
            pem("PRIVATE KEY", &pss),
            pem("PRIVATE KEY", &version_2(&pss, &public)),
        ] {
            let read = PKey::private_key_from_pkcs8(&parse(&text).unwrap()).unwrap();
            assert_eq!(read.rsa().unwrap().n(), key.rsa().unwrap().n());
        }
    }

    #[test]
    fn ec_keys_are_read_in_every_form() {
        for (curve, len, oid) in [
            (Nid::X9_62_PRIME256V1, 32, "06082a8648ce3d030107"),
            (Nid::SECP384R1, 48, "06052b81040022"),
            (Nid::SECP521R1, 66, "06052b81040023"),
            (Nid::SECP256K1, 32, "06052b8104000a"),
        ] {
            let key = test_pair::ec_key(curve);
            let ec = key.ec_key().unwrap();
            let point = key.public_key_to_der().unwrap();
            let point = &point[point.len() - 2 * len - 1..];
            let oid = hex::decode(oid).unwrap();
            let number = der(4, &ec.private_key().to_vec_padded(i32::try_from(len).unwrap()).unwrap());
            let (named, public) = (der(0xa0, &oid), der(0xa1, &der(3, &[&[0], point].concat())));
            let body = |parts: &[&[u8]]| sequence(&[&integer(&[1]), &number, &parts.concat()]);
            let id_ec = hex::decode("06072a8648ce3d0201").unwrap();
            let algorithm = sequence(&[&id_ec, &oid]);
            let wrapped = |parts: &[&[u8]]| {
                pem(
                    "PRIVATE KEY",
                    &sequence(&[&integer(&[]), &algorithm, &der(4, &body(parts))]),
                )
            };
            let parameters = pem("EC PARAMETERS", &oid);
            let sec1 = |parts: &[&[u8]]| pem("EC PRIVATE KEY", &body(parts));
            for text in [
                traditional(&key),
                [parameters.clone(), traditional(&key)].concat(),
                sec1(&[&named]),
                [parameters.clone(), sec1(&[])].concat(),
                [parameters, sec1(&[&public])].concat(),
                pkcs8(&key),
                wrapped(&[]),
                wrapped(&[&named]),
                wrapped(&[&public]),
                wrapped(&[&named, &public]),
                pem("PRIVATE KEY", &version_2(&key.private_key_to_pkcs8().unwrap(), point)),
            ] {
                let read = PKey::private_key_from_pkcs8(&parse(&text).unwrap()).unwrap();
                assert!(read.public_eq(&key), "{}", String::from_utf8(text).unwrap());
            }
        }
    }

    #[test]
    fn other_keys_of_openssl_are_named() {
        let algorithm = |name: &'static str| UnsupportedKey::Algorithm { name: name.into() };
        let curve = |name: &'static str| UnsupportedKey::Curve { name: name.into() };
        let mut explicit = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        explicit.set_asn1_flag(Asn1Flag::EXPLICIT_CURVE);
        let explicit = PKey::from_ec_key(EcKey::generate(&explicit).unwrap()).unwrap();
        for (key, reason) in [
            (PKey::from_dsa(Dsa::generate(1024).unwrap()).unwrap(), algorithm("DSA")),
            (PKey::generate_x25519().unwrap(), algorithm("X25519")),
            (PKey::generate_x448().unwrap(), algorithm("X448")),
            (test_pair::ec_key(Nid::SECP224R1), curve("P-224")),
            (test_pair::ec_key(Nid::BRAINPOOL_P384R1), curve("brainpoolP384r1")),
            (explicit, UnsupportedKey::ExplicitCurve),
            (test_pair::rsa_key(512), UnsupportedKey::RsaSize { bits: 512 }),
        ] {
            let error = parse(&pkcs8(&key)).unwrap_err();
            assert_eq!(error, PrivateKeyError::Unsupported(reason));
        }
    }

    #[test]
    fn the_same_key_several_times_is_one_in_its_first_form() {
        let rsa = test_pair::rsa_key(1024);
        let ec = test_pair::ec_key(Nid::X9_62_PRIME256V1);
        for texts in [
            vec![pkcs8(&rsa), pkcs8(&rsa)],
            vec![pkcs8(&ec), traditional(&ec)],
            vec![traditional(&ec), pkcs8(&ec)],
            vec![p256_parameters(), traditional(&ec), p256_parameters(), traditional(&ec)],
            vec![traditional(&ec), p256_parameters(), traditional(&ec), pkcs8(&ec)],
            vec![pkcs8(&ec).repeat(50), traditional(&ec).repeat(50)],
        ] {
            let first = texts
                .iter()
                .find(|text| !text.starts_with(b"-----BEGIN EC PARAM"))
                .unwrap();
            assert_eq!(parse(&texts.concat()), parse(first));
            assert!(parse(first).is_ok());
        }
    }

    #[test]
    fn different_keys_are_two() {
        let rsa = test_pair::rsa_key(1024);
        let (ec, other) = (test_pair::ec().key, test_pair::ec().key);
        let pss = pem("PRIVATE KEY", &test_pair::rsa_pss_pkcs8(&rsa, &[]));
        for texts in [
            [pkcs8(&ec), pkcs8(&other)],
            [pkcs8(&ec).repeat(2), traditional(&other)],
            [pkcs8(&rsa), pkcs8(&ec)],
            [pkcs8(&rsa), pss],
        ] {
            assert_eq!(parse(&texts.concat()), Err(PrivateKeyError::TwoKeys));
        }
    }

    #[test]
    fn at_most_four_encodings_are_read() {
        let seeds = |count: u8| -> Vec<u8> {
            // The same private number with more and more zeros before it.
            let encode = |zeros: u8| {
                let number = [&vec![0; usize::from(zeros)][..], &[7; 32]].concat();
                let p256 = der(0xa0, &hex::decode("06082a8648ce3d030107").unwrap());
                pem("EC PRIVATE KEY", &sequence(&[&integer(&[1]), &der(4, &number), &p256]))
            };
            (0..count).flat_map(encode).collect()
        };
        assert!(parse(&seeds(4)).is_ok());
        assert!(parse(&seeds(4).repeat(2)).is_ok());
        assert_eq!(parse(&seeds(5)), Err(PrivateKeyError::TwoKeys));
    }

    #[test]
    fn every_block_must_be_sound() {
        let ec = test_pair::ec_key(Nid::X9_62_PRIME256V1);
        let encrypted = ec
            .private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret")
            .unwrap();
        let old = ec
            .ec_key()
            .unwrap()
            .private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"secret")
            .unwrap();
        let open_ssh = PrivateKeyError::Unsupported(UnsupportedKey::Format { name: "OpenSSH" });
        for (texts, error) in [
            (vec![pkcs8(&ec), encrypted.clone()], PrivateKeyError::Encrypted),
            (vec![encrypted, pkcs8(&ec)], PrivateKeyError::Encrypted),
            (
                vec![pkcs8(&ec), pem("PRIVATE KEY", b"x"), old],
                PrivateKeyError::Encrypted,
            ),
            (vec![pkcs8(&ec), pem("PRIVATE KEY", b"x")], PrivateKeyError::Malformed),
            (vec![pkcs8(&ec), pem("OPENSSH PRIVATE KEY", b"x")], open_ssh),
            (
                vec![pkcs8(&ec), p384_parameters(), traditional(&ec)],
                PrivateKeyError::Inconsistent,
            ),
        ] {
            assert_eq!(parse(&texts.concat()), Err(error));
        }
    }

    #[test]
    fn parameters_without_an_ec_private_key_after_them_are_left_out() {
        let ec = test_pair::ec_key(Nid::X9_62_PRIME256V1);
        let parameters = p384_parameters();
        let alone = parse(&traditional(&ec));
        for texts in [
            vec![traditional(&ec), parameters.clone()],
            vec![parameters.clone(), p256_parameters(), traditional(&ec)],
        ] {
            assert_eq!(parse(&texts.concat()), alone);
        }
        assert_eq!(parse(&[parameters.clone(), pkcs8(&ec)].concat()), parse(&pkcs8(&ec)));
        assert_eq!(parse(&parameters), Err(PrivateKeyError::OtherBlock));
    }
}
