-- How a connection's sends are slowed beyond their group's rate: pacing and quiet hours that its owner chose, limits that WhatsApp answered with,
-- chats that it restricts or that have just been written to.

-- One row per connection that is paced, quiet at times, or slowed; most have none. No foreign key, here and below: a try locks its message before
-- this row, and a connection comes before both. Rows of deleted connections go with the next look.
CREATE TABLE send_paces (
  connection_id uuid CONSTRAINT send_paces_pk PRIMARY KEY,
  profile text,                     -- as chosen; NULL: not paced
  profile_since timestamptz,        -- since when: the daily limit of `new` grows from there
  types boolean NOT NULL DEFAULT false,
  jitter_s real NOT NULL DEFAULT 0,
  min_gap_s real NOT NULL DEFAULT 0,
  day_cap int,                      -- messages that may begin on `day`; NULL: no limit
  day date,                         -- of UTC; whose `sent_today` it is
  sent_today int NOT NULL DEFAULT 0,
  slow_level smallint NOT NULL DEFAULT 0, -- how often the rate is halved after `held_until`, less what it has recovered since
  held_until timestamptz,           -- WhatsApp's limit: nothing leaves before
  look_at timestamptz,              -- when the sweep fits the group to it again; NULL: nothing changes by itself
  CONSTRAINT send_paces_slow_level CHECK (slow_level >= 0),
  CONSTRAINT send_paces_numbers CHECK (jitter_s >= 0 AND min_gap_s >= 0 AND day_cap > 0 AND sent_today >= 0)
);
CREATE INDEX send_paces_due ON send_paces (look_at) WHERE look_at IS NOT NULL;

-- Chats that nothing is sent to before `until`.
CREATE TABLE chat_holds (
  connection_id uuid NOT NULL,
  jid text NOT NULL,
  reason text NOT NULL CONSTRAINT chat_holds_reason CHECK (reason IN ('chat_restricted', 'rate_limited')),
  until timestamptz NOT NULL,
  refusals int NOT NULL DEFAULT 0,  -- how often WhatsApp has restricted it in a row
  CONSTRAINT chat_holds_pk PRIMARY KEY (connection_id, jid)
);
CREATE INDEX chat_holds_by_end ON chat_holds (until);

-- As before; one that its chat's hold delays says so too.
CREATE OR REPLACE FUNCTION message_parked_reason(m messages) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  job record;
BEGIN
  IF m.job_pk IS NULL OR m.status NOT IN ('queued', 'failed', 'scheduled') THEN
    RETURN NULL;
  END IF;
  SELECT j.state, q.paused, coalesce(g.reasons, '{}') AS reasons,
         coalesce(ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) <= 0, false) AS limited INTO job
    FROM jobs j JOIN queues q ON q.id = j.queue
    LEFT JOIN job_groups g ON g.queue = j.queue AND g.grp = j.grp
   WHERE j.pk = m.job_pk AND j.state IN ('waiting', 'blocked', 'delayed');
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  RETURN coalesce(
    parked_reason_v1(job.reasons, job.paused, job.state, job.limited),
    CASE WHEN m.status = 'queued' THEN
      (SELECT h.reason FROM chat_holds h WHERE h.connection_id = m.connection_id AND h.jid = m.jid AND h.until > now()) END);
END $$;

