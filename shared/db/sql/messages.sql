-- name: get_object
-- $1 message id, $2 tenant, $3 allowed connections or NULL for all.
SELECT message_object(m) AS object, m.connection_id, m.job_pk
  FROM messages m JOIN connections c ON c.id = m.connection_id
 WHERE m.id = $1 AND c.tenant_id = $2 AND ($3::uuid[] IS NULL OR c.id = ANY($3));

-- name: objects
-- $1 message ids.
SELECT m.id, message_object(m) AS object FROM messages m WHERE m.id = ANY($1::uuid[]);

-- name: list_objects
-- $1 connection, $2 direction, $3 status, $4 JIDs of one chat, $5 type (each or NULL), $6/$7 created_at and id of the last one seen or NULL, $8 limit.
SELECT m.id, m.created_at, message_object(m) AS object
  FROM messages m
 WHERE m.connection_id = $1
   AND ($2::text IS NULL OR m.direction = $2) AND ($3::text IS NULL OR m.status = $3)
   AND ($4::text[] IS NULL OR m.jid = ANY($4)) AND ($5::text IS NULL OR m.type = $5)
   AND ($6::timestamptz IS NULL OR (m.created_at, m.id) < ($6, $7::uuid))
 ORDER BY m.created_at DESC, m.id DESC
 LIMIT $8;

-- name: timeline
-- $1 message id: every transition, attempt and webhook attempt, in order.
SELECT kind, at, detail FROM (
  SELECT 'transition' AS kind, t.at, t.id AS tie, jsonb_build_object('from', t.from_status, 'to', t.to_status, 'detail', t.detail) AS detail
    FROM message_transitions t WHERE t.message_id = $1
  UNION ALL
  SELECT 'attempt', a.started_at, a.send_no, jsonb_build_object('send_no', a.send_no, 'job_id', a.job_id, 'outcome', a.outcome, 'error', a.error,
         'wa_message_id', a.wa_message_id, 'finished_at', rfc3339(a.finished_at))
    FROM message_attempts a WHERE a.message_id = $1
  UNION ALL
  SELECT 'webhook', w.at, w.attempt, jsonb_build_object('event', d.event_type, 'delivery_id', d.id, 'attempt', w.attempt, 'status', w.status,
         'error', w.error, 'duration_ms', w.duration_ms)
    FROM events e JOIN webhook_deliveries d ON d.event_id = e.id JOIN webhook_attempts w ON w.delivery_id = d.id
   WHERE e.message_id = $1
) entries ORDER BY at, kind DESC, tie;

-- name: move
-- Parallel arrays: $1 ids, $2 to, $3 send_no, $4 wire id, $5 when, $6 error, $7 retry in seconds.
-- One row each, in order: `wanted` is NULL when nothing moved.
SELECT n.id, m.connection_id, message_move_v1(n.id, n.status, n.try, n.wire_id, n.at, n.error, n.retry_in_s) AS wanted
  FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::timestamptz[], $6::jsonb[], $7::float8[])
       AS n(id, status, try, wire_id, at, error, retry_in_s) JOIN messages m ON m.id = n.id;

-- name: record_receipts
-- Parallel arrays: $1 connections, $2 wire ids, $3 statuses, $4 when.
SELECT n.connection_id, receipt_record_v1(n.connection_id, n.wire_id, n.status, n.at) AS wanted
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) AS n(connection_id, wire_id, status, at);

-- name: held_jobs
-- $1 connections, $2 wire ids: jobs of messages in doubt that these receipts settle.
SELECT m.job_pk FROM unnest($1::uuid[], $2::text[]) AS n(connection_id, wire_id)
  JOIN messages m ON m.connection_id = n.connection_id AND m.wa_message_id = n.wire_id
 WHERE m.status = 'unknown' AND m.job_pk IS NOT NULL;

