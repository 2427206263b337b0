-- Metrics and alerts: what is counted, what was counted, which alerts are raised.

-- name: take_turn
-- $1 seconds between looks. No row: somebody looked a moment ago, or looks now. The row stays locked until the commit.
UPDATE watch w
   SET looked_at = now()
 WHERE w.single = (SELECT o.single FROM watch o WHERE o.looked_at <= now() - $1::float8 * interval '1 second' FOR UPDATE SKIP LOCKED)
RETURNING w.jobs_until, w.events_until, w.events_seen, w.seen_at;

-- name: horizon
-- $1 at most so many seconds ago. Whatever began before this is over, so what it wrote can be seen. A transaction that stays open for
-- longer than $1 no longer holds the counting up, and what it writes is not counted.
SELECT greatest(least(now(), min(a.xact_start)), now() - $1::float8 * interval '1 second')
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend';

-- name: count_jobs
-- $1 from, $2 until: jobs that ended in between; $3 the histograms' bounds, seconds. Times are of jobs that needed one try:
-- wait from when it fell due to its claim, duration from there to its end.
WITH ended AS MATERIALIZED (
  SELECT q.name AS queue, j.state, j.attempt = 1 AND j.stalled = 0 AND j.started_at IS NOT NULL AS is_timed,
         greatest(0, extract(epoch FROM j.finished_at - j.started_at)::float8) AS duration_s,
         greatest(0, extract(epoch FROM j.started_at - j.run_at)::float8) AS wait_s
    FROM queues q
   CROSS JOIN (VALUES ('completed'), ('failed'), ('cancelled')) s(state)
    JOIN jobs j ON j.queue = q.id AND j.state = s.state AND j.state IN ('completed', 'failed', 'cancelled')
               AND j.finished_at >= $1 AND j.finished_at < $2),
counted AS (
  SELECT 'jobs_processed' AS metric, ARRAY[queue, state] AS labels, count(*)::float8 AS value FROM ended GROUP BY queue, state
  UNION ALL
  SELECT 'job_duration_sum', ARRAY[queue], sum(duration_s) FROM ended WHERE is_timed GROUP BY queue
  UNION ALL
  SELECT 'job_wait_sum', ARRAY[queue], sum(wait_s) FROM ended WHERE is_timed GROUP BY queue
  UNION ALL
  SELECT 'job_duration', ARRAY[queue, b.le], count(*)
    FROM ended, LATERAL (SELECT coalesce(($3::float8[])[width_bucket(duration_s, $3) + 1]::text, '+Inf') AS le) b WHERE is_timed GROUP BY queue, b.le
  UNION ALL
  SELECT 'job_wait', ARRAY[queue, b.le], count(*)
    FROM ended, LATERAL (SELECT coalesce(($3::float8[])[width_bucket(wait_s, $3) + 1]::text, '+Inf') AS le) b WHERE is_timed GROUP BY queue, b.le)
INSERT INTO metric_totals AS t (metric, labels, value)
SELECT metric, labels, value FROM counted
ON CONFLICT ON CONSTRAINT metric_totals_pk DO UPDATE SET value = t.value + excluded.value;

-- name: count_events
-- $1 after this position, $2 up to this one.
INSERT INTO metric_totals AS t (metric, labels, value)
SELECT 'events', ARRAY[e.type], count(*) FROM events e WHERE e.position > $1 AND e.position <= $2 GROUP BY e.type
ON CONFLICT ON CONSTRAINT metric_totals_pk DO UPDATE SET value = t.value + excluded.value;

-- name: add
-- $1 metric, $2 labels, $3 how much.
INSERT INTO metric_totals AS t (metric, labels, value) VALUES ($1, $2, $3)
ON CONFLICT ON CONSTRAINT metric_totals_pk DO UPDATE SET value = t.value + excluded.value;

-- name: note_looked
-- $1 jobs until, $2 events until.
UPDATE watch
   SET jobs_until = $1, events_until = $2, events_seen = (SELECT s.last_value FROM events_position_seq s);

-- name: note_seen
-- After note_looked, by the clock: every position that was given by then is `events_seen` or less.
UPDATE watch SET seen_at = clock_timestamp();

-- name: totals
SELECT metric, labels, value FROM metric_totals;

-- name: age
-- Seconds since somebody looked.
SELECT extract(epoch FROM now() - looked_at)::float8 FROM watch;

-- name: connections_by_status
SELECT status, count(*) AS connections FROM connections WHERE deleted_at IS NULL GROUP BY status;

-- name: ready
-- One row per queue: how many jobs a free worker could start now, and the mean duration in seconds of its latest jobs (NULL: none is kept).
SELECT q.id AS queue, q.paused,
       CASE WHEN q.paused THEN 0 ELSE
         (SELECT coalesce(sum(least(g.pending, coalesce(g.cap, q.group_cap) - g.busy,
                                    ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)))), 0)
            FROM job_groups g
           WHERE g.queue = q.id AND g.has_pending AND g.reasons = '{}' AND g.busy < coalesce(g.cap, q.group_cap)
             AND ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) > 0)
         + (SELECT count(*) FROM jobs j WHERE j.queue = q.id AND j.grp IS NULL AND j.state = 'waiting') END AS jobs,
       (SELECT avg(greatest(0, extract(epoch FROM l.finished_at - l.started_at)::float8)) FILTER (WHERE l.attempt = 1 AND l.stalled = 0)
          FROM (SELECT j.finished_at, j.started_at, j.attempt, j.stalled
                  FROM jobs j
                 WHERE j.queue = q.id AND j.state = 'completed'
                 ORDER BY j.finished_at DESC, j.pk DESC
                 LIMIT 100) l) AS duration_s
  FROM queues q;

-- name: alerts
SELECT a.queue, a.type, a.since, a.raised_at, a.calm_since FROM queue_alerts a;

-- name: now
SELECT now();

-- name: keep_alert
-- $1 queue id, $2 type, $3 since, $4 raised at, $5 calm since.
INSERT INTO queue_alerts AS a (queue, type, since, raised_at, calm_since)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT ON CONSTRAINT queue_alerts_pk DO UPDATE SET since = $3, raised_at = $4, calm_since = $5;

-- name: forget_alert
-- $1 queue id, $2 type.
DELETE FROM queue_alerts WHERE queue = $1 AND type = $2;

-- name: is_a_lease_lost
-- $1 seconds since it lapsed.
SELECT EXISTS (SELECT 1 FROM connections c WHERE c.lease_until < now() - $1::float8 * interval '1 second');

-- name: record_event
-- $1 tenant, $2 type, $3 severity, $4 payload: an event of no connection. True: webhooks are to be made of it.
INSERT INTO events (tenant_id, type, category, severity, payload, fan_out)
VALUES ($1, $2, split_part($2, '.', 1), $3, $4, event_is_wanted($1, NULL, $2))
RETURNING fan_out;
