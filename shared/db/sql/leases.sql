-- Sessions are leased: who holds one, until when, and in which epoch. Only the database's clock decides.

-- name: claim
-- $1 connection, $2 host, $3 lease in seconds, $4 to unlink it: then also one that is deleted or not wanted.
-- No row: gone, not wanted, or another host holds it.
-- The same host gets a new epoch too: what it was asked under the old one is refused from then on.
UPDATE connections c
   SET host_id = $2, lease_epoch = c.lease_epoch + 1, lease_until = now() + make_interval(secs => $3), retry_at = NULL
 WHERE c.id = $1
   AND ($4 OR (c.deleted_at IS NULL AND c.desired = 'online'))
   AND (c.lease_until IS NULL OR c.lease_until <= now() OR c.host_id = $2)
RETURNING c.id, c.status, c.lease_epoch, c.device_jid, c.pairing_method, c.pairing_phone, c.phone;

-- name: standing
-- $1 connection: whether there is anything to close or to unlink.
SELECT status, device_jid, deleted_at IS NOT NULL AS is_deleted FROM connections WHERE id = $1;

-- name: lock_number
-- $1 connection, $2 epoch. The number that is linked, or was. No row: another host has the lease.
SELECT phone FROM connections WHERE id = $1 AND lease_epoch = $2 FOR UPDATE;

-- name: adoptable
-- $1 statuses that hosts work on, $2 limit. Sessions that had a host and have none now, the longest without first; also
-- one that ended and may try again by itself. One that never had a host waits for its session:init job, which a user
-- may have paused.
SELECT c.id
  FROM connections c
 WHERE c.desired = 'online'
   AND c.deleted_at IS NULL
   AND c.lease_epoch > 0
   AND (c.lease_until IS NULL OR c.lease_until <= now())
   AND (c.status = ANY($1::text[]) OR c.retry_at <= now())
 ORDER BY c.lease_until NULLS FIRST, c.id
 LIMIT $2;

-- name: renew
-- $1 host, $2 lease in seconds. All its leases at once, in one order for everybody; what is missing is lost.
WITH mine AS (SELECT id FROM connections WHERE host_id = $1 ORDER BY id FOR UPDATE)
UPDATE connections c SET lease_until = now() + make_interval(secs => $2) FROM mine WHERE c.id = mine.id
RETURNING c.id, c.lease_epoch, c.desired, c.deleted_at IS NOT NULL AS is_deleted;

-- name: release
-- $1 connection, $2 epoch. The epoch stays: it only ever grows.
UPDATE connections SET host_id = NULL, lease_until = NULL WHERE id = $1 AND lease_epoch = $2 RETURNING id;

-- name: retry_after
-- $1 connection, $2 epoch, $3 seconds. It has ended, and a host opens it by itself then.
UPDATE connections SET retry_at = now() + make_interval(secs => $3) WHERE id = $1 AND lease_epoch = $2;

-- name: end_of
-- $1 host: its process is dead, so its leases need not lapse.
UPDATE connections SET lease_until = now() WHERE host_id = $1 AND lease_until > now();

-- name: lapsed
-- $1 limit. Leases whose host went silent; whoever is at one already, skips it.
SELECT c.id, c.lease_epoch, c.status FROM connections c
 WHERE c.lease_until <= now()
 ORDER BY c.lease_until
 LIMIT $1
   FOR UPDATE SKIP LOCKED;

-- name: offline
-- $1 statuses that hosts work on. Of the linked sessions that hosts shall keep online: all, and those that are not connected or
-- that no host holds. What waits for a person (a scan, a ban) is not among them.
SELECT count(*) AS wanted,
       count(*) FILTER (WHERE c.status <> 'connected' OR c.lease_until IS NULL OR c.lease_until <= now()) AS offline
  FROM connections c
 WHERE c.desired = 'online'
   AND c.deleted_at IS NULL
   AND c.device_jid IS NOT NULL
   AND (c.status = ANY($1::text[]) OR c.retry_at <= now());

-- name: free
-- $1 connection, locked by the caller.
UPDATE connections SET host_id = NULL, lease_until = NULL WHERE id = $1;