-- As message_tries_begin_v1. A first try waits while its chat is held, or its connection has begun as many today as it may: then `begun` is false
-- and `wait_s` and `wait_reason` say why. `types`, `jitter_s`: how the connection is paced; `refusals`: how often its chat was restricted in a row.
-- A chat that was written to is held for the connection's gap. The second try of a message is not held by the gap after its first.
CREATE FUNCTION message_tries_begin_v2(p_ids uuid[], p_job_ids text[], p_over int[])
RETURNS TABLE (id uuid, begun boolean, connection_id uuid, status text, jid text, type text, payload jsonb, on_unknown text,
               unknown_for_s float8, wa_message_id text, reply_to text, mentions text[], send_no int, send_epoch bigint,
               send_host text, send_device text, session_status text, device_jid text, lease_epoch bigint, host_id text, address text,
               wait_s float8, wait_reason text, types boolean, jitter_s float8, refusals int)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
  today CONSTANT date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
  -- Locked in one statement and looked at in the next: whoever moved one of them meanwhile has committed by then.
  PERFORM 1 FROM messages m WHERE m.id = ANY(p_ids) ORDER BY m.id FOR NO KEY UPDATE;
  RETURN QUERY
  WITH asked AS MATERIALIZED (
         SELECT a.job_id, m.id, m.connection_id, m.status, m.jid, m.type, m.payload, m.on_unknown, m.unknown_at, m.wa_message_id, m.reply_to, m.mentions,
                m.send_no, m.send_epoch, m.send_host, m.send_device,
                c.status AS session_status, c.device_jid, c.lease_epoch, c.host_id, h.address, w.wait_s, w.wait_reason,
                coalesce(p.types, false) AS types, coalesce(p.jitter_s, 0)::float8 AS jitter_s, coalesce(p.min_gap_s, 0) AS min_gap_s,
                p.day_cap, p.day, coalesce(k.refusals, 0) AS refusals,
                (m.status IN ('scheduled', 'queued', 'failed') AND w.wait_s IS NULL
                 OR m.status IN ('processing', 'unknown') AND m.send_no IS NOT DISTINCT FROM a.over)
                AND c.status = 'connected' AND c.device_jid IS NOT NULL AND h.address IS NOT NULL
                AND a.place = (SELECT min(o.place) FROM unnest(p_ids) WITH ORDINALITY o(id, place) WHERE o.id = m.id) AS may_begin
           FROM unnest(p_ids, p_job_ids, p_over) WITH ORDINALITY a(id, job_id, over, place)
           JOIN messages m ON m.id = a.id
           JOIN connections c ON c.id = m.connection_id
           LEFT JOIN hosts h ON h.id = c.host_id AND c.lease_until > now()
           LEFT JOIN send_paces p ON p.connection_id = m.connection_id
           LEFT JOIN chat_holds k ON k.connection_id = m.connection_id AND k.jid = m.jid
          CROSS JOIN LATERAL (
            SELECT CASE WHEN m.status NOT IN ('scheduled', 'queued', 'failed') THEN NULL
                        WHEN k.until > now() AND (k.reason = 'chat_restricted' OR m.send_no = 0) THEN extract(epoch FROM k.until - now())::float8
                        WHEN p.sent_today >= p.day_cap AND p.day = today AND m.send_no = 0 THEN 1.0::float8 END AS wait_s,
                   CASE WHEN k.until > now() THEN k.reason ELSE 'rate_limited' END AS wait_reason OFFSET 0) w),
       begun AS (
         UPDATE messages m
            SET status = 'processing', attempts = m.attempts + 1, send_no = m.send_no + 1, send_host = a.host_id, send_epoch = a.lease_epoch,
                send_device = a.device_jid, send_started_at = now(), next_attempt_at = NULL
           FROM asked a
          WHERE m.id = a.id AND a.may_begin
         RETURNING m.id, m.send_no),
       tried AS (
         INSERT INTO message_attempts (message_id, send_no, job_id, host_id, epoch, device_jid)
         SELECT b.id, b.send_no, a.job_id, a.host_id, a.lease_epoch, a.device_jid FROM begun b JOIN asked a ON a.id = b.id AND a.may_begin),
       noted AS (
         INSERT INTO message_transitions (message_id, from_status, to_status, detail)
         SELECT b.id, a.status, 'processing', jsonb_build_object('send_no', b.send_no) FROM begun b JOIN asked a ON a.id = b.id AND a.may_begin),
       spaced AS (
         INSERT INTO chat_holds AS k (connection_id, jid, reason, until)
         SELECT a.connection_id, a.jid, 'rate_limited', now() + max(a.min_gap_s) * interval '1 second'
           FROM asked a WHERE a.may_begin AND a.min_gap_s > 0 GROUP BY a.connection_id, a.jid ORDER BY a.connection_id, a.jid
         ON CONFLICT ON CONSTRAINT chat_holds_pk DO UPDATE SET until = excluded.until, reason = excluded.reason
          WHERE k.reason = 'rate_limited' OR k.until <= now()),
       counted AS (
         UPDATE send_paces p
            SET day = today, sent_today = n.first + CASE WHEN p.day = today THEN p.sent_today ELSE 0 END,
                look_at = CASE WHEN n.first + CASE WHEN p.day = today THEN p.sent_today ELSE 0 END >= p.day_cap THEN now() ELSE p.look_at END
           FROM (SELECT a.connection_id, count(*)::int AS first FROM asked a
                  WHERE a.may_begin AND a.day_cap IS NOT NULL AND a.send_no = 0 GROUP BY a.connection_id) n
          WHERE p.connection_id = n.connection_id)
  SELECT a.id, a.may_begin, a.connection_id, CASE WHEN a.may_begin THEN 'processing' ELSE a.status END, a.jid, a.type, a.payload, a.on_unknown,
         extract(epoch FROM now() - a.unknown_at)::float8, a.wa_message_id, a.reply_to, a.mentions,
         CASE WHEN a.may_begin THEN a.send_no + 1 ELSE a.send_no END, a.send_epoch, a.send_host, a.send_device,
         a.session_status, a.device_jid, a.lease_epoch, a.host_id, a.address,
         a.wait_s, CASE WHEN a.wait_s IS NOT NULL THEN a.wait_reason END, a.types, a.jitter_s, a.refusals
    FROM asked a;
