//! A PKCS#11 token: the wrapping key never leaves it (PKCS #11 3.0, CKM_AES_KEY_WRAP).

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::PlainKey;
use crate::config::Pkcs11Device;
use crate::secret::{PrivateFileError, read_private};

/// A module is initialized once in a process, and only one at a time is in use.
static IN_USE: Mutex<()> = Mutex::new(());

/// The longest PIN.
const MAX_PIN_LEN: u64 = 1024;

/// Why a PKCS#11 token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs11Error {
    /// The module can't be loaded.
    #[error("pkcs11_module names {0}, which cannot be loaded")]
    Module(PathBuf, #[source] Error),
    /// The PIN can't be read.
    #[error("pkcs11_pin_file cannot be used")]
    Pin(#[source] PrivateFileError),
    /// No token has the label.
    #[error("no token has the label {0}: see pkcs11_token")]
    NoToken(String),
    /// The token has no secret key with the label, or several.
    #[error("the token has {count} secret keys with the label {label}, and needs one")]
    WrappingKey {
        /// The label.
        label: String,
        /// The number of keys.
        count: usize,
    },
    /// The key in the token has another length than a key of the ring.
    #[error("the opened key is not a key of 256 bits")]
    Length,
    /// The token refused a call.
    #[error("the token refused the call")]
    Refused(#[from] Error),
}

/// Opens a wrapped key.
pub(super) fn unwrap(device: &Pkcs11Device, label: &str, wrapped: &[u8]) -> Result<PlainKey, Pkcs11Error> {
    in_session(device, label, |session, wrapping_key| {
        // The key is read out at once. It is an object of this session only.
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ];
        let key = session.unwrap_key(&Mechanism::AesKeyWrap, wrapping_key, wrapped, &template)?;
        let mut plain = PlainKey::default();
        for attribute in session.get_attributes(key, &[AttributeType::Value])? {
            if let Attribute::Value(value) = attribute {
                let value = Zeroizing::new(value);
                if value.len() != plain.len() {
                    return Err(Pkcs11Error::Length);
                }
                plain.copy_from_slice(&value);
                return Ok(plain);
            }
        }
        Err(Pkcs11Error::Length)
    })
}

/// Lets the token make a random key, and returns it wrapped.
pub(super) fn generate_wrapped(device: &Pkcs11Device, label: &str) -> Result<Vec<u8>, Pkcs11Error> {
    in_session(device, label, |session, wrapping_key| {
        let template = [
            Attribute::Token(false),
            Attribute::Sensitive(true),
            Attribute::Extractable(true),
            Attribute::ValueLen((PlainKey::default().len() as u64).into()),
        ];
        let key = session.generate_key(&Mechanism::AesKeyGen, &template)?;
        Ok(session.wrap_key(&Mechanism::AesKeyWrap, wrapping_key, key)?)
    })
}

/// Runs `work` in a session with the token, with the key that has this label.
fn in_session<T>(
    device: &Pkcs11Device,
    label: &str,
    work: impl FnOnce(&Session, ObjectHandle) -> Result<T, Pkcs11Error>,
) -> Result<T, Pkcs11Error> {
    let pin = read_private(&device.pin_file, MAX_PIN_LEN).map_err(Pkcs11Error::Pin)?;
    let pin = String::from_utf8_lossy(pin.expose()).trim().to_owned();
    let pin = AuthPin::new(pin.into());
    let _in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let module = |error| Pkcs11Error::Module(device.module.clone(), error);
    let pkcs11 = Pkcs11::new(&device.module).map_err(module)?;
    pkcs11
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .map_err(module)?;
    let outcome = in_token(&pkcs11, device, &pin, label, work);
    // The module may be loaded again after the ring has changed.
    let finalized = pkcs11.finalize();
    let outcome = outcome?;
    finalized?;
    Ok(outcome)
}

fn in_token<T>(
    pkcs11: &Pkcs11,
    device: &Pkcs11Device,
    pin: &AuthPin,
    label: &str,
    work: impl FnOnce(&Session, ObjectHandle) -> Result<T, Pkcs11Error>,
) -> Result<T, Pkcs11Error> {
    let mut found = None;
    for slot in pkcs11.get_slots_with_token()? {
        if pkcs11.get_token_info(slot)?.label() == device.token {
            found = Some(slot);
        }
    }
    let slot = found.ok_or_else(|| Pkcs11Error::NoToken(device.token.clone()))?;
    let session = pkcs11.open_ro_session(slot)?;
    session.login(UserType::User, Some(pin))?;
    let wanted = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let keys = session.find_objects(&wanted)?;
    let [wrapping_key] = keys.as_slice() else {
        return Err(Pkcs11Error::WrappingKey {
            label: label.to_owned(),
            count: keys.len(),
        });
    };
    work(&session, *wrapping_key)
}
