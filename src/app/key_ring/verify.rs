//! Verifies everything that a key ring protects: opens every sealed value, and compares each private key and each chain with its row. A
//! service does it for an operator's call, and a command does it without a service, also with a restored database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::KeyRingMismatch;
use crate::account::AccountId;
use crate::app::authenticate::StreamCaller;
use crate::app::cpu_pool::cores;
use crate::app::violation::Violations;
use crate::app::{App, Call, Error, Field, FieldError, List};
use crate::certificate::{CertificateFacts, Chain, ClientCertificate, StoredPair, StoredPairError, stored_facts};
use crate::inventory::{CertificateId, CertificateKind, searchable_names};
use crate::seal::{self, KeyRing, Row};
use crate::store::{self, KeyState, PairCursor, PairRow, Position, Store, WalkedRow};

/// The default number of rows in a second.
const DEFAULT_RATE: u32 = 1_000;
const MAX_RATE: u32 = 1_000_000;
/// The largest number of rows in a step. A row with a chain of the greatest length has 200 KB.
const STEP: usize = 100;
/// How often rows are asked for while the database is busy.
const READ_ATTEMPTS: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// What to verify.
#[derive(Debug)]
pub struct VerifyKeyRing {
    /// The most rows in a second; 0: 1,000.
    pub rate: i32,
    /// The token of the last answer of an earlier call; empty: from the beginning.
    pub resume_token: String,
}

/// A step of a verification.
#[derive(Debug)]
pub struct VerifiedRows {
    /// The numbers of rows since the beginning.
    pub counts: VerifiedCounts,
    /// The faults of this step.
    pub faults: Vec<RowFault>,
    /// The token that continues after this step; empty after the last step.
    pub resume_token: String,
}

/// Numbers of verified rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifiedCounts {
    /// The service's own keys.
    pub service_keys: i64,
    /// The access keys that can sign.
    pub access_keys: i64,
    /// Server certificates, deleted ones included.
    pub server_certificates: i64,
    /// CA certificates.
    pub ca_certificates: i64,
    /// Earlier versions of server certificates.
    pub earlier_versions: i64,
    /// The private keys that were opened, one for each server certificate and each earlier version.
    pub private_keys: i64,
    /// The rows with a fault.
    pub faults: i64,
}

/// A row with a fault.
#[derive(Debug)]
pub struct RowFault {
    /// The table and the key of the row.
    pub row: String,
    /// The certificate and its version, if the row has one. 0: the private key has no version.
    pub certificate: Option<(CertificateId, i64)>,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a row.
#[derive(Debug)]
pub enum Fault {
    /// The sealed value does not open.
    Sealed(seal::Error),
    /// A server certificate has no private key, or the service lacks one of its own keys.
    KeyAbsent,
    /// A private key belongs to no version of a certificate.
    KeyUnused,
    /// The chain is another one than the row says, or the private key is not that of the chain.
    Pair(StoredPairError),
    /// These columns are not those of the leaf.
    Facts(Vec<&'static str>),
}

impl RowFault {
    /// Whether the key ring lacks the key that sealed the value. A rotation may have added the key a moment ago.
    pub fn is_key_missing(&self) -> bool {
        matches!(self.fault, Fault::Sealed(seal::Error::KeyMissing(_)))
    }
}

/// A verification that is under way. It reads, and changes nothing.
pub struct Verification {
    store: Store,
    keys: Arc<KeyRing>,
    /// The number of rows in a step.
    size: usize,
    /// The threads that verify the rows of a step.
    threads: usize,
    /// Where the next rows to read begin.
    next: Option<PairCursor>,
    /// The rows of the next step, which were read during the last one, and where they begin.
    read: Option<(PairCursor, Vec<WalkedRow>)>,
    counts: VerifiedCounts,
    /// Where the last step began, and the numbers of rows before it.
    last: (PairCursor, VerifiedCounts),
}

impl Verification {
    /// Verifies everything with all cores of this machine. Refuses a ring that lacks a key that is not retired, or has another key under
    /// the id of one, and a database in which nothing was sealed.
    pub async fn begin(store: &Store, keys: KeyRing) -> Result<Self, KeyRingMismatch> {
        let known = store.key_encryption_keys().await?;
        if !known.iter().any(|key| key.state == KeyState::Sealing) {
            return Err(KeyRingMismatch::NoSealingKey);
        }
        for key in known {
            match keys.check_value(key.id) {
                None if key.state.is_required() => return Err(KeyRingMismatch::KeyMissing(key.id)),
                // A key that has sealed nothing can be corrected.
                Some(value) if value != key.check_value && key.state != KeyState::Prepared => {
                    return Err(KeyRingMismatch::KeyWrong(key.id));
                }
                None | Some(_) => {}
            }
        }
        Ok(Self::from(store, Arc::new(keys), PairCursor::START, STEP, cores()))
    }

