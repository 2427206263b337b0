-- name: begin
-- $1 tenant, $2 scope, $3 key, $4 hash of the body. Waits for a transaction that uses the same key.
-- Zero rows: the key was used already, and `find` says for what.
INSERT INTO idempotency_keys (tenant_id, scope, key, body_hash, response)
VALUES ($1, $2, $3, $4, 'null')
ON CONFLICT ON CONSTRAINT idempotency_keys_pk DO NOTHING
RETURNING created_at;

-- name: find
-- $1 tenant, $2 scope, $3 key.
SELECT body_hash, response
  FROM idempotency_keys
 WHERE tenant_id = $1
   AND scope = $2
   AND key = $3;

-- name: finish
-- $1 tenant, $2 scope, $3 key, $4 where the answer is.
UPDATE idempotency_keys
   SET response = $4
 WHERE tenant_id = $1
   AND scope = $2
   AND key = $3;

-- name: begin_all
-- Parallel arrays, sorted: $1 tenants, $2 scopes, $3 keys, $4 hashes of the bodies; $5 whether to wait for transactions that use the same
-- keys. The keys that are new. Of the others `find_all` says for what they were used; one it does not find is in use at this moment.
INSERT INTO idempotency_keys (tenant_id, scope, key, body_hash, response)
SELECT n.tenant_id, n.scope, n.key, n.body_hash, 'null'
  FROM (SELECT u.*, hashtextextended(concat_ws(' ', u.tenant_id, u.scope, u.key), 11) AS number
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) u(tenant_id, scope, key, body_hash)
        OFFSET 0) n
 -- An insert that meets another's would wait for it; whoever has this lock meets none.
 WHERE CASE WHEN $5::boolean THEN pg_advisory_xact_lock(n.number) IS NOT NULL ELSE pg_try_advisory_xact_lock(n.number) END
ON CONFLICT ON CONSTRAINT idempotency_keys_pk DO NOTHING
RETURNING tenant_id, scope, key;

-- name: find_all
-- Parallel arrays: $1 tenants, $2 scopes, $3 keys.
SELECT k.tenant_id, k.scope, k.key, k.body_hash, k.response
  FROM unnest($1::uuid[], $2::text[], $3::text[]) n(tenant_id, scope, key)
  JOIN idempotency_keys k ON k.tenant_id = n.tenant_id AND k.scope = n.scope AND k.key = n.key;

-- name: finish_all
-- Parallel arrays: $1 tenants, $2 scopes, $3 keys, $4 where the answers are.
UPDATE idempotency_keys k
   SET response = n.response
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) n(tenant_id, scope, key, response)
 WHERE k.tenant_id = n.tenant_id
   AND k.scope = n.scope
   AND k.key = n.key;

-- name: forget_all
-- Parallel arrays: $1 tenants, $2 scopes, $3 keys, of requests that were refused: they may come again.
DELETE FROM idempotency_keys k
 USING unnest($1::uuid[], $2::text[], $3::text[]) n(tenant_id, scope, key)
 WHERE k.tenant_id = n.tenant_id
   AND k.scope = n.scope
   AND k.key = n.key;
