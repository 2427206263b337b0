-- Host child processes: where they listen and that they live.

-- name: register
-- $1 id, $2 address, $3 capacity.
INSERT INTO hosts (id, address, capacity) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET address = excluded.address, capacity = excluded.capacity, seen_at = now(), stopped_at = NULL;

-- name: see
-- $1 id.
UPDATE hosts SET seen_at = now() WHERE id = $1 AND stopped_at IS NULL;

-- name: stop
-- $1 id. A clean goodbye: nobody asks it for anything any more.
UPDATE hosts SET stopped_at = now() WHERE id = $1;

-- name: live
-- $1 seen within this many seconds. With how many sessions each holds, the least loaded first; full ones are left out.
SELECT h.id, h.address, h.capacity, count(c.id)::int AS sessions
  FROM hosts h LEFT JOIN connections c ON c.host_id = h.id AND c.lease_until > now()
 WHERE h.stopped_at IS NULL AND h.seen_at > now() - make_interval(secs => $1)
 GROUP BY h.id
HAVING count(c.id) < h.capacity
 ORDER BY count(c.id)::float8 / h.capacity, h.id;

-- name: loads
-- $1 seen within this many seconds. Every host that lives, full or not, with how many sessions it holds.
SELECT h.id, h.address, h.capacity, count(c.id)::int AS sessions
  FROM hosts h LEFT JOIN connections c ON c.host_id = h.id AND c.lease_until > now()
 WHERE h.stopped_at IS NULL AND h.seen_at > now() - make_interval(secs => $1)
 GROUP BY h.id;

-- name: owner
-- $1 connection. Who holds it: a host that is alive by its lease.
SELECT c.host_id, h.address, c.lease_epoch, c.device_jid, c.status
  FROM connections c JOIN hosts h ON h.id = c.host_id
 WHERE c.id = $1 AND c.lease_until > now();

-- name: forget
-- $1 not seen for this many seconds. Rows of hosts long gone, in a bounded batch; leases name hosts without a foreign key.
DELETE FROM hosts WHERE id IN (
  SELECT id FROM hosts h WHERE h.seen_at < now() - make_interval(secs => $1)
     AND NOT EXISTS (SELECT 1 FROM connections c WHERE c.host_id = h.id) ORDER BY h.seen_at LIMIT 100);
