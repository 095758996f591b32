//! Envelope encryption of private keys: a fresh data key for each, wrapped by a key-encryption key of the ring.
//!
//! A sealed secret is
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | format, 1 |
//! | 8 | id of the key-encryption key |
//! | 40 | data key, AES-256 key wrap (RFC 3394) under the key-encryption key |
//! | 12 | nonce |
//! | n | the secret, AES-256-GCM under the data key |
//! | 16 | tag |
//!
//! The associated data of AES-256-GCM are format and key-encryption key id, then the fields that the caller binds the
//! secret to, each behind its length in 4 bytes, big-endian: what was sealed for one row opens for no other.

mod key_ring;

use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::{CipherCtx, CipherCtxFlags};
use openssl::error::ErrorStack;
use zeroize::Zeroizing;

pub use key_ring::{KeyEncryptionKeyId, KeyRing, KeyRingError};

use crate::digest;
use crate::secret::Secret;

const FORMAT: u8 = 1;
const KEY_LEN: usize = 32;
const WRAPPED_LEN: usize = KEY_LEN + 8;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = 1 + KeyEncryptionKeyId::LEN + WRAPPED_LEN + NONCE_LEN;

/// Why a secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no sealed secret, or one for another row, or they were changed.
    #[error("the sealed secret is damaged or belongs to another row")]
    Unreadable,
    /// The ring lacks the key-encryption key that sealed it.
    #[error("the key ring lacks the key-encryption key {0}")]
    KeyMissing(KeyEncryptionKeyId),
    /// The crypto library failed.
    #[error("the crypto library failed")]
    Library(#[from] ErrorStack),
    /// The random generator failed.
    #[error(transparent)]
    Random(#[from] digest::Error),
}

impl KeyRing {
    /// Seals `secret` under the first key, bound to `fields`.
    pub fn seal(&self, secret: &Secret, fields: &[&[u8]]) -> Result<Vec<u8>, Error> {
        let (id, key_encryption_key) = self.first();
        let data_key = digest::random_secret::<KEY_LEN>()?;
        let nonce = digest::random::<NONCE_LEN>()?;
        let mut sealed = Vec::with_capacity(HEADER_LEN + secret.expose().len() + TAG_LEN);
        sealed.push(FORMAT);
        sealed.extend_from_slice(id.as_bytes());
        wrap(key_encryption_key, data_key.as_slice(), &mut sealed)?;
        sealed.extend_from_slice(&nonce);

        let mut ctx = CipherCtx::new()?;
        ctx.encrypt_init(Some(Cipher::aes_256_gcm()), Some(data_key.as_slice()), Some(&nonce))?;
        ctx.cipher_update(&associated_data(id, fields), None)?;
        ctx.cipher_update_vec(secret.expose(), &mut sealed)?;
        ctx.cipher_final_vec(&mut sealed)?;
        let mut tag = [0; TAG_LEN];
        ctx.tag(&mut tag)?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens what [`seal`](Self::seal) made for the same `fields`, under any key of the ring.
    pub fn open(&self, sealed: &[u8], fields: &[&[u8]]) -> Result<Secret, Error> {
        let (format, rest) = sealed.split_first().ok_or(Error::Unreadable)?;
        let (id, rest) = rest.split_first_chunk().ok_or(Error::Unreadable)?;
        let (wrapped, rest) = rest.split_first_chunk::<WRAPPED_LEN>().ok_or(Error::Unreadable)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Error::Unreadable)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Error::Unreadable)?;
        if *format != FORMAT {
            return Err(Error::Unreadable);
        }
        let id = KeyEncryptionKeyId::from_bytes(*id);
        let key_encryption_key = self.find(id).ok_or(Error::KeyMissing(id))?;
        let data_key = unwrap(key_encryption_key, wrapped)?;

        let mut ctx = CipherCtx::new()?;
        ctx.decrypt_init(Some(Cipher::aes_256_gcm()), Some(data_key.as_slice()), Some(nonce))?;
        ctx.cipher_update(&associated_data(id, fields), None)?;
        // One block of room more than the plaintext: no reallocation leaves a copy behind.
        let mut secret = Zeroizing::new(Vec::with_capacity(
            ciphertext.len() + 2 * Cipher::aes_256_gcm().block_size(),
        ));
        ctx.cipher_update_vec(ciphertext, &mut secret)?;
        ctx.set_tag(tag)?;
        ctx.cipher_final_vec(&mut secret).map_err(|_| Error::Unreadable)?;
        Ok(Secret::from(std::mem::take(&mut *secret)))
    }
}

