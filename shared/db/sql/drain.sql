-- What the drain asks beside the ledger's own functions.

-- name: lock_connections
-- $1 connections. Taken before any group's lock, for a transaction that moves them or reads whether they are online.
SELECT c.id
  FROM connections c
 WHERE c.id = ANY($1::uuid[])
 ORDER BY c.id
   FOR UPDATE;

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
