\set account :first_account + random(0, :accounts - 1)
select * from (
  select *, count(*) over () as found,
    sum(1000 + octet_length(subject_alternative_names::text) + octet_length(common_name) + octet_length(subject)
      + octet_length(issuer) + octet_length(tags::text)) over (order by created_ms, random) as octets,
    row_number() over (order by created_ms, random) as place
  from (
    select account_id, created_ms, random, region_id, name, revision, version, fingerprint, fingerprint_sha256,
      common_name, subject_alternative_names, not_before_ms, not_after_ms, serial_number, issuer, subject,
      key_algorithm, key_size, signature_algorithm, spki_sha256, chain_length, resource_group_id,
      (extract(epoch from deleted_at) * 1000)::bigint as deleted_ms,
      array(
        select unnest(array[key, value]) from (
          select key, value from server_certificate_tag as tag
          where tag.account_id = server_certificate.account_id
            and tag.created_ms = server_certificate.created_ms and tag.random = server_certificate.random
          order by key
        ) as by_key
      ) as tags
    from server_certificate
    where account_id = :account::bigint and (created_ms, random) > (:start::bigint, :start::bigint) and deleted_at is null
    order by created_ms, random limit :rows::bigint
  ) as page
) as measured
where octets <= 3145728 or place = 1
order by created_ms, random;
