//! A sealed secret: seal, open, re-wrap.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use zeroize::Zeroizing;

use super::key_encryption_key::{KEY_LEN, KeyEncryptionKey, KeyEncryptionKeyId};
use super::{KeyRing, Row};
use crate::digest;
use crate::secret::Secret;

const FORMAT: u8 = 1;
const HEADER_LEN: usize = 1 + KeyEncryptionKeyId::LEN;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// The octets that encryption adds.
const OVERHEAD: usize = NONCE_LEN + TAG_LEN;
const WRAP_LEN: usize = KEY_LEN + OVERHEAD;

/// A sealed secret. Only this module creates one.
#[derive(Clone, Debug)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The octets, as [the module](super) describes them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl KeyEncryptionKeyId {
    /// The id of the key that sealed this secret.
    pub fn of_sealed(sealed: &[u8]) -> Result<Self, Error> {
        Parts::of(sealed).map(|parts| parts.key_encryption_key_id)
    }
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The octets are no sealed secret, they were changed, or they belong to another row.
    #[error("the sealed secret is damaged or belongs to another row")]
    Unreadable,
    /// The ring does not have the key-encryption key that sealed the secret.
    #[error("the key ring lacks the key-encryption key {0}")]
    KeyMissing(KeyEncryptionKeyId),
    /// OpenSSL failed.
    #[error("the crypto library failed")]
    Library(#[from] ErrorStack),
    /// The random generator failed.
    #[error(transparent)]
    Random(#[from] digest::Error),
}

impl KeyRing {
    /// Seals `secret` for `row` with the key `sealing`.
    pub fn seal_secret(&self, sealing: KeyEncryptionKeyId, secret: &Secret, row: &Row<'_>) -> Result<Sealed, Error> {
        let data_key = digest::random_secret::<KEY_LEN>()?;
        let mut sealed = Vec::with_capacity(HEADER_LEN + WRAP_LEN + secret.expose().len() + OVERHEAD);
        wrap(self.key(sealing)?, data_key.as_slice(), row, &mut sealed)?;
        encrypt(data_key.as_slice(), &payload_data(row), secret.expose(), &mut sealed)?;
        Ok(Sealed(sealed))
    }

    /// Opens a secret that was sealed for this row, with the key that the secret names.
    pub fn open(&self, sealed: &[u8], row: &Row<'_>) -> Result<Secret, Error> {
        let parts = Parts::of(sealed)?;
        let data_key = self.unwrap(&parts, row)?;
        let mut secret = decrypt(&data_key, &payload_data(row), parts.payload)?;
        Ok(Secret::from(std::mem::take(&mut *secret)))
    }

    /// Encrypts the data key of a sealed secret again, with the key `sealing`. The payload stays as it is and is not opened.
    pub fn rewrap(&self, sealing: KeyEncryptionKeyId, sealed: &[u8], row: &Row<'_>) -> Result<Sealed, Error> {
        let parts = Parts::of(sealed)?;
        let data_key = self.unwrap(&parts, row)?;
        let mut rewrapped = Vec::with_capacity(sealed.len());
        wrap(self.key(sealing)?, &data_key, row, &mut rewrapped)?;
        rewrapped.extend_from_slice(parts.payload);
        Ok(Sealed(rewrapped))
    }

    fn unwrap(&self, parts: &Parts<'_>, row: &Row<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let id = parts.key_encryption_key_id;
        decrypt(self.key(id)?.expose(), &wrap_data(id, row), parts.wrap)
    }

    fn key(&self, id: KeyEncryptionKeyId) -> Result<&KeyEncryptionKey, Error> {
        self.find(id).ok_or(Error::KeyMissing(id))
    }
}

/// The parts of a sealed secret after its format.
struct Parts<'a> {
    key_encryption_key_id: KeyEncryptionKeyId,
    wrap: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a [u8]) -> Result<Self, Error> {
        let parts = || {
            let (&[FORMAT], rest) = sealed.split_first_chunk()? else {
                return None;
            };
            let (id, rest) = rest.split_first_chunk()?;
            let (wrap, payload) = rest.split_at_checked(WRAP_LEN)?;
            Some(Self {
                key_encryption_key_id: KeyEncryptionKeyId::from_bytes(*id),
                wrap,
                payload,
            })
        };
        parts().ok_or(Error::Unreadable)
    }
}

