-- What certificates are searched by. Each index answers the ids of a criterion's certificates alone, in a fixed order, which
-- is what bounds a page (store::search); only live ones are searched.
--
-- Many certificates can have the same fingerprint, serial number or issuer: the id stands behind each.
create index server_certificate_by_fingerprint on server_certificate (account_id, fingerprint, created_ms, random)
  where deleted_at is null;
-- Apart from the one before: nothing leads from one hash of a certificate to its other.
create index server_certificate_by_fingerprint_sha256 on server_certificate
  (account_id, fingerprint_sha256, created_ms, random) where deleted_at is null;
-- Serial numbers and issuers can be longer than an entry of an index may be, so that their hash stands for them and the
-- text is compared in the row. A serial number is compared without leading zeros, which few tools show.
create index server_certificate_by_serial on server_certificate
  (account_id, hashtextextended(ltrim(serial_number, '0'), 0), created_ms, random) where deleted_at is null;
create index server_certificate_by_issuer on server_certificate
  (account_id, hashtextextended(issuer, 0), created_ms, random) where deleted_at is null;
-- RSA of any size is a range of it.
create index server_certificate_by_key_type on server_certificate
  (account_id, key_algorithm, key_size, created_ms, random) where deleted_at is null;
-- For prefixes and for the order by name, both by code point whatever the database's collation is.
create index server_certificate_by_name on server_certificate (account_id, name collate "C", created_ms, random)
  where deleted_at is null;
-- For the expiry window and for the order by expiry; with the id behind it, so that pages can end between equal times.
drop index server_certificate_by_expiry;
create index server_certificate_by_expiry on server_certificate (account_id, not_after_ms, created_ms, random)
  where deleted_at is null;

-- The host names and IP addresses of certificates, deleted ones included. A host name's labels are reversed, com.example.www,
-- so that all names below a domain are one range.
create table server_certificate_domain (
  account_id bigint not null,
  created_ms bigint not null,
  random bigint not null,
  domain text collate "C" not null
);

-- What can be searched of a certificate's names, in lower case and without a trailing dot: subject alternative names that are
-- host names or IP addresses by their characters, and the common name where none is a host name. What is longer than 255
-- octets is no host name (RFC 1035 2.3.4) and could pass the limit of an index. Of more than 1,000 names the first 1,000 can
-- be searched: a certificate may hold tens of thousands, each of which would cost its row.
create function server_certificate_domains(names text[], common_name text) returns setof text
  language sql immutable parallel safe
  as $$
    with name as (
      select rtrim(lower(text collate "C"), '.') as name, is_common
      from (
        select unnest(names[1:1000]) as text, false as is_common
        union all
        select common_name, true
      ) as given
    ),
    searchable as (
      select name, is_common, name ~ '[a-z*_-]' and name !~ ':' as is_host
      from name where octet_length(name) <= 255 and name ~ '^[0-9a-z*._:-]+$'
    )
    select distinct case when is_host then (
        select string_agg(label, '.' order by place desc)
        from unnest(string_to_array(name, '.')) with ordinality as label(label, place)
      ) else name end
    from searchable
    where not is_common or not exists (select from searchable as other where other.is_host and not other.is_common)
  $$;

-- By triggers: the binary of the schema before this one writes certificates too, and knows nothing of domains. They come
-- before the rows that are there: from here on no other transaction can add one.
create function server_certificate_domain_insert() returns trigger language plpgsql as $$
  begin
    insert into server_certificate_domain (account_id, created_ms, random, domain)
    select account_id, created_ms, random, domain
    from added cross join lateral server_certificate_domains(subject_alternative_names, common_name) as domain;
    return null;
  end
$$;
create trigger server_certificate_domain_insert after insert on server_certificate
  referencing new table as added for each statement execute function server_certificate_domain_insert();

-- For each row: a trigger of some columns has no transition tables. No statement of this version updates them.
create function server_certificate_domain_update() returns trigger language plpgsql as $$
  begin
    delete from server_certificate_domain
    where account_id = new.account_id and created_ms = new.created_ms and random = new.random;
    insert into server_certificate_domain (account_id, created_ms, random, domain)
    select new.account_id, new.created_ms, new.random, domain
    from server_certificate_domains(new.subject_alternative_names, new.common_name) as domain;
    return null;
  end
$$;
create trigger server_certificate_domain_update after update of subject_alternative_names, common_name on server_certificate
  for each row execute function server_certificate_domain_update();

insert into server_certificate_domain (account_id, created_ms, random, domain)
  select account_id, created_ms, random, domain
  from server_certificate cross join lateral server_certificate_domains(subject_alternative_names, common_name) as domain;
-- By certificate: for the cascade, and to ask whether a certificate has a name.
alter table server_certificate_domain add primary key (account_id, created_ms, random, domain);
alter table server_certificate_domain add foreign key (account_id, created_ms, random) references server_certificate on delete cascade;
create index server_certificate_domain_by_name on server_certificate_domain (account_id, domain, created_ms, random);
