-- The circuits of endpoints that fail. The functions are in migrations/0012_webhook_circuits.sql and 0024_webhook_holds.sql, with
-- their promises.

-- name: strain
-- $1 endpoint, $2 failed tries, $3 what they weigh, $4 days, $5 seconds that the receiver asks for or NULL.
-- True: nothing succeeded for so long that it is to be disabled.
SELECT webhook_circuit_strain_v2($1, $2, $3, $4, $5);

-- name: close
-- $1 endpoint.
SELECT webhook_circuit_close_v1($1);

-- name: probe
-- $1 endpoints. True: one of them may be tried now and could not before.
SELECT webhook_circuit_probe_v1($1);

-- name: due
-- $1 limit. Endpoints whose circuit has been open for long enough.
SELECT endpoint_id FROM webhook_circuits WHERE probe_at <= now() ORDER BY probe_at LIMIT $1;

-- name: of_endpoints
-- $1 endpoints. Those that fail.
SELECT endpoint_id, failures, failing_since, probe_at FROM webhook_circuits WHERE endpoint_id = ANY($1);
