-- What a claim and a finish cost Postgres: fewer writes per job and fewer steps per statement. docs/decisions/0006-job-rows.md has the numbers.

-- `rank` was priority * 10 + urgency, generated: Postgres parses such an expression again for every row of an UPDATE, a tenth of what a
-- job's way cost. The pair has the same order, as an urgency is below 10.
ALTER TABLE jobs DROP COLUMN rank;
CREATE INDEX jobs_ready_grouped ON jobs (queue, grp, priority DESC, urgency DESC, position) WHERE state = 'waiting' AND grp IS NOT NULL;
CREATE INDEX jobs_ready_ungrouped ON jobs (queue, priority DESC, urgency DESC, position) WHERE state = 'waiting' AND grp IS NULL;

-- Whether a group is ready changes far more seldom than its counters, so that most of their updates write no index.
ALTER TABLE job_groups ADD has_pending boolean NOT NULL GENERATED ALWAYS AS (pending > 0) STORED;
DROP INDEX job_groups_ready;
CREATE INDEX job_groups_ready ON job_groups (queue, turn) WHERE has_pending AND reasons = '{}';

-- As ledger_claim_v2; `place` is the order in which the jobs are to run.
CREATE FUNCTION ledger_claim_v3(p_queues smallint[], p_slots int[], p_leases float8[], p_worker text)
RETURNS TABLE (place int, pk bigint, job_key text, queue smallint, name text, data jsonb, attempt smallint, max_attempts smallint, stalled smallint,
               fence bigint, grp text, ord text, priority smallint, created_at timestamptz, expires_at timestamptz,
               timeout_s real, canceled boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  -- The groups that may be served, which are locked, so that their rows stay where they are.
  qs smallint[]; gs text[]; tids tid[]; rooms int[]; turns bigint[]; counts int[]; slots int[]; weights int[]; dues int[]; rates int[];
  chosen bigint[]; served_tids tid[]; taken int[]; served_rates int[]; next_turns bigint[];
  ungrouped_first boolean := nextval('ledger_claims') % 2 = 0;
BEGIN
  SELECT array_agg(x.queue), array_agg(x.grp), array_agg(x.ctid), array_agg(x.room), array_agg(x.turn), array_agg(x.n), array_agg(x.slots),
         array_agg(x.weight), array_agg(x.due), array_agg(x.rate)
    INTO qs, gs, tids, rooms, turns, counts, slots, weights, dues, rates
    FROM (SELECT q.id AS queue, g.grp, g.ctid, g.room, g.turn, s.slots, g.weight, g.due, g.rate, count(*) OVER (PARTITION BY q.id)::int AS n
            FROM unnest(p_queues, p_slots) s(queue, slots)
            JOIN queues q ON q.id = s.queue AND NOT q.paused
           CROSS JOIN LATERAL (
             SELECT g.grp, g.ctid, g.turn, g.weight::int, greatest(g.weight - g.served, 1) AS due, coalesce(g.rate_per_minute, q.rate_per_minute) AS rate,
                    least(coalesce(g.cap, q.group_cap) - g.busy,
                          ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst))) AS room
               FROM job_groups g
              WHERE g.queue = q.id AND g.has_pending AND g.reasons = '{}' AND g.busy < coalesce(g.cap, q.group_cap)
                AND ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) > 0
              ORDER BY g.turn LIMIT s.slots FOR UPDATE SKIP LOCKED) g) x;
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
  ELSE
    WITH ready AS MATERIALIZED (
           -- Each of n groups has a job for the first round, so that none can get more than slots - n + 1, or what is due to it in this turn.
           SELECT g.queue, g.grp, g.tid, g.rate, h.pk, h.k, CASE WHEN h.k <= g.due THEN 0 ELSE 1 + (h.k - g.due - 1) / g.weight END AS round,
                  g.turn, g.slots, false AS ungrouped
             FROM unnest(qs, gs, tids, rooms, turns, counts, slots, weights, dues, rates) g(queue, grp, tid, room, turn, n, slots, weight, due, rate)
             LEFT JOIN LATERAL (
               SELECT j.pk, row_number() OVER (ORDER BY j.priority DESC, j.urgency DESC, j.position) AS k FROM jobs j
                WHERE j.queue = g.queue AND j.grp = g.grp AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
                ORDER BY j.priority DESC, j.urgency DESC, j.position LIMIT least(g.room, greatest(g.slots - g.n + 1, g.due))) h ON true
           UNION ALL
           SELECT s.queue, NULL, NULL, NULL, u.pk, u.k, u.k - 1, 0, s.slots, true
             FROM unnest(p_queues, p_slots) s(queue, slots)
             JOIN queues q ON q.id = s.queue AND NOT q.paused
            CROSS JOIN LATERAL (
               SELECT l.pk, row_number() OVER (ORDER BY l.priority DESC, l.urgency DESC, l.position) AS k FROM (
                 SELECT j.pk, j.priority, j.urgency, j.position FROM jobs j
                  WHERE j.queue = s.queue AND j.grp IS NULL AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
                  ORDER BY j.priority DESC, j.urgency DESC, j.position LIMIT s.slots FOR UPDATE SKIP LOCKED) l) u),
         placed AS MATERIALIZED (
           SELECT r.queue, r.grp, r.tid, r.rate, r.pk, r.pk IS NOT NULL AND r.place <= r.slots AS is_chosen, r.place
             FROM (SELECT r.*, row_number() OVER (PARTITION BY r.queue ORDER BY r.pk IS NULL, r.round, r.ungrouped <> ungrouped_first, r.turn, r.grp, r.k) AS place
                     FROM ready r) r),
         -- A group whose jobs have all expired is served nothing, and goes to the back: it keeps no other out until the sweep ends them.
         -- Of those that go to the back, one that got less of this claim's last round is before one that got more.
         groups AS (SELECT p.queue, p.grp, p.tid, p.rate, count(*) FILTER (WHERE p.is_chosen)::int AS n, max(p.place) AS last FROM placed p
                     WHERE p.grp IS NOT NULL AND (p.is_chosen OR p.pk IS NULL) GROUP BY p.queue, p.grp, p.tid, p.rate)
    SELECT c.pks, g.tids, g.ns, g.rates, g.turns
      INTO chosen, served_tids, taken, served_rates, next_turns
      FROM (SELECT array_agg(p.pk ORDER BY q.priority DESC, p.queue, p.place) AS pks FROM placed p JOIN queues q ON q.id = p.queue WHERE p.is_chosen) c
     CROSS JOIN (SELECT array_agg(o.tid) AS tids, array_agg(o.n) AS ns, array_agg(o.rate) AS rates, array_agg(nextval('ledger_turns')) AS turns
                   FROM (SELECT g.tid, g.n, g.rate FROM groups g ORDER BY g.last, g.queue, g.grp) o) g;
    UPDATE job_groups g
       SET (pending, busy, turn, served, tat) = (
             SELECT g.pending - n.n, g.busy + n.n, CASE WHEN n.n = 0 OR g.served + n.n >= g.weight THEN next_turns[n.i] ELSE g.turn END, (g.served + n.n) % g.weight,
                    CASE WHEN served_rates[n.i] = 0 OR n.n = 0 THEN g.tat ELSE greatest(g.tat, now()) + n.n * interval '1 minute' / served_rates[n.i] END
               FROM (SELECT i.i, taken[i.i] AS n FROM (SELECT array_position(served_tids, g.ctid) AS i OFFSET 0) i OFFSET 0) n)
     WHERE g.ctid = ANY(served_tids);
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