    fn from(store: &Store, keys: Arc<KeyRing>, next: PairCursor, size: usize, threads: usize) -> Self {
        Self {
            store: store.clone(),
            keys,
            size,
            threads,
            last: (next.clone(), VerifiedCounts::default()),
            next: Some(next),
            read: None,
            counts: VerifiedCounts::default(),
        }
    }

    /// The numbers of rows so far.
    pub fn counts(&self) -> VerifiedCounts {
        self.counts
    }

    /// Verifies the next rows, and returns their faults. `None`: all rows are verified.
    pub async fn step(&mut self) -> Result<Option<Vec<RowFault>>, Error> {
        let (began, rows) = match self.read.take() {
            Some(read) => read,
            None => match self.read().await? {
                Some(read) => read,
                None => return Ok(None),
            },
        };
        self.last = (began, self.counts);
        let verifying = self.verify(rows);
        // The next rows are read while these are verified.
        let read = self.read().await;
        let mut faults = Vec::new();
        for (counts, found) in verifying.join_all().await {
            self.counts.add(counts);
            faults.extend(found);
        }
        self.read = read?;
        Ok(Some(faults))
    }

    /// Reads and verifies the rows of the last step again, with another ring. Its answer replaces that of the last step.
    pub async fn step_again(&mut self, keys: Arc<KeyRing>) -> Result<Vec<RowFault>, Error> {
        self.keys = keys;
        (self.next, self.counts) = (Some(self.last.0.clone()), self.last.1);
        self.read = None;
        Ok(self.step().await?.unwrap_or_default())
    }

    /// Where the next step begins. `None`: all rows are verified.
    fn position(&self) -> Option<&PairCursor> {
        self.read.as_ref().map(|(cursor, _)| cursor).or(self.next.as_ref())
    }

    async fn read(&mut self) -> Result<Option<(PairCursor, Vec<WalkedRow>)>, Error> {
        let Some(cursor) = self.next.clone() else {
            return Ok(None);
        };
        let mut attempt = 1;
        let page = loop {
            match self.store.walk_pairs_of_all_accounts(&cursor, self.size).await {
                // A long verification must not end because the database is busy for a moment.
                Err(store::Error::Busy(_)) if attempt < READ_ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                read => break read?,
            }
        };
        self.next = page.next;
        Ok(Some((cursor, page.rows)))
    }

    fn verify(&self, mut rows: Vec<WalkedRow>) -> JoinSet<(VerifiedCounts, Vec<RowFault>)> {
        let mut verifying = JoinSet::new();
        let share = rows.len().div_ceil(self.threads).max(1);
        while !rows.is_empty() {
            let (part, keys) = (rows.split_off(rows.len().saturating_sub(share)), self.keys.clone());
            verifying.spawn_blocking(move || verify_all(&keys, part));
        }
        verifying
    }
}

impl VerifiedCounts {
    /// The number of all rows.
    pub fn rows(&self) -> i64 {
        self.service_keys + self.access_keys + self.server_certificates + self.ca_certificates + self.earlier_versions
    }

