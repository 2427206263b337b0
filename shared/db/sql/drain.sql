-- What the drain asks beside the ledger's own functions.

-- name: lock
-- Connections: $1 that are moved or looked at, $2 that events will point at, $3 whose sends are parked. Parallel arrays: $4 pks, $5 fences.
-- Every lock of a finish; the pks whose claims hold.
SELECT finish_lock_v1($1, $2, $3, $4, $5);

-- name: share_connections
-- $1 connections. What an event's foreign key will lock, taken before any group's lock: a connection that is being moved
-- holds its row and waits for its group, so taking them the other way round would be a deadlock.
SELECT c.id
  FROM connections c
 WHERE c.id = ANY($1::uuid[])
 ORDER BY c.id
   FOR KEY SHARE;

-- name: claim_id
-- $1 job id. Until the transaction ends, nobody else asks whether this id was used.
SELECT pg_advisory_xact_lock(hashtextextended($1, 7));

-- name: id_was_used
-- $1 job id. Whether a job of this id lives or is still kept. Two looks, as each index holds one half.
SELECT EXISTS (SELECT 1 FROM jobs j WHERE j.job_key = $1 AND j.dedupe IS NOT NULL)
    OR EXISTS (SELECT 1 FROM jobs j WHERE j.job_key = $1 AND j.dedupe IS NULL);

-- name: due
-- $1 queue ids, $2 at most so many. Delayed jobs whose time has come, the longest due first.
SELECT j.pk
  FROM jobs j
 WHERE j.queue = ANY($1::smallint[])
   AND j.state = 'delayed'
   AND j.run_at <= now()
 ORDER BY j.run_at
 LIMIT $2;
