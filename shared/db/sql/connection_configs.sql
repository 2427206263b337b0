-- The settings of connections as those read them who act on them.

-- name: read
-- $1 connections, deleted ones too.
SELECT id, tenant_id, config, proxy_sealed FROM connections WHERE id = ANY($1::uuid[]);

-- name: set_proxy
-- $1 connection, locked by the caller, $2 its proxy's URL, sealed, or NULL.
UPDATE connections SET proxy_sealed = $2 WHERE id = $1;
