//! The tokens that identify retried calls. Postgres's clock measures their age.

use std::time::Duration;

use uuid::Uuid;

use super::statement::Confirm;
use super::{Error, Params, Statement, Store, id_columns};
use crate::account::AccountId;
use crate::clock::Timestamp;
use crate::inventory::{CertificateId, CertificateKind};

/// A token counts for this long.
pub const TOKEN_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The call that a token belongs to. Each call has its own tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenOf {
    /// An upload of a certificate of this kind.
    Upload(CertificateKind),
    /// A renewal of a server certificate.
    Renewal,
}

impl TokenOf {
    /// The method under which the tokens are stored.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Upload(CertificateKind::Server) => "UploadServerCertificate",
            Self::Upload(CertificateKind::Ca) => "UploadCACertificate",
            Self::Renewal => "RenewServerCertificate",
        }
    }
}

/// The token of a call and a digest of its request.
#[derive(Clone, Debug)]
pub struct ClientToken {
    /// The token that the caller chose.
    pub token: String,
    /// A MAC of the canonical request.
    pub request_mac: [u8; 32],
}

/// A used token.
#[derive(Debug)]
pub struct UsedToken {
    /// The id of the certificate that the call stored or changed, or would have stored or changed.
    pub id: CertificateId,
    /// The request of a renewal. `None`: an upload.
    pub request_id: Option<Uuid>,
    /// The MAC of its request.
    pub request_mac: Vec<u8>,
    /// The token no longer counts, because it is older than 24 hours or its call changed nothing.
    pub is_void: bool,
}

impl Store {
    /// The call that used this token, if there is one. The answer is for that call, so it waits for the synchronous standby.
    pub async fn used_token(&self, of: TokenOf, account: AccountId, token: &str) -> Result<Option<UsedToken>, Error> {
        // The event is committed with the token, and outlives its certificate.
        const STATEMENT: Statement = Statement {
            name: "store::used_token",
            sql: "-- store::used_token
                  select created_ms, random, request_id, request_mac,
                    used_at < now() - interval '24 hours' or not exists (
                      select from event
                      where event.account_id = $1 and event.created_ms = client_token.created_ms
                        and event.random = client_token.random
                        and (client_token.request_id is null or event.request_id = client_token.request_id)
                    ) as is_void
                  from client_token where account_id = $1 and method = $2 and client_token = $3",
        };
        let (account_id, method) = (account.as_i64(), of.method());
        let params: Params<'_> = &[&account_id, &method, &token];
        let rows = self.read_confirmed(Confirm::Rows, STATEMENT, params).await?;
        Ok(rows.first().map(|row| UsedToken {
            id: CertificateId {
                account,
                created: Timestamp::from_millis(row.get("created_ms")),
                random: row.get("random"),
            },
            request_id: row.get("request_id"),
            request_mac: row.get("request_mac"),
            is_void: row.get("is_void"),
        }))
    }

    /// Deletes a void token, if the token still belongs to the same call.
    pub async fn forget_token(&self, of: TokenOf, token: &str, used: &UsedToken) -> Result<(), Error> {
        // A repeated statement finds nothing.
        const STATEMENT: Statement = Statement {
            name: "store::forget_token",
            sql: "-- store::forget_token
                  delete from client_token
                  where account_id = $1 and created_ms = $2 and random = $3 and method = $4 and client_token = $5
                    and request_id is not distinct from $6",
        };
        let (account, created, random) = id_columns(used.id);
        let params: Params<'_> = &[&account, &created, &random, &of.method(), &token, &used.request_id];
        self.read(STATEMENT, params).await?;
        Ok(())
    }

    /// Deletes the tokens of all accounts that were used before this time, at most 1,000 at once. Returns the number.
    pub async fn forget_tokens_of_all_accounts(&self, used_before: Timestamp) -> Result<u64, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::forget_tokens_of_all_accounts",
            sql: "-- store::forget_tokens_of_all_accounts
                  with forgotten as (
                    delete from client_token where (account_id, method, client_token) in (
                      select account_id, method, client_token from client_token
                      where used_at < to_timestamp($1::bigint / 1000.0) order by used_at limit 1000 for update skip locked
                    )
                    returning 1
                  )
                  select count(*) from forgotten",
        };
        let rows = self.read(STATEMENT, &[&used_before.millis()]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0) as u64))
    }
}
