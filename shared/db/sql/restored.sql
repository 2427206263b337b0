-- A database as a backup sees it, and what is done to one that came back from a backup.

-- name: about
SELECT (SELECT count(*) FROM connections WHERE deleted_at IS NULL) AS connections,
       (SELECT count(*) FROM messages) AS messages,
       (SELECT count(*) FROM messages WHERE direction = 'outbound' AND status IN ('scheduled', 'queued', 'failed')) AS waiting,
       (SELECT count(*) FROM messages WHERE direction = 'outbound' AND status IN ('processing', 'unknown')) AS in_doubt,
       (SELECT max(name) FROM schema_migrations) AS migration;

-- name: server
-- Whether the database holds nothing, of ours or of anybody, and the server's version.
SELECT NOT EXISTS (
         SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
       ) AS is_empty,
       to_regclass('schema_migrations') IS NOT NULL AS is_ours,
       current_setting('server_version_num')::int / 10000 AS major;

-- name: lapse_leases
-- The hosts of then are gone. Lapsed, and not removed: the sweep sets their sessions disconnected, as when a host dies.
UPDATE connections SET lease_until = now() WHERE lease_until > now();

-- name: doubt_tries
-- A try that was under way may have left after the snapshot. $1 stands for a host, and the epoch for one that nothing supersedes, so that a missing
-- row of the device store proves nothing about it (DESIGN D6). What its row says, or a receipt, still settles it.
UPDATE messages SET send_host = $1, send_epoch = 4611686018427387904 WHERE direction = 'outbound' AND status IN ('processing', 'unknown');
