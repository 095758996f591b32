//! The remaining lifetimes of the certificates of all accounts, for the operator.

use super::{App, CertificateKind, Error};
use crate::certificate::EXPIRES_SOON_DAYS;
use crate::clock::{self, Timestamp};

/// The limits between the classes of remaining lifetime, in days.
pub const DAYS_LEFT: [i64; 4] = [0, 7, EXPIRES_SOON_DAYS, 90];

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The number of live certificates of a kind in each class of remaining lifetime. Each certificate counts once, by the earliest end of
/// its chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeLeft {
    /// The kind of the certificates.
    pub kind: CertificateKind,
    /// Expired.
    pub expired: i64,
    /// Up to 7 days.
    pub week: i64,
    /// 7 to 30 days.
    pub month: i64,
    /// 30 to 90 days.
    pub quarter: i64,
    /// More than 90 days.
    pub later: i64,
}

impl App {
    /// Counts the certificates of all accounts, for each kind.
    pub async fn time_left(&self) -> Result<Vec<TimeLeft>, Error> {
        let now = clock::now();
        let moments = DAYS_LEFT.map(|days| Timestamp::from_millis(now.millis() + days * DAY_MS));
        let counts = self.0.store.expiring_of_all_accounts(moments).await?;
        let left = counts
            .into_iter()
            .map(|(kind, [expired, week, month, quarter, all])| TimeLeft {
                kind,
                expired,
                week: week - expired,
                month: month - week,
                quarter: quarter - month,
                later: all - quarter,
            });
        Ok(left.collect())
    }
}
