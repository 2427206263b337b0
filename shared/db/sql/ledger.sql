-- The ledger's queries. The functions they call are in migrations/0002_ledger.sql, 0021_ledger_enqueue.sql,
-- 0029_ledger_batches.sql and 0038_taken_back.sql, with their promises.

-- name: enqueue
-- Parallel arrays, one element per job: $1 queue ids, $2 job ids, $3 dedupe, $4 names, $5 data, $6 priorities, $7 urgencies,
-- $8 groups, $9 order keys, $10 run at, $11 expires at, $12 attempts. One row per distinct job id. The data come as texts: see to_json.
SELECT pk, job_key, state, is_new
  FROM ledger_enqueue_v2($1, $2, $3, $4, $5::text[]::jsonb[], $6, $7, $8, $9, $10, $11, $12);

-- name: claim
-- Parallel arrays: $1 queue ids, $2 slots, $3 lease in seconds; $4 who claims. In the order in which they are to run.
-- Its commit does not wait for the disk. What a crash of the server takes back waits again, as if its worker had died; what a worker commits
-- of a job comes later in the log, so no outcome and no begun try outlives its claim.
SELECT pk, job_key, queue, name, data, attempt, max_attempts, stalled, fence, grp, ord, priority, created_at, expires_at,
       timeout_s, canceled
  FROM set_config('synchronous_commit', 'off', true)
 CROSS JOIN ledger_claim_v4($1, $2, $3, $4)
 ORDER BY place;

-- name: finish
-- Parallel arrays: $1 pks, $2 fences, $3 outcomes, $4 delays in seconds, $5 results, $6 errors. Always one row.
SELECT accepted, dead, ready, next_due_s
  FROM ledger_finish_v4($1, $2, $3, $4, $5, $6);

-- name: lock_groups
-- $1 pks. Their groups stay locked until the transaction ends.
SELECT ledger_lock_v1($1);

-- name: lock_held
-- Parallel arrays: $1 pks, $2 fences. Run it after lock_groups. The rows that come back are locked and their claims hold.
SELECT j.pk
  FROM jobs j
 WHERE j.pk = ANY($1::bigint[])
   AND j.fence = ANY($2::bigint[])
 ORDER BY j.pk
   FOR UPDATE;

-- name: heartbeat
-- Parallel arrays: $1 pks, $2 fences, $3 leases in seconds. The pks that are lost.
SELECT ledger_heartbeat_v1($1, $2, $3);

-- name: canceled
-- $1 pks of claims. Those that somebody cancelled since.
SELECT j.pk
  FROM jobs j
 WHERE j.pk = ANY($1::bigint[])
   AND j.canceled_at = j.position;

-- name: report_progress
-- Parallel arrays: $1 pks, $2 fences, $3 values.
SELECT ledger_progress_v1($1, $2, $3);

-- name: stop
-- $1 pks, $2 ids of queues that are left alone. The pks that will be stopped.
SELECT ledger_stop_v1($1, $2);

-- name: set_timeouts
-- Parallel arrays: $1 pks, $2 seconds. For jobs that were made in this transaction.
UPDATE jobs j
   SET timeout_s = ($2::real[])[array_position($1::bigint[], j.pk)]
 WHERE j.pk = ANY($1::bigint[]);

-- name: sweep
-- $1 at most so many jobs of each kind and queue. Always one row. The queues' numbers are folded on the way.
SELECT s.ended, s.ready, s.next_due_s, s.swept
  FROM ledger_sweep_v1($1) s
 CROSS JOIN ledger_fold_counts_v1() f;

-- name: outlook
-- $1 queue ids.
SELECT queue, ready, due_s
  FROM ledger_outlook_v1($1);

-- name: pause_group
-- $1 queue id, $2 group, $3 reason.
INSERT INTO job_groups AS g (queue, grp, reasons)
VALUES ($1, $2, ARRAY[$3::text])
    ON CONFLICT ON CONSTRAINT job_groups_pk
    DO UPDATE SET reasons = array_append(g.reasons, $3::text)
        WHERE NOT $3::text = ANY(g.reasons);

