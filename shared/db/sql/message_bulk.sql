-- Many messages on one wish: found by a filter, cancelled or queued again.

-- name: meant
-- $1 tenant, $2 allowed connections or NULL, $3 statuses, $4 statuses of connections that do not count, $5 connection, $6 error code, $7 jid,
-- $8 created after, $9 created before, $10 metadata that it contains, $11 ids (each or NULL), $12/$13 created_at and id of the last one seen
-- or NULL, $14 limit. The oldest first.
SELECT f.id, f.connection_id, f.job_pk, f.created_at, o.order_key
  FROM messages_meant_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) f
 CROSS JOIN LATERAL (SELECT m.order_key FROM messages m WHERE m.id = f.id OFFSET 0) o
 ORDER BY f.created_at, f.id;

-- name: count_meant
-- As `meant`, $1 to $11.
SELECT count(*) FROM messages_meant_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL, NULL, NULL);

-- name: lock_groups
-- $1 queue id, $2 groups. Whoever cancels or retries a message of theirs comes after this transaction.
SELECT g.grp FROM job_groups g WHERE g.queue = $1 AND g.grp = ANY($2::text[]) ORDER BY g.grp FOR UPDATE;

-- name: retryable
-- $1 ids, $2 statuses. What a retry depends on, read while the groups are locked; in the order of $1.
SELECT m.id, m.connection_id, m.job_pk, m.retries, m.order_key
  FROM unnest($1::uuid[]) WITH ORDINALITY n(id, place) JOIN messages m ON m.id = n.id
 WHERE m.status = ANY($2::text[])
 ORDER BY n.place;

-- name: forget_dead
-- $1 pks. Dead letters whose messages get a job of their own again.
DELETE FROM jobs j WHERE j.pk = ANY($1::bigint[]) AND j.state = 'failed';

-- name: begin_retries
-- $1 ids, $2 the new jobs' pks, $3 new expiry or NULL, $4 statuses. A new budget of attempts; those that it may be given to.
UPDATE messages m
   SET retries = m.retries + 1, attempts = 0, expires_at = $3, job_pk = ($2::bigint[])[array_position($1::uuid[], m.id)]
 WHERE m.id = ANY($1::uuid[])
   AND m.status = ANY($4::text[])
RETURNING m.id;

-- name: move
-- $1 ids, $2 canceled or queued. A row per connection: how many moved, and whether webhooks are to be made.
SELECT connection_id, moved, wanted FROM messages_move_v3($1, $2, NULL);

-- name: cancel
-- $1 ids, $2 statuses: only messages that are in one of these. A row per connection, as `move`, with the jobs of those that moved.
SELECT connection_id, moved, wanted, job_pks FROM messages_move_v3($1, 'canceled', $2);
