-- name: insert
-- $1 id, $2 tenant, $3 name, $4 SHA-256 of the key, $5 its first characters, $6 scopes, $7 connections or NULL for all, $8 expiry or NULL.
INSERT INTO api_keys (id, tenant_id, name, key_hash, key_hint, scopes, connection_ids, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id, name, key_hint, scopes, connection_ids, created_at, expires_at, revoked_at, last_used_at;

-- name: foreign_connections
-- $1 tenant, $2 connection ids. Those that the tenant does not have.
SELECT wanted.id
  FROM unnest($2::uuid[]) AS wanted(id)
 WHERE NOT EXISTS (SELECT 1 FROM connections c WHERE c.id = wanted.id AND c.tenant_id = $1 AND c.deleted_at IS NULL);

-- name: find
-- $1 SHA-256 of keys. No row: unknown, revoked or expired.
SELECT id, key_hash, tenant_id, scopes, connection_ids,
       last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS is_use_stale
  FROM api_keys
 WHERE key_hash = ANY($1::bytea[])
   AND revoked_at IS NULL
   AND (expires_at IS NULL OR expires_at > now());

-- name: touch
-- $1 ids. Each at most once a minute, so that a busy key does not write a row a request; one that another request or a change of
-- the key holds is left to the next request.
UPDATE api_keys k
   SET last_used_at = now()
 WHERE k.id = ANY(ARRAY(
         SELECT o.id
           FROM api_keys o
          WHERE o.id = ANY($1::uuid[])
            AND (o.last_used_at IS NULL OR o.last_used_at < now() - interval '1 minute')
            FOR NO KEY UPDATE SKIP LOCKED));

-- name: list
-- $1 tenant, $2/$3 created_at and id of the last one seen or NULL, $4 limit. Newest first, revoked ones included.
SELECT id, name, key_hint, scopes, connection_ids, created_at, expires_at, revoked_at, last_used_at
  FROM api_keys
 WHERE tenant_id = $1
   AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
 ORDER BY created_at DESC, id DESC
 LIMIT $4;

-- name: get
-- $1 id, $2 tenant.
SELECT id, name, key_hint, scopes, connection_ids, created_at, expires_at, revoked_at, last_used_at
  FROM api_keys
 WHERE id = $1
   AND tenant_id = $2;

-- name: lock
-- $1 id, $2 tenant.
SELECT id, name, key_hint, scopes, connection_ids, created_at, expires_at, revoked_at, last_used_at
  FROM api_keys
 WHERE id = $1
   AND tenant_id = $2
   FOR UPDATE;

-- name: change
-- $1 id, $2 tenant, $3 name, $4 scopes, $5 connections or NULL for all, $6 expiry or NULL.
UPDATE api_keys
   SET name = $3, scopes = $4, connection_ids = $5, expires_at = $6
 WHERE id = $1
   AND tenant_id = $2
RETURNING id, name, key_hint, scopes, connection_ids, created_at, expires_at, revoked_at, last_used_at;

-- name: revoke
-- $1 id, $2 tenant. Zero rows: no such key. Revoking again keeps the first time.
UPDATE api_keys
   SET revoked_at = coalesce(revoked_at, now())
 WHERE id = $1
   AND tenant_id = $2
RETURNING id, name, key_hint, scopes, connection_ids, created_at, expires_at, revoked_at, last_used_at;

-- name: revoke_of_connection
-- $1 tenant, $2 connection, $3 name. The keys of this name that are limited to this connection alone.
UPDATE api_keys
   SET revoked_at = now()
 WHERE tenant_id = $1
   AND connection_ids = ARRAY[$2::uuid]
   AND name = $3
   AND revoked_at IS NULL;
