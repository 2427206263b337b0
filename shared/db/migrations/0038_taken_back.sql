-- Many messages are taken back by several transactions side by side: each moves its messages, which no two of them share, and only then, in a
-- transaction of its own that is short, ends their jobs, for which it needs the lock of their group. What a crash in between leaves are jobs
-- of cancelled messages: no try begins for one (message_tries_begin_v2), so each ends when it is claimed.

-- As messages_move_v2, of those in p_from (NULL: any), and with the jobs that they have at that moment.
CREATE FUNCTION messages_move_v3(p_ids uuid[], p_to text, p_from text[]) RETURNS TABLE (connection_id uuid, moved bigint, wanted boolean, job_pks bigint[])
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  ids uuid[];
  priors text[];
  connections uuid[];
  jobs bigint[];
BEGIN
  IF p_to NOT IN ('canceled', 'queued') THEN
    RAISE EXCEPTION 'messages_move_v3 moves to canceled or queued, not to %', p_to;
  END IF;
  SELECT array_agg(l.id), array_agg(l.status), array_agg(l.connection_id), array_agg(l.job_pk) INTO ids, priors, connections, jobs
    FROM (SELECT m.id, m.status, m.connection_id, m.job_pk FROM messages m
           WHERE m.id = ANY(p_ids)
             AND (p_from IS NULL OR m.status = ANY(p_from))
             AND m.status = ANY(ARRAY(SELECT v.from_status FROM message_moves v WHERE v.to_status = p_to AND v.from_status <> 'processing'))
           ORDER BY m.id FOR UPDATE) l;
  INSERT INTO message_transitions (message_id, from_status, to_status)
  SELECT t.id, t.status, p_to FROM unnest(ids, priors) t(id, status);
  UPDATE messages m
     SET status = p_to, next_attempt_at = NULL, unknown_at = NULL, error = CASE WHEN p_to = 'queued' THEN NULL ELSE m.error END
   WHERE m.id = ANY(ids);
  RETURN QUERY
  WITH told AS MATERIALIZED (
         SELECT c.id, c.tenant_id, c.jid, d.job_pks, event_is_wanted(c.tenant_id, c.id, 'message.' || p_to) AS wanted
           FROM (SELECT t.connection_id, array_agg(t.job_pk) FILTER (WHERE t.job_pk IS NOT NULL) AS job_pks
                   FROM unnest(connections, jobs) t(connection_id, job_pk) GROUP BY t.connection_id) d
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
         RETURNING events.connection_id)
  SELECT t.id, e.moved, t.wanted, coalesce(t.job_pks, '{}')
    FROM (SELECT x.connection_id, count(*) AS moved FROM made x GROUP BY x.connection_id) e JOIN told t ON t.id = e.connection_id;
END $$;

-- As ledger_finish_v3. A job that ends cancelled did nothing that its group's rate counts, so it gives its token back, as a parked one does.
CREATE FUNCTION ledger_finish_v4(p_pks bigint[], p_fences bigint[], p_outcomes text[], p_delays float8[], p_results jsonb[], p_errors jsonb[])
RETURNS TABLE (accepted bigint[], dead bigint[], ready smallint[], next_due_s float8)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
  grouped boolean; keys bigint[];
  -- Of the jobs that were held, and the one that each of them kept back; of a batch that is all `done`, states and places are not looked at.
  queues smallint[]; grps text[]; ords text[]; states text[]; places int[]; nexts bigint[];
  in_order boolean;
