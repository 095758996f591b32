//! Devices and services that wrap the keys of a key ring. They open the keys at the start and after the file changes, and never for a
//! call.

mod pkcs11;
mod transit;

pub use pkcs11::Pkcs11Error;
pub use transit::TransitError;

use zeroize::Zeroizing;

use super::key_encryption_key::KEY_LEN;
use crate::config::{KeyProviders, Pkcs11Device, TransitService};
use crate::digest;

/// A plain key of the ring.
pub(super) type PlainKey = Zeroizing<[u8; KEY_LEN]>;

/// A key of the ring as its line contains it.
pub(super) enum KeyText {
    /// The key itself.
    Plain(PlainKey),
    /// Wrapped by the secret key with this label in a PKCS#11 token.
    Pkcs11 {
        /// The label of the wrapping key.
        label: String,
        /// The wrapped key (RFC 3394).
        wrapped: Vec<u8>,
    },
    /// Encrypted by a transit service.
    Transit {
        /// The service's text.
        ciphertext: String,
    },
}

const PKCS11: &[u8] = b"pkcs11:";
const TRANSIT: &[u8] = b"transit:";

impl KeyText {
    /// Reads `<64 hex digits>`, `pkcs11:<label>:<hex>` or `transit:<ciphertext>`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if let Some(text) = text.strip_prefix(PKCS11) {
            let (label, wrapped) = std::str::from_utf8(text).ok()?.rsplit_once(':')?;
            let wrapped = hex::decode(wrapped).ok()?;
            return (!label.is_empty() && !wrapped.is_empty()).then(|| Self::Pkcs11 {
                label: label.to_owned(),
                wrapped,
            });
        }
        if let Some(text) = text.strip_prefix(TRANSIT) {
            let is_one_word = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
            let ciphertext = std::str::from_utf8(text).ok().filter(|_| is_one_word)?.to_owned();
            return Some(Self::Transit { ciphertext });
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        hex::decode_to_slice(text, key.as_mut_slice()).ok()?;
        Some(Self::Plain(key))
    }

    /// The text for a line.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Self::Plain(key) => hex::encode(key.as_slice()),
            Self::Pkcs11 { label, wrapped } => format!("pkcs11:{label}:{}", hex::encode(wrapped)),
            Self::Transit { ciphertext } => format!("transit:{ciphertext}"),
        })
    }
}

/// Why a provider can't open or wrap a key of the ring.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The settings of the provider are missing.
    #[error("it needs the settings {0}")]
    NotConfigured(&'static str),
    /// The PKCS#11 token failed.
    #[error("the PKCS#11 token cannot be used")]
    Pkcs11(#[from] Pkcs11Error),
    /// The transit service failed.
    #[error("the transit service cannot be used")]
    Transit(#[from] TransitError),
    /// The random generator failed.
    #[error(transparent)]
    Random(#[from] digest::Error),
    /// The work was stopped.
    #[error("the work was stopped")]
    Stopped(#[from] tokio::task::JoinError),
}

/// The provider that wraps a new key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Provider {
    /// None: the file contains the key itself.
    File,
    /// The configured PKCS#11 token.
    Pkcs11 {
        /// The label of the wrapping key.
        label: String,
    },
    /// The configured transit service.
    Transit,
}

fn pkcs11_of(providers: &KeyProviders) -> Result<&Pkcs11Device, ProviderError> {
    let needed = ProviderError::NotConfigured("pkcs11_module, pkcs11_token and pkcs11_pin_file");
    providers.pkcs11.as_ref().ok_or(needed)
}

fn transit_of(providers: &KeyProviders) -> Result<&TransitService, ProviderError> {
    let needed = ProviderError::NotConfigured("transit_url, transit_key and transit_token_file");
    providers.transit.as_ref().ok_or(needed)
}

/// Opens a key of the ring.
pub(super) async fn open(providers: &KeyProviders, text: KeyText) -> Result<PlainKey, ProviderError> {
    match text {
        KeyText::Plain(key) => Ok(key),
        KeyText::Pkcs11 { label, wrapped } => {
            let device = pkcs11_of(providers)?.clone();
            let open = move || pkcs11::unwrap(&device, &label, &wrapped);
            Ok(tokio::task::spawn_blocking(open).await??)
        }
        KeyText::Transit { ciphertext } => Ok(transit::decrypt(transit_of(providers)?, &ciphertext).await?),
    }
}

/// Makes a new random key of the ring, wrapped by the provider.
pub(super) async fn random(providers: &KeyProviders, provider: &Provider) -> Result<KeyText, ProviderError> {
    match provider {
        Provider::File => Ok(KeyText::Plain(digest::random_secret()?)),
        Provider::Pkcs11 { label } => {
            let (device, label) = (pkcs11_of(providers)?.clone(), label.clone());
            let wrapped = {
                let label = label.clone();
                tokio::task::spawn_blocking(move || pkcs11::generate_wrapped(&device, &label)).await??
            };
            Ok(KeyText::Pkcs11 { label, wrapped })
        }
        Provider::Transit => {
            let ciphertext = transit::encrypt(transit_of(providers)?, &digest::random_secret()?).await?;
            Ok(KeyText::Transit { ciphertext })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_it_is_written() {
        for text in [
            "5a".repeat(32).as_str(),
            "pkcs11:certkeep:0102",
            "pkcs11:a label: with colons:ff",
            "transit:vault:v1:AAAA+/==",
        ] {
            assert_eq!(*KeyText::parse(text.as_bytes()).unwrap().to_text(), text);
        }
        for text in [
            "",
            "5a",
            "pkcs11:",
            "pkcs11:label",
            "pkcs11:label:",
            "pkcs11::00",
            "pkcs11:label:0",
            "transit:",
            "transit:two words",
            "kms:key",
        ] {
            assert!(KeyText::parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
