-- Jobs that are blocked are counted by group in the same way as everything else: appended and folded. A counter in job_groups was one
-- more version of a busy row for every job of a chat, and those are what a long transaction makes expensive (decision 0003).

ALTER TABLE job_count_changes ADD grp text NOT NULL DEFAULT '';  -- of jobs that are blocked; '' for all others
ALTER TABLE job_counts
  ADD grp text NOT NULL DEFAULT '',
  DROP CONSTRAINT job_counts_pk,
  ADD CONSTRAINT job_counts_pk PRIMARY KEY (queue, state, grp);

CREATE FUNCTION ledger_note_change_v2() RETURNS trigger LANGUAGE plpgsql AS $$
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

DROP TRIGGER jobs_counted_new ON jobs;
DROP TRIGGER jobs_counted_changed ON jobs;
DROP TRIGGER jobs_counted_gone ON jobs;
CREATE TRIGGER jobs_counted_new AFTER INSERT ON jobs
  REFERENCING NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION ledger_note_change_v2();
CREATE TRIGGER jobs_counted_changed AFTER UPDATE ON jobs
  REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION ledger_note_change_v2();
CREATE TRIGGER jobs_counted_gone AFTER DELETE ON jobs
  REFERENCING OLD TABLE AS old_jobs FOR EACH STATEMENT EXECUTE FUNCTION ledger_note_change_v2();

-- Fold what was appended. One at a time: whoever comes second leaves it to the first. Returns how many rows it folded.
CREATE FUNCTION ledger_fold_counts_v2() RETURNS bigint LANGUAGE plpgsql AS $$
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

-- Count the rows themselves: for whoever changed jobs with triggers switched off. Nobody can enqueue meanwhile.
CREATE FUNCTION ledger_recount_v2() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('job_counts', 0));
  LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM job_count_changes;
  DELETE FROM job_counts;
  INSERT INTO job_counts (queue, state, grp, jobs)
    SELECT j.queue, j.state, CASE j.state WHEN 'blocked' THEN coalesce(j.grp, '') ELSE '' END AS grp, count(*) FROM jobs j GROUP BY 1, 2, 3;
END $$;

DROP FUNCTION ledger_note_change_v1(), ledger_count_blocked_v1(smallint[], text[], int[]), ledger_fold_counts_v1(), ledger_recount_v1();
ALTER TABLE job_groups DROP COLUMN blocked;
SELECT ledger_recount_v2();

-- How many jobs of a group are blocked.
CREATE FUNCTION ledger_blocked_v1(p_queue smallint, p_grp text) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT (SELECT coalesce(sum(c.jobs), 0) FROM job_counts c WHERE c.queue = p_queue AND c.state = 'blocked' AND c.grp = p_grp)::bigint
       + (SELECT coalesce(sum(n.jobs), 0) FROM job_count_changes n WHERE n.queue = p_queue AND n.state = 'blocked' AND n.grp = p_grp)::bigint
$$;