-- Workers of the release before call this one until they are replaced.
CREATE OR REPLACE FUNCTION ledger_claim_v2(p_queues smallint[], p_slots int[], p_leases float8[], p_worker text)
RETURNS TABLE (pk bigint, job_key text, queue smallint, name text, data jsonb, attempt smallint, max_attempts smallint, stalled smallint,
               fence bigint, grp text, ord text, priority smallint, created_at timestamptz, expires_at timestamptz,
               timeout_s real, canceled boolean)
LANGUAGE sql AS $$
  SELECT c.pk, c.job_key, c.queue, c.name, c.data, c.attempt, c.max_attempts, c.stalled, c.fence, c.grp, c.ord, c.priority, c.created_at,
         c.expires_at, c.timeout_s, c.canceled
    FROM ledger_claim_v3(p_queues, p_slots, p_leases, p_worker) c ORDER BY c.place
$$;
DROP FUNCTION ledger_claim_v1(smallint[], int[], float8[], text);
DROP FUNCTION ledger_count_v2(smallint[], text[], int[], int[], int[]);

-- As ledger_finish_v1. The one active job of an order key was its only free one, so that what is blocked behind it goes on
-- without another look.
CREATE FUNCTION ledger_finish_v2(p_pks bigint[], p_fences bigint[], p_outcomes text[], p_delays float8[], p_results jsonb[], p_errors jsonb[])
RETURNS TABLE (accepted bigint[], dead bigint[], ready smallint[], next_due_s float8) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
  queues smallint[]; grps text[]; ords text[]; states text[]; places int[];   -- of the jobs that were held
  nexts bigint[]; qs smallint[]; gs text[]; keys bigint[]; pendings int[]; busies int[]; tokens int[]; rows tid[]; more smallint[];
