//! Repetitions of a call that failed.

use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use tonic::{Response, Status};

use crate::call_error::{CallError, Outcome};

/// As `proto/service_config.json` says for other clients.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Which failures of a call are repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// All that may pass. For calls that change nothing, calls with a `client_token`, and calls whose repetition changes nothing more, such as
    /// TagResources.
    Always,
    /// Only failures after which nothing was changed. For all other calls.
    IfUnchanged,
}

/// The answer to a call, which is tried up to 5 times within about 3 seconds. The pauses grow, and differ between clients.
pub async fn repeated<T>(
    repeat: Repeat,
    mut call: impl AsyncFnMut() -> Result<Response<T>, Status>,
) -> Result<T, CallError> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let error = match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => CallError::from(status),
        };
        let may_pass = match error.outcome {
            Outcome::Refused => false,
            Outcome::Unchanged => true,
            Outcome::Unknown => repeat == Repeat::Always,
        };
        if attempt == ATTEMPTS || !may_pass {
            return Err(error);
        }
        let wait = error.retry_after.map_or(pause, |asked| asked.max(pause));
        tokio::time::sleep(jittered(wait)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    unreachable!("the last attempt returns")
}

/// A `client_token`: 32 random hexadecimal digits. Keep it for the repetitions of one call, and take a new one for the next.
pub fn client_token() -> String {
    random::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A fifth more or less.
fn jittered(pause: Duration) -> Duration {
    let [random] = random::<1>();
    pause.mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
}

fn random<const N: usize>() -> [u8; N] {
    let mut random = [0; N];
    #[expect(
        clippy::expect_used,
        reason = "the operating system has randomness, or TLS would not work either"
    )]
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut random)
        .expect("random octets");
    random
}
