-- How connections are slowed: what is kept about each, and the group of its sends that is fitted to it.

-- name: due
-- $1 at most so many. Connections whose pace may change by now, the longest overdue first.
SELECT p.connection_id
  FROM send_paces p
 WHERE p.look_at <= now()
 ORDER BY p.look_at
 LIMIT $1;

-- name: lock_groups
-- $1 connections. Those whose groups are locked now; what another holds is left.
SELECT g.grp::uuid AS connection_id
  FROM job_groups g
 WHERE g.queue = (SELECT q.id FROM queues q WHERE q.name = 'message:send')
   AND g.grp = ANY($1::text[])
 ORDER BY g.grp
   FOR UPDATE SKIP LOCKED;

-- name: make_group
-- $1 connection. Locks its group, which is made when there is none.
INSERT INTO job_groups AS g (queue, grp)
SELECT q.id, $1
  FROM queues q
 WHERE q.name = 'message:send'
    ON CONFLICT ON CONSTRAINT job_groups_pk
    DO UPDATE SET turn = g.turn;

-- name: lock_rows
-- $1 connections. A try that counts itself in this moment has committed by then: read comes after it.
SELECT p.connection_id
  FROM send_paces p
 WHERE p.connection_id = ANY($1::uuid[])
 ORDER BY p.connection_id
   FOR UPDATE;

-- name: read
-- $1 connections. Read after their groups and rows are locked: what a connection is to be and what has happened.
SELECT c.id, c.config, c.deleted_at IS NOT NULL AS is_deleted, q.rate_per_minute AS service_rate, now() AS now,
       p.profile, p.profile_since, p.min_gap_s::float8 AS min_gap_s, p.day,
       coalesce(p.sent_today, 0) AS sent_today, coalesce(p.slow_level, 0) AS slow_level, p.held_until
  FROM connections c
  JOIN queues q ON q.name = 'message:send'
  LEFT JOIN send_paces p ON p.connection_id = c.id
 WHERE c.id = ANY($1::uuid[])
 ORDER BY c.id;