-- name: insert_from_wire
-- Parallel arrays: $1 ids, $2 connections, $3 wire ids, $4 jids, $5 phones, $6 senders, $7 participants, $8 push names, $9 from_me,
-- $10 types, $11 payloads, $12 when, $13 backfilled, $14 senders as the stanzas named them, $15 reply_to, $16 mentions (a JSON array of strings each),
-- $17 aliases of the chats, $18 of the senders. A message that is there already, under either name of its chat and writer, is skipped, so
-- running it twice is harmless. A message of ours that the phone echoes back is skipped too: its wire id belongs to a row made by the API.
INSERT INTO messages (id, connection_id, message_id, wa_message_id, direction, source, from_me, backfilled, jid, phone, sender_jid, participant,
                      push_name, type, payload, status, wa_timestamp, sent_at, delivered_at, wire_sender, reply_to, mentions, target_wire_id)
SELECT n.id, n.connection_id, n.wire_id, n.wire_id, CASE WHEN n.from_me THEN 'outbound' ELSE 'inbound' END, 'phone', n.from_me, n.backfilled,
       n.jid, n.phone, n.sender, n.participant, n.push_name, n.type, n.payload, CASE WHEN n.from_me THEN 'sent' ELSE 'delivered' END,
       n.at, n.at, CASE WHEN NOT n.from_me THEN now() END, n.wire_sender, n.reply_to, ARRAY(SELECT jsonb_array_elements_text(n.mentions)),
       CASE WHEN n.type IN ('reaction', 'edit', 'revoke', 'poll_vote') THEN n.payload->>'message_id' END
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::boolean[], $10::text[],
              $11::jsonb[], $12::timestamptz[], $13::boolean[], $14::text[], $15::text[], $16::jsonb[], $17::text[], $18::text[]) WITH ORDINALITY
       AS n(id, connection_id, wire_id, jid, phone, sender, participant, push_name, from_me, type, payload, at, backfilled, wire_sender, reply_to,
            mentions, alias, sender_alias, place)
 WHERE NOT (coalesce(n.alias, n.sender_alias) IS NOT NULL AND EXISTS (
         SELECT 1 FROM messages o
          WHERE o.connection_id = n.connection_id AND o.wa_message_id = n.wire_id AND o.source = 'phone' AND o.from_me = n.from_me
            AND o.jid IN (n.jid, n.alias) AND o.sender_jid IN (n.sender, n.sender_alias)))
   AND NOT (n.from_me AND EXISTS (SELECT 1 FROM messages o WHERE o.connection_id = n.connection_id AND o.wa_message_id = n.wire_id AND o.source = 'api'))
 ORDER BY n.place
ON CONFLICT (connection_id, jid, coalesce(sender_jid, ''), message_id) WHERE source = 'phone' DO NOTHING
RETURNING id;

-- name: record_received
-- $1 ids of messages just stored, in order; $2 the event type of each.
SELECT m.connection_id, event_record_v1(m.connection_id, m.id, n.type, 'info', message_object(m)) AS wanted
  FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS n(id, type, place) JOIN messages m ON m.id = n.id
 ORDER BY n.place;

-- name: look_up
-- $1 message id, $2 tenant, $3 allowed connections or NULL. Its job and status, without a lock: the job is locked first.
SELECT m.id, m.connection_id, m.status, m.job_pk, m.retries, m.order_key, m.jid, m.wa_message_id, m.send_no, m.direction, m.source, c.status AS session_status
  FROM messages m JOIN connections c ON c.id = m.connection_id
 WHERE m.id = $1 AND c.tenant_id = $2 AND ($3::uuid[] IS NULL OR c.id = ANY($3));

-- name: begin_retry
-- $1 message id, $2 new expiry or NULL to keep none. A new budget of attempts; returns the number of this manual retry.
UPDATE messages SET retries = retries + 1, attempts = 0, expires_at = $2 WHERE id = $1 AND status IN ('failed', 'dlq', 'unknown') RETURNING retries;

-- name: bind_job
-- $1 message id, $2 job pk.
UPDATE messages SET job_pk = $2 WHERE id = $1;

-- name: waiting_of_connection
-- $1 connection, $2 limit: messages that have not left yet, with their jobs.
SELECT id, job_pk FROM messages WHERE connection_id = $1 AND status IN ('scheduled', 'queued', 'failed') AND source = 'api' ORDER BY created_at LIMIT $2;

-- name: has_receipt
-- $1 connection, $2 wire id.
SELECT EXISTS (SELECT 1 FROM wire_ids WHERE connection_id = $1 AND wire_id = $2 AND status IS NOT NULL);
