-- What may be said of a job while it runs (how far it is, that it is no longer wanted), how long it may run, and the weight of groups.

ALTER TABLE jobs
  ADD timeout_s real CONSTRAINT jobs_timeout CHECK (timeout_s > 0), -- NULL: the queue's
  -- The place that the job had when someone cancelled it while it ran. It keeps its place when it is tried again, and is not; run again as
  -- a dead letter it takes a new one, and is.
  ADD canceled_at bigint;

ALTER TABLE job_groups
  ADD weight smallint NOT NULL DEFAULT 1 CONSTRAINT job_groups_weight CHECK (weight BETWEEN 1 AND 100), -- jobs per turn
  ADD served smallint NOT NULL DEFAULT 0 CONSTRAINT job_groups_served CHECK (served >= 0);               -- of them in this turn

-- Add to the counters of groups, each named once, of which a claim takes `p_busy` jobs; `p_tokens` are taken from the rate, being
-- negative. A group that has had the jobs of its turn, or has none, goes to the back, in the order of the arrays. Returns the queues of those that are claimable now.
-- The caller holds the locks.
CREATE FUNCTION ledger_count_v2(p_queues smallint[], p_grps text[], p_pending int[], p_busy int[], p_tokens int[])
RETURNS smallint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
  -- Stable while the rows are locked.
  rows tid[] := ARRAY(SELECT (SELECT g.ctid FROM job_groups g WHERE g.queue = t.queue AND g.grp = t.grp)
                        FROM unnest(p_queues, p_grps) WITH ORDINALITY t(queue, grp, i) ORDER BY t.i);
  turns bigint[] := ARRAY(SELECT nextval('ledger_turns') FROM generate_subscripts(p_queues, 1));
  ready smallint[];
BEGIN
  WITH counted AS (
    UPDATE job_groups g
       SET pending = g.pending + p_pending[array_position(rows, g.ctid)],
           busy = g.busy + p_busy[array_position(rows, g.ctid)],
           turn = CASE WHEN p_busy[array_position(rows, g.ctid)] = 0 OR g.served + p_busy[array_position(rows, g.ctid)] >= g.weight
                       THEN turns[array_position(rows, g.ctid)] ELSE g.turn END,
           served = (g.served + p_busy[array_position(rows, g.ctid)]) % g.weight,
           tat = (SELECT CASE WHEN x.rate = 0 OR x.tokens = 0 THEN g.tat
                              WHEN x.tokens > 0 THEN g.tat - x.tokens * interval '1 minute' / x.rate
                              ELSE greatest(g.tat, now()) - x.tokens * interval '1 minute' / x.rate END
                    FROM (SELECT p_tokens[array_position(rows, g.ctid)] AS tokens, coalesce(g.rate_per_minute, q.rate_per_minute) AS rate
                            FROM queues q WHERE q.id = g.queue) x)
     WHERE g.ctid = ANY(rows)
    RETURNING g.queue, g.pending > 0 AND g.reasons = '{}' AND g.busy < coalesce(g.cap, (SELECT q.group_cap FROM queues q WHERE q.id = g.queue)) AS claimable)
  SELECT coalesce(array_agg(DISTINCT c.queue), '{}') INTO ready FROM counted c WHERE c.claimable;
  RETURN ready;
END $$;

