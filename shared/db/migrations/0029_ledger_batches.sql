-- What a claim and a finish of grouped jobs cost Postgres: fewer statements per batch, fewer steps per group. docs/decisions/0006-job-rows.md has
-- the numbers.

-- The claim before which the bucket of a group was full for the last time: what was claimed earlier has had its token refilled, so that giving
-- it back would make one too many.
ALTER TABLE job_groups ADD refilled bigint NOT NULL DEFAULT 0;

-- As ledger_claim_v3. A group is known by its place in the arrays, which are in the order of turns; one that may be given a single job is asked
-- for no more than its first.
CREATE FUNCTION ledger_claim_v4(p_queues smallint[], p_slots int[], p_leases float8[], p_worker text)
RETURNS TABLE (place int, pk bigint, job_key text, queue smallint, name text, data jsonb, attempt smallint, max_attempts smallint, stalled smallint,
               fence bigint, grp text, ord text, priority smallint, created_at timestamptz, expires_at timestamptz,
               timeout_s real, canceled boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  -- The groups that may be served, which are locked, so that their rows stay where they are. `most`: so many jobs for each, so that each of
  -- n groups has one in the first round; or what is due to it in this turn.
  qs smallint[]; gs text[]; tids tid[]; mosts int[]; slots int[]; weights int[]; dues int[]; rates int[];
  chosen bigint[]; served int[]; taken int[]; next_turns bigint[];   -- of `served`, which are places of the arrays above
  ungrouped_first boolean := nextval('ledger_claims') % 2 = 0;
BEGIN
  SELECT array_agg(x.queue), array_agg(x.grp), array_agg(x.ctid), array_agg(least(x.room, greatest(x.slots - x.n + 1, x.due))), array_agg(x.slots),
         array_agg(x.weight), array_agg(x.due), array_agg(x.rate)
    INTO qs, gs, tids, mosts, slots, weights, dues, rates
    FROM (SELECT q.id AS queue, g.grp, g.ctid, g.room, s.slots, g.weight, g.due, g.rate, count(*) OVER (PARTITION BY q.id)::int AS n
            FROM unnest(p_queues, p_slots) s(queue, slots)
            JOIN queues q ON q.id = s.queue AND NOT q.paused
           CROSS JOIN LATERAL (
             SELECT g.grp, g.ctid, g.turn, g.weight::int, greatest(g.weight - g.served, 1) AS due, coalesce(g.rate_per_minute, q.rate_per_minute) AS rate,
                    least(coalesce(g.cap, q.group_cap) - g.busy,
                          ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst))) AS room
               FROM job_groups g
              WHERE g.queue = q.id AND g.has_pending AND g.reasons = '{}' AND g.busy < coalesce(g.cap, q.group_cap)
                AND ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) > 0
              ORDER BY g.turn LIMIT s.slots FOR UPDATE SKIP LOCKED) g
           ORDER BY q.priority DESC, q.id, g.turn, g.grp) x;
  IF gs IS NULL THEN
    chosen := ARRAY(
      SELECT u.pk
        FROM unnest(p_queues, p_slots) s(queue, slots)
        JOIN queues q ON q.id = s.queue AND NOT q.paused
       CROSS JOIN LATERAL (
         SELECT j.pk, j.priority, j.urgency, j.position FROM jobs j
          WHERE j.queue = s.queue AND j.grp IS NULL AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
          ORDER BY j.priority DESC, j.urgency DESC, j.position LIMIT s.slots FOR UPDATE SKIP LOCKED) u
       ORDER BY q.priority DESC, s.queue, u.priority DESC, u.urgency DESC, u.position);
  ELSIF 1 = ALL (mosts) AND (SELECT u.pk
                               FROM unnest(p_queues) s(queue)
                               JOIN queues q ON q.id = s.queue AND NOT q.paused
                              CROSS JOIN LATERAL (
                                SELECT j.pk FROM jobs j
                                 WHERE j.queue = s.queue AND j.grp IS NULL AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
                                 ORDER BY j.priority DESC, j.urgency DESC, j.position LIMIT 1) u LIMIT 1) IS NULL THEN
    -- What nearly every claim of sends is, by the fewest steps: one job of each group, in the order of their turns.
    SELECT array_agg(h.pk), array_agg(h.i), array_agg((h.pk IS NOT NULL)::int), array_agg(nextval('ledger_turns'))
      INTO chosen, served, taken, next_turns
      FROM (SELECT g.i::int AS i,
                   (SELECT j.pk FROM jobs j
                     WHERE j.queue = g.queue AND j.grp = g.grp AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
                     ORDER BY j.priority DESC, j.urgency DESC, j.position LIMIT 1) AS pk
              FROM unnest(qs, gs) WITH ORDINALITY g(queue, grp, i)) h;
    chosen := array_remove(chosen, NULL);
  ELSE
    WITH ready AS MATERIALIZED (
           SELECT g.queue, g.i::int AS i, h.pk, h.k, CASE WHEN h.k <= g.due THEN 0 ELSE 1 + (h.k - g.due - 1) / g.weight END AS round, g.slots, false AS ungrouped
             FROM unnest(qs, gs, mosts, slots, weights, dues) WITH ORDINALITY g(queue, grp, most, slots, weight, due, i)
             LEFT JOIN LATERAL (
               (SELECT j.pk, 1::bigint AS k FROM jobs j
                 WHERE g.most = 1 AND j.queue = g.queue AND j.grp = g.grp AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
                 ORDER BY j.priority DESC, j.urgency DESC, j.position LIMIT 1)
               UNION ALL
               (SELECT j.pk, row_number() OVER (ORDER BY j.priority DESC, j.urgency DESC, j.position) FROM jobs j
                 WHERE g.most > 1 AND j.queue = g.queue AND j.grp = g.grp AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
                 ORDER BY j.priority DESC, j.urgency DESC, j.position LIMIT g.most)) h ON true
           UNION ALL
           SELECT s.queue, 0, u.pk, u.k, u.k - 1, s.slots, true
             FROM unnest(p_queues, p_slots) s(queue, slots)
             JOIN queues q ON q.id = s.queue AND NOT q.paused
            CROSS JOIN LATERAL (
               SELECT l.pk, row_number() OVER (ORDER BY l.priority DESC, l.urgency DESC, l.position) AS k FROM (
                 SELECT j.pk, j.priority, j.urgency, j.position FROM jobs j
                  WHERE j.queue = s.queue AND j.grp IS NULL AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
                  ORDER BY j.priority DESC, j.urgency DESC, j.position LIMIT s.slots FOR UPDATE SKIP LOCKED) l) u),
         placed AS MATERIALIZED (
           SELECT r.queue, r.i, r.pk, r.pk IS NOT NULL AND r.place <= r.slots AS is_chosen, r.place
             FROM (SELECT r.*, row_number() OVER (PARTITION BY r.queue ORDER BY r.pk IS NULL, r.round, r.ungrouped <> ungrouped_first, r.i, r.k) AS place
                     FROM ready r) r)
    SELECT c.pks, g.served, g.taken, g.turns
      INTO chosen, served, taken, next_turns
      FROM (SELECT array_agg(p.pk ORDER BY q.priority DESC, p.queue, p.place) AS pks FROM placed p JOIN queues q ON q.id = p.queue WHERE p.is_chosen) c
           -- A group whose jobs have all expired is served nothing, and goes to the back: it keeps no other out until the sweep ends them.
           -- Of those that go to the back, one that got less of this claim's last round is before one that got more.
     CROSS JOIN (SELECT array_agg(o.i) AS served, array_agg(o.n) AS taken, array_agg(nextval('ledger_turns')) AS turns
                   FROM (SELECT p.i, count(*) FILTER (WHERE p.is_chosen)::int AS n FROM placed p
                          WHERE p.i > 0 AND (p.is_chosen OR p.pk IS NULL) GROUP BY p.i ORDER BY max(p.place), p.i) o) g;
  END IF;
  IF served IS NOT NULL THEN
    UPDATE job_groups g
       SET pending = g.pending - n.n, busy = g.busy + n.n,
           turn = CASE WHEN n.n = 0 OR g.served + n.n >= g.weight THEN n.turn ELSE g.turn END, served = (g.served + n.n) % g.weight,
           tat = CASE WHEN rates[n.i] = 0 OR n.n = 0 THEN g.tat ELSE greatest(g.tat, now()) + n.n * interval '1 minute' / rates[n.i] END,
           refilled = CASE WHEN rates[n.i] = 0 OR n.n = 0 OR g.tat > now() THEN g.refilled ELSE nextval('ledger_fences') END
      FROM (SELECT u.i, u.n, u.turn, tids[u.i] AS tid FROM unnest(served, taken, next_turns) u(i, n, turn) OFFSET 0) n
     WHERE g.ctid = n.tid;
  END IF;
  IF chosen IS NULL OR chosen = '{}' THEN
    RETURN;
  END IF;
  -- All of them are still waiting: their groups, or they themselves, are locked.
  RETURN QUERY
    UPDATE jobs j
       SET state = 'active', attempt = j.attempt + 1, fence = nextval('ledger_fences'), worker = p_worker,
           lease_until = now() + make_interval(secs => p_leases[array_position(p_queues, j.queue)]),
           started_at = coalesce(j.started_at, now()),
           dedupe = nullif(j.dedupe, 'waiting'), progress = NULL
     WHERE j.pk = ANY(chosen) AND j.fence IS NULL AND j.finished_at IS NULL
    RETURNING array_position(chosen, j.pk), j.pk, j.job_key, j.queue, j.name, j.data, j.attempt, j.max_attempts, j.stalled, j.fence, j.grp, j.ord, j.priority,
              j.created_at, j.expires_at, j.timeout_s, j.canceled_at IS NOT DISTINCT FROM j.position;
