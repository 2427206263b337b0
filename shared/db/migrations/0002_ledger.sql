-- The ledger: every job of the seven queues, and the functions that are the only way to change one.
--
-- At most one job per order key is free to run (waiting, delayed in its place, or active); the later ones are `blocked`.
-- So a group's counters are exact, and a claim never steps over heads that cannot run.
--
-- Each function first locks its groups in one statement, in order, and then works on the fresh snapshot of the next one
-- (READ COMMITTED): a statement that both waits for a group and reads its jobs would read them as they were before the wait.
-- Plans are cached, and often made while the tables are nearly empty, when every plan looks as good. So the statements leave the planner no
-- choice: jobs are changed by `pk = ANY(array)` with their values looked up by array_position, never by a join; other rows are looked up
-- one by one in a LATERAL or scalar subquery with LIMIT, OFFSET 0 or FOR UPDATE, which cannot be turned round; no EXISTS, which may
-- be hashed; generic plans only, since an array known to be empty lures too; no `state = …` beside a pk, which lures to a partial index: `fence` and `finished_at` tell the same, or a CASE hides it; and sorts are switched off where an index gives the order. tests/integration/ledger/test_plans.py counts the rows read.
-- Lock order of the whole product: connections, job_groups, jobs, messages, wire_ids, events.

CREATE SEQUENCE ledger_positions;  -- places within order keys and queues
CREATE SEQUENCE ledger_fences;     -- one number per claim of a job, never reused
CREATE SEQUENCE ledger_turns;      -- whose turn it is among groups
CREATE SEQUENCE ledger_claims;     -- its parity alternates between grouped and ungrouped jobs

-- The queues, and what a group of theirs has when it sets nothing of its own. shared/queues/policies.py is the source.
CREATE TABLE queues (
  id smallint CONSTRAINT queues_pk PRIMARY KEY,
  name text NOT NULL CONSTRAINT queues_name_once UNIQUE,
  priority smallint NOT NULL CONSTRAINT queues_priority CHECK (priority BETWEEN 0 AND 3000),
  paused boolean NOT NULL DEFAULT false,
  group_cap int NOT NULL CONSTRAINT queues_group_cap CHECK (group_cap > 0),
  rate_per_minute int NOT NULL CONSTRAINT queues_rate CHECK (rate_per_minute >= 0), -- 0: no limit
  burst int NOT NULL CONSTRAINT queues_burst CHECK (burst > 0),
  stalled_limit smallint NOT NULL CONSTRAINT queues_stalled_limit CHECK (stalled_limit >= 0)
);
INSERT INTO queues (id, name, priority, group_cap, rate_per_minute, burst, stalled_limit) VALUES
  (1, 'session:init', 10, 1, 0, 1, 3),
  (2, 'session:close', 8, 1, 0, 1, 3),
  (3, 'message:receive', 7, 10, 0, 1, 3),
  (4, 'message:send', 5, 1, 80, 10, 3),
  (5, 'message:status', 4, 10, 0, 1, 3),
  (6, 'webhook:delivery', 3, 4, 0, 1, 3),
  (7, 'maintenance:cleanup', 1, 1, 0, 1, 3);

