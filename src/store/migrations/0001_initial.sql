-- An account owns all other rows. Its id is the uid that certificate ids begin with.
create table account (
  account_id bigint primary key,
  name text not null constraint account_name unique,
  disabled boolean not null default false,
  created_at timestamptz not null default now()
);
create index account_by_age on account (created_at, account_id);
-- The service's own account. It owns the operators' access keys and their audit trail, and no certificate.
insert into account (account_id, name) values (0, 'certkeep operators');

-- Only a hash of the secret is stored. The secret has 256 random bits, so a password hash would add nothing.
create table access_key (
  account_id bigint not null references account,
  access_key_id text not null unique,
  secret_sha256 bytea not null check (octet_length(secret_sha256) = 32),
  -- The sealed secret of a key that can sign requests. Null: the key cannot sign.
  sealed bytea,
  -- The keys of the service's own account have the role operator, and no other keys have it.
  role text not null check (role in ('reader', 'editor', 'consumer', 'admin', 'operator')),
  -- The part of the account that exists for the key. Null: no limit.
  scope_region_ids text[] check (cardinality(scope_region_ids) between 1 and 20),
  scope_resource_group_ids text[] check (cardinality(scope_resource_group_ids) between 1 and 20),
  scope_name_prefixes text[] check (cardinality(scope_name_prefixes) between 1 and 20),
  description text not null default '',
  disabled boolean not null default false,
  -- Null: never.
  expires_at timestamptz,
  -- The principal that created the key. Empty: a command on the service's host.
  created_by text not null default '',
  created_at timestamptz not null default now(),
  primary key (account_id, access_key_id),
  check ((account_id = 0) = (role = 'operator')),
  check (sealed is null or role <> 'operator')
);
create index access_key_that_signs on access_key (account_id, access_key_id) where sealed is not null;

-- The nonces of signed requests. They are kept until the time of the request is too old. Written with synchronous_commit off: a crash of
-- Postgres may forget the nonces of its last moment.
create table request_nonce (
  access_key_id text not null,
  nonce_sha256 bytea not null check (octet_length(nonce_sha256) = 32),
  expires_at timestamptz not null,
  primary key (access_key_id, nonce_sha256)
);
create index request_nonce_by_end on request_nonce (expires_at);

-- The last use of an access key. It is apart from the key, because all replicas read the key all the time.
create table access_key_use (
  account_id bigint not null,
  access_key_id text not null,
  used_at timestamptz not null,
  address inet not null,
  method text not null,
  primary key (account_id, access_key_id),
  foreign key (account_id, access_key_id) references access_key on delete cascade
) with (fillfactor = 70);

-- The identities that client certificates prove. A value belongs to one account, so only operators write here.
create table client_identity (
  kind text not null check (kind in ('spiffe_id', 'dns_name', 'subject')),
  value text collate "C" not null,
  account_id bigint not null references account,
  role text not null check (role in ('reader', 'editor', 'consumer', 'admin')),
  scope_region_ids text[] check (cardinality(scope_region_ids) between 1 and 20),
  scope_resource_group_ids text[] check (cardinality(scope_resource_group_ids) between 1 and 20),
  scope_name_prefixes text[] check (cardinality(scope_name_prefixes) between 1 and 20),
  created_by text not null,
  created_at timestamptz not null default now(),
  primary key (kind, value)
);
create index client_identity_of_account on client_identity (account_id, kind, value);

