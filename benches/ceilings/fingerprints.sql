select string_agg(fingerprint, ''::bytea order by created_ms, random) from (
  select created_ms, random, fingerprint from server_certificate
  where account_id = :first_account::bigint and deleted_at is null order by created_ms, random limit 50001
) as of_account;
