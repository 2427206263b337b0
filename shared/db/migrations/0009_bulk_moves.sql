-- Many messages at once: which ones a filter means, and moving them with their history and events in one statement each.

-- The messages that a filter means, of those that have not ended well, after one place and at most p_limit (NULL: all). NULL does not
-- narrow. A scheduled message that fell due counts as queued, as the API shows it. It costs what may be meant and not a
-- connection's whole history: the connections are an array, so that the index of messages by status is the one with the most
-- conditions, also for a plan made before the tables had statistics; ids are looked up one by one.
CREATE FUNCTION messages_meant_v1(
  p_tenant uuid, p_allowed uuid[], p_statuses text[], p_refusing text[], p_connection uuid, p_error_code text, p_jid text,
  p_created_after timestamptz, p_created_before timestamptz, p_metadata jsonb, p_ids uuid[],
  p_after_at timestamptz, p_after_id uuid, p_limit int)
RETURNS TABLE (id uuid, connection_id uuid, job_pk bigint, created_at timestamptz)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  stored text[] := CASE WHEN 'queued' = ANY(p_statuses) THEN p_statuses || 'scheduled'::text ELSE p_statuses END;
  connections uuid[] := ARRAY(
    SELECT c.id FROM connections c
     WHERE c.tenant_id = p_tenant
       AND (p_connection IS NULL OR c.id = p_connection)
       AND (p_allowed IS NULL OR c.id = ANY(p_allowed))
       AND (p_refusing = '{}' OR c.deleted_at IS NULL AND c.status <> ALL(p_refusing)));
BEGIN
  RETURN QUERY
  SELECT m.id, m.connection_id, m.job_pk, m.created_at
    FROM (SELECT s.id, s.connection_id, s.job_pk, s.created_at, s.status, s.send_at, s.source, s.error, s.jid, s.metadata
            FROM messages s
           WHERE p_ids IS NULL
             AND s.status NOT IN ('delivered', 'read', 'played', 'sent') -- as the index has it
             AND s.status = ANY(stored) AND s.connection_id = ANY(connections)
          UNION ALL
          SELECT f.id, f.connection_id, f.job_pk, f.created_at, f.status, f.send_at, f.source, f.error, f.jid, f.metadata
            FROM unnest(p_ids) i(id)
           CROSS JOIN LATERAL (SELECT x.id, x.connection_id, x.job_pk, x.created_at, x.status, x.send_at, x.source, x.error, x.jid, x.metadata
                                 FROM messages x WHERE x.id = i.id OFFSET 0) f
           WHERE p_ids IS NOT NULL AND f.status = ANY(stored) AND f.connection_id = ANY(connections)) m
   WHERE CASE WHEN m.status = 'scheduled' AND m.send_at <= now() THEN 'queued' ELSE m.status END = ANY(p_statuses)
     AND m.source = 'api'
     AND (p_error_code IS NULL OR m.error ->> 'code' = p_error_code)
     AND (p_jid IS NULL OR m.jid = p_jid)
     AND (p_created_after IS NULL OR m.created_at >= p_created_after)
     AND (p_created_before IS NULL OR m.created_at < p_created_before)
     AND (p_metadata IS NULL OR m.metadata @> p_metadata)
     AND (p_after_at IS NULL OR (m.created_at, m.id) > (p_after_at, p_after_id))
   ORDER BY m.created_at, m.id
   LIMIT p_limit;
END $$;

-- to_char is STABLE, and Postgres inlines no function that promises more than its body: declared IMMUTABLE, each call cost as much as
-- the rest of the message's object together.
ALTER FUNCTION rfc3339(timestamptz) STABLE;

