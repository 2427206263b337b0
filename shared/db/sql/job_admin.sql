-- What the API asks about single jobs and dead letters, beside the ledger's own queries (ledger.sql).

-- name: dead_letters
-- $1 queue's id, $2 job ids or NULL for all, $3 connection or NULL, $4 group or NULL, $5 error code or NULL, $6 and $7 created after and
-- before or NULL, $8/$9 finished_at and pk of the last one seen or NULL, $10 limit. The oldest first. The first condition fits the index
-- of ended jobs.
SELECT pk, job_key, name, grp, data, finished_at
  FROM jobs
 WHERE queue = $1
   AND state = 'failed'
   AND ($2::text[] IS NULL OR job_key = ANY($2))
   AND ($3::text IS NULL OR data ->> 'sessionId' = $3)
   AND ($4::text IS NULL OR grp = $4)
   AND ($5::text IS NULL OR error ->> 'code' = $5)
   AND ($6::timestamptz IS NULL OR created_at >= $6)
   AND ($7::timestamptz IS NULL OR created_at < $7)
   AND ($8::timestamptz IS NULL OR (finished_at, pk) > ($8, $9::bigint))
 ORDER BY finished_at, pk
 LIMIT $10;

-- name: remove_ended
-- $1 pk. Zero rows: it lives, or is gone.
DELETE FROM jobs
 WHERE pk = $1
   AND state IN ('completed', 'failed', 'cancelled')
RETURNING pk;
