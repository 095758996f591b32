-- An account: the owner of everything else. Its id is the uid that certificate ids begin with.
create table account (
  account_id bigint primary key,
  name text not null unique,
  disabled boolean not null default false,
  created_at timestamptz not null default now()
);

-- Of the secret only a hash: it has 256 random bits, so that a password hash would add nothing.
create table access_key (
  account_id bigint not null references account,
  access_key_id text not null unique,
  secret_sha256 bytea not null check (octet_length(secret_sha256) = 32),
  role text not null check (role in ('reader', 'editor', 'consumer', 'admin')),
  disabled boolean not null default false,
  created_at timestamptz not null default now(),
  primary key (account_id, access_key_id)
);

-- The key-encryption keys that seal what this database holds: every key ring used with it must have them all. One is
-- noted here before it seals.
create table key_encryption_key (
  key_encryption_key_id bytea primary key check (octet_length(key_encryption_key_id) = 8),
  first_used_at timestamptz not null default now()
);

-- Random keys of the service itself, sealed by the key ring.
create table service_key (
  purpose text primary key,
  sealed bytea not null
);

-- A certificate's id is the account's uid, the time of its creation and 64 random bits.
-- No foreign key to account: its check would lock the account's row in every upload, and no account is ever deleted.
create table server_certificate (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  region_id text not null,
  name text not null,
  -- Raised by every change.
  revision bigint not null,
  -- Raised by every renewal.
  version bigint not null,
  key_id uuid not null,
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
  -- DER, in the order in which they are served.
  chain bytea[] not null,
  chain_length int not null check (chain_length > 0),
  -- Set while it is deleted and can be undeleted.
  deleted_at timestamptz,
  primary key (account_id, created_ms, random)
);
-- The account's fingerprints are read from this index alone.
create index server_certificate_live on server_certificate (account_id, created_ms, random) include (fingerprint)
  where deleted_at is null;
create index server_certificate_of_region on server_certificate (account_id, region_id, created_ms, random)
  where deleted_at is null;
create index server_certificate_by_expiry on server_certificate (account_id, not_after_ms) where deleted_at is null;
create index server_certificate_deleted on server_certificate (account_id, created_ms, random) where deleted_at is not null;
create index server_certificate_by_deletion on server_certificate (deleted_at) where deleted_at is not null;

-- How many live server certificates an account has in a region: changed by each statement that changes it.
create table server_certificate_count (
  account_id bigint not null,
  region_id text not null,
  live bigint not null check (live >= 0),
  -- How many of its certificates the last upload was granted.
  granted bigint not null,
  primary key (account_id, region_id)
) with (fillfactor = 50);

-- What an account may have where it is not what the service's settings say.
create table quota (
  account_id bigint not null references account,
  kind text not null check (kind in ('server_certificates')),
  maximum bigint not null check (maximum >= 0),
  primary key (account_id, kind)
);

-- The tokens by which retried calls are known, and what the first call stored.
create table client_token (
  account_id bigint not null,
  method text not null,
  client_token text not null,
  created_ms bigint not null,
  random bigint not null,
  request_mac bytea not null check (octet_length(request_mac) = 32),
  used_at timestamptz not null default now(),
  primary key (account_id, method, client_token)
);
create index client_token_by_age on client_token (used_at);

create table private_key (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  key_id uuid not null,
  sealed bytea not null,
  primary key (account_id, created_ms, random, key_id),
  foreign key (account_id, created_ms, random) references server_certificate deferrable initially deferred
);

-- No certificate without its key.
alter table server_certificate add foreign key (account_id, created_ms, random, key_id) references private_key;

-- Certificates and sealed keys do not compress: do not try.
alter table server_certificate alter column chain set storage external;
alter table private_key alter column sealed set storage external;

create table server_certificate_tag (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  key text not null,
  value text not null,
  primary key (account_id, created_ms, random, key),
  foreign key (account_id, created_ms, random) references server_certificate on delete cascade
);
create index server_certificate_tag_by_value on server_certificate_tag (account_id, key, value, created_ms, random);

-- What happened to a certificate, one row for each revision; it outlives the certificate. A request changes a certificate
-- once: after a lost connection a repetition fails here if the first attempt took effect after all.
create table event (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  revision bigint not null,
  kind text not null,
  access_key_id text not null,
  request_id uuid not null,
  occurred_at timestamptz not null default clock_timestamp(),
  -- Given after the commit, in the order in which readers see events.
  position bigint,
  primary key (account_id, created_ms, random, request_id)
);
