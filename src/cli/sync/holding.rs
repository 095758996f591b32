//! The leases of `certkeep sync`: they tell the service which versions this host serves.
//!
//! They are timed, so that a certificate that a proxy serves stays held while `certkeep sync` or the service starts again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use super::report;
use super::state::{Kept, State};
use crate::cli::answer::{Effect, failed};
use crate::cli::connection::Delivery;
use crate::grpc::pb;

const TTL: i32 = 900;
/// Cron runs once an hour at least.
const TTL_ONCE: i32 = 3_600;
const RENEW: Duration = Duration::from_secs(300);
/// The versions of a call.
const MAX_VERSIONS: usize = 1_000;

/// The holder, and the certificates that it has bound.
pub(super) struct Holding {
    holder: String,
    ttl: i32,
    /// The version of each bound certificate that the service knows.
    bound: BTreeMap<String, i64>,
    released: BTreeSet<String>,
    due: Instant,
}

impl Holding {
    pub(super) fn new(holder: String, once: bool) -> Self {
        Self {
            holder,
            ttl: if once { TTL_ONCE } else { TTL },
            bound: BTreeMap::new(),
            released: BTreeSet::new(),
            due: Instant::now() + RENEW,
        }
    }

    /// Ends the lease with the next report.
    pub(super) fn release(&mut self, id: &str) {
        self.bound.remove(id);
        self.released.insert(id.to_owned());
    }

    /// Waits until the leases must be renewed.
    pub(super) async fn due(&self) {
        tokio::time::sleep_until(self.due).await;
    }

    /// Binds certificates that are new in the folder, and reports changed versions. Every five minutes it renews all leases. A failure
    /// is reported, and the next call repairs it.
    pub(super) async fn tell(&mut self, client: &mut Delivery, state: &State) {
        if let Err(status) = self.try_tell(client, state).await {
            report(&format!("the leases: {}", failed(status, Effect::Changes).text));
            self.due = Instant::now() + Duration::from_secs(30);
        }
    }

    async fn try_tell(&mut self, client: &mut Delivery, state: &State) -> Result<(), Status> {
        let held = state
            .certificates
            .iter()
            .filter(|(_, kept)| kept.version > 0 && !kept.is_gone);
        // Until the command has succeeded, the version before is served.
        let served = |(id, kept): (&String, &Kept)| {
            let version = match state.changed.contains(id) || state.running.contains(id) {
                true => *self.bound.get(id)?,
                false => kept.version,
            };
            Some((id.clone(), version))
        };
        let held: BTreeMap<_, _> = held.filter_map(served).collect();
        let is_due = Instant::now() >= self.due;
        let is_changed = held
            .iter()
            .any(|(id, version)| self.bound.get(id).is_some_and(|told| told != version));
        if (is_due || is_changed) && !self.bound.is_empty() {
            self.renew(client, &held).await?;
        }
        if !self.released.is_empty() {
            for ids in self.released.iter().cloned().collect::<Vec<_>>().chunks(MAX_VERSIONS) {
                let request = pb::ReleaseServerCertificateRequest {
                    holder: self.holder.clone(),
                    server_certificate_ids: ids.to_vec(),
                    all: false,
                };
                client.release_server_certificate(request).await?;
            }
            self.released.clear();
        }
        let mut has_renewed = is_due || is_changed;
        for (id, version) in held
            .iter()
            .filter(|(id, _)| !self.bound.contains_key(*id))
            .collect::<Vec<_>>()
        {
            let request = pb::BindServerCertificateRequest {
                server_certificate_id: id.clone(),
                holder: self.holder.clone(),
                ttl_seconds: self.ttl,
                version: *version,
                ..Default::default()
            };
            match client.bind_server_certificate(request).await {
                Ok(_) => {
                    has_renewed = true;
                    self.bound.insert(id.clone(), *version);
                }
                // The certificate was deleted since.
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        if has_renewed {
            self.due = Instant::now() + RENEW;
        }
        Ok(())
    }

    /// Renews all leases, with the versions of the folder.
    async fn renew(&mut self, client: &mut Delivery, held: &BTreeMap<String, i64>) -> Result<(), Status> {
        let served: Vec<_> = held.iter().filter(|(id, _)| self.bound.contains_key(*id)).collect();
        for versions in served.chunks(MAX_VERSIONS) {
            let request = pb::RenewLeasesRequest {
                holder: self.holder.clone(),
                versions: versions
                    .iter()
                    .map(|(id, version)| ((*id).clone(), **version))
                    .collect(),
            };
            match client.renew_leases(request).await {
                Ok(_) => self
                    .bound
                    .extend(versions.iter().map(|(id, version)| ((*id).clone(), **version))),
                // The leases have ended: bind all again.
                Err(status) if status.code() == Code::NotFound => {
                    self.bound.clear();
                    return Ok(());
                }
                Err(status) => return Err(status),
            }
        }
        Ok(())
    }
}
