//! The validity of the certificates in a listener's TLS files. rustls serves them at any time, and only the clients notice their end. It accepts the client certificates of an expired CA.

use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;

use crate::app::Validity;
use crate::clock::{self, Timestamp};
use crate::telemetry::metrics;

/// The log repeats a warning this often.
const LOG_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// A certificate that ends within this time needs a successor.
const SOON_MILLIS: i64 = 7 * 24 * 60 * 60 * 1000;

/// The validity of the certificates of one file: the time in which all of them are valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileValidity {
    setting: &'static str,
    validity: Validity,
}

impl FileValidity {
    /// Reads the certificates of the file of this setting. `None` without a certificate that can be read.
    pub(super) fn of(setting: &'static str, certificates: &[CertificateDer<'_>]) -> Option<Self> {
        let each = certificates.iter().filter_map(|der| Validity::read(der).ok());
        let validity = each.reduce(Validity::and)?;
        Some(Self { setting, validity })
    }

    fn state(&self, now: Timestamp) -> State {
        let Validity { not_before, not_after } = self.validity;
        match now.millis_of_whole_secs() {
            now if now > not_after.millis() => State::Expired,
            now if now < not_before.millis() => State::NotYet,
            now if now > not_after.millis() - SOON_MILLIS => State::EndsSoon,
            _ => State::Valid,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Valid,
    NotYet,
    EndsSoon,
    Expired,
}

/// Says in the log and in the metrics how long the files are valid.
pub(super) struct Reminder {
    files: Vec<FileValidity>,
    said: Instant,
}

impl Reminder {
    /// Reports the files that are served from now on.
    pub(super) fn begin(files: Vec<FileValidity>) -> Self {
        for file in &files {
            metrics::tls_not_after(file.setting, file.validity.not_after.millis() / 1000);
        }
        say(&files);
        Self {
            files,
            said: Instant::now(),
        }
    }

    /// Repeats the warnings after a day.
    pub(super) fn repeat_if_due(&mut self) {
        if self.said.elapsed() >= LOG_EVERY {
            *self = Self::begin(std::mem::take(&mut self.files));
        }
    }
}

fn say(files: &[FileValidity]) {
    for file in files {
        let (setting, Validity { not_before, not_after }) = (file.setting, file.validity);
        match file.state(clock::now()) {
            State::Valid => {}
            State::NotYet => {
                tracing::warn!(setting, %not_before, "a certificate in the file of this setting is not valid yet: check the clock, or replace the file");
            }
            State::EndsSoon => {
                tracing::warn!(setting, %not_after, "a certificate in the file of this setting ends within 7 days: replace the file");
            }
            State::Expired => {
                tracing::error!(setting, %not_after, "a certificate in the file of this setting has expired: replace the file");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_week_begins_and_ends_to_the_second() {
        let day = 24 * 60 * 60;
        let file = FileValidity {
            setting: "tls_certificate",
            validity: Validity {
                not_before: Timestamp::from_secs(100),
                not_after: Timestamp::from_secs(90 * day),
            },
        };
        for (now, state) in [
            (99, State::NotYet),
            (100, State::Valid),
            (83 * day, State::Valid),
            (83 * day + 1, State::EndsSoon),
            (90 * day, State::EndsSoon),
            (90 * day + 1, State::Expired),
        ] {
            assert_eq!(file.state(Timestamp::from_secs(now)), state, "{now}");
        }
    }
}
