-- store::upload
with input as materialized (
  select * from unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::uuid[], $7::bytea[], $8::bytea[],
    $9::text[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::text[], $16::int[],
    $17::text[], $18::bytea[], $19::bytea[], $20::text[], $21::uuid[], $22::bool[], $23::int[], $24::int[],
    $25::int[], $26::int[], $33::text[], $34::bytea[], $35::bigint[]
  ) with ordinality as input(
    account_id, created_ms, random, region_id, name, key_id, fingerprint, fingerprint_sha256,
    common_name, not_before_ms, not_after_ms, serial_number, issuer, subject, key_algorithm, key_size,
    signature_algorithm, spki_sha256, sealed, access_key_id, request_id, with_fingerprints, names_from, names_to,
    chain_from, chain_to, client_token, request_mac, quota, row
  )
),
token as (
  insert into client_token (account_id, method, client_token, created_ms, random, request_mac)
  select account_id, $36::text, client_token, created_ms, random, request_mac
  from input where client_token is not null order by account_id, client_token
  on conflict (account_id, method, client_token) do nothing
  returning account_id, created_ms, random
),
candidate as materialized (
  select input.*, row_number() over (partition by account_id, region_id order by row) as place
  from input left join token using (account_id, created_ms, random)
  where input.client_token is null or token.account_id is not null
),
wanted as (
  select account_id, region_id, count(*) as live,
    coalesce(
      (select maximum from quota where quota.account_id = candidate.account_id and kind = 'server_certificates'),
      min(quota)
    ) as maximum
  from candidate group by account_id, region_id
),
counted as (
  insert into server_certificate_count as counter (account_id, region_id, live, granted)
  select account_id, region_id, least(live, maximum), least(live, maximum)
  from wanted order by account_id, region_id
  on conflict (account_id, region_id) do update set (live, granted) = (
    select counter.live + fitting, fitting
    from wanted cross join lateral (
      select greatest(0, least(wanted.live, wanted.maximum - counter.live)) as fitting
    ) as room
    where wanted.account_id = counter.account_id and wanted.region_id = counter.region_id
  )
  returning account_id, region_id, granted
),
accepted as (
  select candidate.* from candidate join counted using (account_id, region_id) where place <= granted
),
certificate as (
  insert into server_certificate (
    account_id, created_ms, random, region_id, name, revision, version, key_id, fingerprint, fingerprint_sha256,
    common_name, subject_alternative_names, not_before_ms, not_after_ms, serial_number, issuer, subject,
    key_algorithm, key_size, signature_algorithm, spki_sha256, chain, chain_length
  )
  select account_id, created_ms, random, region_id, name, $32::bigint, $32::bigint, key_id, fingerprint, fingerprint_sha256,
    common_name, ($27::text[])[names_from:names_to], not_before_ms, not_after_ms, serial_number, issuer, subject,
    key_algorithm, key_size, signature_algorithm, spki_sha256, ($28::bytea[])[chain_from:chain_to],
    chain_to - chain_from + 1
  from accepted
  returning account_id, created_ms, random, fingerprint
),
key_row as (
  insert into private_key (account_id, created_ms, random, key_id, sealed)
  select account_id, created_ms, random, key_id, sealed from accepted
),
tag_row as (
  insert into server_certificate_tag (account_id, created_ms, random, key, value)
  select account_id, created_ms, random, key, value
  from unnest($29::bigint[], $30::text[], $31::text[]) as tag(row, key, value) join accepted using (row)
),
event_row as (
  insert into event (account_id, created_ms, random, revision, kind, access_key_id, request_id)
  select account_id, created_ms, random, $32::bigint, 'uploaded', access_key_id, request_id from accepted
)
select
  candidate.account_id is null as token_seen,
  certificate.account_id is not null as stored,
  case when input.with_fingerprints then (
    select string_agg(fingerprint, ''::bytea order by created_ms, random) from (
      (
        select created_ms, random, fingerprint from server_certificate
        where account_id = input.account_id and deleted_at is null order by created_ms, random limit 50001
      )
      union all
      select created_ms, random, fingerprint from certificate where account_id = input.account_id
    ) as of_account
  ) end as fingerprints
from input
  left join candidate using (account_id, created_ms, random)
  left join certificate using (account_id, created_ms, random)
order by input.row

-- store::rename
with changed as (
  update server_certificate set name = $8, revision = revision + 1
  where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
    and ($5::bigint is null or revision = $5) and deleted_at is null
  returning revision
),
event_row as (
  insert into event (account_id, created_ms, random, revision, kind, access_key_id, request_id)
  select $1, $2, $3, revision, 'renamed', $6::text, $7::uuid from changed
)
select revision from changed

-- store::delete
with changed as (
  update server_certificate set deleted_at = now(), revision = revision + 1
  where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
    and ($5::bigint is null or revision = $5) and deleted_at is null
  returning region_id, revision
),
counted as (
  update server_certificate_count as counter set live = live - 1 from changed
  where counter.account_id = $1 and counter.region_id = changed.region_id
),
event_row as (
  insert into event (account_id, created_ms, random, revision, kind, access_key_id, request_id)
  select $1, $2, $3, revision, 'deleted', $6::text, $7::uuid from changed
)
select revision from changed

-- store::undelete
with target as (
  select region_id from server_certificate
  where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
    and ($5::bigint is null or revision = $5) and deleted_at is not null
  for update
),
counted as (
  update server_certificate_count as counter set live = live + 1 from target
  where counter.account_id = $1 and counter.region_id = target.region_id
    and counter.live < coalesce(
      (select maximum from quota where quota.account_id = $1 and kind = 'server_certificates'), $8::bigint
    )
  returning 1
),
changed as (
  update server_certificate set deleted_at = null, revision = revision + 1 from counted
  where account_id = $1 and created_ms = $2 and random = $3
  returning revision
),
event_row as (
  insert into event (account_id, created_ms, random, revision, kind, access_key_id, request_id)
  select $1, $2, $3, revision, 'undeleted', $6::text, $7::uuid from changed
)
select (select revision from changed) as revision from target

-- store::purge
with changed as (
  delete from server_certificate
  where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
    and ($5::bigint is null or revision = $5) and deleted_at is not null
  returning revision + 1 as revision
),
key_row as (
  delete from private_key using changed where account_id = $1 and created_ms = $2 and random = $3
),
event_row as (
  insert into event (account_id, created_ms, random, revision, kind, access_key_id, request_id)
  select $1, $2, $3, revision, 'purged', $6::text, $7::uuid from changed
)
select revision from changed

-- store::delete_for_good
with changed as (
  delete from server_certificate
  where account_id = $1 and created_ms = $2 and random = $3 and ($4::text is null or region_id = $4)
    and ($5::bigint is null or revision = $5) and deleted_at is null
  returning region_id, revision + 1 as revision
),
counted as (
  update server_certificate_count as counter set live = live - 1 from changed
  where counter.account_id = $1 and counter.region_id = changed.region_id
),
key_row as (
  delete from private_key using changed where account_id = $1 and created_ms = $2 and random = $3
),
event_row as (
  insert into event (account_id, created_ms, random, revision, kind, access_key_id, request_id)
  select $1, $2, $3, revision, 'purged', $6::text, $7::uuid from changed
)
select revision from changed