-- The key-encryption keys of the replicas' key rings. This table, and not the order of lines in a file, says which key seals.
--   prepared  in the ring of a replica, and has sealed nothing
--   sealing   seals everything new
--   opening   has sealed, and may be needed to open
--   retired   nothing is sealed by it any more. A key ring may lack it
create table key_encryption_key (
  key_encryption_key_id bytea primary key check (octet_length(key_encryption_key_id) = 8),
  -- A MAC, by which a replica recognizes a key ring with another key under this id.
  check_value bytea not null check (octet_length(check_value) = 32),
  state text not null check (state in ('prepared', 'sealing', 'opening', 'retired')),
  -- From here on nothing is stored that this key has sealed. Set before the search for its values that precedes a retirement.
  closed_at timestamptz,
  first_seen_at timestamptz not null default now(),
  -- When the key began to seal, the last time that it did.
  sealing_at timestamptz,
  retired_at timestamptz
);
create unique index key_encryption_key_sealing on key_encryption_key (state) where state = 'sealing';

-- The processes that serve. Each updates its row every 10 seconds.
create table replica (
  replica_id uuid primary key,
  host text not null,
  version text not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  -- The keys of its ring.
  key_encryption_key_ids bytea[] not null,
  -- The keys that it seals with: one, or also the previous one while uploads that began earlier are being stored. Empty: it starts.
  sealing_key_ids bytea[] not null
);

-- The rotation to a key: it encrypts every data key with this key. Its row stays after its end.
create table key_rotation (
  key_encryption_key_id bytea primary key references key_encryption_key,
  started_at timestamptz not null default now(),
  -- When the last step was committed.
  moved_at timestamptz not null default now(),
  ended_at timestamptz,
  -- The last row that the rotation has passed: its table and its key (store::SealedCursor).
  passed_row text not null,
  passed bigint not null default 0,
  -- The approximate number of rows when the rotation began.
  total bigint not null,
  failed bigint not null default 0,
  -- The first rows that did not open.
  failures text[] not null default '{}'
);
create unique index key_rotation_in_progress on key_rotation ((true)) where ended_at is null;

-- Random keys of the service itself, sealed by the key ring.
create table service_key (
  purpose text primary key,
  sealed bytea not null
);

-- The resource groups of an account. The default group of an account has no row: its id follows from the account's id.
create table resource_group (
  account_id bigint not null references account,
  resource_group_id text not null,
  name text not null,
  created_at timestamptz not null default now(),
  primary key (account_id, resource_group_id),
  constraint resource_group_name unique (account_id, name)
);

-- Server certificates and CA certificates. A certificate's id is the account's uid, the creation time and 64 random bits.
-- No foreign key to account: its check would lock the account's row in every upload, and accounts are never deleted.
create table certificate (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  kind text collate "C" not null check (kind in ('server', 'ca')),
  region_id text not null,
  name text not null,
  -- Raised by every change.
  revision bigint not null,
  -- Raised by every renewal.
  version bigint not null,
  -- A server certificate has a private key, a CA certificate has none.
  key_id uuid check ((kind = 'server') = (key_id is not null)),
  fingerprint bytea not null check (octet_length(fingerprint) = 20),
  fingerprint_sha256 bytea not null check (octet_length(fingerprint_sha256) = 32),
  common_name text not null,
  subject_alternative_names text[] not null,
  -- The same names as in searchable_name. Empty for a CA certificate: only server certificates are searched.
  searchable_names text[] collate "C" not null,
  not_before_ms bigint not null,
  not_after_ms bigint not null,
  -- The earliest end of the certificates of the chain.
  chain_not_after_ms bigint not null,
  serial_number text not null,
  issuer text not null,
  -- The issuer's attributes, as a search by issuer compares them (inventory::searchable_issuer).
  searchable_issuer text collate "C" not null,
  subject text not null,
  key_algorithm text not null,
  key_size int not null,
  signature_algorithm text not null,
  spki_sha256 bytea not null check (octet_length(spki_sha256) = 32),
  -- DER, in the order in which the certificates are served.
  chain bytea[] not null,
  chain_length int not null check (chain_length > 0 and (kind = 'server' or chain_length = 1)),
  -- Set while the certificate is deleted and can be undeleted.
  deleted_at timestamptz,
  -- Null: the account's default group, so that an upload locks no row of a group.
  resource_group_id text,
  -- When and by whom the certificate got its present pair. Null: by its upload.
  renewed_at timestamptz,
  renewed_by text,
  -- The version whose pair the present version took back. Null: none.
  rolled_back_to bigint,
  -- The certificate of Alibaba Cloud from which the pair came. Null: an uploaded pair.
  ali_cloud_certificate_id text,
  ali_cloud_certificate_name text check ((ali_cloud_certificate_id is null) = (ali_cloud_certificate_name is null)),
  ali_cloud_certificate_region_id text check ((ali_cloud_certificate_id is null) = (ali_cloud_certificate_region_id is null)),
  -- Whether it was deleted by force: whether or not a lease held it (keep_held).
  deleted_by_force boolean not null default false,
  -- The account's fingerprints are read from this index alone.
  primary key (account_id, created_ms, random) include (fingerprint, deleted_at, kind),
  constraint resource_group_of_certificate foreign key (account_id, resource_group_id) references resource_group
);
-- Certificates do not compress: do not try.
alter table certificate alter column chain set storage external;