-- name: keep
-- $1 connection, $2 profile or NULL, $3 since when, $4 types, $5 jitter and $6 gap in seconds, $7 today's cap or NULL, $8 when to look again or NULL.
INSERT INTO send_paces AS p (connection_id, profile, profile_since, types, jitter_s, min_gap_s, day_cap, look_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT ON CONSTRAINT send_paces_pk
    DO UPDATE SET profile = excluded.profile, profile_since = excluded.profile_since, types = excluded.types, jitter_s = excluded.jitter_s,
                  min_gap_s = excluded.min_gap_s, day_cap = excluded.day_cap, look_at = excluded.look_at;

-- name: forget
-- $1 connection. Nothing slows it any more.
DELETE FROM send_paces p
 WHERE p.connection_id = $1;

-- name: forget_gone
-- $1 connections. Those that no longer exist.
DELETE FROM send_paces p
 WHERE p.connection_id = ANY($1::uuid[])
   AND (SELECT true FROM connections c WHERE c.id = p.connection_id) IS NULL;

-- name: fit_group
-- $1 connection, $2 reasons that hold it now, $3 rate per minute and $4 burst (NULL: the queue's). Whether it has claimable work.
UPDATE job_groups g
   SET rate_per_minute = $3, burst = $4,
       reasons = ARRAY(SELECT r FROM unnest(g.reasons) r WHERE r NOT IN ('quiet_hours', 'rate_limited')) || $2::text[]
 WHERE g.queue = (SELECT q.id FROM queues q WHERE q.name = 'message:send')
   AND g.grp = $1
RETURNING g.reasons = '{}' AND g.pending > 0;

-- name: begin_anew
-- $1 connection. It has another number: what WhatsApp held against the old one, and what that one sent, is over.
WITH lifted AS (
       DELETE FROM chat_holds k
        WHERE k.connection_id = $1)
UPDATE send_paces p
   SET profile_since = CASE WHEN p.profile IS NOT NULL THEN now() END, day = NULL, sent_today = 0, slow_level = 0, held_until = NULL, look_at = now()
 WHERE p.connection_id = $1;

-- name: lift_gaps
-- $1 connection. Chats that only wait for the gap between two messages wait no longer.
DELETE FROM chat_holds k
 WHERE k.connection_id = $1
   AND k.reason = 'rate_limited';

-- name: waiting_for_gaps
-- $1 connection, $2 at most so many. Jobs of its messages that are delayed, in their places, though no try failed.
SELECT j.pk
  FROM messages m
  JOIN jobs j ON j.pk = m.job_pk AND j.position IS NOT NULL AND CASE j.state WHEN 'delayed' THEN true END
 WHERE m.status IN ('queued', 'scheduled')
   AND m.connection_id = $1
   AND m.error IS NULL
 LIMIT $2;

-- name: hold_messages
-- Parallel arrays: $1 message ids, $2 send numbers, $3 reasons, $4 errors, $5 seconds until they are tried again.
SELECT m.connection_id, h.wanted
  FROM unnest($1::uuid[], $2::int[], $3::text[], $4::jsonb[], $5::float8[]) n(id, send_no, reason, error, retry_in_s)
  JOIN messages m ON m.id = n.id
 CROSS JOIN LATERAL message_hold_v2(n.id, n.send_no, n.reason, n.error, n.retry_in_s) h(wanted);

-- name: restrict_chat
-- $1 a message to the chat, $2 seconds.
SELECT chat_restrict_v2($1, $2);

-- name: lift_chat
-- $1 connection, $2 chat. It is written to again; zero rows: it was not restricted.
DELETE FROM chat_holds k
 WHERE k.connection_id = $1
   AND k.jid = chat_hold_key_v1($1, $2)
   AND k.reason = 'chat_restricted'
RETURNING k.refusals;

-- name: held_in_chat
-- $1 connection, $2 chat, $3 at most so many. Jobs of its messages that are delayed, in their places.
SELECT j.pk
  FROM messages m
  JOIN jobs j ON j.pk = m.job_pk AND j.position IS NOT NULL AND CASE j.state WHEN 'delayed' THEN true END
 WHERE m.status IN ('queued', 'scheduled')
   AND m.connection_id = $1
   AND chat_hold_key_v1(m.connection_id, m.jid) = chat_hold_key_v1($1, $2)
 LIMIT $3;

-- name: lift_heard
-- Parallel arrays: $1 connections, $2 chats. Somebody wrote in these: those that are restricted are written to again. Jobs that wait for that.
WITH lifted AS (
       UPDATE chat_holds k
          SET until = now()
         FROM unnest($1::uuid[], $2::text[]) w(connection_id, jid)
        WHERE k.connection_id = w.connection_id
          AND k.jid = chat_hold_key_v1(w.connection_id, w.jid)
          AND k.reason = 'chat_restricted'
          AND k.until > now()
       RETURNING k.connection_id, k.jid)
SELECT j.pk
  FROM lifted l
  JOIN messages m ON m.status IN ('queued', 'scheduled') AND m.connection_id = l.connection_id AND chat_hold_key_v1(m.connection_id, m.jid) = l.jid
  JOIN jobs j ON j.pk = m.job_pk AND j.position IS NOT NULL AND CASE j.state WHEN 'delayed' THEN true END;

-- name: make_due
-- $1 pks. How many of them were delayed.
SELECT ledger_make_due_v1($1);

-- name: waiting_job
-- $1 pk. The id of a job that waits, in its order key or for a time; no row: it runs, or has ended.
SELECT j.job_key
  FROM jobs j
 WHERE j.pk = $1
   AND j.fence IS NULL
   AND j.finished_at IS NULL;

-- name: clear_refusals
-- $1 connection, $2 chat. WhatsApp took a message to it.
UPDATE chat_holds k
   SET refusals = 0
 WHERE k.connection_id = $1
   AND k.jid = chat_hold_key_v1($1, $2);

-- name: slow_session
-- $1 connection, $2 seconds, $3 seconds in which it recovers one halving, $4 halvings at most.
SELECT session_slow_v1(q.id, $1, $2, $3, $4)
  FROM queues q
 WHERE q.name = 'message:send';

-- name: rest
-- $1 connection, $2 seconds. Its next message leaves so much later than its rate allows.
UPDATE job_groups g
   SET tat = greatest(g.tat, now()) + $2::float8 * interval '1 second'
 WHERE g.queue = (SELECT q.id FROM queues q WHERE q.name = 'message:send')
   AND g.grp = $1;
