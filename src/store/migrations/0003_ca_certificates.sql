-- CA certificates are kept as server certificates are, in tables of the same columns but for the key's, so that the same
-- statements serve both: their names differ by this prefix alone. Each has one version, and is a chain of itself.
create table ca_certificate (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  region_id text not null,
  name text not null,
  revision bigint not null,
  version bigint not null,
  fingerprint bytea not null check (octet_length(fingerprint) = 20),
  fingerprint_sha256 bytea not null check (octet_length(fingerprint_sha256) = 32),
  common_name text not null,
  subject_alternative_names text[] not null,
  not_before_ms bigint not null,
  not_after_ms bigint not null,
  serial_number text not null,
  issuer text not null,
  subject text not null,
  key_algorithm text not null,
  key_size int not null,
  signature_algorithm text not null,
  spki_sha256 bytea not null check (octet_length(spki_sha256) = 32),
  chain bytea[] not null,
  chain_length int not null check (chain_length = 1),
  deleted_at timestamptz,
  primary key (account_id, created_ms, random)
);
alter table ca_certificate alter column chain set storage external;
create index ca_certificate_live on ca_certificate (account_id, created_ms, random) where deleted_at is null;
create index ca_certificate_of_region on ca_certificate (account_id, region_id, created_ms, random)
  where deleted_at is null;
create index ca_certificate_deleted on ca_certificate (account_id, created_ms, random) where deleted_at is not null;
create index ca_certificate_by_deletion on ca_certificate (deleted_at) where deleted_at is not null;
create index ca_certificate_by_key on ca_certificate (account_id, spki_sha256, fingerprint_sha256, created_ms, random)
  where deleted_at is null;

create table ca_certificate_count (
  account_id bigint not null,
  region_id text not null,
  live bigint not null check (live >= 0),
  granted bigint not null,
  primary key (account_id, region_id)
) with (fillfactor = 50);

alter table quota drop constraint quota_kind_check;
alter table quota add constraint quota_kind_check check (kind in ('server_certificates', 'ca_certificates'));

create table ca_certificate_tag (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  key text not null,
  value text not null,
  primary key (account_id, created_ms, random, key),
  foreign key (account_id, created_ms, random) references ca_certificate on delete cascade
);
create index ca_certificate_tag_by_value on ca_certificate_tag (account_id, key, value, created_ms, random);

-- What an event's id is the id of.
alter table event add column resource_type text not null default 'server_certificate'
  check (resource_type in ('server_certificate', 'ca_certificate'));
