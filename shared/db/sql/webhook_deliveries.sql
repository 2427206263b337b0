-- name: lock_fan_out
-- $1 connection, as text. Two fan-outs of one connection go one after the other; the next statement sees what the first did.
SELECT pg_advisory_xact_lock(1514227058, hashtext($1)); -- 'ZAf2': this module's own space of two-number keys

-- name: take_events
-- $1 connection or NULL for the events without one, $2 limit. In the order they were written. The chat is a message's.
SELECT e.id, e.tenant_id, e.type, e.payload::text AS payload, e.created_at, c.external_id,
       CASE WHEN e.category = 'message' THEN e.payload ->> 'jid' END AS chat
  FROM events e LEFT JOIN connections c ON c.id = e.connection_id
 WHERE e.fan_out AND (e.connection_id = $1 OR $1::uuid IS NULL AND e.connection_id IS NULL)
 ORDER BY e.position
 LIMIT $2;

-- name: enabled_endpoints
-- $1 tenants, $2 connection or NULL. Key-locked: none is deleted for good before its deliveries are in.
SELECT id, tenant_id, owner_id, url, events, connection_ids, headers, keeps_order, payload_format, enabled, disabled_reason, created_at, updated_at
  FROM webhook_endpoints
 WHERE tenant_id = ANY($1) AND enabled AND (owner_id IS NULL OR owner_id = $2)
 ORDER BY id
   FOR KEY SHARE;

-- name: made_already
-- $1 endpoints, $2 events. The deliveries that an earlier run made.
SELECT endpoint_id, event_id FROM webhook_deliveries WHERE endpoint_id = ANY($1) AND event_id = ANY($2);

-- name: advance_sequences
-- $1 connection or NULL, $2 endpoints, in order, $3 how many numbers each. Returns the last number given to each; held until commit.
INSERT INTO webhook_sequences (endpoint_id, connection_id, last)
SELECT t.endpoint_id, $1, t.numbers FROM unnest($2::uuid[], $3::bigint[]) AS t(endpoint_id, numbers)
ON CONFLICT ON CONSTRAINT webhook_sequences_once DO UPDATE SET last = webhook_sequences.last + excluded.last
RETURNING endpoint_id, last;

-- name: insert
-- $1 connection or NULL, then arrays: $2 ids, $3 endpoints, $4 events, $5 types, $6 sequences, $7 bodies.
INSERT INTO webhook_deliveries (connection_id, id, endpoint_id, event_id, event_type, sequence, body, next_attempt_at)
SELECT $1, t.id, t.endpoint_id, t.event_id, t.event_type, t.sequence, t.body, now()
  FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::bigint[], $7::bytea[])
       AS t(id, endpoint_id, event_id, event_type, sequence, body);

-- name: mark_fanned_out
-- $1 events.
UPDATE events SET fan_out = false WHERE id = ANY($1);

-- name: has_more_events
-- $1 connection or NULL.
SELECT EXISTS (SELECT 1 FROM events e
                WHERE e.fan_out AND (e.connection_id = $1 OR $1::uuid IS NULL AND e.connection_id IS NULL));

-- name: missed
-- $1 limit. Connections whose oldest event waits for its fan-out longer than 2 s.
-- One index probe per connection that has any, however many events wait.
WITH RECURSIVE heads AS (
  (SELECT e.connection_id, e.created_at FROM events e WHERE e.fan_out AND e.connection_id IS NOT NULL
    ORDER BY e.connection_id, e.position LIMIT 1)
  UNION ALL
  SELECT next.connection_id, next.created_at FROM heads h, LATERAL (
    SELECT e.connection_id, e.created_at FROM events e WHERE e.fan_out AND e.connection_id > h.connection_id
     ORDER BY e.connection_id, e.position LIMIT 1) next)
SELECT h.connection_id FROM heads h WHERE h.created_at < now() - interval '2 s' LIMIT $1;

-- name: parcel
-- $1 delivery. What to send, and where to, as it holds at this moment.
SELECT d.id, d.endpoint_id, d.connection_id, d.event_type, d.body, d.status, d.attempts,
       e.url, e.secrets_encrypted, e.headers, e.payload_format, e.enabled AND e.deleted_at IS NULL AS is_enabled
  FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id
 WHERE d.id = $1;

-- name: record_attempts
-- Arrays: $1 deliveries, $2 attempts, $3 status after it, $4 duration_ms, $5 HTTP status, $6 error, $7 response, $8 next try in seconds, $9 seconds
-- in which the receiver wants nothing.
-- A delivered one stays so, and so does one that was canceled while it was tried, unless it arrived. The event goes
-- with the attempt's row, so that a second run adds none. It is for the log only.
-- One row for each endpoint that failed, or that is no longer failing: `failures` and how many of them got no answer in time.
WITH tries AS (
  SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::int[], $6::text[], $7::bytea[], $8::float8[], $9::float8[])
             AS t(delivery_id, attempt, after, duration_ms, http_status, error, response, retry_in_s, hold_s)),
