-- name: insert
-- $1 id, $2 tenant, $3 owning connection or NULL, $4 url, $5 sealed secrets, $6 events, $7 connections or NULL, $8 sealed headers,
-- $9 whether it keeps the order of a chat, $10 payload format.
-- No row: the connection has an endpoint of its own already.
INSERT INTO webhook_endpoints (id, tenant_id, owner_id, url, secrets_encrypted, events, connection_ids, headers, keeps_order, payload_format)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT ON CONSTRAINT webhook_endpoints_one_of_connection DO NOTHING
RETURNING id;

-- name: get
-- $1 id, $2 tenant, $3 allowed connections or NULL for all: a limited key sees only endpoints limited to its own.
SELECT id, tenant_id, owner_id, url, events, connection_ids, headers, keeps_order, payload_format, enabled, disabled_reason, created_at, updated_at
  FROM webhook_endpoints
 WHERE id = $1 AND tenant_id = $2 AND deleted_at IS NULL AND ($3::uuid[] IS NULL OR connection_ids <@ $3);

-- name: lock
-- As get; the row stays locked until the commit.
SELECT id, tenant_id, owner_id, url, events, connection_ids, headers, keeps_order, payload_format, enabled, disabled_reason, created_at, updated_at
  FROM webhook_endpoints
 WHERE id = $1 AND tenant_id = $2 AND deleted_at IS NULL AND ($3::uuid[] IS NULL OR connection_ids <@ $3)
   FOR NO KEY UPDATE;

-- name: list
-- $1 tenant, $2 allowed or NULL, $3/$4 created_at and id of the last one seen or NULL, $5 limit. Newest first.
SELECT id, tenant_id, owner_id, url, events, connection_ids, headers, keeps_order, payload_format, enabled, disabled_reason, created_at, updated_at
  FROM webhook_endpoints
 WHERE tenant_id = $1 AND deleted_at IS NULL AND ($2::uuid[] IS NULL OR connection_ids <@ $2)
   AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
 ORDER BY created_at DESC, id DESC
 LIMIT $5;

-- name: count
-- $1 tenant. Those that somebody subscribed by themselves.
SELECT count(*) FROM webhook_endpoints WHERE tenant_id = $1 AND deleted_at IS NULL AND owner_id IS NULL AND events <> '{}';

-- name: unknown_connections
-- $1 tenant, $2 connection ids, $3 allowed connections or NULL for all. Those that this caller does not have.
SELECT wanted.id
  FROM unnest($2::uuid[]) AS wanted(id)
 WHERE NOT EXISTS (SELECT 1 FROM connections c
                    WHERE c.id = wanted.id AND c.tenant_id = $1 AND c.deleted_at IS NULL AND ($3::uuid[] IS NULL OR c.id = ANY($3)));

-- name: of_connection
-- $1 connection. Its own webhook_url's endpoint, locked until the commit.
SELECT id, tenant_id, owner_id, url, events, connection_ids, headers, keeps_order, payload_format, enabled, disabled_reason, created_at, updated_at
  FROM webhook_endpoints
 WHERE owner_id = $1
   FOR NO KEY UPDATE;

-- name: update
-- $1 id, $2 url, $3 events, $4 connections or NULL, $5 sealed headers or NULL: unchanged, $6 keeps order, $7 payload format. Another URL is a fresh start: enabled.
UPDATE webhook_endpoints
   SET url = $2, events = $3, connection_ids = $4, headers = coalesce($5, headers), keeps_order = $6, payload_format = $7, updated_at = now(),
       enabled = enabled OR url <> $2, disabled_reason = CASE WHEN url = $2 THEN disabled_reason END
 WHERE id = $1 AND deleted_at IS NULL
RETURNING id, tenant_id, owner_id, url, events, connection_ids, headers, keeps_order, payload_format, enabled, disabled_reason, created_at, updated_at;

-- name: set_enabled
-- $1 id, $2 enabled, $3 the reason when it is not.
UPDATE webhook_endpoints
   SET enabled = $2, disabled_reason = $3, updated_at = now()
 WHERE id = $1 AND deleted_at IS NULL
RETURNING id, tenant_id, owner_id, url, events, connection_ids, headers, keeps_order, payload_format, enabled, disabled_reason, created_at, updated_at;

-- name: secrets
-- $1 id. Locked until the commit, as what is read is written back with one more.
SELECT secrets_encrypted FROM webhook_endpoints WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE;

-- name: set_secrets
-- $1 id, $2 sealed secrets.
UPDATE webhook_endpoints SET secrets_encrypted = $2, updated_at = now() WHERE id = $1 AND deleted_at IS NULL;

-- name: delete
-- $1 id. Secrets and headers go now; the row stays as long as its deliveries.
UPDATE webhook_endpoints
   SET deleted_at = now(), updated_at = now(), enabled = false, disabled_reason = 'deleted', owner_id = NULL,
       secrets_encrypted = '', headers = '{}'
 WHERE id = $1 AND deleted_at IS NULL;

-- name: of_url
-- $1 connection, $2 url. The endpoint whose secret that receiver knows: the connection's own first, then the tenant's.
-- One row as long as the connection exists; its endpoint is NULL when none has this URL.
SELECT c.tenant_id,
       (SELECT e.id FROM webhook_endpoints e
         WHERE e.tenant_id = c.tenant_id AND e.url = $2 AND e.deleted_at IS NULL AND (e.owner_id IS NULL OR e.owner_id = c.id)
           AND (e.connection_ids IS NULL OR c.id = ANY(e.connection_ids))
         ORDER BY e.owner_id IS NULL, NOT e.enabled, e.created_at, e.id LIMIT 1) AS endpoint_id
  FROM connections c WHERE c.id = $1;

-- name: insert_unsubscribed
-- $1 id, $2 tenant, $3 url, $4 sealed secrets. An endpoint that gets only what is sent to it by name.
INSERT INTO webhook_endpoints (id, tenant_id, url, secrets_encrypted, events)
VALUES ($1, $2, $3, $4, '{}')
ON CONFLICT ON CONSTRAINT webhook_endpoints_pk DO NOTHING;

-- name: disable
-- $1 id, $2 url or NULL for whichever it is, $3 reason, $4 the connection whose delivery told us, or NULL.
-- NULL: disabled already, or its URL is another now. True: webhooks are to be made of the event webhook.disabled.
SELECT webhook_disable_v1($1, $2, $3, $4);
