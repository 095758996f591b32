//! The time that a call may take.

use std::time::Duration;

use http::HeaderMap;

/// The time for a call without a deadline, and the longest deadline.
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// The answer must reach the caller before the caller gives up, and before tonic's own timer ends the call.
const SHAVED: Duration = Duration::from_millis(20);

/// The time for a call: the caller's `grpc-timeout` minus [`SHAVED`], at most [`LONGEST`].
pub(super) fn time_for(headers: &HeaderMap) -> Duration {
    let asked = headers
        .get("grpc-timeout")
        .and_then(|value| parse(value.to_str().ok()?));
    match asked {
        Some(asked) if asked <= LONGEST => asked.saturating_sub(SHAVED.min(asked / 10)),
        _ => LONGEST,
    }
}

/// At most 8 digits and a unit (gRPC over HTTP/2, Timeout).
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(value: &str) -> Duration {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", value.parse().unwrap());
        time_for(&headers)
    }

    #[test]
    fn a_callers_deadline_leaves_time_to_answer() {
        assert_eq!(time("1S"), Duration::from_millis(980));
        assert_eq!(time("100m"), Duration::from_millis(90));
        assert_eq!(time("0n"), Duration::ZERO);
        assert_eq!(time("99999999H"), LONGEST);
        assert_eq!(time_for(&HeaderMap::new()), LONGEST);
    }

    #[test]
    fn a_malformed_timeout_is_ignored() {
        for value in ["", "S", "1", "1s", "-1S", "123456789S", "1é"] {
            assert_eq!(parse(value), None, "{value}");
        }
    }
}