END $$;

-- WhatsApp did not take a message now, and it is no fault of the message: it waits again, its try given back, and says why. Returns whether webhooks
-- are to be made; NULL: the try is no longer the newest, or no longer runs.
CREATE FUNCTION message_hold_v1(p_id uuid, p_send_no int, p_reason text, p_error jsonb, p_retry_in_s float8) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  m messages;
BEGIN
  UPDATE messages SET status = 'queued', attempts = greatest(attempts - 1, 0), error = p_error || jsonb_build_object('at', rfc3339(now())),
                      next_attempt_at = now() + make_interval(secs => p_retry_in_s)
   WHERE id = p_id AND send_no = p_send_no AND status = 'processing' RETURNING * INTO m;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  UPDATE message_attempts SET finished_at = now(), outcome = 'requeued', error = p_error WHERE message_id = p_id AND send_no = p_send_no;
  INSERT INTO message_transitions (message_id, from_status, to_status, detail)
  VALUES (p_id, 'processing', 'queued', jsonb_build_object('send_no', p_send_no, 'error', p_error, 'parked_reason', p_reason));
  RETURN event_record_v1(m.connection_id, p_id, 'message.queued', 'warn',
                         message_object_v2(m, (SELECT c.jid FROM connections c WHERE c.id = m.connection_id), p_reason));
END $$;

-- WhatsApp restricts this chat: nothing is sent to it for so long.
CREATE FUNCTION chat_restrict_v1(p_connection uuid, p_jid text, p_for_s float8) RETURNS void LANGUAGE sql AS $$
  INSERT INTO chat_holds AS k (connection_id, jid, reason, until, refusals)
  VALUES (p_connection, p_jid, 'chat_restricted', now() + make_interval(secs => p_for_s), 1)
  ON CONFLICT ON CONSTRAINT chat_holds_pk DO UPDATE SET reason = excluded.reason, until = excluded.until, refusals = k.refusals + 1
$$;

-- WhatsApp limits this number: nothing of its connection leaves for p_for_s, twice as long if it was slowed already, and so on; afterwards it has
-- half the rate that it had, and recovers one halving each p_recovers_s. Again within the hold is nothing: it answers what had begun before.
-- The caller holds the group's lock.
CREATE FUNCTION session_slow_v1(p_queue smallint, p_connection uuid, p_for_s float8, p_recovers_s float8, p_most_levels int)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO send_paces AS p (connection_id, slow_level, held_until, look_at)
  VALUES (p_connection, 1, now() + make_interval(secs => p_for_s), now())
  ON CONFLICT ON CONSTRAINT send_paces_pk DO UPDATE
     SET (slow_level, held_until, look_at) = (
           SELECT least(x.level + 1, p_most_levels), now() + make_interval(secs => p_for_s) * power(2, least(x.level, p_most_levels - 1)), now()
             FROM (SELECT greatest(p.slow_level - coalesce(floor(extract(epoch FROM now() - p.held_until)::float8 / p_recovers_s), 0), 0)::int AS level) x)
   WHERE p.held_until IS NULL OR p.held_until <= now();
  UPDATE job_groups g SET reasons = array_append(g.reasons, 'rate_limited')
   WHERE g.queue = p_queue AND g.grp = p_connection::text AND NOT 'rate_limited' = ANY(g.reasons);
END $$;
