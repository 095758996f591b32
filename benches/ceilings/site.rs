//! A database with its accounts, and a certkeep on it.

use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use certkeep::account::AccountId;
use certkeep::clock::Timestamp;
use certkeep::grpc::pb;
use certkeep::inventory::{CertificateId, CertificateKind};
use http::Request;
use tokio_postgres::Client;

use crate::Outcome;
use crate::calls::{Caller, Calls};
use crate::fill;
use crate::load::Target;
use crate::measured::Measured;
use crate::pairs::{DOMAIN, Pair};
use crate::pgbench::Pgbench;
use crate::postgres::Scratch;
use crate::service::{Service, bootstrap};
use crate::wire;

const REGION: &str = "cn-hangzhou";
const FIRST_ACCOUNT: i64 = 2_000_000_000_000_000;
const UPLOAD: &str = "/certkeep.v1.CertificateService/UploadServerCertificate";
const DESCRIBE: &str = "/certkeep.v1.CertificateService/DescribeServerCertificates";
/// Quotas are counted, and none is reached.
const ARGUMENTS: [&str; 2] = ["--server-certificate-quota", "1000000"];

/// The variables of pgbench's scripts: the values of a row that certkeep wrote.
pub type Sample = Vec<(&'static str, String)>;

pub struct Site {
    name: &'static str,
    data_dir: PathBuf,
    url: String,
    postmaster: i32,
    sql: Client,
    /// One access key for each account.
    keys: Vec<String>,
    service: Option<Service>,
}

impl Site {
    /// A new database with so many accounts, each with an editor's access key, and a certkeep on it.
    pub async fn start(scratch: &Scratch, name: &'static str, accounts: usize) -> Outcome<Self> {
        scratch.create(name).await?;
        let data_dir = scratch.dir().join(name);
        std::fs::create_dir(&data_dir)?;
        let url = scratch.url(name);
        bootstrap(&data_dir, &url)?;
        let sql = scratch.connect(name).await?;
        let secret = "s".repeat(43);
        let hash = certkeep::digest::sha256(secret.as_bytes());
        let accounts = i64::try_from(accounts)?;
        sql.execute(
            "insert into account (account_id, name) select $1::bigint + n, 'bench ' || n from generate_series(0, $2::bigint - 1) as n",
            &[&FIRST_ACCOUNT, &accounts],
        )
        .await?;
        sql.execute(
            "insert into access_key (account_id, access_key_id, secret_sha256, role)
             select $1::bigint + n, 'ckbench' || lpad(n::text, 9, '0'), $3, 'editor' from generate_series(0, $2::bigint - 1) as n",
            &[&FIRST_ACCOUNT, &accounts, &hash.as_slice()],
        )
        .await?;
        let keys = (0..accounts).map(|n| format!("ckbench{n:09}.{secret}")).collect();
        let mut site = Self {
            name,
            data_dir,
            url,
            postmaster: scratch.postmaster(),
            sql,
            keys,
            service: None,
        };
        site.service = Some(site.further_service()?);
        Ok(site)
    }

    /// Another certkeep on the same database.
    pub fn further_service(&self) -> Outcome<Service> {
        let url = ["--database-url", &self.url];
        Service::start(&self.data_dir, &[&url[..], &ARGUMENTS].concat())
    }

    pub fn first_key(&self) -> &str {
        &self.keys[0]
    }

    pub fn sql(&self) -> &Client {
        &self.sql
    }

    pub fn service(&self) -> Outcome<&Service> {
        self.service.as_ref().ok_or_else(|| "certkeep does not run".into())
    }

    pub fn target(&self) -> Outcome<Target> {
        Ok(self.target_of(self.service()?))
    }

    pub fn target_of(&self, service: &Service) -> Target {
        Target {
            address: service.address(),
            pid: service.pid(),
            postmaster: self.postmaster,
        }
    }

    /// The heads of calls of this path, one for each account.
    pub fn heads(&self, path: &str) -> Outcome<Vec<Request<()>>> {
        self.keys.iter().map(|key| wire::head(path, key)).collect()
    }

    /// Uploads by the first so many accounts.
    pub fn uploads(&self, pairs: &[Pair], accounts: usize, fingerprints: Fingerprints) -> Outcome<Rc<Calls>> {
        let calls = pairs
            .iter()
            .map(|pair| Ok((Caller::Any, upload_of(pair, fingerprints)?)))
            .collect::<Outcome<_>>()?;
        let mut heads = self.heads(UPLOAD)?;
        heads.truncate(accounts);
        Ok(Rc::new(Calls::new(heads, calls)))
    }

    /// The first page of this size of each account.
    pub fn pages(&self, size: i32) -> Outcome<Rc<Calls>> {
        let request = pb::DescribeServerCertificatesRequest {
            page_size: size,
            ..Default::default()
        };
        let calls = vec![(Caller::Any, wire::frame(&request)?)];
        Ok(Rc::new(Calls::new(self.heads(DESCRIBE)?, calls)))
    }

    /// Describes of stored certificates by id, in no order.
    pub async fn describes(&self) -> Outcome<Rc<Calls>> {
        let rows = self
            .sql
            .query(
                "select account_id, created_ms, random from server_certificate where deleted_at is null order by hashint8(random) limit 20000",
                &[],
            )
            .await?;
        let calls = rows
            .iter()
            .map(|row| {
                let account: i64 = row.get(0);
                let id = CertificateId::new(
                    CertificateKind::Server,
                    AccountId::from_i64(account),
                    Timestamp::from_millis(row.get(1)),
                    row.get::<_, i64>(2).to_be_bytes(),
                );
                let request = pb::DescribeServerCertificatesRequest {
                    server_certificate_id: id.to_string(),
                    ..Default::default()
                };
                let account = usize::try_from(account - FIRST_ACCOUNT)?;
                Ok((Caller::Account(account), wire::frame(&request)?))
            })
            .collect::<Outcome<_>>()?;
        Ok(Rc::new(Calls::new(self.heads(DESCRIBE)?, calls)))
    }

    /// Uploads one pair by the first account, and takes what it became as the pattern of rows: the variables of pgbench's
    /// scripts, and the table `sample` of this database's session.
    pub async fn sample(&self, pair: &Pair) -> Outcome<Sample> {
        let connection = wire::connect(self.service()?.address()).await?;
        let head = wire::head(UPLOAD, &self.keys[0])?;
        let frame = upload_of(pair, Fingerprints::Omitted)?;
        let uploaded: pb::UploadServerCertificateResponse = wire::ask(&connection, &head, frame).await?;
        if let Some(finding) = uploaded.findings.first() {
            return Err(format!("the harness's own pairs are unsound: {}", finding.message).into());
        }
        self.sql.batch_execute(fill::SAMPLE).await?;
        let row = self
            .sql
            .query_one(
                "select region_id, serial_number, issuer, subject, key_algorithm, key_size::text, signature_algorithm,
                   chain[1]::text, chain[2]::text, sealed::text, (not_after_ms - not_before_ms)::text
                 from sample join private_key using (account_id, created_ms, random, key_id)",
                &[],
            )
            .await?;
        let names = [
            "region_id",
            "serial_number",
            "issuer",
            "subject",
            "key_algorithm",
            "key_size",
            "signature_algorithm",
            "leaf",
            "intermediate",
            "sealed",
            "validity_ms",
        ];
        let mut variables: Sample = names.into_iter().zip((0..).map(|place| row.get(place))).collect();
        variables.push((
            "access_key_id",
            self.keys[0].split('.').next().unwrap_or_default().to_owned(),
        ));
        variables.push(("domain", DOMAIN.to_owned()));
        variables.push(("hex", "5".repeat(48)));
        Ok(variables)
    }

    /// A script of pgbench on this database and so many of its accounts.
    pub fn pgbench(&self, scratch: &Scratch, script: &'static str, sample: &Sample, accounts: usize) -> Pgbench {
        let mut variables = sample.clone();
        variables.push(("first_account", FIRST_ACCOUNT.to_string()));
        variables.push(("accounts", accounts.to_string()));
        Pgbench::new(scratch, self.name, script, variables)
    }

    /// Does now what would else be done while something is measured: what was stored is vacuumed, analysed and written.
    pub async fn settle(&self) -> Outcome<()> {
        self.sql.batch_execute("vacuum (analyze)").await?;
        Ok(self.sql.batch_execute("checkpoint").await?)
    }

    /// Certificates, keys, events, and what the counters say.
    async fn rows(&self) -> Outcome<[i64; 4]> {
        let row = self
            .sql
            .query_one(
                "select (select count(*) from server_certificate), (select count(*) from private_key),
                   (select count(*) from event), (select coalesce(sum(live), 0)::bigint from server_certificate_count)",
                &[],
            )
            .await?;
        Ok([row.get(0), row.get(1), row.get(2), row.get(3)])
    }

    /// Measures what stores a certificate with each operation, after a checkpoint, and holds the database to that.
    pub async fn storing(&self, measure: impl AsyncFnOnce() -> Outcome<Measured>) -> Outcome<Measured> {
        self.sql.batch_execute("checkpoint").await?;
        self.counting(measure).await
    }

    /// The same without a checkpoint.
    pub async fn counting(&self, measure: impl AsyncFnOnce() -> Outcome<Measured>) -> Outcome<Measured> {
        let before = self.rows().await?;
        let measured = measure().await?;
        let after = self.rows().await?;
        let stored: Vec<i64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        match stored.iter().all(|rows| rows.cast_unsigned() == measured.operations) {
            true => Ok(measured),
            false => Err(format!(
                "{} uploads were counted, and the database has {stored:?} more certificates, keys, events and in its counters",
                measured.operations
            )
            .into()),
        }
    }
}

/// A call that costs next to nothing, by this access key.
pub fn cheapest(key: &str) -> Outcome<(Request<()>, Bytes)> {
    let request = pb::DescribeServerCertificatesRequest {
        page_size: 1,
        ..Default::default()
    };
    Ok((wire::head(DESCRIBE, key)?, wire::frame(&request)?))
}

/// Whether the answer holds the account's fingerprints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fingerprints {
    Answered,
    Omitted,
}

fn upload_of(pair: &Pair, fingerprints: Fingerprints) -> Outcome<Bytes> {
    wire::frame(&pb::UploadServerCertificateRequest {
        region_id: REGION.to_owned(),
        server_certificate: pair.certificates.clone(),
        private_key: pair.key.clone(),
        omit_account_fingerprints: fingerprints == Fingerprints::Omitted,
        ..Default::default()
    })
}
