//! Limits of the rate of calls: token buckets for callers, accounts and addresses. Each replica has its own buckets.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::Error;

/// The largest rate that is counted. A larger rate is this rate.
const MAX_RATE: i64 = 1_000_000;
const LOG_PAUSE_MS: u64 = 10_000;

/// A limit that refused a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// The calls of an access key, with its calls per second.
    AccessKey(u32),
    /// The calls of a client identity, with its calls per second.
    ClientIdentity(u32),
    /// The calls of an account, with its calls per second.
    Account(u32),
    /// The failed authentications of an address.
    FailedAuthentications,
    /// The calls of an address without authentication.
    Unauthenticated,
    /// The calls of all addresses without authentication.
    AllUnauthenticated,
    /// The calls of health and reflection that are open on a connection.
    OpenCalls,
    /// The memory for requests and for answers that are not sent.
    CallMemory,
}

impl Limit {
    /// All limits, with any rate.
    pub const ALL: [Self; 8] = [
        Self::AccessKey(0),
        Self::ClientIdentity(0),
        Self::Account(0),
        Self::FailedAuthentications,
        Self::Unauthenticated,
        Self::AllUnauthenticated,
        Self::OpenCalls,
        Self::CallMemory,
    ];

    /// The name of the limit in metrics and in the details of an error.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessKey(_) => "access_key",
            Self::ClientIdentity(_) => "client_identity",
            Self::Account(_) => "account",
            Self::FailedAuthentications => "failed_authentications",
            Self::Unauthenticated => "unauthenticated",
            Self::AllUnauthenticated => "all_unauthenticated",
            Self::OpenCalls => "open_calls",
            Self::CallMemory => "call_memory",
        }
    }

    /// Whether the log should tell that this limit refuses calls: at most once in ten seconds.
    pub fn is_log_due(self) -> bool {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        /// Milliseconds after `BEGAN`.
        static NEXT: [AtomicU64; Limit::ALL.len()] = [const { AtomicU64::new(0) }; Limit::ALL.len()];
        let now = BEGAN.elapsed().as_millis() as u64;
        let place = Self::ALL.iter().position(|limit| limit.name() == self.name());
        place.and_then(|place| NEXT.get(place)).is_some_and(|next| {
            let due = next.load(Ordering::Relaxed);
            now >= due
                && next
                    .compare_exchange(due, now + LOG_PAUSE_MS, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
        })
    }

    /// The calls per second, if the limit is one of callers.
    pub fn rate(self) -> Option<u32> {
        match self {
            Self::AccessKey(rate) | Self::ClientIdentity(rate) | Self::Account(rate) => Some(rate),
            Self::FailedAuthentications
            | Self::Unauthenticated
            | Self::AllUnauthenticated
            | Self::OpenCalls
            | Self::CallMemory => None,
        }
    }
}

/// The bucket of one caller or account: so many calls per second, and a burst of one second's calls.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u32,
    /// `None`: the rate is 0, and every call is refused.
    limiter: Option<RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<Instant>>>,
}

impl Bucket {
    /// A full bucket. A negative rate is 0.
    fn new(rate: i64) -> Self {
        let rate = u32::try_from(rate.clamp(0, MAX_RATE)).unwrap_or_default();
        let limiter =
            NonZeroU32::new(rate).map(|rate| RateLimiter::direct_with_clock(Quota::per_second(rate), MonotonicClock));
        Self { rate, limiter }
    }

    /// The calls per second.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Counts a call. Refused: the time until the next call is allowed.
    pub(super) fn take(&self) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else {
            return Err(Duration::from_secs(1));
        };
        limiter
            .check()
            .map_err(|until| until.wait_time_from(MonotonicClock.now()))
    }
}

/// The buckets of callers or accounts, by id.
#[derive(Debug)]
pub(super) struct Buckets<K>(Mutex<HashMap<K, Arc<Bucket>>>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// More buckets than this are kept only while authenticated callers use them.
    const MAX_LEN: usize = 16_384;

    /// The bucket of this id. A new rate begins with a full bucket.
    pub(super) fn bucket<Q>(&self, id: &Q, rate: i64) -> Arc<Bucket>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + Eq + Hash + ?Sized,
    {
        let mut buckets = lock(&self.0);
        if let Some(bucket) = buckets.get(id)
            && i64::from(bucket.rate) == rate.clamp(0, MAX_RATE)
        {
            return bucket.clone();
        }
        if buckets.len() >= Self::MAX_LEN {
            buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1);
        }
        let bucket = Arc::new(Bucket::new(rate));
        buckets.insert(id.to_owned(), bucket.clone());
        bucket
    }
}

/// The origin of calls without authentication: an IPv4 address, or the /64 prefix of an IPv6 address, which one host has for itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 network.
    V6([u8; 8]),
    /// The sources for which there was no room.
    Others,
}

