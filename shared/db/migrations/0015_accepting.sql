-- Accepting sends: many requests, of many connections, in one transaction.

-- Lock connections and the groups of their sends, each connection named once, in order. Without p_waits what another holds is left: its row
-- says `is_busy`, and nothing may be done for it in this transaction. No row's tenant: there is no such connection.
-- KEY SHARE keeps out whoever changes a connection's status or deletes it, and lets its events and the renewal of its lease go on. The
-- group's lock makes those wait for each other who accept for the same connection, so what the next statement reads of its messages holds; a
-- group that is not there is made, as there would be nothing to lock.
CREATE FUNCTION sends_lock_v1(p_queue smallint, p_connections uuid[], p_waits boolean)
RETURNS TABLE (id uuid, tenant_id uuid, status text, deleted boolean, is_busy boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
  IF p_waits THEN
    PERFORM 1 FROM unnest(p_connections) w(id)
      CROSS JOIN LATERAL (SELECT 1 FROM connections c WHERE c.id = w.id FOR KEY SHARE) l;
    INSERT INTO job_groups (queue, grp)
    SELECT p_queue, w.id::text FROM unnest(p_connections) w(id)
     WHERE (SELECT true FROM connections c WHERE c.id = w.id LIMIT 1)
        ON CONFLICT ON CONSTRAINT job_groups_pk DO UPDATE SET turn = excluded.turn WHERE false;
  END IF;
  RETURN QUERY
  SELECT w.id, c.tenant_id, c.status, c.deleted_at IS NOT NULL,
         (c.tenant_id IS NULL OR g.held IS NULL) AND (SELECT true FROM connections x WHERE x.id = w.id LIMIT 1) IS NOT NULL
    FROM unnest(p_connections) w(id)
    LEFT JOIN LATERAL (SELECT k.tenant_id, k.status, k.deleted_at FROM connections k WHERE k.id = w.id FOR KEY SHARE SKIP LOCKED) c ON true
    LEFT JOIN LATERAL (SELECT true AS held FROM job_groups k WHERE k.queue = p_queue AND k.grp = w.id::text FOR UPDATE SKIP LOCKED) g ON true;
END $$;

-- Why a job's message waits, by whoever knows its group's reasons, whether its queue is paused, its state, and whether its group's rate is used up.
CREATE FUNCTION parked_reason_v1(reasons text[], is_paused boolean, state text, is_limited boolean) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN cardinality(reasons) > 0 THEN
      (SELECT r FROM unnest(ARRAY['connection_offline', 'connection_paused', 'chat_restricted', 'quiet_hours', 'rate_limited']) WITH ORDINALITY known(r, i)
        WHERE r = ANY(reasons) ORDER BY i LIMIT 1)
    WHEN is_paused THEN 'queue_paused'
    WHEN state = 'blocked' THEN 'behind_earlier_message'
    WHEN is_limited AND state = 'waiting' THEN 'rate_limited'
  END
$$;

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
  RETURN CASE WHEN FOUND THEN parked_reason_v1(job.reasons, job.paused, job.state, job.limited) END;
END $$;

-- Insert messages whose jobs were made in this transaction, each with its history and its event, in the order of the arrays. p_mentions holds
-- a JSON array of strings each; the jobs are of the queue p_queue, in the groups of their connections. One row a message: its object, and whether
-- webhooks are to be made of the event.
-- The caller holds the connections and their groups, and has seen that the client ids are free.
CREATE FUNCTION messages_accept_v1(
  p_queue smallint, p_ids uuid[], p_connections uuid[], p_message_ids text[], p_jids text[], p_phones text[], p_types text[], p_payloads jsonb[],
  p_body_hashes bytea[], p_reply_tos text[], p_mentions jsonb[], p_metadata jsonb[], p_order_keys text[], p_on_unknowns text[],
  p_send_ats timestamptz[], p_expires_ats timestamptz[], p_jobs bigint[])
RETURNS TABLE (id uuid, object jsonb, wanted boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  -- Those of whose events webhooks are to be made; mostly few.
  wanted_by uuid[] := ARRAY(
    SELECT c.id FROM (SELECT DISTINCT u.id FROM unnest(p_connections) u(id)) d
     CROSS JOIN LATERAL (SELECT k.id, k.tenant_id FROM connections k WHERE k.id = d.id OFFSET 0) c
     WHERE event_is_wanted(c.tenant_id, c.id, 'message.queued'));
  q queues;
BEGIN
  SELECT k.* INTO STRICT q FROM queues k WHERE k.id = p_queue;
  INSERT INTO messages (id, connection_id, message_id, direction, source, from_me, jid, phone, type, payload, body_hash, reply_to, mentions,
                        metadata, status, order_key, on_unknown, send_at, expires_at, job_pk, sender_jid)
  SELECT n.id, n.connection, n.message_id, 'outbound', 'api', true, n.jid, n.phone, n.type, n.payload, n.body_hash, n.reply_to,
         CASE WHEN n.mentions <> '[]' THEN ARRAY(SELECT jsonb_array_elements_text(n.mentions)) ELSE '{}' END, n.metadata,
         CASE WHEN n.send_at > now() THEN 'scheduled' ELSE 'queued' END, n.order_key, n.on_unknown, n.send_at, n.expires_at, n.job,
         (SELECT c.jid FROM connections c WHERE c.id = n.connection)
    FROM unnest(p_ids, p_connections, p_message_ids, p_jids, p_phones, p_types, p_payloads, p_body_hashes, p_reply_tos, p_mentions, p_metadata,
                p_order_keys, p_on_unknowns, p_send_ats, p_expires_ats, p_jobs)
         AS n(id, connection, message_id, jid, phone, type, payload, body_hash, reply_to, mentions, metadata, order_key, on_unknown, send_at,
              expires_at, job);
  INSERT INTO message_transitions (message_id, to_status)
  SELECT n.id, CASE WHEN n.send_at > now() THEN 'scheduled' ELSE 'queued' END FROM unnest(p_ids, p_send_ats) n(id, send_at);
  RETURN QUERY
  INSERT INTO events AS e (tenant_id, connection_id, message_id, type, category, severity, payload, fan_out)
  SELECT c.tenant_id, m.connection_id, m.id, 'message.queued', 'message', 'info',
         message_object_v2(m, m.sender_jid, parked_reason_v1(g.reasons, q.paused, j.state, g.is_limited)), m.connection_id = ANY(wanted_by)
    FROM unnest(p_ids, p_jobs) WITH ORDINALITY n(id, job, place)
   CROSS JOIN LATERAL (SELECT k.* FROM messages k WHERE k.id = n.id OFFSET 0) m
   CROSS JOIN LATERAL (SELECT k.tenant_id FROM connections k WHERE k.id = m.connection_id OFFSET 0) c
   CROSS JOIN LATERAL (SELECT k.state FROM jobs k WHERE k.pk = n.job OFFSET 0) j
   CROSS JOIN LATERAL (SELECT k.reasons, ledger_tokens_v1(k.tat, coalesce(k.rate_per_minute, q.rate_per_minute), coalesce(k.burst, q.burst)) <= 0 AS is_limited
                         FROM job_groups k WHERE k.queue = p_queue AND k.grp = m.connection_id::text OFFSET 0) g
   ORDER BY n.place
  RETURNING e.message_id, e.payload, e.fan_out;
END $$;
