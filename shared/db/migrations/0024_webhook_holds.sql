-- A circuit also opens for what is no failed try: a receiver that says when to come again, and a network or name server of ours that
-- does not work. Neither may hold the workers' slots, and the second must not count towards disabling.

-- As v1, and:
-- p_failures 0: nothing was tried, for a reason of our own that took a worker's time. It opens the circuit as failures do, and is no
-- reason to disable. `failing_since` is of the first failure; until there is one it says nothing.
-- p_hold_s, or NULL: the receiver asks for so many seconds. The circuit opens at once for as long, 300 s at most, and the next opening
-- is no longer for that.
CREATE FUNCTION webhook_circuit_strain_v2(p_endpoint uuid, p_failures int, p_strain int, p_days float8, p_hold_s float8)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  c webhook_circuits;
  opens_for float8;
BEGIN
  IF NOT EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.id = p_endpoint AND e.enabled) THEN
    RETURN false;                     -- a try that was on its way when it was disabled
  END IF;
  INSERT INTO webhook_circuits AS w (endpoint_id, failures, failing_since, strain, openings)
  VALUES (p_endpoint, p_failures, now(), p_strain, 0)
  ON CONFLICT ON CONSTRAINT webhook_circuits_pk DO UPDATE
     SET failures = least(w.failures + excluded.failures, 1000000), strain = least(w.strain + excluded.strain, 1000000),
         failing_since = CASE WHEN w.failures = 0 THEN excluded.failing_since ELSE w.failing_since END
  RETURNING * INTO c;
  IF p_failures > 0 AND c.failures >= 12 AND c.failing_since <= now() - p_days * interval '1 day' THEN
    RETURN true;
  END IF;
  IF c.strain >= 10 AND coalesce(c.probe_at <= now(), true) THEN
    opens_for := least(300, 10 * 2 ^ c.openings);
    UPDATE webhook_circuits SET openings = least(openings + 1, 20) WHERE endpoint_id = p_endpoint;
  END IF;
  opens_for := greatest(opens_for, CASE WHEN p_hold_s > 0 THEN least(p_hold_s, 300) END);
  IF opens_for > 0 THEN
    INSERT INTO job_groups AS g (queue, grp, cap, reasons) VALUES (6, webhook_group(p_endpoint), 1, '{circuit_open}')
    ON CONFLICT ON CONSTRAINT job_groups_pk DO UPDATE SET cap = 1, reasons = array_remove(g.reasons, 'circuit_open') || '{circuit_open}';
    UPDATE webhook_circuits SET probe_at = greatest(probe_at, now() + opens_for * interval '1 second') WHERE endpoint_id = p_endpoint;
  END IF;
  RETURN false;
END $$;