impl Source {
    /// The source of calls from this address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// The buckets of addresses. One lock, held for a look-up in a map.
///
/// governor's buckets decide before an event. Here an event may be counted after it was allowed: only the look-up tells whether an
/// authentication fails. So a bucket may owe tokens, and many look-ups at once cost no more than their number.
#[derive(Debug)]
pub(super) struct SourceBuckets {
    /// The time in which a bucket gains a token.
    interval: Duration,
    burst: u32,
    moments: Mutex<Moments>,
}

#[derive(Debug)]
struct Moments {
    /// The moment at which each bucket is full. A sweep removes the buckets that are full.
    full_at: HashMap<Source, Instant>,
    swept: Instant,
}

impl SourceBuckets {
    /// About 1 MiB.
    const MAX_LEN: usize = 16_384;
    /// A bucket owes no more than the tokens of this time.
    const MAX_DEBT: Duration = Duration::from_secs(10);
    const SWEEP_EVERY: Duration = Duration::from_secs(60);
    /// The interval of sweeps while there are too many addresses.
    const SWEEP_EVERY_IF_FULL: Duration = Duration::from_secs(1);

    /// Buckets of `burst` tokens that gain `rate` tokens per second. Neither is 0.
    pub(super) fn new(burst: u32, rate: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / rate,
            burst,
            moments: Mutex::new(Moments {
                full_at: HashMap::new(),
                swept: Instant::now(),
            }),
        }
    }

    /// The time until the address has a token. `None`: it has one now.
    pub(super) fn wait(&self, address: IpAddr) -> Option<Duration> {
        self.wait_at(address, Instant::now())
    }

    /// Takes a token, which the address may owe.
    pub(super) fn count(&self, address: IpAddr) {
        self.count_at(address, Instant::now());
    }

    fn wait_at(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let moments = lock(&self.moments);
        let moment = moments
            .full_at
            .get(&Source::of(address))
            .or_else(|| moments.full_at.get(&Source::Others).filter(|_| moments.is_full()))?;
        let missing = moment.saturating_duration_since(now);
        let wait = missing.saturating_sub(self.interval * (self.burst - 1));
        (!wait.is_zero()).then_some(wait)
    }

    fn count_at(&self, address: IpAddr, now: Instant) {
        let mut moments = lock(&self.moments);
        moments.sweep_if_due(now);
        let mut source = Source::of(address);
        if moments.is_full() && !moments.full_at.contains_key(&source) {
            source = Source::Others;
        }
        let moment = moments.full_at.entry(source).or_insert(now);
        let last = now + self.interval * self.burst + Self::MAX_DEBT;
        *moment = ((*moment).max(now) + self.interval).min(last);
    }
}

impl Moments {
    fn is_full(&self) -> bool {
        self.full_at.len() >= SourceBuckets::MAX_LEN
    }

