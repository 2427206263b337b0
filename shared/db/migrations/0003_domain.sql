-- How the domain's rows change: one function per kind of change, so that no path forgets the event or the history.
-- Locks are taken in the order connections, job_groups, jobs, wire_ids, messages, events.

CREATE FUNCTION rfc3339(t timestamptz) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- ---------------------------------------------------------------- the objects that API and webhooks show

-- Why a message waits although a worker may be free; NULL when it does not wait, or waits for nothing but its turn.
CREATE FUNCTION message_parked_reason(m messages) RETURNS text LANGUAGE plpgsql STABLE AS $$
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
  RETURN CASE
    WHEN cardinality(job.reasons) > 0 THEN
      (SELECT r FROM unnest(ARRAY['connection_offline', 'connection_paused', 'chat_restricted', 'quiet_hours', 'rate_limited']) WITH ORDINALITY known(r, i)
        WHERE r = ANY(job.reasons) ORDER BY i LIMIT 1)
    WHEN job.paused THEN 'queue_paused'
    WHEN job.state = 'blocked' THEN 'behind_earlier_message'
    WHEN job.limited AND job.state = 'waiting' THEN 'rate_limited'
  END;
END $$;

CREATE FUNCTION message_object(m messages) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  own_jid text;
BEGIN
  SELECT jid INTO own_jid FROM connections WHERE id = m.connection_id;
  RETURN jsonb_build_object(
    'id', m.id, 'connection_id', m.connection_id, 'message_id', m.message_id, 'direction', m.direction,
    'jid', m.jid, 'phone', m.phone,
    'to', CASE WHEN m.from_me THEN m.jid ELSE own_jid END,
    'from', CASE WHEN m.from_me THEN own_jid ELSE coalesce(m.sender_jid, m.jid) END,
    'participant', m.participant, 'push_name', m.push_name, 'from_me', m.from_me, 'source', m.source, 'backfilled', m.backfilled,
    'type', m.type, 'payload', m.payload, 'reply_to', m.reply_to, 'mentions', m.mentions,
    'status', CASE WHEN m.status = 'scheduled' AND m.send_at <= now() THEN 'queued' ELSE m.status END, 'attempts', m.attempts,
    'error', m.error, 'parked_reason', message_parked_reason(m), 'next_attempt_at', rfc3339(m.next_attempt_at),
    'send_at', rfc3339(m.send_at), 'wa_message_id', m.wa_message_id, 'wa_timestamp', rfc3339(m.wa_timestamp), 'metadata', m.metadata,
    'created_at', rfc3339(m.created_at), 'sent_at', rfc3339(m.sent_at), 'delivered_at', rfc3339(m.delivered_at),
    'read_at', rfc3339(m.read_at), 'played_at', rfc3339(m.played_at), 'expires_at', rfc3339(m.expires_at));
END $$;

CREATE FUNCTION connection_object(c connections) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object(
    'id', c.id, 'label', c.label, 'external_id', c.external_id, 'status', c.status, 'status_reason', c.status_reason,
    'paused', c.paused, 'phone', c.phone, 'jid', c.jid, 'push_name', c.push_name, 'config', c.config, 'metadata', c.metadata,
    'webhook_url', (SELECT e.url FROM webhook_endpoints e WHERE e.owner_id = c.id), 'host', c.host_id,
    'created_at', rfc3339(c.created_at), 'updated_at', rfc3339(c.updated_at), 'connected_at', rfc3339(c.connected_at))
$$;

-- ---------------------------------------------------------------- events

-- Whether an enabled endpoint wants this event. webhook.delivered and webhook.failed live in the log only.
CREATE FUNCTION event_is_wanted(p_tenant uuid, p_connection uuid, p_type text) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT p_type NOT IN ('webhook.delivered', 'webhook.failed') AND EXISTS (
    SELECT 1 FROM webhook_endpoints e
     WHERE e.tenant_id = p_tenant AND e.enabled
       AND (e.owner_id IS NULL OR e.owner_id = p_connection)
       AND (e.connection_ids IS NULL OR p_connection = ANY(e.connection_ids))
       AND EXISTS (SELECT 1 FROM unnest(e.events) pattern
                    WHERE pattern IN ('*', p_type) OR (right(pattern, 2) = '.*' AND starts_with(p_type, left(pattern, -1)))))
