-- What it costs Postgres to make few jobs, as a request does: most of it was statements with nothing to do.

-- As ledger_enqueue_v1. A batch of new ids frees nothing, so that its waiting jobs are only counted; groups and order keys are locked if there are any.
CREATE FUNCTION ledger_enqueue_v2(
  p_queues smallint[], p_job_keys text[], p_dedupes text[], p_names text[], p_data jsonb[], p_priorities smallint[], p_urgencies smallint[],
  p_grps text[], p_ords text[], p_run_ats timestamptz[], p_expires_ats timestamptz[], p_max_attempts smallint[])
RETURNS TABLE (pk bigint, job_key text, state text, is_new boolean) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  todo text[];                       -- NULL: all, in the first round
  moves ledger_move[];
  grouped int := cardinality(array_remove(p_grps, NULL));
  queues smallint[]; grps text[]; pendings int[]; rows tid[];
  pks bigint[]; keys text[]; states text[];
  new_pks bigint[] := '{}'; old_pks bigint[] := '{}'; found_pks bigint[]; found_keys text[];
BEGIN
  IF grouped > 0 THEN
    -- DO UPDATE … WHERE false locks a row that is there without writing it.
    INSERT INTO job_groups (queue, grp)
      SELECT DISTINCT q, g FROM unnest(p_queues, p_grps) t(q, g) WHERE g IS NOT NULL ORDER BY q, g
      ON CONFLICT ON CONSTRAINT job_groups_pk DO UPDATE SET turn = excluded.turn WHERE false;
  END IF;
  IF grouped < cardinality(p_grps) AND array_remove(p_ords, NULL) <> '{}' THEN
    PERFORM pg_advisory_xact_lock(k.key) FROM (
      SELECT DISTINCT hashtextextended(o, q) AS key FROM unnest(p_queues, p_grps, p_ords) t(q, g, o)
       WHERE g IS NULL AND o IS NOT NULL ORDER BY 1) k;
  END IF;
  LOOP
    WITH made AS (
      INSERT INTO jobs (job_key, dedupe, queue, name, state, priority, urgency, max_attempts, grp, ord, position, run_at, expires_at, data)
      SELECT s.key, s.dedupe, s.queue, s.name,
             CASE WHEN s.later THEN 'delayed'
                  WHEN s.ord IS NOT NULL AND (s.nth > 1
                       OR (SELECT true FROM jobs a WHERE a.queue = s.queue AND a.ord = s.ord AND coalesce(a.grp, '') = coalesce(s.grp, '')
                              AND a.ord IS NOT NULL AND a.position IS NOT NULL AND a.state IN ('waiting', 'delayed', 'active') LIMIT 1))
                  THEN 'blocked' ELSE 'waiting' END,
             s.priority, s.urgency, s.max_attempts, s.grp, s.ord,
             s.position, coalesce(s.run_at, now()), s.expires_at, s.data
        FROM (SELECT w.*, CASE WHEN NOT w.later THEN nextval('ledger_positions') END AS position
                FROM (
              SELECT t.*, l.later, row_number() OVER (PARTITION BY t.queue, t.grp, t.ord, l.later ORDER BY t.i) AS nth
                FROM unnest(p_queues, p_job_keys, p_dedupes, p_names, p_data, p_priorities, p_urgencies, p_grps, p_ords, p_run_ats, p_expires_ats, p_max_attempts)
                     WITH ORDINALITY t(queue, key, dedupe, name, data, priority, urgency, grp, ord, run_at, expires_at, max_attempts, i)
               CROSS JOIN LATERAL (SELECT coalesce(t.run_at > now(), false) AS later) l
               WHERE todo IS NULL OR t.key = ANY(todo)) w
               ORDER BY w.i) s
       -- Places in the order of the arrays, rows in the order of ids: two batches with the same ids wait for each other the same way round.
       ORDER BY s.key COLLATE "C", s.i
      ON CONFLICT (job_key) WHERE dedupe IS NOT NULL DO NOTHING
      RETURNING jobs.pk, jobs.job_key, jobs.queue, jobs.grp, jobs.ord, jobs.state)
    SELECT array_agg(m.pk), array_agg(m.job_key), array_agg(m.state),
           array_agg((m.queue, m.grp, m.ord, false, (m.state = 'waiting')::int, 0, 0)::ledger_move)
      INTO pks, keys, states, moves FROM made m;
    IF cardinality(pks) = cardinality(p_job_keys) THEN
      IF grouped > 0 THEN
        SELECT array_agg(c.queue), array_agg(c.grp), array_agg(c.n) INTO queues, grps, pendings
          FROM (SELECT m.queue, m.grp, count(*)::int AS n FROM unnest(moves) m WHERE m.grp IS NOT NULL AND m.pending > 0 GROUP BY m.queue, m.grp) c;
        rows := ARRAY(SELECT (SELECT g.ctid FROM job_groups g WHERE g.queue = t.queue AND g.grp = t.grp)
                        FROM unnest(queues, grps) WITH ORDINALITY t(queue, grp, i) ORDER BY t.i);
        UPDATE job_groups g SET pending = g.pending + pendings[array_position(rows, g.ctid)] WHERE g.ctid = ANY(rows);
      END IF;
      RETURN QUERY SELECT t.pk, t.job_key, t.state, true FROM unnest(pks, keys, states) t(pk, job_key, state);
      RETURN;
    END IF;
    new_pks := new_pks || coalesce(pks, '{}');
    todo := ARRAY(SELECT DISTINCT k FROM unnest(coalesce(todo, p_job_keys)) k WHERE k <> ALL(coalesce(keys, '{}')));
    -- A job that was left out may have been the one before another of this batch: look at all its order keys.
    PERFORM ledger_settle_v1(coalesce(moves, '{}') || ARRAY(
      SELECT DISTINCT (t.q, t.g, t.o, true, 0, 0, 0)::ledger_move FROM unnest(p_queues, p_grps, p_ords) t(q, g, o)));
    SELECT array_agg(j.pk), array_agg(j.job_key) INTO found_pks, found_keys
      FROM jobs j WHERE j.job_key = ANY(todo) AND j.dedupe IS NOT NULL;
    old_pks := old_pks || coalesce(found_pks, '{}');
    -- What is neither made nor found ended in between: its id is free now.
    todo := ARRAY(SELECT k FROM unnest(todo) k WHERE k <> ALL(coalesce(found_keys, '{}')));
    EXIT WHEN todo = '{}';
  END LOOP;
  RETURN QUERY SELECT j.pk, j.job_key, j.state, j.pk = ANY(new_pks) FROM jobs j WHERE j.pk = ANY(new_pks || old_pks);
END $$;
