//! Many certificates at once, as rows like those that an upload wrote.

use tokio_postgres::Client;

use crate::Outcome;
use crate::pairs::DOMAIN;

/// Keeps the youngest certificate and its key as the pattern, for this session.
pub const SAMPLE: &str = "
    drop table if exists pg_temp.sample, pg_temp.sample_key;
    create temporary table sample as select * from server_certificate order by created_ms desc limit 1;
    create temporary table sample_key as
      select private_key.* from private_key join sample using (account_id, created_ms, random, key_id)";

/// What an upload writes to, but for what it refers to.
const TABLES: &str = "server_certificate, server_certificate_domain, server_certificate_tag, server_certificate_count, private_key, event";

/// Columns in which certificates differ: of certificate `n` of `accounts`, each of which has `per_account`. Ids follow each
/// other, as they do in time; keys and hashes are as random as real ones.
const COLUMNS: [(&str, &str); 11] = [
    ("account_id", "sample.account_id + n / per_account"),
    ("created_ms", "1700000000000 + n * 10"),
    ("random", "hashint8extended(n, 1)"),
    ("key_id", "md5(n::text)::uuid"),
    ("name", "'h' || lpad(n::text, 7, '0') || domain"),
    ("common_name", "'h' || lpad(n::text, 7, '0') || domain"),
    (
        "subject_alternative_names",
        "array['h' || lpad(n::text, 7, '0') || domain, 'www.h' || lpad(n::text, 7, '0') || domain]",
    ),
    ("serial_number", "encode(substring(sha256(int8send(n)) for 15), 'hex')"),
    ("fingerprint", "substring(sha256(int8send(n)) for 20)"),
    ("fingerprint_sha256", "sha256(int8send(-n))"),
    ("spki_sha256", "sha256(int8send(~n))"),
];

/// Replaces all certificates by `certificates` new ones, spread evenly over the accounts from the sample's own on.
pub async fn fill(sql: &Client, accounts: usize, certificates: usize) -> Outcome<()> {
    let per_account = certificates / accounts;
    let indexes = sql
        .query(
            &format!(
                "select pg_get_indexdef(indexrelid), indexrelid::regclass::text from pg_index
                 where indrelid = any('{{{TABLES}}}'::regclass[])
                   and not exists (select from pg_constraint where conindid = indexrelid)"
            ),
            &[],
        )
        .await?;
    let rows = format!(
        "from sample,
           (select {per_account}::bigint, n::bigint, '{DOMAIN}' from generate_series(0, {certificates} - 1) as n)
             as numbered(per_account, n, domain)"
    );
    let expression = |column: &str| {
        let own = COLUMNS.iter().find(|(name, _)| *name == column);
        own.map_or(format!("sample.{column}"), |(_, expression)| (*expression).to_owned())
    };
    let columns = sql
        .query(
            "select attname from pg_attribute
             where attrelid = 'server_certificate'::regclass and attnum > 0 and not attisdropped",
            &[],
        )
        .await?;
    let names: Vec<String> = columns.iter().map(|row| row.get(0)).collect();
    let expressions: Vec<String> = names.iter().map(|name| expression(name)).collect();
    let id = ["account_id", "created_ms", "random"].map(expression).join(", ");
    let account = expression("account_id");
    // No trigger and no foreign key is asked: the rows are whole.
    let mut script =
        format!("set session_replication_role = replica; set maintenance_work_mem = '512MB'; truncate {TABLES};");
    for row in &indexes {
        script.push_str(&format!("drop index {};", row.get::<_, &str>(1)));
    }
    script.push_str(&format!(
        "insert into server_certificate ({names}) select {expressions} {rows};
         insert into private_key (account_id, created_ms, random, key_id, sealed)
           select {id}, md5(n::text)::uuid, sealed {rows}, sample_key;
         insert into event (account_id, created_ms, random, revision, kind, resource_type, access_key_id, request_id)
           select {id}, 1, 'uploaded', 'server_certificate', 'ckbench000000000', gen_random_uuid() {rows};
         insert into server_certificate_domain (account_id, created_ms, random, domain)
           select {id}, 'com.example.bench.h' || lpad(n::text, 7, '0') || label {rows}, (values (''), ('.www')) as label(label);
         insert into server_certificate_count (account_id, region_id, live, granted)
           select {account}, sample.region_id, {per_account}, 1 {rows} where n % per_account = 0;",
        names = names.join(", "),
        expressions = expressions.join(", "),
    ));
    for row in &indexes {
        script.push_str(&format!("{};", row.get::<_, &str>(0)));
    }
    script.push_str("set session_replication_role = origin;");
    sql.batch_execute(&script).await?;
    // Now rather than by itself in a measurement; and what is read from indexes alone needs its map.
    sql.batch_execute(&format!("vacuum (analyze) {TABLES}")).await?;
    Ok(())
}
