-- The send path in batches: tries that begin at one moment, sends that are recorded in one transaction, and the locks of a finish.

-- Begin the tries that may begin, and say of each message what its handler needs to know. What DESIGN D6 wants committed before the host is asked
-- is this function's work: number, host, epoch, device, time. Parallel arrays; p_over is the number of an earlier try that is known not to have
-- left, or that the user wants repeated: a message in doubt begins a try only over that one. `begun` false: nothing was changed. A message that is gone
-- is no row; of two jobs of one message only the first begins.
CREATE FUNCTION message_tries_begin_v1(p_ids uuid[], p_job_ids text[], p_over int[])
RETURNS TABLE (id uuid, begun boolean, connection_id uuid, status text, jid text, type text, payload jsonb, on_unknown text,
               unknown_for_s float8, wa_message_id text, reply_to text, mentions text[], send_no int, send_epoch bigint,
               send_host text, send_device text, session_status text, device_jid text, lease_epoch bigint, host_id text, address text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
  -- Locked in one statement and looked at in the next: whoever moved one of them meanwhile has committed by then.
  PERFORM 1 FROM messages m WHERE m.id = ANY(p_ids) ORDER BY m.id FOR NO KEY UPDATE;
  RETURN QUERY
  WITH asked AS MATERIALIZED (
         SELECT a.job_id, m.id, m.connection_id, m.status, m.jid, m.type, m.payload, m.on_unknown, m.unknown_at, m.wa_message_id, m.reply_to, m.mentions,
                m.send_no, m.send_epoch, m.send_host, m.send_device,
                c.status AS session_status, c.device_jid, c.lease_epoch, c.host_id, h.address,
                (m.status IN ('scheduled', 'queued', 'failed') OR m.status IN ('processing', 'unknown') AND m.send_no IS NOT DISTINCT FROM a.over)
                AND c.status = 'connected' AND c.device_jid IS NOT NULL AND h.address IS NOT NULL
                AND a.place = (SELECT min(o.place) FROM unnest(p_ids) WITH ORDINALITY o(id, place) WHERE o.id = m.id) AS may_begin
           FROM unnest(p_ids, p_job_ids, p_over) WITH ORDINALITY a(id, job_id, over, place)
           JOIN messages m ON m.id = a.id
           JOIN connections c ON c.id = m.connection_id
           LEFT JOIN hosts h ON h.id = c.host_id AND c.lease_until > now()),
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
         SELECT b.id, a.status, 'processing', jsonb_build_object('send_no', b.send_no) FROM begun b JOIN asked a ON a.id = b.id AND a.may_begin)
  SELECT a.id, a.may_begin, a.connection_id, CASE WHEN a.may_begin THEN 'processing' ELSE a.status END, a.jid, a.type, a.payload, a.on_unknown,
         extract(epoch FROM now() - a.unknown_at)::float8, a.wa_message_id, a.reply_to, a.mentions,
         CASE WHEN a.may_begin THEN a.send_no + 1 ELSE a.send_no END, a.send_epoch, a.send_host, a.send_device,
         a.session_status, a.device_jid, a.lease_epoch, a.host_id, a.address
    FROM asked a;
END $$;