fn associated_data(id: KeyEncryptionKeyId, fields: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    for field in [&[FORMAT], id.as_bytes().as_slice()].iter().chain(fields) {
        // A field is an id or a hash: far below 4 GiB.
        data.extend_from_slice(&(field.len() as u32).to_be_bytes());
        data.extend_from_slice(field);
    }
    data
}

fn key_wrap() -> &'static CipherRef {
    Cipher::aes_256_wrap()
}

fn wrap(key_encryption_key: &[u8], data_key: &[u8], out: &mut Vec<u8>) -> Result<(), ErrorStack> {
    let mut ctx = CipherCtx::new()?;
    ctx.set_flags(CipherCtxFlags::FLAG_WRAP_ALLOW);
    ctx.encrypt_init(Some(key_wrap()), Some(key_encryption_key), None)?;
    ctx.cipher_update_vec(data_key, out)?;
    ctx.cipher_final_vec(out)?;
    Ok(())
}

fn unwrap(key_encryption_key: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut ctx = CipherCtx::new()?;
    ctx.set_flags(CipherCtxFlags::FLAG_WRAP_ALLOW);
    ctx.decrypt_init(Some(key_wrap()), Some(key_encryption_key), None)?;
    let mut data_key = Zeroizing::new(Vec::with_capacity(2 * WRAPPED_LEN));
    ctx.cipher_update_vec(wrapped, &mut data_key)
        .map_err(|_| Error::Unreadable)?;
    ctx.cipher_final_vec(&mut data_key).map_err(|_| Error::Unreadable)?;
    Ok(data_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[(u8, u8)]) -> KeyRing {
        let text: String = keys
            .iter()
            .map(|(id, key)| format!("{} {}\n", hex::encode([*id; 8]), hex::encode([*key; 32])))
            .collect();
        KeyRing::parse(&Secret::from(text)).unwrap()
    }

    fn secret() -> Secret {
        Secret::from(b"the private key".to_vec())
    }

    /// RFC 3394 4.6: 256 bits of key data with a 256-bit key-encryption key.
    #[test]
    fn wraps_as_rfc_3394_says() {
        let key_encryption_key: Vec<u8> = (0..32).collect();
        let data_key = hex::decode("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F").unwrap();
        let mut wrapped = Vec::new();
        wrap(&key_encryption_key, &data_key, &mut wrapped).unwrap();
        assert_eq!(
            hex::encode_upper(&wrapped),
            "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
        );
        assert_eq!(*unwrap(&key_encryption_key, &wrapped).unwrap(), data_key);
    }

    #[test]
    fn opens_what_it_sealed() {
        let ring = ring(&[(1, 1)]);
        let sealed = ring.seal(&secret(), &[b"row"]).unwrap();
        assert_eq!(ring.open(&sealed, &[b"row"]).unwrap().expose(), b"the private key");
        assert_eq!(hex::encode(&sealed[..9]), "010101010101010101");
    }

    #[test]
    fn seals_the_same_secret_differently_each_time() {
        let ring = ring(&[(1, 1)]);
        assert_ne!(ring.seal(&secret(), &[]).unwrap(), ring.seal(&secret(), &[]).unwrap());
    }

    #[test]
    fn seals_under_the_first_key_and_opens_under_all() {
        let sealed_before = ring(&[(1, 1)]).seal(&secret(), &[]).unwrap();
        let rotated = ring(&[(2, 2), (1, 1)]);
        assert!(rotated.open(&sealed_before, &[]).is_ok());
        let sealed_after = rotated.seal(&secret(), &[]).unwrap();
        assert_eq!(hex::encode(&sealed_after[..9]), "010202020202020202");
        assert!(matches!(
            ring(&[(1, 1)]).open(&sealed_after, &[]),
            Err(Error::KeyMissing(_))
        ));
    }

    #[test]
    fn opens_for_no_other_row() {
        let ring = ring(&[(1, 1)]);
        let sealed = ring.seal(&secret(), &[b"ab", b"c"]).unwrap();
        for other in [&[b"a".as_slice(), b"bc"][..], &[b"abc"], &[b"ab", b"c", b""], &[]] {
            assert!(matches!(ring.open(&sealed, other), Err(Error::Unreadable)));
        }
    }

    #[test]
    fn opens_nothing_that_was_changed_or_cut() {
        let ring = ring(&[(1, 1)]);
        let sealed = ring.seal(&secret(), &[]).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(ring.open(&changed, &[]).is_err(), "byte {at}");
            assert!(ring.open(&sealed[..at], &[]).is_err(), "cut at {at}");
        }
    }
}
