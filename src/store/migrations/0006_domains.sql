-- Names are written for less: an upload's domains took PostgreSQL longer than its certificate, key and event together.
--
-- As before (version 5), but one by one instead of in a query, which took longer to begin than to answer; and a domain that a
-- certificate has several times comes several times.
create or replace function server_certificate_domains(names text[], common_name text) returns setof text
  language plpgsql immutable parallel safe as $$
  declare
    given text[] := names[1:1000] || common_name;
    name text collate "C";
    labels text[];
    has_host boolean := false;
  begin
    for place in 1 .. cardinality(given) loop
      -- The common name is the last.
      exit when has_host and place = cardinality(given);
      name := rtrim(lower(given[place] collate "C"), '.');
      continue when (octet_length(name) <= 255 and name ~ '^[0-9a-z*._:-]+$') is not true;
      if name ~ '[a-z*_-]' and name !~ ':' then
        has_host := true;
        labels := string_to_array(name, '.');
        name := labels[cardinality(labels)];
        for label in reverse cardinality(labels) - 1 .. 1 loop
          name := name || '.' || labels[label];
        end loop;
      end if;
      return next name;
    end loop;
  end
$$;

create or replace function server_certificate_domain_insert() returns trigger language plpgsql as $$
  begin
    insert into server_certificate_domain (account_id, created_ms, random, domain)
    select distinct account_id, created_ms, random, domain
    from added cross join lateral server_certificate_domains(subject_alternative_names, common_name) as domain;
    return null;
  end
$$;

create or replace function server_certificate_domain_update() returns trigger language plpgsql as $$
  begin
    delete from server_certificate_domain
    where account_id = new.account_id and created_ms = new.created_ms and random = new.random;
    insert into server_certificate_domain (account_id, created_ms, random, domain)
    select distinct new.account_id, new.created_ms, new.random, domain
    from server_certificate_domains(new.subject_alternative_names, new.common_name) as domain;
    return null;
  end
$$;

-- Domains are written by these triggers alone, so that none is without its certificate: a foreign key would look that up again
-- for each. They go with it as they come with it.
alter table server_certificate_domain drop constraint server_certificate_domain_account_id_created_ms_random_fkey;
create function server_certificate_domain_delete() returns trigger language plpgsql as $$
  begin
    delete from server_certificate_domain
    where account_id = old.account_id and created_ms = old.created_ms and random = old.random;
    return null;
  end
$$;
create trigger server_certificate_domain_delete after delete on server_certificate
  for each row execute function server_certificate_domain_delete();
