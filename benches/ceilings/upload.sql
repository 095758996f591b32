\set account :first_account + random(0, :accounts - 1)
\set random random(1, 9223372036854775806)
\set print random(1, 9223372036854775806)
\set key random(1, 9223372036854775806)
\set number random(1000000, 9999999)
with counted as (
  insert into server_certificate_count as counter (account_id, region_id, live, granted)
  values (:account::bigint, :region_id::text, 1, 1)
  on conflict (account_id, region_id) do update set live = counter.live + 1, granted = 1
),
id as materialized (
  select (extract(epoch from clock_timestamp()) * 1000)::bigint as created_ms, gen_random_uuid() as key_id,
    'h' || :number::text || :domain::text as name, 'www.h' || :number::text || :domain::text as other_name,
    lpad(to_hex(:print::bigint), 16, '0') || substring(:serial_number::text from 17) as serial_number,
    decode(lpad(to_hex(:print::bigint), 16, '0') || :hex::text, 'hex') as print,
    decode(lpad(to_hex(:key::bigint), 16, '0') || :hex::text, 'hex') as spki
),
certificate as (
  insert into server_certificate (
    account_id, created_ms, random, region_id, name, revision, version, fingerprint, fingerprint_sha256, common_name,
    subject_alternative_names, not_before_ms, not_after_ms, serial_number, issuer, subject, key_algorithm, key_size,
    signature_algorithm, spki_sha256, chain, chain_length, key_id
  )
  select :account::bigint, created_ms, :random::bigint, :region_id::text, name, 1, 1, substring(print for 20), print, name,
    array[name, other_name], created_ms, created_ms + :validity_ms::bigint, serial_number, :issuer::text, :subject::text,
    :key_algorithm::text, :key_size::int, :signature_algorithm::text, spki, array[:leaf::bytea, :intermediate::bytea], 2,
    key_id
  from id
),
key_row as (
  insert into private_key (account_id, created_ms, random, key_id, sealed)
  select :account::bigint, created_ms, :random::bigint, key_id, :sealed::bytea from id
)
insert into event (account_id, created_ms, random, revision, kind, resource_type, access_key_id, request_id)
select :account::bigint, created_ms, :random::bigint, 1, 'uploaded', 'server_certificate', :access_key_id::text, gen_random_uuid()
from id;
