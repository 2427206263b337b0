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
