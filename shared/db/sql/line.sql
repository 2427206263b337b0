-- The line of a connection's sends: who comes before whom, and what the group lets through.

-- name: place
-- $1 message, $2 look at so many at most. No row: nothing of it waits. `ahead`: jobs of its connection that run before it, NULL for one that
-- is not due yet.
SELECT j.state, j.run_at, job_place_v1(j.pk, $2) AS ahead
  FROM messages m
  JOIN jobs j ON j.pk = m.job_pk AND CASE WHEN j.state IN ('waiting', 'blocked', 'delayed') THEN true END
 WHERE m.id = $1
   AND m.status IN ('scheduled', 'queued', 'failed');

-- name: gate
-- $1 queue id, $2 group. What the group of a connection lets through, and how long its queue's latest jobs took.
SELECT coalesce(g.reasons, '{}') || CASE WHEN q.paused THEN ARRAY['queue_paused'] ELSE '{}'::text[] END AS reasons,
       coalesce(g.pending + ledger_blocked_v1(q.id, $2), 0) AS waiting, coalesce(g.busy, 0) AS busy, coalesce(g.cap, q.group_cap) AS cap,
       coalesce(g.rate_per_minute, q.rate_per_minute) AS rate_per_minute, coalesce(g.burst, q.burst) AS burst, now() AS now,
       greatest(0, extract(epoch FROM coalesce(g.tat, 'epoch') - now()))::float8 AS drawn_s,
       -- The median: one send that met an outage says nothing of the next.
       (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY greatest(0, extract(epoch FROM l.finished_at - l.started_at)::float8))
                 FILTER (WHERE l.attempt = 1 AND l.stalled = 0)
          FROM (SELECT j.finished_at, j.started_at, j.attempt, j.stalled
                  FROM jobs j
                 WHERE j.queue = q.id AND j.state = 'completed'
                 ORDER BY j.finished_at DESC, j.pk DESC
                 LIMIT 100) l) AS duration_s
  FROM queues q
  LEFT JOIN job_groups g ON g.queue = q.id AND g.grp = $2
 WHERE q.id = $1;

-- name: waiting
-- $1 connection, $2 count so many at most: messages that are due and wait for their turn. One arm per status, as the index has it.
SELECT (SELECT count(*) FROM (SELECT 1 FROM messages m WHERE m.status = 'queued' AND m.connection_id = $1 LIMIT $2) q)
       + (SELECT count(*) FROM (SELECT 1 FROM messages m
                                 WHERE m.status = 'scheduled' AND m.connection_id = $1 AND m.send_at <= now() LIMIT $2) s);