-- Record sends, each as message_move_v1 moves one to 'sent': wire id, attempt, history and event with it. Parallel arrays. One row for each message that
-- moved: whether webhooks are to be made of it.
CREATE FUNCTION messages_sent_v1(p_ids uuid[], p_send_nos int[], p_wire_ids text[], p_ats timestamptz[])
RETURNS TABLE (connection_id uuid, wanted boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
  untold uuid[];
  plain uuid[];
BEGIN
  -- The wire rows first, then the messages: receipts take them in this order too.
  WITH wires AS (
         INSERT INTO wire_ids AS w (connection_id, wire_id, message_id)
         SELECT m.connection_id, n.wire_id, m.id FROM unnest(p_ids, p_wire_ids) n(id, wire_id) JOIN messages m ON m.id = n.id
          ORDER BY m.connection_id, n.wire_id
         ON CONFLICT (connection_id, wire_id) DO UPDATE SET message_id = excluded.message_id
         RETURNING w.message_id, w.status)
  SELECT array_agg(w.message_id) INTO untold FROM wires w WHERE w.status IS NULL OR w.status = 'sent';
  SELECT array_agg(l.id) INTO plain
    FROM (SELECT m.id FROM unnest(p_ids, p_send_nos) n(id, send_no) JOIN messages m ON m.id = n.id
           WHERE m.id = ANY(untold) AND m.status = 'processing' AND m.send_no = n.send_no
           ORDER BY m.id FOR NO KEY UPDATE OF m) l;
  RETURN QUERY
  WITH sent AS (
         UPDATE messages m
            SET status = 'sent', error = NULL, next_attempt_at = NULL, wa_message_id = n.wire_id, wa_timestamp = coalesce(n.at, m.wa_timestamp, now()),
                sent_at = coalesce(m.sent_at, n.at, now())
           FROM unnest(p_ids, p_wire_ids, p_ats) WITH ORDINALITY n(id, wire_id, at, place)
          WHERE m.id = n.id AND m.id = ANY(plain)
         RETURNING m AS message, m.connection_id, n.place),
       tried AS (
         UPDATE message_attempts t SET finished_at = now(), outcome = 'sent', error = NULL, wa_message_id = n.wire_id
           FROM unnest(p_ids, p_send_nos, p_wire_ids) n(id, send_no, wire_id)
          WHERE n.id = ANY(plain) AND t.message_id = n.id AND t.send_no = n.send_no),
       noted AS (
         INSERT INTO message_transitions (message_id, from_status, to_status, detail)
         SELECT n.id, 'processing', 'sent', jsonb_build_object('wa_message_id', n.wire_id, 'send_no', n.send_no)
           FROM unnest(p_ids, p_send_nos, p_wire_ids) WITH ORDINALITY n(id, send_no, wire_id, place)
          WHERE n.id = ANY(plain) ORDER BY n.place),
       told AS MATERIALIZED (
         SELECT c.id, c.tenant_id, c.jid, event_is_wanted(c.tenant_id, c.id, 'message.sent') AS wanted
           FROM (SELECT DISTINCT s.connection_id FROM sent s) k JOIN connections c ON c.id = k.connection_id)
  INSERT INTO events AS e (tenant_id, connection_id, message_id, type, category, severity, payload, fan_out)
  SELECT t.tenant_id, t.id, (s.message).id, 'message.sent', 'message', 'info', message_object_v2(s.message, t.jid, NULL), t.wanted
    FROM sent s JOIN told t ON t.id = s.connection_id
   ORDER BY s.place
  RETURNING e.connection_id, e.fan_out;
  -- Those that a receipt came before, or that something else has moved since their try began.
  RETURN QUERY
  SELECT m.connection_id, moved.wanted
    FROM unnest(p_ids, p_send_nos, p_wire_ids, p_ats) n(id, send_no, wire_id, at) JOIN messages m ON m.id = n.id
   CROSS JOIN LATERAL message_move_v1(n.id, 'sent', n.send_no, n.wire_id, n.at, NULL, NULL) moved(wanted)
   WHERE NOT coalesce(n.id = ANY(plain), false) AND moved.wanted IS NOT NULL;
END $$;

-- Take the locks of a finish, in the product's order: p_moved connections, which are to be moved or looked at, p_told ones, which events will point
-- at, then the groups of the jobs, then the jobs. The pause reasons of p_parked follow their rows on the way. Returns the pks whose claims hold.
CREATE FUNCTION finish_lock_v1(p_moved uuid[], p_told uuid[], p_parked uuid[], p_pks bigint[], p_fences bigint[]) RETURNS bigint[]
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
  PERFORM 1 FROM connections c WHERE c.id = ANY(p_moved) ORDER BY c.id FOR UPDATE;
  PERFORM 1 FROM connections c WHERE c.id = ANY(p_told) ORDER BY c.id FOR KEY SHARE;
  PERFORM connection_fit_group(c) FROM (SELECT c FROM connections c WHERE c.id = ANY(p_parked) ORDER BY c.id) ordered(c);
  PERFORM ledger_lock_v1(p_pks);
  RETURN ARRAY(SELECT j.pk FROM jobs j WHERE j.pk = ANY(p_pks) AND j.fence = ANY(p_fences) ORDER BY j.pk FOR UPDATE);
END $$;