-- ledger_claim_v1 with weights: a group of weight w has w jobs per turn, in one claim or in several. A claim starts a new try, so what the
-- one before said of its progress is gone. `canceled`: it is not to be run but to be ended.
CREATE FUNCTION ledger_claim_v2(p_queues smallint[], p_slots int[], p_leases float8[], p_worker text)
RETURNS TABLE (pk bigint, job_key text, queue smallint, name text, data jsonb, attempt smallint, max_attempts smallint, stalled smallint,
               fence bigint, grp text, ord text, priority smallint, created_at timestamptz, expires_at timestamptz,
               timeout_s real, canceled boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  qs smallint[]; gs text[]; rooms int[]; turns bigint[]; counts int[]; slots int[]; weights int[]; dues int[];
  chosen bigint[]; served_queues smallint[]; served_groups text[]; served int[];
  ungrouped_first boolean := nextval('ledger_claims') % 2 = 0;
BEGIN
  SELECT array_agg(x.queue), array_agg(x.grp), array_agg(x.room), array_agg(x.turn), array_agg(x.n), array_agg(x.slots),
         array_agg(x.weight), array_agg(x.due)
    INTO qs, gs, rooms, turns, counts, slots, weights, dues
    FROM (SELECT q.id AS queue, g.grp, g.room, g.turn, s.slots, g.weight, g.due, count(*) OVER (PARTITION BY q.id)::int AS n
            FROM unnest(p_queues, p_slots) s(queue, slots)
            JOIN queues q ON q.id = s.queue AND NOT q.paused
           CROSS JOIN LATERAL (
             SELECT g.grp, g.turn, g.weight::int, greatest(g.weight - g.served, 1) AS due,
                    least(coalesce(g.cap, q.group_cap) - g.busy,
                          ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst))) AS room
               FROM job_groups g
              WHERE g.queue = q.id AND g.pending > 0 AND g.reasons = '{}' AND g.busy < coalesce(g.cap, q.group_cap)
                AND ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) > 0
              ORDER BY g.turn LIMIT s.slots FOR UPDATE SKIP LOCKED) g) x;
  WITH ready AS MATERIALIZED (
         -- Each of n groups has a job for the first round, so that none can get more than slots - n + 1, or what is due to it in this turn.
         SELECT g.queue, g.grp, h.pk, h.k, CASE WHEN h.k <= g.due THEN 0 ELSE 1 + (h.k - g.due - 1) / g.weight END AS round, g.turn, g.slots, false AS ungrouped
           FROM unnest(qs, gs, rooms, turns, counts, slots, weights, dues) g(queue, grp, room, turn, n, slots, weight, due)
           LEFT JOIN LATERAL (
             SELECT j.pk, row_number() OVER (ORDER BY j.rank DESC, j.position) AS k FROM jobs j
              WHERE j.queue = g.queue AND j.grp = g.grp AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
              ORDER BY j.rank DESC, j.position LIMIT least(g.room, greatest(g.slots - g.n + 1, g.due))) h ON true
         UNION ALL
         SELECT s.queue, NULL, u.pk, u.k, u.k - 1, 0, s.slots, true
           FROM unnest(p_queues, p_slots) s(queue, slots)
           JOIN queues q ON q.id = s.queue AND NOT q.paused
          CROSS JOIN LATERAL (
             SELECT l.pk, row_number() OVER (ORDER BY l.rank DESC, l.position) AS k FROM (
               SELECT j.pk, j.rank, j.position FROM jobs j
                WHERE j.queue = s.queue AND j.grp IS NULL AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
                ORDER BY j.rank DESC, j.position LIMIT s.slots FOR UPDATE SKIP LOCKED) l) u),
       placed AS MATERIALIZED (
         SELECT r.queue, r.grp, r.pk, r.pk IS NOT NULL AND r.place <= r.slots AS is_chosen, r.place
           FROM (SELECT r.*, row_number() OVER (PARTITION BY r.queue ORDER BY r.pk IS NULL, r.round, r.ungrouped <> ungrouped_first, r.turn, r.grp, r.k) AS place
                   FROM ready r) r),
       -- A group whose jobs have all expired is served nothing, and goes to the back: it keeps no other out until the sweep ends them.
       -- Of those that go to the back, one that got less of this claim's last round is before one that got more.
       groups AS (SELECT p.queue, p.grp, count(*) FILTER (WHERE p.is_chosen)::int AS n, max(p.place) AS last FROM placed p
                   WHERE p.grp IS NOT NULL AND (p.is_chosen OR p.pk IS NULL) GROUP BY p.queue, p.grp)
  SELECT (SELECT array_agg(p.pk ORDER BY q.priority DESC, p.queue, p.place) FROM placed p JOIN queues q ON q.id = p.queue WHERE p.is_chosen),
         (SELECT array_agg(g.queue ORDER BY g.last, g.queue, g.grp) FROM groups g), (SELECT array_agg(g.grp ORDER BY g.last, g.queue, g.grp) FROM groups g),
         (SELECT array_agg(g.n ORDER BY g.last, g.queue, g.grp) FROM groups g)
    INTO chosen, served_queues, served_groups, served;
  IF served_groups IS NOT NULL THEN
    PERFORM ledger_count_v2(served_queues, served_groups, ARRAY(SELECT -n FROM unnest(served) n), served, ARRAY(SELECT -n FROM unnest(served) n));
  END IF;
  -- All of them are still waiting: their groups, or they themselves, are locked.
  RETURN QUERY
  WITH took AS (
    UPDATE jobs j
       SET state = 'active', attempt = j.attempt + 1, fence = nextval('ledger_fences'), worker = p_worker,
           lease_until = now() + make_interval(secs => p_leases[array_position(p_queues, j.queue)]),
           started_at = coalesce(j.started_at, now()),
           dedupe = nullif(j.dedupe, 'waiting'), progress = NULL
     WHERE j.pk = ANY(chosen) AND j.fence IS NULL AND j.finished_at IS NULL
    RETURNING j.*)
  SELECT t.pk, t.job_key, t.queue, t.name, t.data, t.attempt, t.max_attempts, t.stalled, t.fence, t.grp, t.ord, t.priority, t.created_at, t.expires_at,
         t.timeout_s, t.canceled_at IS NOT DISTINCT FROM t.position
    FROM took t ORDER BY array_position(chosen, t.pk);
END $$;

-- How far jobs are that are held. One whose claim was lost, or that a finish holds, is left alone.
CREATE FUNCTION ledger_progress_v1(p_pks bigint[], p_fences bigint[], p_progress jsonb[]) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
  UPDATE jobs j SET progress = p_progress[array_position(p_pks, j.pk)]
   WHERE j.pk = ANY(ARRAY(SELECT l.pk FROM jobs l WHERE l.pk = ANY(p_pks) FOR UPDATE SKIP LOCKED))
     AND j.fence = p_fences[array_position(p_pks, j.pk)];
END $$;

-- Have jobs that run stopped; p_not are the queues whose jobs may have done their work already. Returns those that will be.
CREATE FUNCTION ledger_stop_v1(p_pks bigint[], p_not smallint[]) RETURNS bigint[]
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE stopped bigint[];
BEGIN
  WITH u AS (UPDATE jobs j SET canceled_at = j.position WHERE j.pk = ANY(p_pks) AND j.fence IS NOT NULL AND j.queue <> ALL(p_not) RETURNING j.pk)
  SELECT coalesce(array_agg(u.pk), '{}') INTO stopped FROM u;
  RETURN stopped;
END $$;
