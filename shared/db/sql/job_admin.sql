-- What the API asks about single jobs and dead letters, beside the ledger's own queries (ledger.sql).

-- name: dead_letters
-- $1 queue's id, $2 job ids or NULL for all, $3 connection or NULL, $4 error code or NULL, $5 and $6 created after and before or NULL,
-- $7 limit. The oldest first. The first condition fits the index of ended jobs.
SELECT pk, job_key, name, grp, data
  FROM jobs
 WHERE queue = $1
   AND state = 'failed'
   AND ($2::text[] IS NULL OR job_key = ANY($2))
   AND ($3::text IS NULL OR data ->> 'sessionId' = $3)
   AND ($4::text IS NULL OR error ->> 'code' = $4)
   AND ($5::timestamptz IS NULL OR created_at >= $5)
   AND ($6::timestamptz IS NULL OR created_at < $6)
 ORDER BY finished_at, pk
 LIMIT $7;

-- name: remove_ended
-- $1 pk. Zero rows: it lives, or is gone.
DELETE FROM jobs
 WHERE pk = $1
   AND state IN ('completed', 'failed', 'cancelled')
RETURNING pk;
