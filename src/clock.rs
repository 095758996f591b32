//! Wall-clock time: the type for it and the only place that reads it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment in milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// [`Display`](fmt::Display) writes it as `YYYY-MM-DDThh:mm:ssZ`, cut to whole seconds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many milliseconds after the start of 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The moment this many seconds after the start of 1970. X.509 times have whole seconds (RFC 5280 4.1.2.5).
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Reads the form that [`Display`](fmt::Display) writes, and no other.
    pub fn parse(text: &str) -> Option<Self> {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let read = Self::from_secs(time.unix_timestamp());
        (read.to_string() == text).then_some(read)
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970, cut to whole seconds: the form of the API's time stamps.
    pub const fn millis_of_whole_secs(self) -> i64 {
        self.0 - self.0.rem_euclid(1000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1000));
        let mut text = [0; 20];
        match time.map(|time| time.format_into(&mut text.as_mut_slice(), &Rfc3339)) {
            Ok(Ok(20)) => {}
            // The year is outside of 0 to 9999. No certificate can state this time (X.680 46.2), and no clock does.
            _ => text = *b"9999-12-31T23:59:59Z",
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// The time now, of this machine.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_whole_seconds() {
        let t = Timestamp::from_millis(1_498_217_588_999);
        assert_eq!(t.to_string(), "2017-06-23T11:33:08Z");
        assert_eq!(t.millis_of_whole_secs(), 1_498_217_588_000);
    }

    #[test]
    fn reads_only_the_form_that_it_writes() {
        let text = "2017-06-23T11:33:08Z";
        assert_eq!(Timestamp::parse(text), Some(Timestamp::from_secs(1_498_217_588)));
        for other in [
            "",
            "2017-06-23T11:33:08",
            "2017-06-23T11:33:08.5Z",
            "2017-06-23T11:33:08+00:00",
            "2017-06-23 11:33:08Z",
            "2017-06-31T11:33:08Z",
            "+2017-06-23T11:33:08Z",
        ] {
            assert_eq!(Timestamp::parse(other), None, "{other}");
        }
    }

    #[test]
    fn writes_moments_before_1970() {
        let t = Timestamp::from_millis(-1);
        assert_eq!(t.to_string(), "1969-12-31T23:59:59Z");
        assert_eq!(t.millis_of_whole_secs(), -1000);
    }
}
