//! The files that the settings name, read before a start.

use super::http::Protocol;
use super::{KeyRing, read_key_blocklists, tls};
use crate::app::Cas;
use crate::config::Config;
use crate::secret::read_private;
use crate::telemetry::causes;

/// The maximum length of a file with a token or a PIN.
const MAX_SECRET_LEN: u64 = 64 * 1024;

/// Why files that the settings name cannot be used, a line for each. The key ring may be absent: the first start makes one. Its keys are
/// opened as a start opens them, also by a token or a transit service.
pub async fn unusable_files(config: &Config) -> Vec<String> {
    let mut unusable = Vec::new();
    if let Some(files) = &config.tls {
        unusable.extend(tls::check(files, Protocol::Http2).err().map(|error| causes(&error)));
    }
    unusable.extend(
        read_key_blocklists(&config.key_blocklists)
            .err()
            .map(|error| causes(&error)),
    );
    let providers = &config.database.key_providers;
    let secrets = [
        (
            "pkcs11_pin_file",
            providers.pkcs11.as_ref().map(|device| &device.pin_file),
        ),
        (
            "transit_token_file",
            providers.transit.as_ref().map(|service| &service.token_file),
        ),
    ];
    for (setting, file) in secrets {
        let read = file.map(|file| read_private(file, MAX_SECRET_LEN));
        unusable.extend(
            read.and_then(Result::err)
                .map(|error| format!("{setting}: {}", causes(&error))),
        );
    }
    if let Some(file) = providers.transit.as_ref().and_then(|service| service.ca_file.as_ref()) {
        let read = std::fs::read(file).err();
        unusable.extend(read.map(|error| {
            format!(
                "transit_ca_file names {}, which cannot be read: {error}",
                file.display()
            )
        }));
    }
    if let Some(service) = &config.cas {
        unusable.extend(Cas::new(service.clone()).err().map(|error| causes(&error)));
    }
    let key_ring = &config.database.key_ring;
    if unusable.is_empty() && key_ring.exists() {
        let read = KeyRing::read(key_ring, providers).await.err();
        unusable.extend(read.map(|error| format!("key_ring: {}", causes(&error))));
    }
    unusable
}