-- CA certificates are few beside server certificates. The range has the order of this index and of no other (store::list).
create index certificate_ca on certificate (account_id, kind, created_ms, random) where kind <= 'ca' and deleted_at is null;
create index certificate_of_region on certificate (account_id, kind, region_id, created_ms, random) where deleted_at is null;
create index certificate_of_group on certificate (account_id, kind, coalesce(resource_group_id, ''), created_ms, random)
  where deleted_at is null;
-- The foreign-key check of a resource group that is to be deleted. Deleted certificates are in a group too.
create index certificate_by_resource_group on certificate (account_id, resource_group_id) where resource_group_id is not null;

-- Deleted certificates: a page of them, those whose time is over, and the oldest of a region.
create index certificate_deleted on certificate (account_id, kind, created_ms, random) where deleted_at is not null;
create index certificate_by_deletion on certificate (deleted_at) where deleted_at is not null;
create index certificate_by_deletion_of_region on certificate (account_id, kind, region_id, deleted_at)
  where deleted_at is not null;

-- The orders of a search (store::search). The id follows, so that pages can end between equal values. Names are compared by code
-- point in any collation of the database. Only server certificates are searched.
create index certificate_by_expiry on certificate (account_id, chain_not_after_ms, created_ms, random)
  where deleted_at is null and kind = 'server';
create index certificate_by_name on certificate (account_id, name collate "C", created_ms, random)
  where deleted_at is null and kind = 'server';

-- Look-ups. Uploads add entries at random places of these indexes. So an entry is small: it has the first 8 octets of a hash, and the
-- look-up compares the rest in the row. A serial number can be too long for an index: the entry has its hash.
create index certificate_by_fingerprint on certificate (account_id, substr(fingerprint, 1, 8))
  where deleted_at is null and kind = 'server';
create index certificate_by_fingerprint_sha256 on certificate (account_id, substr(fingerprint_sha256, 1, 8))
  where deleted_at is null and kind = 'server';
create index certificate_by_serial on certificate (account_id, hashtextextended(serial_number, 0))
  where deleted_at is null and kind = 'server';
-- Also for the certificates of one leaf among those of one key (store::reuse), of both kinds.
create index certificate_by_key on certificate
  (account_id, kind, substr(spki_sha256, 1, 8), substr(fingerprint_sha256, 1, 8)) where deleted_at is null;

-- The certificates whose key is on a list of compromised keys: those that certkeep knows, and those of the operator. A job fills the table
-- (app::compromised).
create table compromised_certificate (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  -- Of the leaf with this key. After a renewal, the row does not count any more.
  fingerprint_sha256 bytea not null,
  primary key (account_id, created_ms, random),
  foreign key (account_id, created_ms, random) references certificate on delete cascade
);

