-- What it costs Postgres to take back or repeat many messages. docs/performance.md has the numbers.

-- An event's tenant is that of its connection, which has a foreign key, or of the caller's own row: asked for every event of every message, the
-- same question cost as much as one of its index entries.
ALTER TABLE events DROP CONSTRAINT events_tenant;

-- Ids that follow each other in time come to the same few pages of their index; random ones each to a page of its own, which the log
-- then holds whole. Postgres 18 has them.
DO $$
BEGIN
  IF current_setting('server_version_num')::int >= 180000 THEN
    ALTER TABLE events ALTER id SET DEFAULT uuidv7();
  END IF;
END $$;

-- As messages_move_v1. The history comes before the rows' new versions: its foreign key asks for a lock that is held by then, where it would
-- write one into each new version. A message's object is made within the statement, without a call of its own for each.
CREATE FUNCTION messages_move_v2(p_ids uuid[], p_to text) RETURNS TABLE (connection_id uuid, moved bigint, wanted boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  ids uuid[];
  priors text[];
BEGIN
  IF p_to NOT IN ('canceled', 'queued') THEN
    RAISE EXCEPTION 'messages_move_v2 moves to canceled or queued, not to %', p_to;
  END IF;
  SELECT array_agg(l.id), array_agg(l.status) INTO ids, priors
    FROM (SELECT m.id, m.status FROM messages m
           WHERE m.id = ANY(p_ids)
             AND m.status = ANY(ARRAY(SELECT v.from_status FROM message_moves v WHERE v.to_status = p_to AND v.from_status <> 'processing'))
           ORDER BY m.id FOR UPDATE) l;
  INSERT INTO message_transitions (message_id, from_status, to_status)
  SELECT t.id, t.status, p_to FROM unnest(ids, priors) t(id, status);
  UPDATE messages m
     SET status = p_to, next_attempt_at = NULL, unknown_at = NULL, error = CASE WHEN p_to = 'queued' THEN NULL ELSE m.error END
   WHERE m.id = ANY(ids);
  RETURN QUERY
  WITH told AS MATERIALIZED (
         SELECT c.id, c.tenant_id, c.jid, event_is_wanted(c.tenant_id, c.id, 'message.' || p_to) AS wanted
           FROM (SELECT DISTINCT m.connection_id FROM messages m WHERE m.id = ANY(ids)) d
          CROSS JOIN LATERAL (SELECT x.id, x.tenant_id, x.jid FROM connections x WHERE x.id = d.connection_id OFFSET 0) c),
       made AS (
         INSERT INTO events (tenant_id, connection_id, message_id, type, category, severity, payload, fan_out)
         SELECT t.tenant_id, t.id, m.id, 'message.' || p_to, 'message', 'info', message_object_v2(m, t.jid, p.reason), t.wanted
           FROM messages m
           JOIN told t ON t.id = m.connection_id
          -- A name for it, as a call that is written into an argument would be made by each use of the argument.
          CROSS JOIN LATERAL (SELECT CASE WHEN p_to = 'queued' THEN message_parked_reason(m) END AS reason OFFSET 0) p
          WHERE m.id = ANY(ids)
          ORDER BY m.created_at, m.id
         RETURNING events.connection_id, events.fan_out)
  SELECT e.connection_id, count(*), bool_or(e.fan_out) FROM made e GROUP BY e.connection_id;
END $$;