BEGIN
  -- What ledger_lock_v1 does, by one look at the jobs.
  SELECT bool_or(l.grp IS NOT NULL), array_agg(k.key) FILTER (WHERE k.key IS NOT NULL) INTO grouped, keys
    FROM (SELECT DISTINCT j.queue, j.grp, CASE WHEN j.grp IS NULL THEN hashtextextended(j.ord, j.queue) END AS key FROM jobs j
           WHERE j.pk = ANY(p_pks) AND (j.grp IS NOT NULL OR j.ord IS NOT NULL) ORDER BY 1, 2) k
    LEFT JOIN LATERAL (SELECT g.grp FROM job_groups g WHERE g.queue = k.queue AND g.grp = k.grp FOR UPDATE) l ON true;
  IF keys IS NOT NULL THEN
    PERFORM pg_advisory_xact_lock(k.key) FROM (SELECT k.key FROM unnest(keys) k(key) ORDER BY 1) k;
  END IF;
  IF 'done' <> ANY (p_outcomes) THEN
    WITH f AS (
           UPDATE jobs j
              SET (state, finished_at, dedupe, attempt, run_at, result, error, fence, lease_until, worker) = (
                    SELECT x.state, CASE WHEN x.ends THEN clock_timestamp() END, CASE WHEN NOT x.ends THEN j.dedupe END,
                           j.attempt - (x.outcome IN ('park', 'snooze'))::int,
                           CASE WHEN x.state = 'delayed' THEN now() + make_interval(secs => p_delays[x.i]) ELSE j.run_at END,
                           p_results[x.i], CASE WHEN x.outcome <> 'done' THEN coalesce(p_errors[x.i], j.error) END,
                           NULL::bigint, NULL::timestamptz, NULL::text
                      FROM (SELECT o.i, o.outcome, s.state, s.state IN ('completed', 'failed', 'cancelled') AS ends
                              FROM (SELECT i, p_outcomes[i] AS outcome FROM (SELECT array_position(p_pks, j.pk) AS i OFFSET 0) p OFFSET 0) o,
                                   LATERAL (SELECT CASE WHEN o.outcome = 'done' THEN 'completed'
                                                        WHEN o.outcome = 'fail' OR o.outcome = 'retry' AND j.attempt >= j.max_attempts THEN 'failed'
                                                        WHEN o.outcome = 'cancel' THEN 'cancelled'
                                                        WHEN o.outcome <> 'park' AND p_delays[o.i] > 0 THEN 'delayed'
                                                        ELSE 'waiting' END AS state OFFSET 0) s) x)
            WHERE j.pk = ANY(p_pks) AND j.fence = p_fences[array_position(p_pks, j.pk)]
           RETURNING j.pk, j.queue, j.grp, j.ord, j.state, array_position(p_pks, j.pk) AS i)
    SELECT array_agg(f.pk), array_agg(f.queue), array_agg(f.grp), array_agg(f.ord), array_agg(f.state), array_agg(f.i),
           array_agg(f.pk) FILTER (WHERE f.state = 'failed'), min(p_delays[f.i]) FILTER (WHERE f.state = 'delayed')
      INTO accepted, queues, grps, ords, states, places, dead, next_due_s FROM f;
    SELECT array_agg(n.next) INTO nexts
      FROM (SELECT CASE WHEN f.ord IS NOT NULL AND f.state IN ('completed', 'failed', 'cancelled') THEN (
                     SELECT b.pk FROM jobs b
                      WHERE b.queue = f.queue AND b.ord = f.ord AND coalesce(b.grp, '') = coalesce(f.grp, '') AND b.state = 'blocked'
                      ORDER BY b.position LIMIT 1) END AS next
              FROM unnest(queues, grps, ords, states) WITH ORDINALITY f(queue, grp, ord, state, i) ORDER BY f.i OFFSET 0) n;
    IF array_remove(nexts, NULL) <> '{}' THEN
      UPDATE jobs j SET state = 'waiting' WHERE j.pk = ANY(nexts);
    END IF;
  ELSE
    -- What nearly every batch is, by the fewest steps. What is counted here is locked, so that none of it changes before it is written.
    IF grouped OR keys IS NOT NULL THEN
      -- An order key has one free job at any moment, and an UPDATE reaches rows in the order of their pks.
      SELECT array_agg(n.queue), array_agg(n.grp), array_agg(n.next), bool_and(n.next > n.pk AND n.next <> ALL(p_pks)) FILTER (WHERE n.next IS NOT NULL)
        INTO queues, grps, nexts, in_order
        FROM (SELECT j.pk, j.queue, j.grp,
                     CASE WHEN j.ord IS NOT NULL THEN (
                       SELECT b.pk FROM jobs b
                        WHERE b.queue = j.queue AND b.ord = j.ord AND coalesce(b.grp, '') = coalesce(j.grp, '') AND b.state = 'blocked'
                        ORDER BY b.position LIMIT 1) END AS next
                FROM jobs j WHERE j.pk = ANY(p_pks) AND j.fence = p_fences[array_position(p_pks, j.pk)] OFFSET 0) n;
    END IF;
    IF in_order THEN
      WITH f AS (
             UPDATE jobs j
                SET state = CASE WHEN j.fence IS NULL THEN 'waiting' ELSE 'completed' END,
                    finished_at = CASE WHEN j.fence IS NOT NULL THEN clock_timestamp() END,
                    dedupe = CASE WHEN j.fence IS NULL THEN j.dedupe END,
                    result = CASE WHEN j.fence IS NULL THEN j.result ELSE p_results[array_position(p_pks, j.pk)] END,
                    error = CASE WHEN j.fence IS NULL THEN j.error END,
                    fence = NULL, lease_until = NULL, worker = NULL
              WHERE j.pk = ANY(p_pks || nexts) AND j.fence IS NOT DISTINCT FROM p_fences[array_position(p_pks, j.pk)]
             RETURNING j.pk, j.state)
      SELECT array_agg(f.pk) FILTER (WHERE f.state = 'completed') INTO accepted FROM f;
    ELSE
      WITH f AS (
             UPDATE jobs j
                SET state = 'completed', finished_at = clock_timestamp(), dedupe = NULL, result = p_results[array_position(p_pks, j.pk)],
                    error = NULL, fence = NULL, lease_until = NULL, worker = NULL
              WHERE j.pk = ANY(p_pks) AND j.fence = p_fences[array_position(p_pks, j.pk)]
             RETURNING j.pk)
      SELECT array_agg(f.pk) INTO accepted FROM f;
      IF NOT in_order THEN
        UPDATE jobs j SET state = 'waiting' WHERE j.pk = ANY(nexts);
      END IF;
    END IF;
  END IF;
  ready := '{}';
  IF array_position(grps, NULL) IS NOT NULL THEN
    SELECT coalesce(array_agg(DISTINCT f.queue), '{}') INTO ready
      FROM unnest(queues, grps, nexts, states) f(queue, grp, next, state) WHERE f.grp IS NULL AND (f.next IS NOT NULL OR f.state = 'waiting');
  END IF;
  IF grouped THEN
    WITH counted AS (
           UPDATE job_groups g
              SET pending = g.pending + n.pending, busy = g.busy - n.busy,
                  tat = CASE WHEN n.parked IS NULL THEN g.tat
                             ELSE ledger_given_back_v1(g.tat, g.refilled, n.parked, g.busy - n.busy, g.rate_per_minute, g.queue) END
             FROM (SELECT k.pending, k.busy, k.parked, (SELECT r.ctid FROM job_groups r WHERE r.queue = k.queue AND r.grp = k.grp) AS tid
                     FROM (SELECT f.queue, f.grp, (count(f.next) + count(*) FILTER (WHERE f.state = 'waiting'))::int AS pending, count(*)::int AS busy,
                                  array_agg(p_fences[f.place]) FILTER (WHERE p_outcomes[f.place] IN ('park', 'snooze', 'cancel')) AS parked
                             FROM unnest(queues, grps, nexts, states, places) f(queue, grp, next, state, place)
                            WHERE f.grp IS NOT NULL GROUP BY f.queue, f.grp) k OFFSET 0) n
            WHERE g.ctid = n.tid
           RETURNING g.queue, g.has_pending AND g.reasons = '{}'
                     AND g.busy < coalesce(g.cap, (SELECT array_agg(q.group_cap ORDER BY q.id) FROM queues q)[g.queue]) AS claimable)
    SELECT ready || coalesce(array_agg(DISTINCT c.queue) FILTER (WHERE c.claimable AND c.queue <> ALL(ready)), '{}') INTO ready FROM counted c;
  END IF;
  RETURN NEXT;
END $$;
