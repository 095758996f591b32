-- Which certificates have a key, and which are the same: an account's certificates by the hash of their key, then by their own.
create index server_certificate_by_key on server_certificate (account_id, spki_sha256, fingerprint_sha256, created_ms, random)
  where deleted_at is null;
