-- How many jobs each queue has in each state, without counting them: what `GET /queues` costs does not grow with the ledger.
--
-- Every statement that changes jobs appends what it changed, so that writers never wait for each other; each sweep folds what was
-- appended into one row per queue and state. Triggers do it, not the ledger's functions: nothing that touches a job can forget it.

CREATE TABLE job_count_changes (
  queue smallint NOT NULL,
  state text NOT NULL,
  jobs int NOT NULL,                 -- so many more, or fewer
  at timestamptz NOT NULL
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE job_counts (
  queue smallint NOT NULL,
  state text NOT NULL,
  jobs bigint NOT NULL,
  CONSTRAINT job_counts_pk PRIMARY KEY (queue, state)
) WITH (fillfactor = 50);

-- How many jobs completed or failed in each second of the last minutes, whether or not they were deleted or retried since: the rates.
CREATE TABLE job_endings (
  queue smallint NOT NULL,
  state text NOT NULL,
  second timestamptz NOT NULL,
  jobs bigint NOT NULL,
  CONSTRAINT job_endings_pk PRIMARY KEY (queue, state, second)
) WITH (fillfactor = 50);

ALTER TABLE job_groups ADD blocked int NOT NULL DEFAULT 0;  -- its jobs that are blocked: for the numbers only, no claim reads it

CREATE INDEX jobs_oldest ON jobs (queue, run_at) WHERE state IN ('waiting', 'blocked');

-- Add to how many jobs of groups, each named once, are blocked. Whoever changes jobs of a group has locked it.
CREATE FUNCTION ledger_count_blocked_v1(p_queues smallint[], p_grps text[], p_jobs int[])
RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
  rows tid[] := ARRAY(SELECT (SELECT g.ctid FROM job_groups g WHERE g.queue = t.queue AND g.grp = t.grp FOR UPDATE)
                        FROM unnest(p_queues, p_grps) WITH ORDINALITY t(queue, grp, i) ORDER BY t.i);
BEGIN
  UPDATE job_groups g SET blocked = g.blocked + p_jobs[array_position(rows, g.ctid)] WHERE g.ctid = ANY(rows);
END $$;

CREATE FUNCTION ledger_note_change_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE queues smallint[]; states text[]; changes int[]; grps text[];
BEGIN
  IF TG_OP = 'INSERT' THEN
    SELECT array_agg(c.queue), array_agg(c.state), array_agg(c.jobs) INTO queues, states, changes
      FROM (SELECT n.queue, n.state, count(*)::int AS jobs FROM new_jobs n GROUP BY n.queue, n.state) c;
  ELSIF TG_OP = 'DELETE' THEN
    SELECT array_agg(c.queue), array_agg(c.state), array_agg(c.jobs) INTO queues, states, changes
      FROM (SELECT o.queue, o.state, -count(*)::int AS jobs FROM old_jobs o GROUP BY o.queue, o.state) c;
  ELSE
    SELECT array_agg(c.queue), array_agg(c.state), array_agg(c.jobs) INTO queues, states, changes
      FROM (SELECT b.queue, b.state, sum(b.jobs)::int AS jobs
              FROM (SELECT n.queue, n.state, 1 AS jobs FROM new_jobs n UNION ALL SELECT o.queue, o.state, -1 FROM old_jobs o) b
             GROUP BY b.queue, b.state) c;
  END IF;
  IF queues IS NULL THEN
    RETURN NULL;
  END IF;
  INSERT INTO job_count_changes (queue, state, jobs, at)
    SELECT c.queue, c.state, c.jobs, now() FROM unnest(queues, states, changes) c(queue, state, jobs) WHERE c.jobs <> 0;
  IF NOT 'blocked' = ANY(states) THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'INSERT' THEN
    SELECT array_agg(c.queue), array_agg(c.grp), array_agg(c.jobs) INTO queues, grps, changes
      FROM (SELECT n.queue, n.grp, count(*)::int AS jobs FROM new_jobs n WHERE n.state = 'blocked' AND n.grp IS NOT NULL
             GROUP BY n.queue, n.grp) c;
  ELSIF TG_OP = 'DELETE' THEN
    SELECT array_agg(c.queue), array_agg(c.grp), array_agg(c.jobs) INTO queues, grps, changes
      FROM (SELECT o.queue, o.grp, -count(*)::int AS jobs FROM old_jobs o WHERE o.state = 'blocked' AND o.grp IS NOT NULL
             GROUP BY o.queue, o.grp) c;
  ELSE
    SELECT array_agg(c.queue), array_agg(c.grp), array_agg(c.jobs) INTO queues, grps, changes
      FROM (SELECT b.queue, b.grp, sum(b.jobs)::int AS jobs
              FROM (SELECT n.queue, n.grp, 1 AS jobs FROM new_jobs n WHERE n.state = 'blocked'
                    UNION ALL SELECT o.queue, o.grp, -1 FROM old_jobs o WHERE o.state = 'blocked') b
             WHERE b.grp IS NOT NULL GROUP BY b.queue, b.grp HAVING sum(b.jobs) <> 0) c;
  END IF;
  IF queues IS NOT NULL THEN
    PERFORM ledger_count_blocked_v1(queues, grps, changes);
  END IF;
  RETURN NULL;
END $$;

-- Fold what was appended. One at a time: whoever comes second leaves it to the first. Returns how many rows it folded.
CREATE FUNCTION ledger_fold_counts_v1() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE folded bigint := 0;
BEGIN
  IF pg_try_advisory_xact_lock(hashtextextended('job_counts', 0)) THEN
    WITH gone AS (
           DELETE FROM job_count_changes RETURNING queue, state, jobs, at),
         counts AS (
           INSERT INTO job_counts AS c (queue, state, jobs)
             SELECT g.queue, g.state, sum(g.jobs) FROM gone g GROUP BY g.queue, g.state
             ON CONFLICT ON CONSTRAINT job_counts_pk DO UPDATE SET jobs = c.jobs + excluded.jobs),
         endings AS (
           INSERT INTO job_endings AS e (queue, state, second, jobs)
             SELECT g.queue, g.state, date_trunc('second', g.at), sum(g.jobs) FROM gone g
              WHERE g.state IN ('completed', 'failed') AND g.jobs > 0 GROUP BY 1, 2, 3
             ON CONFLICT ON CONSTRAINT job_endings_pk DO UPDATE SET jobs = e.jobs + excluded.jobs)
    SELECT count(*) INTO folded FROM gone;
    DELETE FROM job_endings e WHERE e.second < now() - interval '5 minutes';
  END IF;
  RETURN folded;
END $$;

-- Count the rows themselves. For the first time, and for whoever changed jobs with triggers switched off; nobody can enqueue meanwhile.
CREATE FUNCTION ledger_recount_v1() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('job_counts', 0));
  LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM job_count_changes;
  DELETE FROM job_counts;
  INSERT INTO job_counts (queue, state, jobs) SELECT j.queue, j.state, count(*) FROM jobs j GROUP BY j.queue, j.state;
  UPDATE job_groups g SET blocked = c.jobs
    FROM (SELECT k.queue, k.grp, count(j.pk)::int AS jobs
            FROM job_groups k LEFT JOIN jobs j ON j.queue = k.queue AND j.grp = k.grp AND j.state = 'blocked' GROUP BY k.queue, k.grp) c
   WHERE g.queue = c.queue AND g.grp = c.grp AND g.blocked <> c.jobs;
END $$;

CREATE TRIGGER jobs_counted_new AFTER INSERT ON jobs
  REFERENCING NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION ledger_note_change_v1();
CREATE TRIGGER jobs_counted_changed AFTER UPDATE ON jobs
  REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION ledger_note_change_v1();
CREATE TRIGGER jobs_counted_gone AFTER DELETE ON jobs
  REFERENCING OLD TABLE AS old_jobs FOR EACH STATEMENT EXECUTE FUNCTION ledger_note_change_v1();
SELECT ledger_recount_v1();