END $$;

-- A group's `tat` after the claims of these fences gave their tokens back. What its p_busy other jobs took stays taken.
CREATE FUNCTION ledger_given_back_v1(tat timestamptz, p_refilled bigint, p_fences bigint[], p_busy int, p_rate int, p_queue smallint)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  rate int := coalesce(p_rate, (SELECT q.rate_per_minute FROM queues q WHERE q.id = p_queue));
  token interval;
BEGIN
  IF rate = 0 THEN
    RETURN tat;
  END IF;
  token := interval '1 minute' / rate;
  RETURN greatest(tat - (SELECT count(*) FROM unnest(p_fences) f WHERE f > p_refilled) * token, least(tat, now() + p_busy * token));
END $$;

-- As ledger_finish_v2. Of a batch that is all `done` the next of each order key goes on in the statement that ends the one before it.
CREATE FUNCTION ledger_finish_v3(p_pks bigint[], p_fences bigint[], p_outcomes text[], p_delays float8[], p_results jsonb[], p_errors jsonb[])
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
                                  array_agg(p_fences[f.place]) FILTER (WHERE p_outcomes[f.place] IN ('park', 'snooze')) AS parked
                             FROM unnest(queues, grps, nexts, states, places) f(queue, grp, next, state, place)
                            WHERE f.grp IS NOT NULL GROUP BY f.queue, f.grp) k OFFSET 0) n
            WHERE g.ctid = n.tid
           RETURNING g.queue, g.has_pending AND g.reasons = '{}'
                     AND g.busy < coalesce(g.cap, (SELECT array_agg(q.group_cap ORDER BY q.id) FROM queues q)[g.queue]) AS claimable)
    SELECT ready || coalesce(array_agg(DISTINCT c.queue) FILTER (WHERE c.claimable AND c.queue <> ALL(ready)), '{}') INTO ready FROM counted c;
  END IF;
  RETURN NEXT;
END $$;