    fn add(&mut self, other: Self) {
        self.service_keys += other.service_keys;
        self.access_keys += other.access_keys;
        self.server_certificates += other.server_certificates;
        self.ca_certificates += other.ca_certificates;
        self.earlier_versions += other.earlier_versions;
        self.private_keys += other.private_keys;
        self.faults += other.faults;
    }
}

fn verify_all(keys: &KeyRing, rows: Vec<WalkedRow>) -> (VerifiedCounts, Vec<RowFault>) {
    let (mut counts, mut faults) = (VerifiedCounts::default(), Vec::new());
    for row in rows {
        let place = row.cursor();
        let (certificate, found) = match row {
            WalkedRow::ServiceKey { purpose, sealed } => {
                counts.service_keys += i64::from(sealed.is_some());
                let opened = match sealed {
                    Some(sealed) => keys
                        .open(&sealed, &Row::ServiceKey { purpose: &purpose })
                        .map(drop)
                        .map_err(Fault::Sealed),
                    None => Err(Fault::KeyAbsent),
                };
                (None, opened.err().into_iter().collect())
            }
            WalkedRow::AccessKey {
                account,
                id,
                secret_sha256,
                sealed,
            } => {
                counts.access_keys += 1;
                let row = Row::AccessKey {
                    account,
                    access_key_id: &id,
                    secret_sha256: &secret_sha256,
                };
                let opened = keys.open(&sealed, &row).map_err(Fault::Sealed);
                (None, opened.err().into_iter().collect())
            }
            WalkedRow::Pair(pair) => {
                match (pair.kind, pair.is_present) {
                    (CertificateKind::Ca, _) => counts.ca_certificates += 1,
                    (CertificateKind::Server, true) => counts.server_certificates += 1,
                    (CertificateKind::Server, false) => counts.earlier_versions += 1,
                }
                let certificate = Some((pair.certificate, pair.version));
                (certificate, verify_pair(keys, *pair, &mut counts.private_keys))
            }
            WalkedRow::PrivateKey {
                certificate,
                has_version,
                ..
            } => match has_version {
                true => (None, Vec::new()),
                false => (Some((certificate, 0)), vec![Fault::KeyUnused]),
            },
        };
        counts.faults += i64::from(!found.is_empty());
        faults.extend(found.into_iter().map(|fault| RowFault {
            row: place.to_string(),
            certificate,
            fault,
        }));
    }
    (counts, faults)
}

/// Compares the row with the leaf, and the private key with the leaf.
fn verify_pair(keys: &KeyRing, mut pair: PairRow, opened: &mut i64) -> Vec<Fault> {
    let mut faults = Vec::new();
    let of_leaf = stored_facts(&pair.chain)
        .map_err(|error| faults.push(Fault::Pair(error)))
        .ok();
    match (&pair.facts, &of_leaf) {
        (None, _) => faults.push(Fault::Facts(vec!["key_algorithm", "subject_alternative_names"])),
        // The answer for another leaf is one word, and not a list of all columns.
        (Some(facts), Some(of_leaf)) if facts.fingerprint_sha256 != of_leaf.fingerprint_sha256 => {
            faults.push(Fault::Pair(StoredPairError::Fingerprint));
        }
        (Some(facts), Some(of_leaf)) => {
            let mut differences = facts.differences(of_leaf);
            let names = pair.searchable_names.as_ref();
            let is_searched = pair.kind == CertificateKind::Server;
            if is_searched && names.is_none_or(|names| !searchable_names(of_leaf).iter().eq(names)) {
                differences.push("searchable_names");
            }
            if pair.chain_length != pair.chain.len() as i32 {
                differences.push("chain_length");
            }
            if !differences.is_empty() {
                faults.push(Fault::Facts(differences));
            }
        }
        (Some(_), None) => {}
    }
    if pair.kind == CertificateKind::Server
        && let Err(fault) = verify_key(keys, &mut pair, of_leaf.as_ref(), opened)
    {
        faults.push(fault);
    }
    faults
}

/// Opens the private key, and compares it with the leaf. The hash of the public key to which the sealed value is bound is that of the
/// leaf. If the chain was replaced, it is that of the row.
fn verify_key(
    keys: &KeyRing,
    pair: &mut PairRow,
    of_leaf: Option<&CertificateFacts>,
    opened: &mut i64,
) -> Result<(), Fault> {
    let (Some(key_id), Some(sealed)) = (pair.key_id, &pair.sealed) else {
        return Err(Fault::KeyAbsent);
    };
    let open = |facts: &CertificateFacts| {
        let row = Row::PrivateKey {
            certificate: pair.certificate,
            key_id,
            spki_sha256: &facts.spki_sha256,
        };
        keys.open(sealed, &row)
    };
    let pkcs8 = match (of_leaf.map(open), &pair.facts) {
        (Some(Err(seal::Error::Unreadable)) | None, Some(facts)) => open(facts),
        (Some(opened), _) => opened,
        // There is no hash to open the value with, and the row has another fault.
        (None, None) => return Ok(()),
    };
    let pkcs8 = pkcs8.map_err(Fault::Sealed)?;
    *opened += 1;
    let Some(of_leaf) = of_leaf else { return Ok(()) };
    let chain = std::mem::replace(&mut pair.chain, Chain::from_stored(Vec::new()));
    match StoredPair::check(chain, of_leaf.fingerprint_sha256, &pkcs8) {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::Pair(error)),
    }
}

/// The list of all rows, for resume tokens.
const LIST: List<'static> = List {
    name: "VerifyKeyRing",
    account: AccountId::OPERATORS,
    filter: &[],
};