/// Appends the header and the wrap.
fn wrap(key: &KeyEncryptionKey, data_key: &[u8], row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    out.push(FORMAT);
    out.extend_from_slice(key.id().as_bytes());
    encrypt(key.expose(), &wrap_data(key.id(), row), data_key, out)
}

fn wrap_data(id: KeyEncryptionKeyId, row: &Row<'_>) -> Vec<u8> {
    associated_data(&[b"wrap", &[FORMAT], id.as_bytes()], row)
}

fn payload_data(row: &Row<'_>) -> Vec<u8> {
    associated_data(&[b"payload", &[FORMAT]], row)
}

fn associated_data(fields: &[&[u8]], row: &Row<'_>) -> Vec<u8> {
    let mut data = Vec::with_capacity(160);
    let mut push = |field: &[u8]| {
        // A field is a name, an id or a hash: far below 4 GiB.
        data.extend_from_slice(&(field.len() as u32).to_be_bytes());
        data.extend_from_slice(field);
    };
    fields.iter().for_each(|field| push(field));
    row.for_each_field(push);
    data
}

/// Encrypts with AES-256-GCM. Appends a fresh nonce of 12 octets, the ciphertext and the tag of 16 octets. The key has 32 octets and
/// encrypts at most 2^32 texts (NIST SP 800-38D 8.3).
pub fn encrypt(key: &[u8], associated_data: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let nonce = digest::random::<NONCE_LEN>()?;
    out.extend_from_slice(&nonce);
    let mut ctx = CipherCtx::new()?;
    ctx.encrypt_init(Some(Cipher::aes_256_gcm()), Some(key), Some(&nonce))?;
    ctx.cipher_update(associated_data, None)?;
    ctx.cipher_update_vec(plaintext, out)?;
    ctx.cipher_final_vec(out)?;
    let mut tag = [0; TAG_LEN];
    ctx.tag(&mut tag)?;
    out.extend_from_slice(&tag);
    Ok(())
}