$$;

-- Append one event; true when webhooks are to be made of it, and then the caller wants a fan-out job.
CREATE FUNCTION event_record_v1(p_connection uuid, p_message uuid, p_type text, p_severity text, p_payload jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  tenant uuid;
  wanted boolean;
BEGIN
  SELECT tenant_id INTO STRICT tenant FROM connections WHERE id = p_connection;
  wanted := event_is_wanted(tenant, p_connection, p_type);
  INSERT INTO events (tenant_id, connection_id, message_id, type, category, severity, payload, fan_out)
  VALUES (tenant, p_connection, p_message, p_type, split_part(p_type, '.', 1), p_severity, p_payload, wanted);
  RETURN wanted;
END $$;

-- ---------------------------------------------------------------- messages

INSERT INTO message_moves (from_status, to_status) VALUES
  ('scheduled', 'queued'), ('scheduled', 'canceled'), ('scheduled', 'expired'), ('scheduled', 'dlq'), ('scheduled', 'processing'),
  ('queued', 'processing'), ('queued', 'canceled'), ('queued', 'expired'), ('queued', 'dlq'), ('queued', 'failed'),
  ('processing', 'queued'), ('processing', 'failed'), ('processing', 'dlq'), ('processing', 'expired'), ('processing', 'canceled'),
  ('processing', 'unknown'), ('processing', 'sent'), ('processing', 'delivered'), ('processing', 'read'), ('processing', 'played'),
  ('failed', 'queued'), ('failed', 'processing'), ('failed', 'dlq'), ('failed', 'expired'), ('failed', 'canceled'),
  ('failed', 'sent'), ('failed', 'delivered'), ('failed', 'read'), ('failed', 'played'),
  ('unknown', 'queued'), ('unknown', 'processing'), ('unknown', 'dlq'),
  ('unknown', 'sent'), ('unknown', 'delivered'), ('unknown', 'read'), ('unknown', 'played'),
  ('dlq', 'queued'), ('dlq', 'sent'), ('dlq', 'delivered'), ('dlq', 'read'), ('dlq', 'played'),
  ('expired', 'sent'), ('expired', 'delivered'), ('expired', 'read'), ('expired', 'played'),
  ('canceled', 'sent'), ('canceled', 'delivered'), ('canceled', 'read'), ('canceled', 'played'),
  ('sent', 'delivered'), ('sent', 'read'), ('sent', 'played'), ('delivered', 'read'), ('delivered', 'played'), ('read', 'played');

-- Move a message when it may go there; one history row and one event a move. Returns whether webhooks are to be made, or NULL
-- when nothing moved: it may not go there, it is there already, or p_send_no names a try that is no longer the newest.
-- A wire id is kept in every case: it is a fact about the wire. p_at is when it happened out there; NULL: now.
CREATE FUNCTION message_move_v1(p_id uuid, p_to text, p_send_no int, p_wire_id text, p_at timestamptz, p_error jsonb, p_retry_in_s float8)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  m messages;
  prior text;
  seen text;
  seen_at timestamptz;
  wanted boolean := false;
  is_fact boolean := p_to IN ('sent', 'delivered', 'read', 'played');
  at timestamptz := coalesce(p_at, now());
BEGIN
  IF p_wire_id IS NOT NULL THEN
    -- First the wire row, then the message: a receipt takes them in this order too.
    INSERT INTO wire_ids (connection_id, wire_id, message_id) SELECT connection_id, p_wire_id, id FROM messages WHERE id = p_id
    ON CONFLICT (connection_id, wire_id) DO UPDATE SET message_id = excluded.message_id
    RETURNING wire_ids.status, coalesce(played_at, read_at, delivered_at) INTO seen, seen_at;
  END IF;
  SELECT * INTO m FROM messages WHERE id = p_id FOR UPDATE;
  IF NOT FOUND OR (p_send_no IS NOT NULL AND NOT is_fact AND m.send_no <> p_send_no) THEN
    RETURN NULL;
  END IF;
  IF p_send_no IS NOT NULL THEN
    UPDATE message_attempts SET finished_at = now(), outcome = p_to, error = p_error, wa_message_id = coalesce(p_wire_id, wa_message_id)
     WHERE message_id = p_id AND send_no = p_send_no;
  END IF;
  prior := m.status;
  IF prior = 'processing' AND p_send_no IS NULL AND p_to IN ('failed', 'dlq', 'expired', 'canceled') THEN
    p_to := 'unknown';  -- whoever does not speak for the try cannot say that it did not leave
  END IF;
  IF NOT EXISTS (SELECT 1 FROM message_moves WHERE from_status = prior AND to_status = p_to) THEN
    IF p_wire_id IS NOT NULL AND m.wa_message_id IS NULL THEN
      UPDATE messages SET wa_message_id = p_wire_id, wa_timestamp = coalesce(p_at, wa_timestamp), sent_at = coalesce(sent_at, at) WHERE id = p_id;
    END IF;
    RETURN NULL;
  END IF;
  UPDATE messages SET
      status = p_to,
      error = CASE WHEN p_to IN ('failed', 'dlq', 'unknown', 'expired') THEN p_error || jsonb_build_object('at', rfc3339(now()))
                   WHEN is_fact OR p_to = 'queued' THEN NULL ELSE error END,
      next_attempt_at = CASE WHEN p_to IN ('failed', 'queued') AND p_retry_in_s IS NOT NULL THEN now() + make_interval(secs => p_retry_in_s) END,
      unknown_at = CASE WHEN p_to = 'unknown' THEN now() WHEN is_fact THEN unknown_at END,
      wa_message_id = coalesce(p_wire_id, wa_message_id),
      wa_timestamp = CASE WHEN p_to = 'sent' THEN coalesce(p_at, wa_timestamp, now()) ELSE wa_timestamp END,
      sent_at = CASE WHEN is_fact THEN coalesce(sent_at, at) ELSE sent_at END,
      delivered_at = CASE WHEN p_to IN ('delivered', 'read', 'played') THEN coalesce(delivered_at, at) ELSE delivered_at END,
      read_at = CASE WHEN p_to IN ('read', 'played') THEN coalesce(read_at, at) ELSE read_at END,
      played_at = CASE WHEN p_to = 'played' THEN coalesce(played_at, at) ELSE played_at END
    WHERE id = p_id RETURNING * INTO m;
  INSERT INTO message_transitions (message_id, from_status, to_status, detail)
  VALUES (p_id, prior, p_to, nullif(jsonb_strip_nulls(jsonb_build_object('error', p_error, 'wa_message_id', p_wire_id, 'send_no', p_send_no)), '{}'));
  IF p_to NOT IN ('processing', 'scheduled') THEN
    wanted := event_record_v1(m.connection_id, p_id, 'message.' || p_to,
      CASE WHEN p_to IN ('failed', 'unknown', 'expired') THEN 'warn' WHEN p_to = 'dlq' THEN 'error' ELSE 'info' END, message_object(m));
  END IF;
  IF seen IS NOT NULL AND seen <> 'sent' THEN
    -- A receipt came before this record did.
    wanted := coalesce(message_move_v1(p_id, seen, NULL, NULL, seen_at, NULL, NULL), false) OR wanted;
  END IF;
  RETURN wanted;
END $$;

-- Record one receipt. Before the send is recorded the row waits for it; receipts of other wire ids wait until retention.
-- Returns whether webhooks are to be made, NULL when nothing moved.
CREATE FUNCTION receipt_record_v1(p_connection uuid, p_wire_id text, p_status text, p_at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  row wire_ids;
BEGIN
  INSERT INTO wire_ids AS w (connection_id, wire_id, message_id, status, delivered_at, read_at, played_at)
  VALUES (p_connection, p_wire_id,
          (SELECT id FROM messages WHERE connection_id = p_connection AND wa_message_id = p_wire_id AND direction = 'outbound' LIMIT 1), p_status,
          p_at, CASE WHEN p_status IN ('read', 'played') THEN p_at END, CASE WHEN p_status = 'played' THEN p_at END)
  ON CONFLICT (connection_id, wire_id) DO UPDATE SET
    status = CASE WHEN array_position(ARRAY['sent', 'delivered', 'read', 'played'], excluded.status)
                     > coalesce(array_position(ARRAY['sent', 'delivered', 'read', 'played'], w.status), 0) THEN excluded.status ELSE w.status END,
    delivered_at = coalesce(w.delivered_at, excluded.delivered_at), read_at = coalesce(w.read_at, excluded.read_at),
    played_at = coalesce(w.played_at, excluded.played_at)
  RETURNING * INTO row;
  IF row.message_id IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN message_move_v1(row.message_id, p_status, NULL, NULL, p_at, NULL, NULL);
END $$;

-- Begin a try: what DESIGN D6 commits before the host is asked. Returns its send_no, or NULL when the message may not be sent now.
CREATE FUNCTION message_begin_try_v1(p_id uuid, p_job_id text, p_host text, p_epoch bigint, p_device text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  prior text;
  try int;
BEGIN
  SELECT status INTO prior FROM messages WHERE id = p_id FOR UPDATE;
  IF NOT FOUND OR prior NOT IN ('scheduled', 'queued', 'failed', 'processing', 'unknown') THEN
    RETURN NULL;
  END IF;
  UPDATE messages SET status = 'processing', attempts = attempts + 1, send_no = send_no + 1, send_host = p_host, send_epoch = p_epoch,
         send_device = p_device, send_started_at = now(), next_attempt_at = NULL
   WHERE id = p_id RETURNING send_no INTO try;
  INSERT INTO message_attempts (message_id, send_no, job_id, host_id, epoch, device_jid) VALUES (p_id, try, p_job_id, p_host, p_epoch, p_device);
  INSERT INTO message_transitions (message_id, from_status, to_status, detail) VALUES (p_id, prior, 'processing', jsonb_build_object('send_no', try));
  RETURN try;
END $$;

-- Give a try back: the host said that nothing left and that it is no fault of the message (offline, busy, another owner).
CREATE FUNCTION message_give_back_try_v1(p_id uuid, p_send_no int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE messages SET status = 'queued', attempts = attempts - 1 WHERE id = p_id AND send_no = p_send_no AND status = 'processing' AND attempts > 0;
  IF FOUND THEN
    UPDATE message_attempts SET finished_at = now(), outcome = 'requeued' WHERE message_id = p_id AND send_no = p_send_no;
    INSERT INTO message_transitions (message_id, from_status, to_status, detail) VALUES (p_id, 'processing', 'queued', jsonb_build_object('send_no', p_send_no, 'given_back', true));
  END IF;
END $$;

-- ---------------------------------------------------------------- connections

CREATE TABLE connection_moves (
  from_status text NOT NULL, to_status text NOT NULL,
  CONSTRAINT connection_moves_pk PRIMARY KEY (from_status, to_status)
);
INSERT INTO connection_moves (from_status, to_status) VALUES
  ('initializing', 'banned'), ('initializing', 'closed'), ('initializing', 'connected'),
  ('initializing', 'connecting'), ('initializing', 'disconnected'), ('initializing', 'failed'),
  ('initializing', 'logged_out'), ('initializing', 'passkey_required'), ('initializing', 'qr_pending'),
  ('initializing', 'replaced'), ('qr_pending', 'banned'), ('qr_pending', 'closed'), ('qr_pending', 'connected'),
  ('qr_pending', 'connecting'), ('qr_pending', 'disconnected'), ('qr_pending', 'failed'),
  ('qr_pending', 'initializing'), ('qr_pending', 'logged_out'), ('qr_pending', 'passkey_required'),
  ('qr_pending', 'replaced'), ('passkey_required', 'banned'), ('passkey_required', 'closed'),
  ('passkey_required', 'connected'), ('passkey_required', 'connecting'), ('passkey_required', 'disconnected'),
  ('passkey_required', 'failed'), ('passkey_required', 'initializing'), ('passkey_required', 'logged_out'),
  ('passkey_required', 'qr_pending'), ('passkey_required', 'replaced'), ('connecting', 'banned'),
  ('connecting', 'closed'), ('connecting', 'connected'), ('connecting', 'disconnected'), ('connecting', 'failed'),
  ('connecting', 'initializing'), ('connecting', 'logged_out'), ('connecting', 'passkey_required'),
  ('connecting', 'qr_pending'), ('connecting', 'replaced'), ('connected', 'banned'), ('connected', 'closed'),
  ('connected', 'connecting'), ('connected', 'disconnected'), ('connected', 'failed'), ('connected', 'initializing'),
  ('connected', 'logged_out'), ('connected', 'replaced'), ('disconnected', 'banned'), ('disconnected', 'closed'),
  ('disconnected', 'connected'), ('disconnected', 'connecting'), ('disconnected', 'failed'),
  ('disconnected', 'initializing'), ('disconnected', 'logged_out'), ('disconnected', 'qr_pending'),
  ('disconnected', 'replaced'), ('logged_out', 'closed'), ('logged_out', 'failed'), ('logged_out', 'initializing'),
  ('replaced', 'closed'), ('replaced', 'failed'), ('replaced', 'initializing'), ('replaced', 'logged_out'),
  ('banned', 'closed'), ('banned', 'failed'), ('banned', 'initializing'), ('banned', 'logged_out'),
  ('failed', 'closed'), ('failed', 'initializing'), ('failed', 'logged_out'), ('closed', 'initializing');

-- Move a connection when it may go there: status, event, and the `connection_offline` reason of its sends, in one step.
-- p_epoch, when given, must be the lease's: a host that lost its lease changes nothing.
-- Returns 'moved' (webhooks are to be made), 'moved_quietly', 'same' or 'refused'.
CREATE FUNCTION connection_move_v1(p_id uuid, p_to text, p_reason text, p_epoch bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  c connections;
  wanted boolean;
BEGIN
  SELECT * INTO c FROM connections WHERE id = p_id FOR UPDATE;
  IF NOT FOUND OR (p_epoch IS NOT NULL AND c.lease_epoch <> p_epoch) THEN
    RETURN 'refused';
  END IF;
  IF c.status = p_to AND c.status_reason IS NOT DISTINCT FROM p_reason THEN
    RETURN 'same';
  END IF;
  IF c.status <> p_to AND NOT EXISTS (SELECT 1 FROM connection_moves WHERE from_status = c.status AND to_status = p_to) THEN
    RETURN 'refused';
  END IF;
  UPDATE connections SET status = p_to, status_reason = p_reason, updated_at = now(),
      connected_at = CASE WHEN p_to = 'connected' THEN now() ELSE connected_at END,
      qr_code = CASE WHEN p_to = 'qr_pending' THEN qr_code END, qr_expires_at = CASE WHEN p_to = 'qr_pending' THEN qr_expires_at END,
      pair_code = CASE WHEN p_to = 'qr_pending' THEN pair_code END, pair_code_expires_at = CASE WHEN p_to = 'qr_pending' THEN pair_code_expires_at END
    WHERE id = p_id RETURNING * INTO c;
  PERFORM connection_fit_group(c);
  wanted := event_record_v1(p_id, NULL, 'session.status', 'info', connection_object(c));
  IF p_to IN ('connected', 'disconnected', 'logged_out', 'replaced', 'banned', 'closed') THEN
    wanted := event_record_v1(p_id, NULL, 'session.' || p_to, CASE WHEN p_to IN ('connected', 'closed') THEN 'info' ELSE 'warn' END, connection_object(c)) OR wanted;
  END IF;
  RETURN CASE WHEN wanted THEN 'moved' ELSE 'moved_quietly' END;
END $$;

-- Make the pause reasons of the connection's sends say what the connection's row says. Its caller has the row locked, which is
-- why a resume can never be lost: whoever reads the group's reasons reads the truth of the connection.
CREATE FUNCTION connection_fit_group(c connections) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  own CONSTANT text[] := ARRAY['connection_offline', 'connection_paused'];
  held text[] := array_remove(ARRAY[CASE WHEN c.status <> 'connected' THEN own[1] END, CASE WHEN c.paused THEN own[2] END], NULL);
BEGIN
  INSERT INTO job_groups AS g (queue, grp, reasons) SELECT id, c.id::text, held FROM queues WHERE name = 'message:send'
  ON CONFLICT ON CONSTRAINT job_groups_pk DO UPDATE
     SET reasons = ARRAY(SELECT r FROM unnest(g.reasons) r WHERE r <> ALL (own)) || held;
END $$;
