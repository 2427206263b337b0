-- What metrics and alerts remember: totals that only grow, and which alerts are raised. One process at a time looks, every 10 s.

CREATE TABLE watch (
  single boolean NOT NULL DEFAULT true CONSTRAINT watch_pk PRIMARY KEY CONSTRAINT watch_one_row CHECK (single),
  looked_at timestamptz NOT NULL,
  jobs_until timestamptz NOT NULL,    -- jobs that ended before this are in the totals
  events_until bigint NOT NULL,       -- events up to this position are in the totals
  -- Positions are given before their transactions commit. These were given by `seen_at`; they are counted once every transaction that
  -- began before it is over, so that none is missed.
  events_seen bigint NOT NULL,
  seen_at timestamptz NOT NULL
);
INSERT INTO watch (looked_at, jobs_until, events_until, events_seen, seen_at)
SELECT 'epoch', now(), coalesce(max(position), 0), coalesce(max(position), 0), now() FROM events;

CREATE TABLE metric_totals (
  metric text NOT NULL,
  labels text[] NOT NULL,
  value float8 NOT NULL,
  CONSTRAINT metric_totals_pk PRIMARY KEY (metric, labels)
);

-- A rule that holds, or held a moment ago, for a queue.
CREATE TABLE queue_alerts (
  queue smallint NOT NULL CONSTRAINT queue_alerts_queue REFERENCES queues,
  type text NOT NULL,                 -- the event's: queue.backlog, queue.failing
  since timestamptz NOT NULL,         -- the rule holds since then
  raised_at timestamptz,              -- NULL: not for long enough yet
  calm_since timestamptz,             -- NULL: it holds now
  CONSTRAINT queue_alerts_pk PRIMARY KEY (queue, type)
);