create table private_key (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  key_id uuid not null,
  sealed bytea not null,
  primary key (account_id, created_ms, random, key_id),
  -- The cascade removes also the key of a renewal that was committed while the deleting statement waited for the certificate's row.
  foreign key (account_id, created_ms, random) references certificate on delete cascade deferrable initially deferred
);
-- Sealed keys do not compress: do not try.
alter table private_key alter column sealed set storage external;
-- No server certificate without its key.
alter table certificate add foreign key (account_id, created_ms, random, key_id) references private_key;

-- Nothing is stored that a retired key has sealed, for example by a replica that was cut off from the database during the
-- rotation. Octets 2 to 9 of a sealed value are the id of its key (src/seal/mod.rs). Once for each statement.
create function refuse_closed_key() returns trigger language plpgsql as $$
  begin
    if exists (
      select from added join key_encryption_key on key_encryption_key_id = substring(sealed from 2 for 8)
      where closed_at is not null
    ) then
      raise exception 'sealed by a retired key-encryption key' using errcode = 'check_violation';
    end if;
    return null;
  end
$$;
create trigger private_key_refuses_closed_key after insert on private_key
  referencing new table as added for each statement execute function refuse_closed_key();
create trigger service_key_refuses_closed_key after insert on service_key
  referencing new table as added for each statement execute function refuse_closed_key();
create trigger access_key_refuses_closed_key after insert on access_key
  referencing new table as added for each statement execute function refuse_closed_key();

-- The earlier versions of server certificates that are kept. The row of the certificate has the present version, so that an upload
-- writes none. A version that took back the pair of an earlier version shares its key row.
create table certificate_version (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  version bigint not null,
  key_id uuid not null,
  -- When and by whom the certificate got this pair, and until when it had it.
  began_at timestamptz not null,
  began_by text not null,
  ended_at timestamptz not null default now(),
  rolled_back_to bigint,
  -- As in certificate.
  fingerprint bytea not null,
  fingerprint_sha256 bytea not null,
  common_name text not null,
  subject_alternative_names text[] not null,
  searchable_names text[] collate "C" not null,
  not_before_ms bigint not null,
  not_after_ms bigint not null,
  chain_not_after_ms bigint not null,
  serial_number text not null,
  issuer text not null,
  searchable_issuer text collate "C" not null,
  subject text not null,
  key_algorithm text not null,
  key_size int not null,
  signature_algorithm text not null,
  spki_sha256 bytea not null,
  chain bytea[] not null,
  chain_length int not null,
  ali_cloud_certificate_id text,
  ali_cloud_certificate_name text,
  ali_cloud_certificate_region_id text,
  primary key (account_id, created_ms, random, version),
  foreign key (account_id, created_ms, random) references certificate on delete cascade,
  -- Deferred: a purge of the certificate removes its versions and its keys by cascades, in any order.
  foreign key (account_id, created_ms, random, key_id) references private_key deferrable initially deferred
);
alter table certificate_version alter column chain set storage external;
create index certificate_version_by_end on certificate_version (ended_at);

create table certificate_tag (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  -- The certificate's kind, so that the index finds the tagged certificates of one kind.
  kind text collate "C" not null,
  key text not null,
  value text not null,
  primary key (account_id, created_ms, random, key),
  foreign key (account_id, created_ms, random) references certificate on delete cascade
);
create index certificate_tag_by_value on certificate_tag (account_id, kind, key, value, created_ms, random);

-- The number of certificates of an account and kind in a region. Each statement that changes a number updates the row.
create table certificate_count (
  account_id bigint not null,
  kind text collate "C" not null,
  region_id text not null,
  live bigint not null check (live >= 0),
  -- Deleted certificates that can be undeleted.
  deleted bigint not null default 0 check (deleted >= 0),
  -- How many certificates of the last upload fitted into the quota.
  granted bigint not null default 0,
  primary key (account_id, kind, region_id)
) with (fillfactor = 50);
-- The regions that keep more deleted certificates than they may (store::purge_of_all_accounts).
create index certificate_count_over_limit on certificate_count (account_id, kind, region_id) where deleted > 1000;