CREATE TABLE jobs (
  pk bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT jobs_pk PRIMARY KEY,
  job_key text NOT NULL,             -- the readable job id
  dedupe text,                       -- until when its id keeps others out: its end (live) or its claim (waiting); NULL: no longer
  -- No foreign key: every enqueue would share-lock the same seven rows.
  queue smallint NOT NULL CONSTRAINT jobs_queue CHECK (queue BETWEEN 1 AND 7),
  name text NOT NULL,
  state text NOT NULL,
  priority smallint NOT NULL,
  urgency smallint NOT NULL DEFAULT 0,
  rank smallint NOT NULL GENERATED ALWAYS AS (priority * 10 + urgency) STORED,
  attempt smallint NOT NULL DEFAULT 0,
  max_attempts smallint NOT NULL,
  stalled smallint NOT NULL DEFAULT 0,
  fence bigint,                      -- the claim that may finish it; unlike attempt, which a park gives back, never reused
  grp text,
  ord text,                          -- belongs to its group: the same text in another group is another order key
  position bigint,                   -- NULL until a scheduled job falls due
  run_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  expires_at timestamptz,
  worker text,
  data jsonb NOT NULL,
  result jsonb,
  error jsonb,
  progress jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  finished_at timestamptz,
  CONSTRAINT jobs_state CHECK (state IN ('waiting', 'blocked', 'delayed', 'active', 'completed', 'failed', 'cancelled')),
  CONSTRAINT jobs_dedupe CHECK (dedupe IN ('live', 'waiting')),
  CONSTRAINT jobs_urgency CHECK (urgency BETWEEN 0 AND 9),
  CONSTRAINT jobs_attempts CHECK (attempt >= 0 AND max_attempts > 0 AND stalled >= 0),
  CONSTRAINT jobs_names_not_empty CHECK (grp <> '' AND ord <> '' AND job_key <> ''),
  CONSTRAINT jobs_active_is_leased CHECK ((state = 'active') = (lease_until IS NOT NULL) AND (state = 'active') = (fence IS NOT NULL)),
  CONSTRAINT jobs_ended_at CHECK ((state IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
  CONSTRAINT jobs_ended_frees_its_id CHECK (dedupe IS NULL OR finished_at IS NULL),
  CONSTRAINT jobs_blocked_by_order CHECK (state <> 'blocked' OR ord IS NOT NULL),
  CONSTRAINT jobs_placed CHECK (position IS NOT NULL OR state IN ('delayed', 'cancelled'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- A row is in few of these at a time: each state change writes every index that still holds the row.
CREATE UNIQUE INDEX jobs_id_once ON jobs (job_key) WHERE dedupe IS NOT NULL;
CREATE INDEX jobs_by_id ON jobs (job_key, pk) WHERE dedupe IS NULL;
CREATE INDEX jobs_ready_grouped ON jobs (queue, grp, rank DESC, position) WHERE state = 'waiting' AND grp IS NOT NULL;
CREATE INDEX jobs_ready_ungrouped ON jobs (queue, rank DESC, position) WHERE state = 'waiting' AND grp IS NULL;
CREATE UNIQUE INDEX jobs_one_free_per_order_key ON jobs (queue, ord, coalesce(grp, ''))
  WHERE ord IS NOT NULL AND position IS NOT NULL AND state IN ('waiting', 'delayed', 'active');
CREATE INDEX jobs_blocked ON jobs (queue, ord, coalesce(grp, ''), position) WHERE state = 'blocked';
CREATE INDEX jobs_due ON jobs (queue, run_at) WHERE state = 'delayed';
CREATE INDEX jobs_lease ON jobs (lease_until) WHERE state = 'active';
CREATE INDEX jobs_expiry ON jobs (queue, expires_at) WHERE expires_at IS NOT NULL AND state IN ('waiting', 'blocked', 'delayed');
CREATE INDEX jobs_ended ON jobs (queue, state, finished_at, pk) WHERE state IN ('completed', 'failed', 'cancelled');

-- What jobs share: fairness, concurrency, rate and pauses. NULL settings are the queue's.
CREATE TABLE job_groups (
  queue smallint NOT NULL CONSTRAINT job_groups_queue CHECK (queue BETWEEN 1 AND 7),
  grp text NOT NULL CONSTRAINT job_groups_name_not_empty CHECK (grp <> ''),
  pending int NOT NULL DEFAULT 0,    -- its jobs that are waiting
  busy int NOT NULL DEFAULT 0,       -- its jobs that are active
  cap int CONSTRAINT job_groups_cap CHECK (cap > 0),
  reasons text[] NOT NULL DEFAULT '{}', -- a set: why it is paused
  turn bigint NOT NULL DEFAULT 0,
  tat timestamptz NOT NULL DEFAULT 'epoch', -- GCRA: the theoretical arrival time of the next job
  rate_per_minute int CONSTRAINT job_groups_rate CHECK (rate_per_minute >= 0),
  burst int CONSTRAINT job_groups_burst CHECK (burst > 0),
  CONSTRAINT job_groups_pk PRIMARY KEY (queue, grp),
  CONSTRAINT job_groups_counters CHECK (pending >= 0 AND busy >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX job_groups_ready ON job_groups (queue, turn) WHERE pending > 0 AND reasons = '{}';

-- What a change of one job means for its group and its order key.
CREATE TYPE ledger_move AS (
  queue smallint, grp text, ord text,
  frees boolean,                     -- its order key may have lost its head: look for the next
  pending int, busy int, tokens int  -- what is added to the group's counters and given back to its rate
);

-- How many jobs a rate lets through now. `burst` after a quiet time, then one per 60 / rate seconds.
CREATE FUNCTION ledger_tokens_v1(tat timestamptz, rate int, burst int) RETURNS int LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN rate = 0 THEN 1000000
              ELSE floor(burst - extract(epoch FROM greatest(tat, now()) - now())::float8 * rate / 60 + 1e-6)::int END
$$;

-- Lock the groups of these jobs, then the order keys of those that have no group: a key without a row is an advisory lock.
CREATE FUNCTION ledger_lock_v1(p_pks bigint[]) RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
  PERFORM 1 FROM (SELECT DISTINCT j.queue, j.grp FROM jobs j WHERE j.pk = ANY(p_pks) AND j.grp IS NOT NULL ORDER BY 1, 2) k
    CROSS JOIN LATERAL (SELECT 1 FROM job_groups g WHERE g.queue = k.queue AND g.grp = k.grp FOR UPDATE) l;
  PERFORM pg_advisory_xact_lock(k.key) FROM (
    SELECT DISTINCT hashtextextended(j.ord, j.queue) AS key FROM jobs j
     WHERE j.pk = ANY(p_pks) AND j.grp IS NULL AND j.ord IS NOT NULL ORDER BY 1) k;
END $$;

-- Add to the counters of groups, each named once; `p_tokens` are given back to the rate, or taken from it when negative. With
-- `p_turn` each goes to the back of its queue. Returns the queues of those that are claimable now. The caller holds the locks.
CREATE FUNCTION ledger_count_v1(p_queues smallint[], p_grps text[], p_pending int[], p_busy int[], p_tokens int[], p_turn boolean)
RETURNS smallint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
  -- Stable while the rows are locked.
  rows tid[] := ARRAY(SELECT (SELECT g.ctid FROM job_groups g WHERE g.queue = t.queue AND g.grp = t.grp)
                        FROM unnest(p_queues, p_grps) WITH ORDINALITY t(queue, grp, i) ORDER BY t.i);
  ready smallint[];
BEGIN
  WITH counted AS (
    UPDATE job_groups g
       SET pending = g.pending + p_pending[array_position(rows, g.ctid)],
           busy = g.busy + p_busy[array_position(rows, g.ctid)],
           turn = CASE WHEN p_turn THEN nextval('ledger_turns') ELSE g.turn END,
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

-- After jobs changed: let the next of each order key go on, bring the counters up to date.
-- Returns the queues in which something became claimable. The caller holds the locks.
CREATE FUNCTION ledger_settle_v1(p_moves ledger_move[]) RETURNS smallint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE queues smallint[]; grps text[]; pending int[]; busy int[]; tokens int[]; ungrouped smallint[];
BEGIN
  WITH freed AS (
         UPDATE jobs j SET state = 'waiting' WHERE j.pk = ANY(ARRAY(
           SELECT CASE WHEN (SELECT true FROM jobs a WHERE a.queue = k.queue AND a.ord = k.ord AND coalesce(a.grp, '') = coalesce(k.grp, '')
                                AND a.ord IS NOT NULL AND a.position IS NOT NULL AND a.state IN ('waiting', 'delayed', 'active') LIMIT 1) IS NULL
                  THEN (SELECT b.pk FROM jobs b WHERE b.queue = k.queue AND b.ord = k.ord AND coalesce(b.grp, '') = coalesce(k.grp, '')
                           AND b.state = 'blocked' ORDER BY b.position LIMIT 1) END
             FROM (SELECT DISTINCT m.queue, m.grp, m.ord FROM unnest(p_moves) m WHERE m.frees AND m.ord IS NOT NULL) k))
         RETURNING j.queue, j.grp),
       delta AS (
         SELECT u.queue, u.grp, sum(u.pending)::int AS pending, sum(u.busy)::int AS busy, sum(u.tokens)::int AS tokens
           FROM (SELECT m.queue, m.grp, m.pending, m.busy, m.tokens FROM unnest(p_moves) m
                 UNION ALL SELECT f.queue, f.grp, 1, 0, 0 FROM freed f) u GROUP BY u.queue, u.grp)
  SELECT array_agg(d.queue) FILTER (WHERE d.grp IS NOT NULL), array_agg(d.grp) FILTER (WHERE d.grp IS NOT NULL),
         array_agg(d.pending) FILTER (WHERE d.grp IS NOT NULL), array_agg(d.busy) FILTER (WHERE d.grp IS NOT NULL),
         array_agg(d.tokens) FILTER (WHERE d.grp IS NOT NULL),
         coalesce(array_agg(d.queue) FILTER (WHERE d.grp IS NULL AND d.pending > 0), '{}')
    INTO queues, grps, pending, busy, tokens, ungrouped FROM delta d;
  IF grps IS NULL THEN
    RETURN ungrouped;
  END IF;
  RETURN ARRAY(SELECT DISTINCT unnest(ungrouped || ledger_count_v1(queues, grps, pending, busy, tokens, false)));
END $$;

-- Enqueue a batch, in the order of the arrays. A job whose id lives already is not made; the living one is returned.
-- One row per distinct job id.
CREATE FUNCTION ledger_enqueue_v1(
  p_queues smallint[], p_job_keys text[], p_dedupes text[], p_names text[], p_data jsonb[], p_priorities smallint[], p_urgencies smallint[],
  p_grps text[], p_ords text[], p_run_ats timestamptz[], p_expires_ats timestamptz[], p_max_attempts smallint[])
RETURNS TABLE (pk bigint, job_key text, state text, is_new boolean) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  todo text[];                       -- NULL: all, in the first round
  moves ledger_move[];
  pks bigint[]; keys text[]; states text[];
  new_pks bigint[] := '{}'; old_pks bigint[] := '{}'; found_pks bigint[]; found_keys text[];
BEGIN
  -- DO UPDATE … WHERE false locks a row that is there without writing it.
  INSERT INTO job_groups (queue, grp)
    SELECT DISTINCT q, g FROM unnest(p_queues, p_grps) t(q, g) WHERE g IS NOT NULL ORDER BY q, g
    ON CONFLICT ON CONSTRAINT job_groups_pk DO UPDATE SET turn = excluded.turn WHERE false;
  PERFORM pg_advisory_xact_lock(k.key) FROM (
    SELECT DISTINCT hashtextextended(o, q) AS key FROM unnest(p_queues, p_grps, p_ords) t(q, g, o)
     WHERE g IS NULL AND o IS NOT NULL ORDER BY 1) k;
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
      PERFORM ledger_settle_v1(moves);
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

-- Claim at most p_slots of each of p_queues, leased for p_leases seconds. Within a queue: the first job of each group before the second of
-- any, the group that was served longest ago first; within a group by rank, then by place. Jobs without a group count as one
-- more group, which goes first in every other claim.
CREATE FUNCTION ledger_claim_v1(p_queues smallint[], p_slots int[], p_leases float8[], p_worker text)
RETURNS TABLE (pk bigint, job_key text, queue smallint, name text, data jsonb, attempt smallint, max_attempts smallint, stalled smallint,
               fence bigint, grp text, ord text, priority smallint, created_at timestamptz, expires_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
  qs smallint[]; gs text[]; rooms int[]; turns bigint[]; counts int[]; slots int[];
  chosen bigint[]; served_queues smallint[]; served_groups text[]; served int[];
  ungrouped_first boolean := nextval('ledger_claims') % 2 = 0;
BEGIN
  SELECT array_agg(x.queue), array_agg(x.grp), array_agg(x.room), array_agg(x.turn), array_agg(x.n), array_agg(x.slots)
    INTO qs, gs, rooms, turns, counts, slots
    FROM (SELECT q.id AS queue, g.grp, g.room, g.turn, s.slots, count(*) OVER (PARTITION BY q.id)::int AS n
            FROM unnest(p_queues, p_slots) s(queue, slots)
            JOIN queues q ON q.id = s.queue AND NOT q.paused
           CROSS JOIN LATERAL (
             SELECT g.grp, g.turn,
                    least(coalesce(g.cap, q.group_cap) - g.busy,
                          ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst))) AS room
               FROM job_groups g
              WHERE g.queue = q.id AND g.pending > 0 AND g.reasons = '{}' AND g.busy < coalesce(g.cap, q.group_cap)
                AND ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) > 0
              ORDER BY g.turn LIMIT s.slots FOR UPDATE SKIP LOCKED) g) x;
  WITH ready AS MATERIALIZED (
         -- Each of n groups has a job for the first round, so that none can get more than slots - n + 1.
         SELECT g.queue, g.grp, h.pk, h.k, g.turn, g.slots, false AS ungrouped
           FROM unnest(qs, gs, rooms, turns, counts, slots) g(queue, grp, room, turn, n, slots)
           LEFT JOIN LATERAL (
             SELECT j.pk, row_number() OVER (ORDER BY j.rank DESC, j.position) AS k FROM jobs j
              WHERE j.queue = g.queue AND j.grp = g.grp AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
              ORDER BY j.rank DESC, j.position LIMIT least(g.room, g.slots - g.n + 1)) h ON true
         UNION ALL
         SELECT s.queue, NULL, u.pk, row_number() OVER (PARTITION BY s.queue ORDER BY u.rank DESC, u.position), 0, s.slots, true
           FROM unnest(p_queues, p_slots) s(queue, slots)
           JOIN queues q ON q.id = s.queue AND NOT q.paused
          CROSS JOIN LATERAL (
             SELECT j.pk, j.rank, j.position FROM jobs j
              WHERE j.queue = s.queue AND j.grp IS NULL AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
              ORDER BY j.rank DESC, j.position LIMIT s.slots FOR UPDATE SKIP LOCKED) u),
       placed AS MATERIALIZED (
         SELECT r.queue, r.grp, r.pk, r.pk IS NOT NULL AND r.place <= r.slots AS is_chosen, r.place
           FROM (SELECT r.*, row_number() OVER (PARTITION BY r.queue ORDER BY r.pk IS NULL, r.k, r.ungrouped <> ungrouped_first, r.turn, r.grp) AS place
                   FROM ready r) r),
       -- A group whose jobs have all expired is served nothing, and goes to the back: it keeps no other out until the sweep ends them.
       groups AS (SELECT p.queue, p.grp, count(*) FILTER (WHERE p.is_chosen)::int AS n FROM placed p
                   WHERE p.grp IS NOT NULL AND (p.is_chosen OR p.pk IS NULL) GROUP BY p.queue, p.grp)
  SELECT (SELECT array_agg(p.pk ORDER BY q.priority DESC, p.queue, p.place) FROM placed p JOIN queues q ON q.id = p.queue WHERE p.is_chosen),
         (SELECT array_agg(g.queue) FROM groups g), (SELECT array_agg(g.grp) FROM groups g), (SELECT array_agg(g.n) FROM groups g)
    INTO chosen, served_queues, served_groups, served;
  IF served_groups IS NOT NULL THEN
    PERFORM ledger_count_v1(served_queues, served_groups, ARRAY(SELECT -n FROM unnest(served) n), served, ARRAY(SELECT -n FROM unnest(served) n), true);
  END IF;
  -- All of them are still waiting: their groups, or they themselves, are locked.
  RETURN QUERY
  WITH took AS (
    UPDATE jobs j
       SET state = 'active', attempt = j.attempt + 1, fence = nextval('ledger_fences'), worker = p_worker,
           lease_until = now() + make_interval(secs => p_leases[array_position(p_queues, j.queue)]),
           started_at = coalesce(j.started_at, now()),
           dedupe = nullif(j.dedupe, 'waiting')
     WHERE j.pk = ANY(chosen) AND j.fence IS NULL AND j.finished_at IS NULL
    RETURNING j.*)
  SELECT t.pk, t.job_key, t.queue, t.name, t.data, t.attempt, t.max_attempts, t.stalled, t.fence, t.grp, t.ord, t.priority, t.created_at, t.expires_at
    FROM took t ORDER BY array_position(chosen, t.pk);
END $$;

-- Finish claims: only those whose fence holds are touched. Delays are in seconds. Outcomes:
--   done; fail (a dead letter); cancel; retry (delayed in its place, or a dead letter when its attempts are used up);
--   park (waits in its place, attempt and token given back); snooze (park with a delay); unknown (delayed in its place, never a dead letter).
CREATE FUNCTION ledger_finish_v1(p_pks bigint[], p_fences bigint[], p_outcomes text[], p_delays float8[], p_results jsonb[], p_errors jsonb[])
RETURNS TABLE (accepted bigint[], dead bigint[], ready smallint[], next_due_s float8) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE moves ledger_move[];
BEGIN
  PERFORM ledger_lock_v1(p_pks);
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
         RETURNING j.pk, j.queue, j.grp, j.ord, j.state, j.finished_at IS NOT NULL AS ended, array_position(p_pks, j.pk) AS i)
  SELECT array_agg(f.pk), array_agg(f.pk) FILTER (WHERE f.state = 'failed'), min(p_delays[f.i]) FILTER (WHERE f.state = 'delayed'),
         array_agg((f.queue, f.grp, f.ord, f.ended, (f.state = 'waiting')::int, -1, (p_outcomes[f.i] IN ('park', 'snooze'))::int)::ledger_move)
    INTO accepted, dead, next_due_s, moves FROM f;
  ready := ledger_settle_v1(coalesce(moves, '{}'));
  RETURN NEXT;
END $$;

-- What fell due takes its turn: a retry keeps its place, a scheduled job takes one now, behind what its order key holds by then.
-- The caller holds the locks of p_pks.
CREATE FUNCTION ledger_promote_v1(p_pks bigint[], p_even_early boolean) RETURNS ledger_move[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
  -- In the order in which they fall due.
  fresh bigint[] := ARRAY(SELECT j.pk FROM jobs j WHERE j.pk = ANY(p_pks) AND CASE j.state WHEN 'delayed' THEN j.position IS NULL END ORDER BY j.run_at, j.pk);
  places bigint[] := ARRAY(SELECT nextval('ledger_positions') FROM generate_subscripts(fresh, 1));
  moves ledger_move[];
BEGIN
  WITH u AS (
    UPDATE jobs j
       SET state = CASE WHEN j.position IS NULL AND j.ord IS NOT NULL THEN 'blocked' ELSE 'waiting' END,
           position = coalesce(j.position, places[array_position(fresh, j.pk)]),
           run_at = least(j.run_at, now())
     WHERE j.pk = ANY(p_pks) AND CASE j.state WHEN 'delayed' THEN p_even_early OR j.run_at <= now() END
    RETURNING j.queue, j.grp, j.ord, j.state)
  SELECT array_agg((u.queue, u.grp, u.ord, u.state = 'blocked', (u.state = 'waiting')::int, 0, 0)::ledger_move) INTO moves FROM u;
  RETURN coalesce(moves, '{}');
END $$;

-- End jobs that do not run: waiting, blocked or delayed. The caller holds the locks of p_pks.
CREATE FUNCTION ledger_end_v1(p_pks bigint[], p_error jsonb, p_only_expired boolean, OUT ended bigint[], OUT moves ledger_move[])
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
  -- Their groups are locked; one without a group may be claimed in between, and then the second statement leaves it.
  SELECT coalesce(array_agg((j.queue, j.grp, j.ord, j.state <> 'blocked', -(j.state = 'waiting')::int, 0, 0)::ledger_move), '{}') INTO moves
    FROM jobs j
   WHERE j.pk = ANY(p_pks) AND j.fence IS NULL AND j.finished_at IS NULL AND (NOT p_only_expired OR j.expires_at <= now());
  WITH u AS (
    UPDATE jobs j SET state = 'cancelled', finished_at = clock_timestamp(), dedupe = NULL, error = p_error
     WHERE j.pk = ANY(p_pks) AND j.fence IS NULL AND j.finished_at IS NULL AND (NOT p_only_expired OR j.expires_at <= now())
    RETURNING j.pk)
  SELECT coalesce(array_agg(u.pk), '{}') INTO ended FROM u;
END $$;

-- Per queue: is something claimable now, and in how many seconds may that change (a delay, a token, an expiry; NULL: never)?
CREATE FUNCTION ledger_outlook_v1(p_queues smallint[]) RETURNS TABLE (queue smallint, ready boolean, due_s float8)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT q.id,
         NOT q.paused AND (coalesce(g.free, false) OR (
           SELECT true FROM jobs j WHERE j.queue = q.id AND j.grp IS NULL AND j.state = 'waiting' AND (j.expires_at IS NULL OR j.expires_at > now())
            ORDER BY j.rank DESC, j.position LIMIT 1) IS NOT NULL),
         -- greatest() would turn "never" into "now".
         CASE WHEN t.due IS NOT NULL THEN greatest(0, extract(epoch FROM t.due - now())::float8) END
    FROM queues q
    LEFT JOIN LATERAL (
      SELECT bool_or(x.tokens > 0) AS free, min(x.tat - (x.burst - 1) * interval '1 minute' / nullif(x.rate, 0)) FILTER (WHERE x.tokens <= 0) AS next_token
        FROM (SELECT g.tat, coalesce(g.rate_per_minute, q.rate_per_minute) AS rate, coalesce(g.burst, q.burst) AS burst,
                     ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) AS tokens
                FROM job_groups g
               WHERE g.queue = q.id AND g.pending > 0 AND g.reasons = '{}' AND g.busy < coalesce(g.cap, q.group_cap)) x) g ON true
   CROSS JOIN LATERAL (SELECT least(
     (SELECT j.run_at FROM jobs j WHERE j.queue = q.id AND j.state = 'delayed' ORDER BY j.run_at LIMIT 1),
     (SELECT j.expires_at FROM jobs j WHERE j.queue = q.id AND j.expires_at IS NOT NULL AND j.state IN ('waiting', 'blocked', 'delayed')
       ORDER BY j.expires_at LIMIT 1),
     CASE WHEN NOT q.paused THEN g.next_token END) AS due) t
   WHERE q.id = ANY(p_queues);
END $$;

-- What no worker does by itself: take back lapsed leases, promote what fell due, end what expired. At most p_limit jobs of each kind and
-- queue. Many may sweep at once: what another transaction holds is left for the next sweep, so that none waits.
-- `ended`: [{pk, job_key, queue, name, data, why: expired | stalled}] for the caller, who moves the domain's rows in this transaction.
CREATE FUNCTION ledger_sweep_v1(p_limit int)
RETURNS TABLE (ended jsonb, ready smallint[], next_due_s float8, swept int) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
  found_pks bigint[]; mine bigint[]; lapsed bigint[]; due bigint[]; expired bigint[]; stalled_out bigint[];
  moves ledger_move[] := '{}'; more ledger_move[];
BEGIN
  lapsed := ARRAY(SELECT j.pk FROM jobs j WHERE j.state = 'active' AND j.lease_until <= now() ORDER BY j.lease_until LIMIT p_limit);
  due := ARRAY(SELECT d.pk FROM queues q CROSS JOIN LATERAL (
    SELECT j.pk FROM jobs j WHERE j.queue = q.id AND j.state = 'delayed' AND j.run_at <= now() ORDER BY j.run_at LIMIT p_limit) d);
  expired := ARRAY(SELECT e.pk FROM queues q CROSS JOIN LATERAL (
    SELECT j.pk FROM jobs j WHERE j.queue = q.id AND j.expires_at <= now() AND j.expires_at IS NOT NULL AND j.state IN ('waiting', 'blocked', 'delayed')
     ORDER BY j.expires_at LIMIT p_limit) e);
  found_pks := lapsed || due || expired;
  ended := '[]';
  swept := 0;
  IF found_pks <> '{}' THEN
    WITH locked AS MATERIALIZED (
           SELECT k.queue, k.grp FROM (SELECT DISTINCT j.queue, j.grp FROM jobs j WHERE j.pk = ANY(found_pks) AND j.grp IS NOT NULL ORDER BY 1, 2) k
            CROSS JOIN LATERAL (SELECT 1 FROM job_groups g WHERE g.queue = k.queue AND g.grp = k.grp FOR UPDATE SKIP LOCKED) l),
         keys AS MATERIALIZED (
           SELECT k.queue, k.ord FROM (SELECT DISTINCT j.queue, j.ord FROM jobs j WHERE j.pk = ANY(found_pks) AND j.grp IS NULL AND j.ord IS NOT NULL) k
            WHERE pg_try_advisory_xact_lock(hashtextextended(k.ord, k.queue)))
    SELECT array_agg(j.pk) INTO mine FROM jobs j
     WHERE j.pk = ANY(found_pks)
       AND CASE WHEN j.grp IS NOT NULL THEN (j.queue, j.grp) IN (SELECT l.queue, l.grp FROM locked l)
                WHEN j.ord IS NOT NULL THEN (j.queue, j.ord) IN (SELECT k.queue, k.ord FROM keys k) ELSE true END;
    -- Jobs without a lock row are their own lock; of the others' rows only a heartbeat or a slow reader may hold one.
    mine := ARRAY(SELECT j.pk FROM jobs j WHERE j.pk = ANY(mine) ORDER BY j.pk FOR UPDATE SKIP LOCKED);
    swept := cardinality(mine);
  END IF;
  IF swept > 0 THEN
    SELECT e.ended, e.moves INTO expired, moves
      FROM ledger_end_v1(ARRAY(SELECT unnest(expired) INTERSECT SELECT unnest(mine)),
                         '{"code": "EXPIRED", "detail": "expired before it could run", "retryable": false}', true) e;
    WITH u AS (
           UPDATE jobs j
              SET stalled = j.stalled + 1, fence = NULL, lease_until = NULL, worker = NULL,
                  state = CASE WHEN j.stalled >= q.stalled_limit THEN 'failed' ELSE 'waiting' END,
                  finished_at = CASE WHEN j.stalled >= q.stalled_limit THEN clock_timestamp() END,
                  dedupe = CASE WHEN j.stalled < q.stalled_limit THEN j.dedupe END,
                  error = CASE WHEN j.stalled >= q.stalled_limit THEN
                    '{"code": "STALLED", "detail": "its worker died or stopped answering too often", "retryable": false}'::jsonb ELSE j.error END
             FROM queues q
            WHERE q.id = j.queue AND j.pk = ANY(lapsed) AND j.pk = ANY(mine) AND j.fence IS NOT NULL AND j.lease_until <= now()
           RETURNING j.pk, j.queue, j.grp, j.ord, j.state)
    SELECT array_agg(u.pk) FILTER (WHERE u.state = 'failed'),
           array_agg((u.queue, u.grp, u.ord, u.state = 'failed', (u.state = 'waiting')::int, -1, 0)::ledger_move)
      INTO stalled_out, more FROM u;
    moves := moves || coalesce(more, '{}') || ledger_promote_v1(ARRAY(SELECT unnest(due) INTERSECT SELECT unnest(mine)), false);
    PERFORM ledger_settle_v1(moves);
    SELECT coalesce(jsonb_agg(jsonb_build_object('pk', j.pk, 'job_key', j.job_key, 'queue', j.queue, 'name', j.name, 'data', j.data,
                                                 'why', CASE WHEN j.state = 'failed' THEN 'stalled' ELSE 'expired' END) ORDER BY j.pk), '[]')
      INTO ended FROM jobs j WHERE j.pk = ANY(expired || coalesce(stalled_out, '{}'));
  END IF;
  -- Every queue with claimable work, not only this sweep's: a lost bell is made up for here.
  SELECT coalesce(array_agg(o.queue) FILTER (WHERE o.ready), '{}'), min(o.due_s) INTO ready, next_due_s
    FROM ledger_outlook_v1(ARRAY(SELECT q.id FROM queues q)) o;
  RETURN NEXT;
END $$;

-- Extend the leases of jobs that are held. Returns those that are lost. A row that a finish holds is left alone: waiting for it
-- could deadlock, and it ends with that finish.
CREATE FUNCTION ledger_heartbeat_v1(p_pks bigint[], p_fences bigint[], p_leases float8[]) RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
  UPDATE jobs j SET lease_until = now() + make_interval(secs => p_leases[array_position(p_pks, j.pk)])
   WHERE j.pk = ANY(ARRAY(SELECT l.pk FROM jobs l WHERE l.pk = ANY(p_pks) FOR UPDATE SKIP LOCKED))
     AND j.fence = p_fences[array_position(p_pks, j.pk)];
  RETURN ARRAY(SELECT h.pk FROM unnest(p_pks, p_fences) h(pk, fence)
                WHERE (SELECT j.fence FROM jobs j WHERE j.pk = h.pk) IS DISTINCT FROM h.fence);
END $$;

-- End jobs that do not run, on someone's wish. Returns those that it ended.
CREATE FUNCTION ledger_cancel_v1(p_pks bigint[], p_error jsonb) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE done record;
BEGIN
  PERFORM ledger_lock_v1(p_pks);
  SELECT * INTO done FROM ledger_end_v1(p_pks, p_error, false);
  PERFORM ledger_settle_v1(done.moves);
  RETURN done.ended;
END $$;

-- Delayed jobs are due now, in their place. Returns how many were delayed.
CREATE FUNCTION ledger_make_due_v1(p_pks bigint[]) RETURNS int LANGUAGE plpgsql AS $$
DECLARE moves ledger_move[];
BEGIN
  PERFORM ledger_lock_v1(p_pks);
  moves := ledger_promote_v1(p_pks, true);
  PERFORM ledger_settle_v1(moves);
  RETURN cardinality(moves);
END $$;

-- Dead letters run again: a new budget of attempts and of time, a new place. One whose id lives in another job is left.
CREATE FUNCTION ledger_retry_v1(p_pks bigint[]) RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE dead bigint[]; revived bigint[]; moves ledger_move[];
BEGIN
  PERFORM ledger_lock_v1(p_pks);
  dead := ARRAY(SELECT DISTINCT ON (j.job_key) j.pk FROM jobs j
                 WHERE j.pk = ANY(p_pks) AND CASE j.state WHEN 'failed' THEN true END
                   AND (SELECT true FROM jobs l WHERE l.job_key = j.job_key AND l.dedupe IS NOT NULL LIMIT 1) IS NULL
                 ORDER BY j.job_key, j.pk DESC);
  WITH u AS (
         UPDATE jobs j
            SET state = CASE WHEN j.ord IS NULL THEN 'waiting' ELSE 'blocked' END, position = nextval('ledger_positions'), dedupe = 'live',
                attempt = 0, stalled = 0, run_at = now(), finished_at = NULL, result = NULL, progress = NULL,
                expires_at = now() + (j.expires_at - j.created_at)
          WHERE j.pk = ANY(dead) AND CASE j.state WHEN 'failed' THEN true END
         RETURNING j.pk, j.queue, j.grp, j.ord)
  SELECT coalesce(array_agg(u.pk), '{}'),
         coalesce(array_agg((u.queue, u.grp, u.ord, u.ord IS NOT NULL, (u.ord IS NULL)::int, 0, 0)::ledger_move), '{}')
    INTO revived, moves FROM u;
  PERFORM ledger_settle_v1(moves);
  RETURN revived;
END $$;