BEGIN
  -- What ledger_lock_v1 does, by one look at the jobs.
  SELECT array_agg(k.queue), array_agg(k.grp), array_agg(k.key) INTO qs, gs, keys
    FROM (SELECT DISTINCT j.queue, j.grp, CASE WHEN j.grp IS NULL THEN hashtextextended(j.ord, j.queue) END AS key FROM jobs j
           WHERE j.pk = ANY(p_pks) AND (j.grp IS NOT NULL OR j.ord IS NOT NULL)) k;
  IF qs IS NOT NULL THEN
    PERFORM 1 FROM (SELECT k.queue, k.grp FROM unnest(qs, gs) k(queue, grp) WHERE k.grp IS NOT NULL ORDER BY 1, 2) k
      CROSS JOIN LATERAL (SELECT 1 FROM job_groups g WHERE g.queue = k.queue AND g.grp = k.grp FOR UPDATE) l;
    PERFORM pg_advisory_xact_lock(k.key) FROM (SELECT k.key FROM unnest(keys) k(key) WHERE k.key IS NOT NULL ORDER BY 1) k;
  END IF;
  IF 'done' = ALL (p_outcomes) THEN
    -- What nearly every batch is, by the fewest steps.
    WITH f AS (
           UPDATE jobs j
              SET state = 'completed', finished_at = clock_timestamp(), dedupe = NULL, result = p_results[array_position(p_pks, j.pk)],
                  error = NULL, fence = NULL, lease_until = NULL, worker = NULL
            WHERE j.pk = ANY(p_pks) AND j.fence = p_fences[array_position(p_pks, j.pk)]
           RETURNING j.pk, j.queue, j.grp, j.ord, j.state)
    SELECT array_agg(f.pk), array_agg(f.queue), array_agg(f.grp), array_agg(f.ord), array_agg(f.state)
      INTO accepted, queues, grps, ords, states FROM f;
  ELSE
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
  END IF;
  IF qs IS NULL AND 'waiting' <> ALL (states) THEN
    ready := '{}';
    RETURN NEXT;
    RETURN;
  END IF;
  WITH n AS MATERIALIZED (
         SELECT f.queue, f.grp, f.state = 'waiting' AS waits, f.place,
                CASE WHEN f.ord IS NOT NULL AND f.state IN ('completed', 'failed', 'cancelled') THEN (
                  SELECT b.pk FROM jobs b
                   WHERE b.queue = f.queue AND b.ord = f.ord AND coalesce(b.grp, '') = coalesce(f.grp, '') AND b.state = 'blocked'
                   ORDER BY b.position LIMIT 1) END AS next
           FROM unnest(queues, grps, ords, states, places) f(queue, grp, ord, state, place))
  SELECT a.nexts, a.more, c.queues, c.grps, c.pendings, c.busies, c.tokens INTO nexts, more, qs, gs, pendings, busies, tokens
    FROM (SELECT array_agg(n.next) FILTER (WHERE n.next IS NOT NULL) AS nexts,
                 array_agg(DISTINCT n.queue) FILTER (WHERE n.grp IS NULL AND (n.waits OR n.next IS NOT NULL)) AS more
            FROM n) a
   CROSS JOIN (SELECT array_agg(g.queue) AS queues, array_agg(g.grp) AS grps, array_agg(g.pending) AS pendings, array_agg(g.busy) AS busies,
                      array_agg(g.tokens) AS tokens
                 FROM (SELECT n.queue, n.grp, sum(n.waits::int + (n.next IS NOT NULL)::int)::int AS pending, -count(*)::int AS busy,
                              count(*) FILTER (WHERE p_outcomes[n.place] IN ('park', 'snooze'))::int AS tokens
                         FROM n WHERE n.grp IS NOT NULL GROUP BY n.queue, n.grp) g) c;
  IF nexts IS NOT NULL THEN
    UPDATE jobs j SET state = 'waiting' WHERE j.pk = ANY(nexts);
  END IF;
  ready := coalesce(more, '{}');
  IF gs IS NOT NULL THEN
    rows := ARRAY(SELECT (SELECT g.ctid FROM job_groups g WHERE g.queue = t.queue AND g.grp = t.grp)
                    FROM unnest(qs, gs) WITH ORDINALITY t(queue, grp, i) ORDER BY t.i);
    WITH counted AS (
           UPDATE job_groups g
              SET pending = g.pending + pendings[array_position(rows, g.ctid)],
                  busy = g.busy + busies[array_position(rows, g.ctid)],
                  tat = CASE WHEN tokens[array_position(rows, g.ctid)] = 0 THEN g.tat ELSE (
                    SELECT CASE WHEN x.rate = 0 THEN g.tat ELSE g.tat - tokens[array_position(rows, g.ctid)] * interval '1 minute' / x.rate END
                      FROM (SELECT coalesce(g.rate_per_minute, q.rate_per_minute) AS rate FROM queues q WHERE q.id = g.queue) x) END
            WHERE g.ctid = ANY(rows)
           RETURNING g.queue, g.has_pending AND g.reasons = '{}'
                     AND g.busy < coalesce(g.cap, (SELECT array_agg(q.group_cap ORDER BY q.id) FROM queues q)[g.queue]) AS claimable)
    SELECT array_agg(DISTINCT c.queue) FILTER (WHERE c.claimable AND c.queue <> ALL(ready)) INTO more FROM counted c;
    ready := ready || coalesce(more, '{}');
  END IF;
  RETURN NEXT;