impl App {
    /// Verifies everything with the key ring of this replica, and answers with each step. The work ends when the receiver is dropped. `certificate` is that of the
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

    fn cursor_of_token(&self, token: &str) -> Result<PairCursor, FieldError> {
        if token.is_empty() {
            return Ok(PairCursor::START);
        }
        let cursor = self.0.page_tokens.read_sorted(LIST, token).ok().and_then(|(_, text)| {
            let text = String::from_utf8(text).ok()?;
            PairCursor::parse(&text)
        });
        cursor.ok_or(FieldError::ResumeToken)
    }

    async fn verify_rows(
        &self,
        mut caller: StreamCaller,
        rate: u32,
        from: PairCursor,
        steps: mpsc::Sender<Result<VerifiedRows, Error>>,
    ) {
        // At a low rate, a step takes about a second. One thread leaves the other cores to calls.
        let size = STEP.min(rate as usize);
        let time = Duration::from_secs_f64(size as f64 / f64::from(rate));
        let mut verification = Verification::from(&self.0.store, self.keys_in_use(), from, size, 1);
        loop {
            let began = Instant::now();
            let step = match caller.check().await {
                Ok(()) => self.verified_step(&mut verification).await,
                Err(error) => Err(error),
            };
            let goes_on = matches!(&step, Ok(step) if !step.resume_token.is_empty());
            if steps.send(step).await.is_err() || !goes_on {
                return;
            }
            tokio::time::sleep(time.saturating_sub(began.elapsed())).await;
        }
    }

    fn keys_in_use(&self) -> Arc<KeyRing> {
        self.0.key_ring.current().keys.clone()
    }

    async fn verified_step(&self, verification: &mut Verification) -> Result<VerifiedRows, Error> {
        verification.keys = self.keys_in_use();
        let mut faults = verification.step().await?.unwrap_or_default();
        // The rows may have been read before a rotation and verified after it, or the reverse.
        if faults.iter().any(RowFault::is_key_missing) {
            faults = verification.step_again(self.keys_in_use()).await?;
        }
        let token = |cursor: &PairCursor| {
            let text = cursor.to_string();
            self.0.page_tokens.write_sorted(LIST, Position::START, text.as_bytes())
        };
        Ok(VerifiedRows {
            counts: verification.counts,
            faults,
            resume_token: verification.position().map(token).transpose()?.unwrap_or_default(),
        })
    }
}
