-- Messages by a filter, at a cost of those that may be meant and not of the connection's whole history.
--
-- messages_meant_v1 joined connections, and a plan made before the tables had statistics went through every message of each. Here the
-- connections are an array, so that the index of messages by status is the one with the most conditions; ids are looked up one by one.

-- The messages that a filter means, of those that have not ended well, after one place and at most p_limit (NULL: all). NULL does not
-- narrow. A scheduled message that fell due counts as queued, as the API shows it.
CREATE FUNCTION messages_meant_v2(
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

DROP FUNCTION messages_meant_v1(uuid, uuid[], text[], text[], uuid, text, text, timestamptz, timestamptz, jsonb, uuid[]);