END $$;

-- Per queue: is something claimable now, and in how many seconds may that change (a delay, a token, an expiry; NULL: never)?
CREATE OR REPLACE FUNCTION ledger_outlook_v1(p_queues smallint[]) RETURNS TABLE (queue smallint, ready boolean, due_s float8)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT q.id,
         NOT q.paused AND (coalesce(g.free, false) OR (
           SELECT true FROM jobs j WHERE j.queue = q.id AND j.grp IS NULL AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
            ORDER BY j.priority DESC, j.urgency DESC, j.position LIMIT 1) IS NOT NULL),
         -- greatest() would turn "never" into "now".
         CASE WHEN t.due IS NOT NULL THEN greatest(0, extract(epoch FROM t.due - now())::float8) END
    FROM queues q
    LEFT JOIN LATERAL (
      SELECT bool_or(x.tokens > 0) AS free, min(x.tat - (x.burst - 1) * interval '1 minute' / nullif(x.rate, 0)) FILTER (WHERE x.tokens <= 0) AS next_token
        FROM (SELECT g.tat, coalesce(g.rate_per_minute, q.rate_per_minute) AS rate, coalesce(g.burst, q.burst) AS burst,
                     ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) AS tokens
                FROM job_groups g
               WHERE g.queue = q.id AND g.has_pending AND g.reasons = '{}' AND g.busy < coalesce(g.cap, q.group_cap)) x) g ON true
   CROSS JOIN LATERAL (SELECT least(
     (SELECT j.run_at FROM jobs j WHERE j.queue = q.id AND j.state = 'delayed' ORDER BY j.run_at LIMIT 1),
     (SELECT j.expires_at FROM jobs j WHERE j.queue = q.id AND j.expires_at IS NOT NULL AND j.state IN ('waiting', 'blocked', 'delayed')
       ORDER BY j.expires_at LIMIT 1),
     CASE WHEN NOT q.paused THEN g.next_token END) AS due) t
   WHERE q.id = ANY(p_queues);
END $$;


-- As before, by the new order.
CREATE OR REPLACE FUNCTION job_place_v1(p_pk bigint, p_most int) RETURNS int
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
  j record;
  has_blocked boolean;
  ahead bigint;
BEGIN
  SELECT q.queue, q.grp, q.ord, q.priority, q.urgency, q.position, q.state INTO j FROM jobs q WHERE q.pk = p_pk;
  IF NOT FOUND OR j.state NOT IN ('waiting', 'blocked') THEN
    RETURN NULL;
  END IF;
  has_blocked := (SELECT true FROM jobs b WHERE b.queue = j.queue AND b.state = 'blocked' ORDER BY b.queue, b.ord LIMIT 1);
  SELECT sum(h.goes_first::int + CASE WHEN has_blocked AND h.ord IS NOT NULL THEN
           (SELECT count(*) FROM (SELECT 1 FROM jobs b
                                   WHERE b.queue = j.queue AND b.ord = h.ord AND coalesce(b.grp, '') = coalesce(j.grp, '')
                                     AND b.state = 'blocked' AND b.position < j.position AND (b.priority, b.urgency) >= (j.priority, j.urgency)
                                   ORDER BY b.position LIMIT p_most) f) ELSE 0 END) INTO ahead
    FROM ((SELECT w.ord, (w.priority, w.urgency) > (j.priority, j.urgency)
                          OR (w.priority, w.urgency) = (j.priority, j.urgency) AND w.position < j.position AS goes_first
             FROM jobs w
            WHERE w.queue = j.queue AND w.grp = j.grp AND w.state = 'waiting'
            ORDER BY w.priority DESC, w.urgency DESC, w.position
            LIMIT p_most)
          UNION ALL
          SELECT a.ord, false FROM jobs a WHERE a.state = 'active' AND a.queue = j.queue AND a.grp = j.grp
          UNION ALL
          (SELECT d.ord, true
             FROM jobs d
            WHERE j.state = 'blocked' AND d.queue = j.queue AND d.ord = j.ord AND coalesce(d.grp, '') = coalesce(j.grp, '')
              AND d.ord IS NOT NULL AND d.position IS NOT NULL AND d.state IN ('waiting', 'delayed', 'active')
              AND CASE d.state WHEN 'delayed' THEN true END
            LIMIT 1)) h;
  RETURN least(p_most, coalesce(ahead, 0));
END $$;