/// Opens what [`encrypt`] appended.
pub fn decrypt(key: &[u8], associated_data: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Error::Unreadable)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Error::Unreadable)?;
    let mut ctx = CipherCtx::new()?;
    ctx.decrypt_init(Some(Cipher::aes_256_gcm()), Some(key), Some(nonce))?;
    ctx.cipher_update(associated_data, None)?;
    // OpenSSL asks for one block more than the plaintext. With room for it, no reallocation leaves a copy in memory.
    let room = ciphertext.len() + 2 * Cipher::aes_256_gcm().block_size();
    let mut plaintext = Zeroizing::new(Vec::with_capacity(room));
    ctx.cipher_update_vec(ciphertext, &mut plaintext)?;
    ctx.set_tag(tag)?;
    ctx.cipher_final_vec(&mut plaintext).map_err(|_| Error::Unreadable)?;
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::account::AccountId;
    use crate::clock::Timestamp;
    use crate::inventory::CertificateId;

    const ROW: Row<'static> = Row::ServiceKey { purpose: "test" };

    fn ring(keys: &[(u8, u8)]) -> KeyRing {
        let key = |(id, key): &(u8, u8)| {
            KeyEncryptionKey::new(
                KeyEncryptionKeyId::from_bytes([*id; 8]),
                Zeroizing::new([*key; KEY_LEN]),
            )
        };
        KeyRing::of_keys(keys.iter().map(key).collect())
    }

    fn seal(ring: &KeyRing, row: &Row<'_>) -> Vec<u8> {
        let secret = Secret::from(b"the private key".to_vec());
        ring.seal_secret(ring.first_id(), &secret, row)
            .unwrap()
            .as_bytes()
            .to_vec()
    }

    fn payload(sealed: &[u8]) -> &[u8] {
        Parts::of(sealed).unwrap().payload
    }

    #[test]
    fn a_sealed_secret_opens_and_names_its_key_at_octets_2_to_9() {
        let ring = ring(&[(2, 1)]);
        let sealed = seal(&ring, &ROW);
        assert_eq!(ring.open(&sealed, &ROW).unwrap().expose(), b"the private key");
        assert_eq!(sealed[..9], [1, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(sealed.len(), 1 + 8 + 12 + 32 + 16 + 12 + 15 + 16);
    }

    #[test]
    fn the_same_secret_is_sealed_differently_each_time() {
        let ring = ring(&[(1, 1)]);
        let [first, second] = [seal(&ring, &ROW), seal(&ring, &ROW)];
        assert_ne!(first[9..21], second[9..21]);
        assert_ne!(payload(&first), payload(&second));
    }

    #[test]
    fn the_given_key_seals_and_every_key_opens() {
        let before = seal(&ring(&[(1, 1)]), &ROW);
        let rotated = ring(&[(2, 2), (1, 1)]);
        assert!(rotated.open(&before, &ROW).is_ok());
        let after = seal(&rotated, &ROW);
        assert!(matches!(
            ring(&[(1, 1)]).open(&after, &ROW),
            Err(Error::KeyMissing(id)) if id == KeyEncryptionKeyId::from_bytes([2; 8])
        ));
    }

    #[test]
    fn another_key_with_the_same_id_opens_nothing() {
        let sealed = seal(&ring(&[(1, 1)]), &ROW);
        let wrong = ring(&[(1, 3)]);
        assert!(matches!(wrong.open(&sealed, &ROW), Err(Error::Unreadable)));
        assert!(matches!(
            wrong.rewrap(wrong.first_id(), &sealed, &ROW),
            Err(Error::Unreadable)
        ));
    }

    #[test]
    fn a_secret_opens_and_rewraps_for_its_own_row_only() {
        let ring = ring(&[(1, 1)]);
        let certificate = |account, millis, random| {
            let (account, created) = (AccountId::from_i64(account), Timestamp::from_millis(millis));
            CertificateId::new(account, created, [random; 8])
        };
        let row = |certificate, key_id, spki_sha256| Row::PrivateKey {
            certificate,
            key_id: Uuid::from_bytes([key_id; 16]),
            spki_sha256,
        };
        let own = row(certificate(1, 2, 3), 4, &[5; 32]);
        let sealed = seal(&ring, &own);
        assert!(ring.open(&sealed, &own).is_ok());
        for other in [
            row(certificate(0, 2, 3), 4, &[5; 32]),
            row(certificate(1, 0, 3), 4, &[5; 32]),
            row(certificate(1, 2, 0), 4, &[5; 32]),
            row(certificate(1, 2, 3), 0, &[5; 32]),
            row(certificate(1, 2, 3), 4, &[0; 32]),
            ROW,
        ] {
            assert!(matches!(ring.open(&sealed, &other), Err(Error::Unreadable)));
            assert!(matches!(
                ring.rewrap(ring.first_id(), &sealed, &other),
                Err(Error::Unreadable)
            ));
        }
        let other = Row::ServiceKey { purpose: "other" };
        assert!(matches!(ring.open(&seal(&ring, &ROW), &other), Err(Error::Unreadable)));
    }

    #[test]
    fn a_rewrap_changes_the_wrap_alone_and_needs_no_payload() {
        let sealed = seal(&ring(&[(1, 1)]), &ROW);
        let rotated = ring(&[(2, 2), (1, 1)]);
        let rewrapped = rotated
            .rewrap(rotated.first_id(), &sealed, &ROW)
            .unwrap()
            .as_bytes()
            .to_vec();
        assert_eq!(rewrapped[..9], [1, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(payload(&rewrapped), payload(&sealed));
        let new = ring(&[(2, 2)]);
        assert_eq!(new.open(&rewrapped, &ROW).unwrap().expose(), b"the private key");

        // A payload that does not open is moved too: it was never opened.
        let mut damaged = sealed;
        *damaged.last_mut().unwrap() ^= 1;
        let rewrapped = rotated.rewrap(rotated.first_id(), &damaged, &ROW).unwrap();
        assert_eq!(payload(rewrapped.as_bytes()), payload(&damaged));
        assert!(matches!(new.open(rewrapped.as_bytes(), &ROW), Err(Error::Unreadable)));
    }

    /// The id of the key-encryption key is part of the wrap's associated data.
    #[test]
    fn a_wrap_does_not_open_under_another_id_of_the_same_key() {
        let mut sealed = seal(&ring(&[(1, 1)]), &ROW);
        sealed[1..9].fill(2);
        assert!(matches!(ring(&[(2, 1)]).open(&sealed, &ROW), Err(Error::Unreadable)));
    }

    #[test]
    fn nothing_that_was_changed_or_cut_opens() {
        let ring = ring(&[(1, 1)]);
        let sealed = seal(&ring, &ROW);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(ring.open(&changed, &ROW).is_err(), "octet {at}");
            assert!(ring.open(&sealed[..at], &ROW).is_err(), "cut at {at}");
        }
    }
}
