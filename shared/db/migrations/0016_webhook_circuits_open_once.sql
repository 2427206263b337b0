-- Deliveries that were on their way when a circuit opened open it no second time: the first wait is 10 s however many they were.

CREATE FUNCTION webhook_circuit_strain_v2(p_endpoint uuid, p_failures int, p_strain int, p_days float8) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  c webhook_circuits;
BEGIN
  IF NOT EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.id = p_endpoint AND e.enabled) THEN
    RETURN false;                     -- a try that was on its way when it was disabled
  END IF;
  INSERT INTO webhook_circuits AS w (endpoint_id, failures, failing_since, strain, openings)
  VALUES (p_endpoint, p_failures, now(), p_strain, 0)
  ON CONFLICT ON CONSTRAINT webhook_circuits_pk DO UPDATE
     SET failures = least(w.failures + excluded.failures, 1000000), strain = least(w.strain + excluded.strain, 1000000)
  RETURNING * INTO c;
  IF c.failures >= 12 AND c.failing_since <= now() - p_days * interval '1 day' THEN
    RETURN true;
  END IF;
  IF c.strain >= 10 AND coalesce(c.probe_at <= now(), true) THEN
    INSERT INTO job_groups AS g (queue, grp, cap, reasons) VALUES (6, webhook_group(p_endpoint), 1, '{circuit_open}')
    ON CONFLICT ON CONSTRAINT job_groups_pk DO UPDATE SET cap = 1, reasons = array_remove(g.reasons, 'circuit_open') || '{circuit_open}';
    UPDATE webhook_circuits
       SET openings = least(openings + 1, 20), probe_at = now() + least(300, 10 * 2 ^ openings) * interval '1 second'
     WHERE endpoint_id = p_endpoint;
  END IF;
  RETURN false;
END $$;

DROP FUNCTION webhook_circuit_strain_v1(uuid, int, int, float8);
