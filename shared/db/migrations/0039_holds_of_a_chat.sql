-- A chat is held back under each of its names. WhatsApp may know a number that was written with the mobile digit without it, and a message's chat is
-- renamed so before it is sent: a hold that was kept by the chat's name as written was not found again.

-- One key for all spellings of a number: without the mobile digit of Brazil, Mexico and Argentina, as Jid.chat_key in shared/domain/jid.py.
CREATE FUNCTION chat_key_v1(p_jid text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT regexp_replace(p_jid,
    '^(55[1-9][0-9](?=9[6-9][0-9]{7}@s\.whatsapp\.net$)|52(?=1[1-9][0-9]{9}@s\.whatsapp\.net$)|54(?=9[1-9][0-9]{9}@s\.whatsapp\.net$))[0-9]', '\1')
$$;

-- What chat_holds.jid holds: the key of the chat's number, or its alias while that is all that is known.
CREATE FUNCTION chat_hold_key_v1(p_connection uuid, p_jid text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  named text;
BEGIN
  IF p_jid LIKE '%@lid' THEN
    SELECT a.chat_jid INTO named FROM chat_aliases a WHERE a.connection_id = p_connection AND a.alias_jid = p_jid;
  END IF;
  RETURN chat_key_v1(coalesce(named, p_jid));
END $$;

-- Move what is held under these names to their chats' keys; of two holds of one chat the longer one stays.
CREATE FUNCTION chat_holds_fold_v1(p_connections uuid[], p_names text[]) RETURNS void LANGUAGE sql AS $$
  WITH gone AS (
         DELETE FROM chat_holds k
          USING unnest(p_connections, p_names) AS n(connection_id, name)
          WHERE k.connection_id = n.connection_id AND k.jid = n.name AND chat_hold_key_v1(n.connection_id, n.name) <> n.name
         RETURNING k.connection_id, chat_hold_key_v1(k.connection_id, k.jid) AS key, k.reason, k.until, k.refusals)
  INSERT INTO chat_holds AS k (connection_id, jid, reason, until, refusals)
  SELECT DISTINCT ON (g.connection_id, g.key) g.connection_id, g.key, g.reason, g.until, g.refusals
    FROM gone g
   ORDER BY g.connection_id, g.key, g.until DESC
      ON CONFLICT ON CONSTRAINT chat_holds_pk DO UPDATE
     SET reason = CASE WHEN excluded.until > k.until THEN excluded.reason ELSE k.reason END,
         until = greatest(excluded.until, k.until), refusals = greatest(excluded.refusals, k.refusals)
$$;
SELECT chat_holds_fold_v1(array_agg(k.connection_id), array_agg(k.jid)) FROM chat_holds k;

-- As before, by the key of its chat.
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
    CASE WHEN m.status = 'queued' OR m.status = 'scheduled' AND m.send_at <= now() THEN
      (SELECT h.reason FROM chat_holds h
        WHERE h.connection_id = m.connection_id AND h.jid = chat_hold_key_v1(m.connection_id, m.jid) AND h.until > now()) END);
END $$;

-- As message_tries_begin_v2, with holds by the key of the chat.
CREATE FUNCTION message_tries_begin_v3(p_ids uuid[], p_job_ids text[], p_over int[])
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
         SELECT a.job_id, n.key AS hold_key, m.id, m.connection_id, m.status, m.jid, m.type, m.payload, m.on_unknown, m.unknown_at, m.wa_message_id, m.reply_to, m.mentions,
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
          CROSS JOIN LATERAL (SELECT chat_hold_key_v1(m.connection_id, m.jid) AS key OFFSET 0) n
           LEFT JOIN chat_holds k ON k.connection_id = m.connection_id AND k.jid = n.key
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
         SELECT a.connection_id, a.hold_key, 'rate_limited', now() + max(a.min_gap_s) * interval '1 second'
           FROM asked a WHERE a.may_begin AND a.min_gap_s > 0 GROUP BY a.connection_id, a.hold_key ORDER BY a.connection_id, a.hold_key
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

-- As chat_restrict_v1, for the chat of a message by the name that it has by now.
CREATE FUNCTION chat_restrict_v2(p_message uuid, p_for_s float8) RETURNS void LANGUAGE sql AS $$
  INSERT INTO chat_holds AS k (connection_id, jid, reason, until, refusals)
  SELECT m.connection_id, chat_hold_key_v1(m.connection_id, m.jid), 'chat_restricted', now() + make_interval(secs => p_for_s), 1
    FROM messages m WHERE m.id = p_message
  ON CONFLICT ON CONSTRAINT chat_holds_pk DO UPDATE SET reason = excluded.reason, until = excluded.until, refusals = k.refusals + 1
$$;
