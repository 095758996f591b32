-- Its length alone is answered: pgbench asks for texts, in which it would be twice as long.
select octet_length(string_agg(fingerprint, ''::bytea)) from (
  select created_ms, random, fingerprint from server_certificate
  where account_id = :first_account::bigint and deleted_at is null order by created_ms, random limit 50001
) as of_account;
