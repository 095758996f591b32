//! What each runtime has for itself, so that a call need wake no thread but its own: a connection, which the runtime that opened it
//! reads, and batches of look-ups.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError, Status, TimeoutType};
use tokio::runtime::{Handle, Id, RuntimeFlavor};

use super::access_key::{AccessKeys, access_keys};
use super::connect::{Opener, SettingsError, WAIT_FOR_CONNECTION};
use super::read::{Lookups, lookups};

/// All connections: one of each runtime that is one thread, as far as half of them go, and the others, which are everybody's.
pub(super) struct Homes {
    shared: Pool,
    /// Of one connection each.
    own: Vec<Pool>,
    homes: Mutex<HashMap<Id, Arc<Home>>>,
}

pub(super) struct Home {
    /// `None`: it has none for itself.
    own: Option<Pool>,
    pub(super) lookups: Lookups,
    pub(super) access_keys: AccessKeys,
}

impl Homes {
    pub(super) fn new(opener: &Opener, max_connections: usize) -> Result<Self, SettingsError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let own = cores.min(max_connections / 2);
        Ok(Self {
            shared: opener.pool(max_connections - own, WAIT_FOR_CONNECTION)?,
            own: (0..own)
                .map(|_| opener.pool(1, Duration::ZERO))
                .collect::<Result<_, _>>()?,
            homes: Mutex::default(),
        })
    }

    /// That of the runtime that asks.
    pub(super) fn here(&self) -> Arc<Home> {
        let runtime = Handle::current();
        let mut homes = self.homes();
        if let Some(home) = homes.get(&runtime.id()) {
            return home.clone();
        }
        let own = match runtime.runtime_flavor() {
            RuntimeFlavor::CurrentThread => {
                let taken = homes.values().filter(|home| home.own.is_some()).count();
                self.own.get(taken).cloned()
            }
            _ => None,
        };
        let home = Arc::new(Home {
            own,
            lookups: lookups(),
            access_keys: access_keys(),
        });
        homes.insert(runtime.id(), home.clone());
        home
    }

    /// The runtime's own connection if it is free, else one of those that are everybody's.
    pub(super) async fn connection(&self) -> Result<Object, PoolError> {
        if let Some(own) = &self.here().own {
            match own.get().await {
                Err(PoolError::Timeout(TimeoutType::Wait)) => {}
                connection => return connection,
            }
        }
        self.shared.get().await
    }

    /// Open, of these idle, open at most, and callers that wait for one.
    pub(super) fn counts(&self) -> [usize; 4] {
        let counts = |Status {
                          size,
                          available,
                          max_size,
                          waiting,
                      }: Status| [size, available, max_size, waiting];
        self.pools().fold([0; 4], |sum, pool| {
            let counts = counts(pool.status());
            std::array::from_fn(|place| sum[place] + counts[place])
        })
    }

    /// Closes what is idle: what is asked for next is opened anew.
    pub(super) fn renew(&self) {
        self.pools().for_each(|pool| {
            pool.retain(|_, _| false);
        });
    }

    /// Closes all connections; statements under way are finished.
    pub(super) fn close(&self) {
        self.pools().for_each(Pool::close);
    }

    fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.own.iter().chain([&self.shared])
    }

    fn homes(&self) -> MutexGuard<'_, HashMap<Id, Arc<Home>>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