moved AS (
  UPDATE webhook_deliveries d
     SET status = CASE WHEN d.status = 'delivered' OR d.status = 'canceled' AND t.after = 'pending' THEN d.status ELSE t.after END,
         attempts = greatest(d.attempts, t.attempt), last_status = t.http_status, last_error = t.error,
         next_attempt_at = CASE WHEN t.after = 'pending' AND d.status NOT IN ('delivered', 'canceled') THEN now() + t.retry_in_s * interval '1 second' END,
         finished_at = CASE WHEN d.status = 'delivered' OR d.status = 'canceled' AND t.after = 'pending' THEN d.finished_at
                            WHEN t.after <> 'pending' THEN now() END
    FROM tries t WHERE d.id = t.delivery_id
  RETURNING d.id, d.endpoint_id, d.connection_id, d.event_type),
kept AS (
  INSERT INTO webhook_attempts (delivery_id, attempt, duration_ms, status, error, response)
  SELECT t.delivery_id, t.attempt, t.duration_ms, t.http_status, t.error, t.response FROM tries t JOIN moved m ON m.id = t.delivery_id
  ON CONFLICT ON CONSTRAINT webhook_attempts_pk DO NOTHING
  RETURNING delivery_id),
logged AS (
  INSERT INTO events (tenant_id, connection_id, type, category, severity, payload, fan_out)
  SELECT e.tenant_id, m.connection_id, 'webhook.' || what.word, 'webhook', CASE what.word WHEN 'delivered' THEN 'info' ELSE 'warn' END,
         jsonb_build_object('delivery_id', m.id, 'endpoint_id', m.endpoint_id, 'event', m.event_type, 'attempt', t.attempt,
           'status', t.http_status, 'error', t.error, 'duration_ms', t.duration_ms, 'delivery_status', t.after, 'retry_in_s', round(t.retry_in_s)),
         false
    FROM kept k JOIN tries t ON t.delivery_id = k.delivery_id JOIN moved m ON m.id = k.delivery_id
    JOIN webhook_endpoints e ON e.id = m.endpoint_id,
         LATERAL (SELECT CASE WHEN t.after = 'delivered' THEN 'delivered' ELSE 'failed' END AS word) what)
SELECT m.endpoint_id, (array_agg(m.connection_id))[1] AS connection_id, bool_or(t.after = 'delivered') AS is_well,
       count(*) FILTER (WHERE t.after <> 'delivered')::int AS failures,
       count(*) FILTER (WHERE t.error LIKE 'WEBHOOK\_TIMEOUT%')::int AS timeouts, max(t.hold_s) AS hold_s
  FROM kept k JOIN tries t ON t.delivery_id = k.delivery_id JOIN moved m ON m.id = k.delivery_id
 GROUP BY m.endpoint_id
HAVING bool_and(t.after <> 'delivered') OR m.endpoint_id IN (SELECT c.endpoint_id FROM webhook_circuits c)
 ORDER BY m.endpoint_id;

-- name: postpone
-- Arrays: $1 deliveries, $2 reasons, $3 next try in seconds. Not tried, for a reason of our own.
-- One row for each endpoint whose network or name took a worker's time: `held`, how often.
WITH postponed AS (
  UPDATE webhook_deliveries d
     SET last_error = t.reason, next_attempt_at = now() + t.retry_in_s * interval '1 second'
    FROM unnest($1::uuid[], $2::text[], $3::float8[]) AS t(id, reason, retry_in_s)
   WHERE d.id = t.id AND d.status = 'pending'
  RETURNING d.endpoint_id, t.reason)
SELECT p.endpoint_id, count(*)::int AS held FROM postponed p WHERE p.reason LIKE 'WEBHOOK\_%' GROUP BY 1 ORDER BY 1;

-- name: end
-- Arrays: $1 deliveries, $2 status after it, $3 reasons.
UPDATE webhook_deliveries d
   SET status = t.after, last_error = t.reason, next_attempt_at = NULL, finished_at = now()
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t(id, after, reason)
 WHERE d.id = t.id AND d.status = 'pending';

-- name: list
-- $1 endpoint, $2 status or NULL, $3/$4 created_at and id of the last one seen or NULL, $5 limit, $6 allowed connections or NULL.
-- Newest first. An endpoint may have had other connections before: their deliveries stay theirs.
SELECT id, endpoint_id, event_id, connection_id, event_type, sequence, status, attempts, last_status, last_error, next_attempt_at,
       created_at, finished_at
  FROM webhook_deliveries
 WHERE endpoint_id = $1 AND ($2::text IS NULL OR status = $2)
   AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
   AND ($6::uuid[] IS NULL OR connection_id = ANY($6) OR event_type = 'webhook.test')
 ORDER BY created_at DESC, id DESC
 LIMIT $5;