-- name: resume_group
-- $1 queue id, $2 group, $3 reason. Zero rows: no such group, or not paused for this reason.
UPDATE job_groups g
   SET reasons = array_remove(g.reasons, $3::text)
 WHERE g.queue = $1
   AND g.grp = $2
   AND $3::text = ANY(g.reasons)
RETURNING g.reasons = '{}' AND g.pending > 0;

-- name: set_group
-- $1 queue id, $2 group, $3 cap, $4 rate per minute, $5 burst; NULL: the queue's. $6 weight; NULL: as it was.
INSERT INTO job_groups AS g (queue, grp, cap, rate_per_minute, burst, weight)
VALUES ($1, $2, $3, $4, $5, coalesce($6::smallint, 1))
    ON CONFLICT ON CONSTRAINT job_groups_pk
    DO UPDATE SET cap = excluded.cap, rate_per_minute = excluded.rate_per_minute, burst = excluded.burst,
                  weight = coalesce($6::smallint, g.weight);

-- name: cancel
-- $1 pks, $2 why, as the job's error. The pks that it ended.
SELECT ledger_cancel_v1($1, $2);

-- name: make_due
-- $1 pks. How many of them were delayed.
SELECT ledger_make_due_v1($1);

-- name: retry
-- $1 pks. Those that run again.
SELECT ledger_retry_v1($1);

-- name: pk_of_living
-- $1 job id. At most one row: the job that holds this id.
SELECT j.pk
  FROM jobs j
 WHERE j.job_key = $1
   AND j.dedupe IS NOT NULL;

-- name: apply_policy
-- $1 queue id, $2 priority, $3 group cap, $4 rate per minute, $5 burst, $6 stalled limit.
UPDATE queues
   SET priority = $2, group_cap = $3, rate_per_minute = $4, burst = $5, stalled_limit = $6
 WHERE id = $1
   AND (priority, group_cap, rate_per_minute, burst, stalled_limit) IS DISTINCT FROM ($2, $3, $4, $5, $6);

-- name: set_paused
-- $1 queue ids, $2 paused or not.
UPDATE queues
   SET paused = $2
 WHERE id = ANY($1::smallint[])
   AND paused <> $2;

-- name: clean
-- $1 queue id, $2 state, $3 older than so many seconds, $4 keep the newest so many, $5 at most so many.
DELETE FROM jobs j
 WHERE j.pk = ANY(ARRAY(
         SELECT o.pk
           FROM jobs o
          WHERE o.queue = $1
            AND o.state = $2
            AND o.state IN ('completed', 'failed', 'cancelled')
            AND o.finished_at < now() - $3::float8 * interval '1 second'
            AND ($4::bigint = 0 OR (o.finished_at, o.pk) <= (
                  SELECT n.finished_at, n.pk
                    FROM jobs n
                   WHERE n.queue = $1 AND n.state = $2 AND n.state IN ('completed', 'failed', 'cancelled')
                   ORDER BY n.finished_at DESC, n.pk DESC
                  OFFSET $4 LIMIT 1))
          ORDER BY o.finished_at, o.pk
          LIMIT $5
            FOR UPDATE SKIP LOCKED))
RETURNING j.pk;

-- name: list_jobs
-- $1 queue id, $2 states, $3 only before this pk (NULL: from the newest), $4 at most so many.
SELECT j.pk, j.job_key, j.queue, j.name, j.state, j.priority, j.attempt, j.max_attempts, j.run_at, j.data, j.result, j.error,
       j.progress, j.grp, j.created_at, j.finished_at
  FROM jobs j
 WHERE j.queue = $1
   AND j.state = ANY($2::text[])
   AND ($3::bigint IS NULL OR j.pk < $3)
 ORDER BY j.pk DESC
 LIMIT $4;