-- The searchable names of certificates, deleted ones included (inventory::searchable_names). The statement that writes or removes a
-- certificate writes or removes them.
create table searchable_name (
  account_id bigint not null,
  searchable_name text collate "C" not null,
  created_ms bigint not null,
  random bigint not null,
  primary key (account_id, searchable_name, created_ms, random)
);

-- The limit of an account where it differs from the service's settings.
create table quota (
  account_id bigint not null references account,
  kind text not null
    check (kind in ('server', 'ca', 'access_keys', 'calls_per_second', 'calls_per_second_per_key')),
  maximum bigint not null check (maximum >= 0),
  primary key (account_id, kind)
);

-- The tokens that identify retried calls, and what the first call stored.
create table client_token (
  account_id bigint not null,
  method text not null,
  client_token text not null,
  created_ms bigint not null,
  random bigint not null,
  request_mac bytea not null check (octet_length(request_mac) = 32),
  -- The request that changed the certificate. Null: an upload, which is the first request of its certificate.
  request_id uuid,
  used_at timestamptz not null default now(),
  primary key (account_id, method, client_token)
);
create index client_token_by_age on client_token (used_at);

-- The last position in each stream of an account. A transaction holds the row of a stream until its commit, so positions
-- become visible in order and without gaps. The order of all locks: the account (administrative changes only), client tokens,
-- certificates by id, counters by account, kind and region, streams by account, the resource group. The foreign-key check of a
-- certificate locks the row of its resource group at the end of the statement.
create table stream (
  account_id bigint not null,
  -- `certificates`: the table event. `access`: the table audit_event.
  name text not null check (name in ('certificates', 'access')),
  position bigint not null check (position >= 0),
  -- Events up to this position are no longer kept. The MAC shows that certkeep purged them (store::audit_chain).
  purged bigint not null default 0,
  purge_mac bytea check (octet_length(purge_mac) = 32),
  primary key (account_id, name),
  check ((purged = 0) = (purge_mac is null))
) with (fillfactor = 50);

-- The changes of a certificate, one row for each revision. An event outlives its certificate. A request changes a certificate
-- once: after a lost connection, a repetition fails here if the first attempt took effect.
create table event (
  account_id bigint not null,
  -- The place in the stream `certificates` of the account.
  position bigint not null,
  created_ms bigint not null,
  random bigint not null,
  certificate_kind text not null check (certificate_kind in ('server', 'ca')),
  kind text not null check (kind in ('uploaded', 'renamed', 'moved', 'tagged', 'deleted', 'undeleted', 'purged', 'renewed',
    'rolled_back', 'rejected')),
  -- Of the certificate, after the event.
  revision bigint not null,
  version bigint not null,
  -- Who made the change, by which request and from which address. Empty and null: the service itself.
  principal text not null,
  request_id uuid not null,
  address inet,
  occurred_at timestamptz not null default clock_timestamp(),
  -- The old and the new value of each changed field that a watcher can filter by: {"name": [old, new]},
  -- {"resource_group_id": [old, new]}, {"tags": [{...}, {...}]}. Of a purge: the last values of all of them and of region_id.
  detail jsonb,
  primary key (account_id, created_ms, random, request_id)
);
create unique index event_by_position on event (account_id, position);

