//! Uploads while something breaks, and the checks afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use certkeep::grpc::pb;
use tokio::task::JoinSet;

use crate::bad_input::reason;
use crate::harness::{Client, connect_to, rows, until, upload_of};
use crate::pki::{self, Key};

/// Uploads repeatedly until it is stopped.
pub struct Load {
    name: String,
    uploads: JoinSet<Outcome>,
    acknowledged: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
}

/// The answers that the callers received.
#[derive(Default)]
pub struct Outcome {
    /// The common name of all certificates of this load.
    name: String,
    /// The ids of the uploads that were acknowledged.
    pub acknowledged: Vec<String>,
    /// The number of refusals by reason. The reason is empty when certkeep itself is gone.
    pub refused: BTreeMap<String, u32>,
}

impl Load {
    pub fn start(client: &Client) -> Self {
        Self::with_deadline(client, Duration::from_secs(20))
    }

    /// Starts a load with this deadline for each upload.
    pub fn with_deadline(client: &Client, deadline: Duration) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("load-{}.example", NUMBER.fetch_add(1, Ordering::Relaxed));
        let pairs = [Key::P256, Key::Rsa(2048)].map(|key| pki::issued(key, &name));
        let (acknowledged, stop) = (Arc::default(), Arc::default());
        let mut uploads = JoinSet::new();
        for n in 0..8 {
            let (mut client, request) = (client.clone(), upload_of(&pairs[n % pairs.len()]));
            let (acknowledged, stop): (Arc<AtomicU32>, Arc<AtomicBool>) =
                (Arc::clone(&acknowledged), Arc::clone(&stop));
            uploads.spawn(async move {
                let mut outcome = Outcome::default();
                while !stop.load(Ordering::Relaxed) {
                    let mut request = tonic::Request::new(request.clone());
                    request.set_timeout(deadline);
                    match client.upload_server_certificate(request).await {
                        Ok(answer) => {
                            outcome.acknowledged.push(answer.into_inner().server_certificate_id);
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(refused) => {
                            *outcome.refused.entry(reason(&refused)).or_default() += 1;
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
                outcome
            });
        }
        Self {
            name,
            uploads,
            acknowledged,
            stop,
        }
    }

    /// Waits until this many more uploads are acknowledged.
    pub async fn acknowledges(&self, more: u32) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + more;
        until(async || self.acknowledged.load(Ordering::Relaxed) >= enough).await;
    }

    /// How many uploads were acknowledged.
    pub fn acknowledged(&self) -> u32 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub async fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Outcome {
            name: self.name,
            ..Outcome::default()
        };
        for outcome in self.uploads.join_all().await {
            all.acknowledged.extend(outcome.acknowledged);
            for (reason, times) in outcome.refused {
                *all.refused.entry(reason).or_default() += times;
            }
        }
        all
    }
}

impl Outcome {
    /// Every refusal has one of these reasons.
    pub fn refused_only_as(&self, reasons: &[&str]) {
        let others: Vec<_> = self
            .refused
            .keys()
            .filter(|key| !reasons.contains(&key.as_str()))
            .collect();
        assert!(others.is_empty(), "{:?}", self.refused);
    }

    /// Every acknowledged certificate is stored with its chain, and every row has the rows that belong to it.
    pub async fn is_whole(&self, mut client: Client, database: &str) {
        assert!(
            self.acknowledged.len() > 20,
            "the load was no load: {} uploads",
            self.acknowledged.len()
        );
        for id in &self.acknowledged {
            let get = pb::GetServerCertificateRequest {
                server_certificate_id: id.clone(),
                ..Default::default()
            };
            let answer = client.get_server_certificate(get).await.unwrap().into_inner();
            let chain = answer.server_certificate.unwrap().certificate_chain;
            assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
        }
        let sql = connect_to(database).await;
        // None is stored but what was acknowledged, or said to be unknown, or got no answer.
        let count = "select count(*) from certificate where common_name = $1";
        let stored: i64 = sql.query_one(count, &[&self.name]).await.unwrap().get(0);
        let certainly_not = "DATABASE_UNAVAILABLE";
        let unknown: u32 = self
            .refused
            .iter()
            .filter(|(reason, _)| *reason != certainly_not)
            .map(|(_, times)| times)
            .sum();
        let acknowledged = self.acknowledged.len() as i64;
        assert!(
            (acknowledged..=acknowledged + i64::from(unknown)).contains(&stored),
            "{stored} of {acknowledged} {:?}",
            self.refused
        );
        let [certificates, keys, _, events] = rows(&sql).await;
        assert_eq!((keys, events), (certificates, certificates));
        let lone =
            "select count(*) from certificate c full join private_key k using (account_id, created_ms, random, key_id)
                    where c.account_id is null or k.account_id is null or octet_length(k.sealed) < 100";
        assert_eq!(sql.query_one(lone, &[]).await.unwrap().get::<_, i64>(0), 0);
    }
}

/// Uploads are acknowledged again within this time from now.
pub async fn resumes_within(client: &Client, limit: Duration) {
    let began = Instant::now();
    let upload = upload_of(&pki::issued(Key::P256, "again.example"));
    loop {
        let mut request = tonic::Request::new(upload.clone());
        request.set_timeout(limit);
        let Err(refused) = client.clone().upload_server_certificate(request).await else {
            break;
        };
        assert!(began.elapsed() < limit, "the service did not resume: {refused}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        began.elapsed() < limit,
        "the service resumed after {:?}",
        began.elapsed()
    );
}