-- The message as API and webhooks show it, by whoever knows its connection's JID and why it waits: one function call less per message
-- where many are shown.
CREATE FUNCTION message_object_v2(m messages, own_jid text, parked_reason text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object(
    'id', m.id, 'connection_id', m.connection_id, 'message_id', m.message_id, 'direction', m.direction,
    'jid', m.jid, 'phone', m.phone,
    'to', CASE WHEN m.from_me THEN m.jid ELSE own_jid END,
    'from', CASE WHEN m.from_me THEN own_jid ELSE coalesce(m.sender_jid, m.jid) END,
    'participant', m.participant, 'push_name', m.push_name, 'from_me', m.from_me, 'source', m.source, 'backfilled', m.backfilled,
    'type', m.type, 'payload', m.payload, 'reply_to', m.reply_to, 'mentions', m.mentions,
    'status', CASE WHEN m.status = 'scheduled' AND m.send_at <= now() THEN 'queued' ELSE m.status END, 'attempts', m.attempts,
    'error', m.error, 'parked_reason', parked_reason, 'next_attempt_at', rfc3339(m.next_attempt_at),
    'send_at', rfc3339(m.send_at), 'wa_message_id', m.wa_message_id, 'wa_timestamp', rfc3339(m.wa_timestamp), 'metadata', m.metadata,
    'created_at', rfc3339(m.created_at), 'sent_at', rfc3339(m.sent_at), 'delivered_at', rfc3339(m.delivered_at),
    'read_at', rfc3339(m.read_at), 'played_at', rfc3339(m.played_at), 'expires_at', rfc3339(m.expires_at))
$$;

CREATE OR REPLACE FUNCTION message_object(m messages) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  own_jid text;
BEGIN
  SELECT jid INTO own_jid FROM connections WHERE id = m.connection_id;
  RETURN message_object_v2(m, own_jid, message_parked_reason(m));
END $$;

-- Move messages that no try speaks for to 'canceled' or 'queued', each as message_move_v1 moves one: history and event with
-- it. Those that may not go there, or are being sent, are left. One row a connection: how many moved, and whether webhooks are to be made.
CREATE FUNCTION messages_move_v1(p_ids uuid[], p_to text) RETURNS TABLE (connection_id uuid, moved bigint, wanted boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  ids uuid[];
  priors text[];
BEGIN
  IF p_to NOT IN ('canceled', 'queued') THEN
    RAISE EXCEPTION 'messages_move_v1 moves to canceled or queued, not to %', p_to;
  END IF;
  SELECT array_agg(l.id), array_agg(l.status) INTO ids, priors
    FROM (SELECT m.id, m.status FROM messages m
           WHERE m.id = ANY(p_ids)
             AND m.status = ANY(ARRAY(SELECT v.from_status FROM message_moves v WHERE v.to_status = p_to AND v.from_status <> 'processing'))
           ORDER BY m.id FOR UPDATE) l;
  UPDATE messages m
     SET status = p_to, next_attempt_at = NULL, unknown_at = NULL, error = CASE WHEN p_to = 'queued' THEN NULL ELSE m.error END
   WHERE m.id = ANY(ids);
  INSERT INTO message_transitions (message_id, from_status, to_status)
  SELECT t.id, t.status, p_to FROM unnest(ids, priors) t(id, status);
  RETURN QUERY
  WITH told AS MATERIALIZED (
         SELECT c.id, c.tenant_id, c.jid, event_is_wanted(c.tenant_id, c.id, 'message.' || p_to) AS wanted
           FROM connections c
          WHERE c.id IN (SELECT m.connection_id FROM messages m WHERE m.id = ANY(ids))),
       made AS (
         INSERT INTO events (tenant_id, connection_id, message_id, type, category, severity, payload, fan_out)
         SELECT t.tenant_id, t.id, m.id, 'message.' || p_to, 'message', 'info',
                message_object_v2(m, t.jid, CASE WHEN p_to = 'queued' THEN message_parked_reason(m) END), t.wanted
           FROM messages m JOIN told t ON t.id = m.connection_id
          WHERE m.id = ANY(ids)
          ORDER BY m.created_at, m.id
         RETURNING events.connection_id, events.fan_out)
  SELECT e.connection_id, count(*), bool_or(e.fan_out) FROM made e GROUP BY e.connection_id;
END $$;