-- Everything that is audited, except the changes of certificates: those are in event. Rows are never changed.
create table audit_event (
  account_id bigint not null,
  -- The place in the stream `access` of the account.
  position bigint not null,
  occurred_at timestamptz not null default clock_timestamp(),
  request_id uuid not null,
  -- The method, such as `CreateAccessKey`, or the command on the service's host, such as `bootstrap`.
  method text not null,
  outcome text not null check (outcome in ('done', 'denied', 'delivered')),
  -- Of a denial: the reason, such as `PERMISSION_DENIED`.
  reason text not null default '',
  -- Who called, and from which address. Empty and null: the service itself, or a command on its host.
  principal text not null,
  address inet,
  -- What the call was about, for example `access_key` and its id.
  resource_type text not null default '',
  resource_id text not null default '',
  version bigint,
  -- The state before and after, as in event: {"disabled": [false, true]}. Never a secret.
  detail jsonb,
  -- How many calls the row stands for.
  count bigint not null default 1 check (count > 0),
  primary key (account_id, position)
);
create index audit_event_of_resource on audit_event (account_id, resource_id, position) where resource_id <> '';
-- The look-up of a change after a lost connection.
create index audit_event_of_request on audit_event (account_id, request_id) where outcome = 'done';

-- The seals over both streams: mac = HMAC(service key `audit`, the mac before, and the rows from first_position to last_position).
-- Each seal begins where the seal before it ends.
create table audit_seal (
  account_id bigint not null,
  name text not null check (name in ('certificates', 'access')),
  first_position bigint not null check (first_position > 0),
  last_position bigint not null check (last_position >= first_position),
  mac bytea not null check (octet_length(mac) = 32),
  sealed_at timestamptz not null default now(),
  primary key (account_id, name, last_position)
);

-- Who serves certificates. A timed holder ends at a moment. The holder of a stream lasts as long as its replica is alive, so that an
-- open stream costs no writes.
create table holder (
  holder_id uuid primary key,
  account_id bigint not null,
  name text not null,
  kind text not null check (kind in ('timed', 'watch', 'sds')),
  principal text not null,
  address inet,
  -- The program and its version, as it says.
  user_agent text not null default '',
  began_at timestamptz not null default now(),
  ttl_seconds int,
  expires_at timestamptz,
  replica_id uuid references replica on delete cascade,
  check ((kind = 'timed') = (expires_at is not null)),
  check ((kind = 'timed') = (ttl_seconds is not null)),
  check ((kind = 'timed') = (replica_id is null))
) with (fillfactor = 70);
create unique index holder_timed on holder (account_id, principal, name) where kind = 'timed';
create index holder_by_end on holder (expires_at) where expires_at is not null;
create index holder_of_replica on holder (replica_id) where replica_id is not null;

-- A holder serves a certificate.
create table lease (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  holder_id uuid not null references holder on delete cascade,
  bound_at timestamptz not null default now(),
  -- The version that was handed out last, that the holder says it serves, and that it refused. Null: not known, or none.
  sent_version bigint,
  served_version bigint,
  rejected_version bigint,
  rejection text,
  primary key (account_id, created_ms, random, holder_id),
  foreign key (account_id, created_ms, random) references certificate on delete cascade
) with (fillfactor = 70);
create index lease_of_holder on lease (holder_id);

-- Whether a live holder has a lease on the certificate. A replica is alive for 30 seconds after its heartbeat.
create function is_held(account bigint, created bigint, rand bigint) returns boolean language sql volatile as $$
  select exists (
    select from lease join holder using (holder_id)
    where lease.account_id = account and lease.created_ms = created and lease.random = rand
      and (holder.expires_at > clock_timestamp() or exists (
        select from replica
        where replica.replica_id = holder.replica_id and seen_at > clock_timestamp() - interval '30 seconds'
      ))
  )
$$;

-- A certificate that is held is deleted by force only. A condition of the deleting statement would not see a lease that was committed
-- while the statement waited for the certificate's row, because its snapshot is older. The trigger runs after the row is locked, with a
-- new snapshot. Whoever inserts a lease locks the certificate's row before.
create function keep_held() returns trigger language plpgsql as $$
  begin
    if is_held(old.account_id, old.created_ms, old.random) then
      return null;
    end if;
    return new;
  end
$$;
create trigger certificate_keep_held before update of deleted_at on certificate
  for each row when (old.deleted_at is null and new.deleted_at is not null and not new.deleted_by_force)
  execute function keep_held();