-- name: get
-- $1 delivery, $2 tenant, $3 allowed connections or NULL.
SELECT d.id, d.endpoint_id, d.event_id, d.connection_id, d.event_type, d.sequence, d.status, d.attempts, d.last_status, d.last_error,
       d.next_attempt_at, d.created_at, d.finished_at, convert_from(d.body, 'UTF8') AS body, e.enabled AS is_enabled
  FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id
 WHERE d.id = $1 AND e.tenant_id = $2 AND e.deleted_at IS NULL
   AND ($3::uuid[] IS NULL OR e.connection_ids <@ $3 AND (d.connection_id = ANY($3) OR d.event_type = 'webhook.test'));

-- name: reopen
-- $1 deliveries that a person sends again. What was delivered stays so: it is a fact.
UPDATE webhook_deliveries SET status = 'pending', next_attempt_at = now(), finished_at = NULL WHERE id = ANY($1) AND status <> 'delivered';

-- name: forget_dead_letters
-- $1 queue's id, $2 job ids. A job that runs again takes the place of the one that was given up.
DELETE FROM jobs WHERE job_key = ANY($2) AND dedupe IS NULL AND queue = $1 AND state = 'failed';

-- name: now
SELECT now();

-- name: attempts_of
-- $1 delivery. The response is the receiver's, raw: escape it where it is shown.
SELECT attempt, at, duration_ms, status, error, response FROM webhook_attempts WHERE delivery_id = $1 ORDER BY attempt;

-- name: in_range
-- $1 endpoint, $2 since, $3 until, $4 the last id seen or NULL, $5 limit, $6 allowed connections or NULL. Deliveries made in that time that
-- are not on their way, in the order in which they were made; of those that list shows. Read along webhook_deliveries_newest, backwards: a
-- page costs a page, however long the time is.
SELECT d.id, d.connection_id
  FROM webhook_deliveries d
 WHERE d.endpoint_id = $1 AND d.created_at < $3 AND d.status <> 'pending'
   AND d.created_at >= coalesce((SELECT a.created_at FROM webhook_deliveries a WHERE a.id = $4), $2::timestamptz)
   AND ($4::uuid IS NULL OR d.id < $4 OR d.created_at > coalesce((SELECT a.created_at FROM webhook_deliveries a WHERE a.id = $4), '-infinity'))
   AND ($6::uuid[] IS NULL OR d.connection_id = ANY($6) OR d.event_type = 'webhook.test')
 ORDER BY d.created_at, d.id DESC
 LIMIT $5;

-- name: has_others_waiting
-- $1 endpoint, $2 connections. Whether anything of other connections is on its way to it, as when it had these once.
SELECT EXISTS (SELECT 1 FROM webhook_deliveries
                WHERE endpoint_id = $1 AND status = 'pending' AND event_type <> 'webhook.test' AND (connection_id = ANY($2)) IS NOT TRUE);

-- name: missing_in_range
-- $1 endpoint, $2 since, $3 until, $4/$5 created_at and position of the last one seen or NULL, $6 limit. Events of that time without a
-- delivery to it, as when it was disabled; in order, read along events_by_age.
SELECT e.id, e.tenant_id, e.type, e.connection_id, e.payload::text AS payload, e.created_at, e.position, c.external_id,
       CASE WHEN e.category = 'message' THEN e.payload ->> 'jid' END AS chat
  FROM events e LEFT JOIN connections c ON c.id = e.connection_id
  JOIN webhook_endpoints w ON w.id = $1 AND w.tenant_id = e.tenant_id
 WHERE e.created_at >= coalesce($4::timestamptz, $2::timestamptz) AND e.created_at < $3 AND ($4::timestamptz IS NULL OR (e.created_at, e.position) > ($4, $5::bigint))
   AND NOT e.fan_out AND e.type NOT IN ('webhook.delivered', 'webhook.failed')
   AND (w.owner_id IS NULL OR w.owner_id = e.connection_id) AND (w.connection_ids IS NULL OR e.connection_id = ANY(w.connection_ids))
   AND ('*' = ANY(w.events) OR e.category || '.*' = ANY(w.events) OR e.type = ANY(w.events))
   AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = $1 AND d.event_id = e.id)
 ORDER BY e.created_at, e.position
 LIMIT $6;

-- name: about_endpoint
-- $1 endpoint, $2 connection or NULL. The time, and what the connection's webhooks call it.
SELECT now() AS now, e.tenant_id, (SELECT c.external_id FROM connections c WHERE c.id = $2) AS external_id
  FROM webhook_endpoints e WHERE e.id = $1;
