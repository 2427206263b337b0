-- The event log, in the order of its positions, and the tickets for following it.

-- name: mark
-- Which position was given last, and which transactions may still commit one up to it. Not within a transaction that writes events.
SELECT last_given, writers FROM event_log_mark_v1();

-- name: kept
SELECT settled FROM event_log;

-- name: keep
-- $1 position. At most once in 5 s, whichever process asks.
UPDATE event_log SET settled = $1, kept_at = now() WHERE settled < $1 AND kept_at < now() - interval '5 s';

-- name: forget_kept
-- After the log became shorter.
UPDATE event_log SET settled = 0, kept_at = 'epoch' WHERE settled > 0;

-- name: position_of
-- $1 event, $2 tenant, $3 allowed connections or NULL for all. No row: never there, deleted by retention, or not for this caller.
SELECT position FROM events WHERE id = $1 AND tenant_id = $2 AND ($3::uuid[] IS NULL OR connection_id = ANY($3));

-- name: connection_exists
-- $1 connection, $2 tenant. Deleted ones count: their history stays.
SELECT EXISTS (SELECT 1 FROM connections WHERE id = $1 AND tenant_id = $2);

-- name: everything
-- $1 after this position, $2 up to this one, $3 limit.
SELECT id, position, tenant_id, connection_id, type, category, severity, payload, created_at
  FROM events
 WHERE position > $1 AND position <= $2
 ORDER BY position
 LIMIT $3;

-- name: reach
-- $1 after this position, $2 up to this one, $3 rows. How far a look at so many rows goes; a count below $3: as far as $2.
SELECT max(s.position) AS reach, count(*) AS looked_at
  FROM (SELECT e.position FROM events e WHERE e.position > $1 AND e.position <= $2 ORDER BY e.position LIMIT $3) s;

-- name: page
-- $1 after this position, $2 up to this one, $3 tenant, $4 type or NULL, $5 category or NULL, $6 limit.
SELECT id, position, tenant_id, connection_id, type, category, severity, payload, created_at
  FROM events
 WHERE position > $1 AND position <= $2 AND tenant_id = $3
   AND ($4::text IS NULL OR type = $4) AND ($5::text IS NULL OR category = $5)
 ORDER BY position
 LIMIT $6;

-- name: reach_of
-- As reach, of some connections' events: $4 connections. Each is looked at by its own index.
SELECT max(s.position) AS reach, count(*) AS looked_at
  FROM (SELECT o.position
          FROM unnest($4::uuid[]) c(id)
         CROSS JOIN LATERAL (SELECT e.position FROM events e
                              WHERE e.connection_id = c.id AND e.position > $1 AND e.position <= $2 ORDER BY e.position LIMIT $3) o
         ORDER BY o.position
         LIMIT $3) s;

-- name: page_of
-- As page, of some connections' events: $7 connections.
SELECT o.id, o.position, o.tenant_id, o.connection_id, o.type, o.category, o.severity, o.payload, o.created_at
  FROM unnest($7::uuid[]) c(id)
 CROSS JOIN LATERAL (SELECT e.id, e.position, e.tenant_id, e.connection_id, e.type, e.category, e.severity, e.payload, e.created_at
                       FROM events e
                      WHERE e.connection_id = c.id AND e.position > $1 AND e.position <= $2 AND e.tenant_id = $3
                        AND ($4::text IS NULL OR e.type = $4) AND ($5::text IS NULL OR e.category = $5)
                      ORDER BY e.position LIMIT $6) o
 ORDER BY o.position
 LIMIT $6;

-- name: insert_ticket
-- $1 SHA-256 of the ticket, $2 tenant, $3 key or NULL, $4 scopes, $5 connections or NULL for all, $6 seconds that it lasts.
-- Expired ones go on the way.
WITH swept AS (
  DELETE FROM event_tickets
   WHERE ticket_hash = ANY(ARRAY(SELECT o.ticket_hash FROM event_tickets o WHERE o.expires_at < now() ORDER BY o.expires_at LIMIT 100)))
INSERT INTO event_tickets (ticket_hash, tenant_id, key_id, scopes, connection_ids, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
RETURNING expires_at;

-- name: use_ticket
-- $1 SHA-256 of a ticket. No row: unknown, used, expired, or its key was revoked or expired since.
DELETE FROM event_tickets t
 WHERE t.ticket_hash = $1
   AND t.expires_at > now()
   AND (t.key_id IS NULL OR EXISTS (SELECT 1 FROM api_keys k
         WHERE k.id = t.key_id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())))
RETURNING t.tenant_id, t.key_id, t.scopes, t.connection_ids;

-- name: ended_keys
-- $1 keys. Those that are no longer valid.
SELECT asked.id
  FROM unnest($1::uuid[]) asked(id)
  LEFT JOIN api_keys k ON k.id = asked.id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
 WHERE k.id IS NULL;
