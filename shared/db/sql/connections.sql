-- name: insert
-- $1 id, $2 tenant, $3 label, $4 external id, $5 config, $6 metadata, $7 pairing method, $8 pairing phone.
-- No row: the external id is taken.
INSERT INTO connections (id, tenant_id, label, external_id, config, metadata, pairing_method, pairing_phone)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant_id, external_id) DO NOTHING
RETURNING id;

-- name: fit_group
-- $1 connection. Sets the pause reasons of its sends from its row, which stays locked until the commit.
SELECT connection_fit_group(c) FROM connections c WHERE c.id = $1 FOR UPDATE;

-- name: get_object
-- $1 id, $2 tenant, $3 allowed connections or NULL for all.
SELECT connection_object(c) AS object, c.status, c.deleted_at FROM connections c
 WHERE c.id = $1 AND c.tenant_id = $2 AND ($3::uuid[] IS NULL OR c.id = ANY($3));

-- name: is_of_tenant
-- $1 connection, $2 tenant. Deleted ones count.
SELECT EXISTS (SELECT 1 FROM connections WHERE id = $1 AND tenant_id = $2);

-- name: list_objects
-- $1 tenant, $2 allowed or NULL, $3 status or NULL, $4 external id or NULL, $5/$6 created_at and id of the last one seen or NULL, $7 limit.
SELECT c.id, c.created_at, connection_object(c) AS object FROM connections c
 WHERE c.tenant_id = $1 AND ($2::uuid[] IS NULL OR c.id = ANY($2)) AND c.deleted_at IS NULL
   AND ($3::text IS NULL OR c.status = $3) AND ($4::text IS NULL OR c.external_id = $4)
   AND ($5::timestamptz IS NULL OR (c.created_at, c.id) < ($5, $6::uuid))
 ORDER BY c.created_at DESC, c.id DESC
 LIMIT $7;

-- name: lock
-- $1 id, $2 tenant, $3 allowed or NULL. The row that every change of a connection locks first.
SELECT c.id, c.label, c.external_id, c.status, c.status_reason, c.desired, c.paused, c.config, c.metadata, c.device_jid, c.phone, c.jid,
       c.pairing_method, c.pairing_phone, c.host_id, c.lease_epoch, c.lease_until > now() AS is_leased, c.deleted_at
  FROM connections c
 WHERE c.id = $1 AND c.tenant_id = $2 AND ($3::uuid[] IS NULL OR c.id = ANY($3))
   FOR UPDATE;

-- name: move
-- $1 id, $2 to, $3 reason, $4 the lease's epoch or NULL. Answers moved, moved_quietly, same or refused.
SELECT connection_move_v1($1, $2, $3, $4);

-- name: set_desired
-- $1 id, $2 online or offline.
UPDATE connections SET desired = $2, updated_at = now() WHERE id = $1;

-- name: set_paused
-- $1 id, $2 paused.
UPDATE connections SET paused = $2, updated_at = now() WHERE id = $1;

-- name: set_qr
-- $1 id, $2 epoch, $3 code, $4 attempt, $5 lives this many seconds. No row: another host has the lease.
UPDATE connections SET qr_code = $3, qr_attempt = $4, qr_expires_at = now() + make_interval(secs => $5), updated_at = now()
 WHERE id = $1 AND lease_epoch = $2
RETURNING connection_object(connections) || jsonb_build_object('qr', qr_code, 'qr_attempt', qr_attempt, 'qr_expires_at', rfc3339(qr_expires_at)) AS object;

-- name: set_pair_code
-- $1 id, $2 epoch, $3 code, $4 lives this many seconds.
UPDATE connections SET pair_code = $3, pair_code_expires_at = now() + make_interval(secs => $4), updated_at = now()
 WHERE id = $1 AND lease_epoch = $2
RETURNING connection_object(connections) || jsonb_build_object('pair_code', pair_code, 'expires_at', rfc3339(pair_code_expires_at)) AS object;

-- name: set_linked
-- $1 id, $2 epoch, $3 jid, $4 device jid, $5 phone, $6 lid, $7 push name. Answers the phone that was linked before.
WITH before AS (SELECT phone FROM connections WHERE id = $1 AND lease_epoch = $2 FOR UPDATE)
UPDATE connections SET jid = $3, device_jid = $4, phone = $5, lid = coalesce($6, lid), push_name = coalesce($7, push_name), updated_at = now(),
       qr_code = NULL, qr_expires_at = NULL, pair_code = NULL, pair_code_expires_at = NULL
 WHERE id = $1 AND lease_epoch = $2
RETURNING (SELECT phone FROM before) AS previous_phone;

-- name: clear_linked
-- $1 id, $2 epoch: the device is gone; the number stays known.
UPDATE connections SET device_jid = NULL, updated_at = now() WHERE id = $1 AND ($2::bigint IS NULL OR lease_epoch = $2) RETURNING id;

-- name: record_event
-- $1 connection, $2 message or NULL, $3 type, $4 severity, $5 payload. True: webhooks are to be made of it.
SELECT event_record_v1($1, $2, $3, $4, $5);
