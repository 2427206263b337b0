-- What a connection's owner asks for, beside what its host reports (connections.sql).

-- name: shown
-- $1 id. As the API shows it, deleted or not.
SELECT connection_object(c) FROM connections c WHERE c.id = $1;

-- name: release_external_id
-- $1 tenant, $2 external id. A deleted connection keeps its history and gives its external id back.
UPDATE connections
   SET external_id = NULL
 WHERE tenant_id = $1
   AND external_id = $2
   AND deleted_at IS NOT NULL;

-- name: update
-- $1 id, $2 label, $3 external id, $4 config, $5 metadata. All four as they shall be. The row is locked by then.
UPDATE connections
   SET label = $2, external_id = $3, config = $4, metadata = $5, updated_at = now()
 WHERE id = $1;

-- name: has_external_id
-- $1 tenant, $2 external id, $3 a connection that does not count.
SELECT EXISTS (SELECT 1 FROM connections WHERE tenant_id = $1 AND external_id = $2 AND id <> $3);

-- name: delete
-- $1 id. Deleted once; its history stays until retention.
UPDATE connections
   SET deleted_at = now(), desired = 'offline', updated_at = now()
 WHERE id = $1
   AND deleted_at IS NULL;

-- name: pairing
-- $1 id, $2 tenant, $3 allowed connections or NULL for all. What there is to show to a phone, by the database's clock.
SELECT c.status, c.status_reason, c.qr_code, c.qr_attempt, c.qr_expires_at, c.qr_expires_at > now() AS is_qr_fresh
  FROM connections c
 WHERE c.id = $1
   AND c.tenant_id = $2
   AND ($3::uuid[] IS NULL OR c.id = ANY($3))
   AND c.deleted_at IS NULL;

-- name: living_close_job
-- $1 the queue's id, $2 connection, $3 reason. The close that was asked for and has not ended. One arm per partial index.
SELECT pk, job_key, state FROM jobs WHERE queue = $1 AND grp = $2 AND state = 'waiting' AND data ->> 'reason' = $3
UNION ALL
SELECT pk, job_key, state FROM jobs WHERE queue = $1 AND grp = $2 AND state = 'delayed' AND data ->> 'reason' = $3
UNION ALL
SELECT pk, job_key, state FROM jobs WHERE queue = $1 AND grp = $2 AND state = 'active' AND data ->> 'reason' = $3
ORDER BY pk DESC
LIMIT 1;

-- name: message_status
-- $1 message id.
SELECT status FROM messages WHERE id = $1;