    fn sweep_if_due(&mut self, now: Instant) {
        let pause = if self.is_full() {
            SourceBuckets::SWEEP_EVERY_IF_FULL
        } else {
            SourceBuckets::SWEEP_EVERY
        };
        if now.saturating_duration_since(self.swept) >= pause {
            self.swept = now;
            self.full_at.retain(|_, moment| *moment > now);
            self.full_at.shrink_to(1024);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The limit of calls without authentication: health, reflection, and calls whose authentication fails.
#[derive(Debug)]
pub struct UnauthenticatedLimit {
    addresses: SourceBuckets,
    all: Bucket,
}

impl UnauthenticatedLimit {
    const RATE: u32 = 200;
    const BURST: u32 = 1000;
    const RATE_OF_ALL: i64 = 2000;

    /// Full buckets.
    pub fn new() -> Self {
        Self {
            addresses: SourceBuckets::new(Self::BURST, Self::RATE),
            all: Bucket::new(Self::RATE_OF_ALL),
        }
    }

    /// Counts a call from this address. Health checks count for the address only: callers from many addresses cannot make the service
    /// look unhealthy.
    pub fn take(&self, address: IpAddr, counts_for_all: bool) -> Result<(), Error> {
        if let Some(wait) = self.addresses.wait(address) {
            let limit = Limit::Unauthenticated;
            return Err(Error::RateLimited { limit, wait });
        }
        self.addresses.count(address);
        if counts_for_all {
            let limit = Limit::AllUnauthenticated;
            self.all.take().map_err(|wait| Error::RateLimited { limit, wait })?;
        }
        Ok(())
    }
}

impl Default for UnauthenticatedLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_bucket_has_the_calls_of_one_second() {
        let bucket = Bucket::new(5);
        assert!((0..5).all(|_| bucket.take().is_ok()));
        let wait = bucket.take().unwrap_err();
        assert!(wait > Duration::ZERO && wait <= SECOND / 5, "{wait:?}");
        std::thread::sleep(wait);
        bucket.take().unwrap();
        bucket.take().unwrap_err();
    }

    #[test]
    fn the_log_tells_of_each_limit_once_in_ten_seconds() {
        assert!(Limit::AccessKey(1).is_log_due());
        assert!(!Limit::AccessKey(2).is_log_due());
        assert!(Limit::Account(1).is_log_due());
    }

    #[test]
    fn any_rate_can_be_stored() {
        for (rate, counted) in [(-1, 0), (0, 0), (1, 1), (i64::MAX, 1_000_000)] {
            let bucket = Bucket::new(rate);
            assert_eq!((bucket.rate(), bucket.take().is_ok()), (counted, counted > 0));
        }
    }

    #[test]
    fn a_bucket_belongs_to_its_id_until_the_rate_changes() {
        let buckets = Buckets::default();
        let first = buckets.bucket(&"a", 1);
        first.take().unwrap();
        assert!(Arc::ptr_eq(&first, &buckets.bucket(&"a", 1)));
        buckets.bucket(&"a", 1).take().unwrap_err();
        buckets.bucket(&"b", 1).take().unwrap();
        buckets.bucket(&"a", 2).take().unwrap();
    }

    #[test]
    fn buckets_without_a_caller_are_removed_when_there_are_many() {
        let buckets = Buckets::default();
        let used = buckets.bucket(&0, 1);
        for id in 1..=Buckets::<usize>::MAX_LEN {
            buckets.bucket(&id, 1);
        }
        assert_eq!(lock(&buckets.0).len(), 2);
        assert!(Arc::ptr_eq(&used, &buckets.bucket(&0, 1)));
    }

    #[test]
    fn an_address_waits_when_its_tokens_are_used() {
        let (buckets, now) = (SourceBuckets::new(3, 2), Instant::now());
        for _ in 0..3 {
            assert_eq!(buckets.wait_at(v4(1), now), None);
            buckets.count_at(v4(1), now);
        }
        assert_eq!(buckets.wait_at(v4(1), now), Some(SECOND / 2));
        assert_eq!(buckets.wait_at(v4(2), now), None);
        assert_eq!(buckets.wait_at(v4(1), now + SECOND / 2), None);
        buckets.count_at(v4(1), now + SECOND / 2);
        assert_eq!(buckets.wait_at(v4(1), now + SECOND / 2), Some(SECOND / 2));
    }

    /// Look-ups that run at the same moment are all allowed. The address then waits until it has paid for them.
    #[test]
    fn events_beyond_the_burst_are_owed() {
        let (buckets, now) = (SourceBuckets::new(3, 2), Instant::now());
        for _ in 0..7 {
            buckets.count_at(v4(1), now);
        }
        assert_eq!(buckets.wait_at(v4(1), now), Some(SECOND * 5 / 2));
        for _ in 0..1000 {
            buckets.count_at(v4(1), now);
        }
        assert_eq!(buckets.wait_at(v4(1), now), Some(SourceBuckets::MAX_DEBT + SECOND / 2));
    }

    #[test]
    fn an_ipv6_source_is_a_network_of_64_bits() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(source("2001:db8:0:1::1"), source("2001:db8:0:1:ffff::"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_eq!(source("::ffff:192.0.2.1"), Source::of(v4(1)));
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let (buckets, now) = (SourceBuckets::new(2, 1), Instant::now());
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..SourceBuckets::MAX_LEN as u32 + 5 {
            buckets.count_at(address(number), now);
        }
        assert_eq!(lock(&buckets.moments).full_at.len(), SourceBuckets::MAX_LEN + 1);
        // Five addresses share one bucket. Known addresses keep theirs.
        assert!(buckets.wait_at(address(u32::MAX), now).is_some());
        assert_eq!(buckets.wait_at(address(1), now), None);
        // When buckets are full again, there is room.
        buckets.count_at(address(u32::MAX), now + SECOND * 60);
        assert_eq!(lock(&buckets.moments).full_at.len(), 1);
    }

    #[test]
    fn unauthenticated_calls_have_a_limit_for_each_address_and_for_all() {
        let limit = UnauthenticatedLimit::new();
        let refused = |address, counts| {
            let refused = (0..1300).find_map(|_| limit.take(address, counts).err());
            refused.map(|refused| match refused {
                Error::RateLimited { limit, .. } => limit,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(refused(v4(0), true), Some(Limit::Unauthenticated));
        let limits: Vec<_> = (1..5).filter_map(|last| refused(v4(last), true)).collect();
        assert!(limits.contains(&Limit::AllUnauthenticated), "{limits:?}");
        assert!(limit.take(v4(50), false).is_ok());
    }
}