-- name: newest_of_id
-- $1 job id. At most one row.
SELECT j.pk, j.job_key, j.queue, j.name, j.state, j.priority, j.attempt, j.max_attempts, j.run_at, j.data, j.result, j.error,
       j.progress, j.grp, j.created_at, j.finished_at
  FROM jobs j
 WHERE j.pk = (
         SELECT max(x.pk)
           FROM (SELECT l.pk FROM jobs l WHERE l.job_key = $1 AND l.dedupe IS NOT NULL
                 UNION ALL
                 SELECT e.pk FROM jobs e WHERE e.job_key = $1 AND e.dedupe IS NULL) x);

-- name: failed
-- $1 queue id, $2 job ids (NULL: all), $3 at most so many, the oldest first.
SELECT j.pk
  FROM jobs j
 WHERE j.queue = $1
   AND j.state = 'failed'
   AND ($2::text[] IS NULL OR j.job_key = ANY($2::text[]))
 ORDER BY j.finished_at, j.pk
 LIMIT $3;

-- name: metrics
-- $1 seconds to look back for the rates. One row per queue, the most urgent first. No job is counted: migrations/0007_job_counts.sql.
WITH counts AS MATERIALIZED (
       SELECT f.queue, f.state, f.grp, f.jobs FROM job_counts f
       UNION ALL
       SELECT n.queue, n.state, n.grp, n.jobs FROM job_count_changes n),
     -- Groups whose jobs wait for a reason, or for a token.
     stopped AS MATERIALIZED (
       SELECT g.queue, g.grp, g.pending
         FROM job_groups g
         JOIN queues q ON q.id = g.queue
        WHERE g.reasons <> '{}'
           OR g.has_pending
              AND ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) <= 0),
     endings AS MATERIALIZED (
       SELECT e.queue, e.state, sum(e.jobs)::bigint AS jobs
         FROM (SELECT f.queue, f.state, f.jobs, f.second FROM job_endings f
               UNION ALL
               SELECT n.queue, n.state, n.jobs, date_trunc('second', n.at)
                 FROM job_count_changes n
                WHERE n.state IN ('completed', 'failed') AND n.jobs > 0) e
        WHERE e.second > now() - $1::float8 * interval '1 second'
        GROUP BY e.queue, e.state)
SELECT q.id AS queue, q.paused,
       live.waiting, live.active, live.delayed, live.completed, live.failed,
       recent.completed AS recently_completed, recent.failed AS recently_failed,
       extract(epoch FROM now() - (
         SELECT j.run_at FROM jobs j WHERE j.queue = q.id AND j.state IN ('waiting', 'blocked') ORDER BY j.run_at LIMIT 1)
       )::float8 AS oldest_waiting_seconds,
       ((SELECT coalesce(sum(s.pending), 0) FROM stopped s WHERE s.queue = q.id)
        + (SELECT coalesce(sum(c.jobs), 0) FROM counts c JOIN stopped s ON s.queue = c.queue AND s.grp = c.grp
            WHERE c.queue = q.id AND c.state = 'blocked'))::bigint AS parked
  FROM queues q
 CROSS JOIN LATERAL (
   SELECT coalesce(sum(c.jobs) FILTER (WHERE c.state IN ('waiting', 'blocked')), 0)::bigint AS waiting,
          coalesce(sum(c.jobs) FILTER (WHERE c.state = 'active'), 0)::bigint AS active,
          coalesce(sum(c.jobs) FILTER (WHERE c.state = 'delayed'), 0)::bigint AS delayed,
          coalesce(sum(c.jobs) FILTER (WHERE c.state = 'completed'), 0)::bigint AS completed,
          coalesce(sum(c.jobs) FILTER (WHERE c.state = 'failed'), 0)::bigint AS failed
     FROM counts c WHERE c.queue = q.id) live
 CROSS JOIN LATERAL (
   SELECT coalesce(sum(e.jobs) FILTER (WHERE e.state = 'completed'), 0)::bigint AS completed,
          coalesce(sum(e.jobs) FILTER (WHERE e.state = 'failed'), 0)::bigint AS failed
     FROM endings e WHERE e.queue = q.id) recent
 ORDER BY q.priority DESC, q.id;
