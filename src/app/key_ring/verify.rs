//! Verifies that every sealed value opens with the key ring of this process. Only data keys are opened, no private key.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::account::AccountId;
use crate::app::authenticate::StreamCaller;
use crate::app::violation::Violations;
use crate::app::{App, Call, Error, Field, FieldError, List};
use crate::certificate::ClientCertificate;
use crate::seal;
use crate::store::{Position, SealedCursor};

/// The default number of values in a second.
const DEFAULT_RATE: u32 = 1_000;
const MAX_RATE: u32 = 1_000_000;
/// The largest number of values in a step.
const STEP: usize = 200;

/// What to verify.
#[derive(Debug)]
pub struct VerifyKeyRing {
    /// The most values in a second; 0: 1,000.
    pub rate: i32,
    /// The token of the last answer of an earlier call; empty: from the beginning.
    pub resume_token: String,
}

/// A step of a verification.
#[derive(Debug)]
pub struct VerifiedRows {
    /// The number of values that opened in this call.
    pub opened: i64,
    /// The number of values that did not open in this call.
    pub failed: i64,
    /// The values that did not open in this step.
    pub unopened: Vec<UnopenedRow>,
    /// The token that continues after this step; empty after the last step.
    pub resume_token: String,
}

/// A value that did not open.
#[derive(Debug)]
pub struct UnopenedRow {
    /// The table and the key of its row.
    pub row: String,
    /// Why it did not open.
    pub error: seal::Error,
}

/// The list of all sealed values, for resume tokens.
const LIST: List<'static> = List {
    name: "VerifyKeyRing",
    account: AccountId::OPERATORS,
    filter: &[],
};

impl App {
    /// Opens every data key, and answers with each step. The work ends when the receiver is dropped. `certificate` is that of the
    /// connection.
    pub fn verify_key_ring(
        &self,
        call: &Call,
        request: &VerifyKeyRing,
        certificate: Option<ClientCertificate>,
    ) -> Result<mpsc::Receiver<Result<VerifiedRows, Error>>, Error> {
        let mut violations = Violations::default();
        let rate = match u32::try_from(request.rate) {
            Ok(0) => Ok(DEFAULT_RATE),
            Ok(rate @ 1..=MAX_RATE) => Ok(rate),
            Ok(_) | Err(_) => Err(FieldError::Rate),
        };
        let rate = violations.check(Field::Rate, rate);
        let cursor = violations.check(Field::ResumeToken, self.cursor_of_token(&request.resume_token));
        let (Some(rate), Some(cursor)) = (rate, cursor) else {
            return Err(violations.into());
        };
        // The work waits for a slow receiver.
        let (steps, receiver) = mpsc::channel(1);
        let app = self.clone();
        let caller = StreamCaller::new(self, call, certificate);
        tokio::spawn(async move { app.verify_rows(caller, rate, cursor, steps).await });
        Ok(receiver)
    }

    fn cursor_of_token(&self, token: &str) -> Result<SealedCursor, FieldError> {
        if token.is_empty() {
            return Ok(SealedCursor::START);
        }
        let cursor = self.0.page_tokens.read_sorted(LIST, token).ok().and_then(|(_, text)| {
            let text = String::from_utf8(text).ok()?;
            SealedCursor::parse(&text)
        });
        cursor.ok_or(FieldError::ResumeToken)
    }

    async fn verify_rows(
        &self,
        mut caller: StreamCaller,
        rate: u32,
        from: SealedCursor,
        steps: mpsc::Sender<Result<VerifiedRows, Error>>,
    ) {
        // At a low rate, a step takes about a second.
        let size = STEP.min(rate as usize);
        let time = Duration::from_secs_f64(size as f64 / f64::from(rate));
        let (mut next, mut opened, mut failed) = (Some(from), 0, 0);
        while let Some(cursor) = next {
            let began = Instant::now();
            if let Err(error) = caller.check().await {
                let _ = steps.send(Err(error)).await;
                return;
            }
            let page = match self.0.store.sealed_rows_of_all_accounts(&cursor, size).await {
                Ok(page) => page,
                Err(error) => {
                    let _ = steps.send(Err(error.into())).await;
                    return;
                }
            };
            let keys = self.0.key_ring.current().keys.clone();
            let mut unopened = Vec::new();
            for row in &page.rows {
                match keys.verify_wrap(&row.sealed, &row.row()) {
                    Ok(()) => opened += 1,
                    Err(error) => unopened.push(UnopenedRow {
                        row: row.cursor().to_string(),
                        error,
                    }),
                }
            }
            failed += unopened.len() as i64;
            next = page.next;
            let token = |cursor: &SealedCursor| {
                let text = cursor.to_string();
                self.0.page_tokens.write_sorted(LIST, Position::START, text.as_bytes())
            };
            let step = next.as_ref().map(token).transpose().map(|token| VerifiedRows {
                opened,
                failed,
                unopened,
                resume_token: token.unwrap_or_default(),
            });
            if steps.send(step).await.is_err() {
                return;
            }
            tokio::time::sleep(time.saturating_sub(began.elapsed())).await;
        }
    }
}
