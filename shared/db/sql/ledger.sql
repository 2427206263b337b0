-- The ledger's queries. The functions they call are in migrations/0002_ledger.sql, with their promises.

-- name: enqueue
-- Parallel arrays, one element per job: $1 queue ids, $2 job ids, $3 dedupe, $4 names, $5 data, $6 priorities, $7 urgencies,
-- $8 groups, $9 order keys, $10 run at, $11 expires at, $12 attempts. One row per distinct job id.
SELECT pk, job_key, state, is_new
  FROM ledger_enqueue_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: claim
-- Parallel arrays: $1 queue ids, $2 slots, $3 lease in seconds; $4 who claims.
SELECT pk, job_key, queue, name, data, attempt, max_attempts, stalled, fence, grp, ord, priority, created_at, expires_at
  FROM ledger_claim_v1($1, $2, $3, $4);

-- name: finish
-- Parallel arrays: $1 pks, $2 fences, $3 outcomes, $4 delays in seconds, $5 results, $6 errors. Always one row.
SELECT accepted, dead, ready, next_due_s
  FROM ledger_finish_v1($1, $2, $3, $4, $5, $6);

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

-- name: sweep
-- $1 at most so many jobs of each kind and queue. Always one row.
SELECT ended, ready, next_due_s, swept
  FROM ledger_sweep_v1($1);

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
-- $1 queue id, $2 group, $3 cap, $4 rate per minute, $5 burst; NULL: the queue's.
INSERT INTO job_groups AS g (queue, grp, cap, rate_per_minute, burst)
VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT ON CONSTRAINT job_groups_pk
    DO UPDATE SET cap = excluded.cap, rate_per_minute = excluded.rate_per_minute, burst = excluded.burst;

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
