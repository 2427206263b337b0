-- How many jobs each queue has in each state, without counting them: what `GET /queues` costs does not grow with the ledger.
--
-- Every statement that changes jobs appends what it changed, so that writers never wait for each other; each sweep folds what was
-- appended into one row per queue and state. Triggers do it, not the ledger's functions: nothing that touches a job can forget it.
-- Blocked jobs are counted by group in the same way: a counter in job_groups would be one more version of a busy row for every job
-- of a chat, and those are what a long transaction makes expensive (decision 0003).

CREATE TABLE job_count_changes (
  queue smallint NOT NULL,
  state text NOT NULL,
  grp text NOT NULL DEFAULT '',      -- of jobs that are blocked; '' for all others
  jobs int NOT NULL,                 -- so many more, or fewer
  at timestamptz NOT NULL
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE job_counts (
  queue smallint NOT NULL,
  state text NOT NULL,
  grp text NOT NULL DEFAULT '',
  jobs bigint NOT NULL,
  CONSTRAINT job_counts_pk PRIMARY KEY (queue, state, grp)
) WITH (fillfactor = 50);

-- How many jobs completed or failed in each second of the last minutes, whether or not they were deleted or retried since: the rates.
CREATE TABLE job_endings (
  queue smallint NOT NULL,
  state text NOT NULL,
  second timestamptz NOT NULL,
  jobs bigint NOT NULL,
  CONSTRAINT job_endings_pk PRIMARY KEY (queue, state, second)
) WITH (fillfactor = 50);

CREATE INDEX jobs_oldest ON jobs (queue, run_at) WHERE state IN ('waiting', 'blocked');

CREATE FUNCTION ledger_note_change_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO job_count_changes (queue, state, grp, jobs, at)
      SELECT c.queue, c.state, c.grp, count(*), now()
        FROM (SELECT n.queue, n.state, CASE n.state WHEN 'blocked' THEN coalesce(n.grp, '') ELSE '' END AS grp FROM new_jobs n) c
       GROUP BY c.queue, c.state, c.grp;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO job_count_changes (queue, state, grp, jobs, at)
      SELECT c.queue, c.state, c.grp, -count(*), now()
        FROM (SELECT o.queue, o.state, CASE o.state WHEN 'blocked' THEN coalesce(o.grp, '') ELSE '' END AS grp FROM old_jobs o) c
       GROUP BY c.queue, c.state, c.grp;
  ELSE
    INSERT INTO job_count_changes (queue, state, grp, jobs, at)
      SELECT c.queue, c.state, c.grp, sum(c.jobs), now()
        FROM (SELECT n.queue, n.state, CASE n.state WHEN 'blocked' THEN coalesce(n.grp, '') ELSE '' END AS grp, 1 AS jobs FROM new_jobs n
              UNION ALL
              SELECT o.queue, o.state, CASE o.state WHEN 'blocked' THEN coalesce(o.grp, '') ELSE '' END, -1 FROM old_jobs o) c
       GROUP BY c.queue, c.state, c.grp
      HAVING sum(c.jobs) <> 0;
  END IF;
  RETURN NULL;
END $$;

-- Fold what was appended. One at a time: whoever comes second leaves it to the first. Returns how many rows it folded.
CREATE FUNCTION ledger_fold_counts_v1() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE folded bigint := 0;
BEGIN
  IF pg_try_advisory_xact_lock(hashtextextended('job_counts', 0)) THEN
    WITH gone AS (
           DELETE FROM job_count_changes RETURNING queue, state, grp, jobs, at),
         counts AS (
           INSERT INTO job_counts AS c (queue, state, grp, jobs)
             SELECT g.queue, g.state, g.grp, sum(g.jobs) FROM gone g GROUP BY g.queue, g.state, g.grp HAVING sum(g.jobs) <> 0
             ON CONFLICT ON CONSTRAINT job_counts_pk DO UPDATE SET jobs = c.jobs + excluded.jobs),
         endings AS (
           INSERT INTO job_endings AS e (queue, state, second, jobs)
             SELECT g.queue, g.state, date_trunc('second', g.at), sum(g.jobs) FROM gone g
              WHERE g.state IN ('completed', 'failed') AND g.jobs > 0 GROUP BY 1, 2, 3
             ON CONFLICT ON CONSTRAINT job_endings_pk DO UPDATE SET jobs = e.jobs + excluded.jobs)
    SELECT count(*) INTO folded FROM gone;
    IF folded > 0 THEN
      DELETE FROM job_counts c WHERE c.jobs = 0 AND c.grp <> '';
    END IF;
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
  INSERT INTO job_counts (queue, state, grp, jobs)
    SELECT j.queue, j.state, CASE j.state WHEN 'blocked' THEN coalesce(j.grp, '') ELSE '' END AS grp, count(*) FROM jobs j GROUP BY 1, 2, 3;
END $$;

-- How many jobs of a group are blocked.
CREATE FUNCTION ledger_blocked_v1(p_queue smallint, p_grp text) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT (SELECT coalesce(sum(c.jobs), 0) FROM job_counts c WHERE c.queue = p_queue AND c.state = 'blocked' AND c.grp = p_grp)::bigint
       + (SELECT coalesce(sum(n.jobs), 0) FROM job_count_changes n WHERE n.queue = p_queue AND n.state = 'blocked' AND n.grp = p_grp)::bigint
$$;

CREATE TRIGGER jobs_counted_new AFTER INSERT ON jobs
  REFERENCING NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION ledger_note_change_v1();
CREATE TRIGGER jobs_counted_changed AFTER UPDATE ON jobs
  REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION ledger_note_change_v1();
CREATE TRIGGER jobs_counted_gone AFTER DELETE ON jobs
  REFERENCING OLD TABLE AS old_jobs FOR EACH STATEMENT EXECUTE FUNCTION ledger_note_change_v1();
SELECT ledger_recount_v1();
