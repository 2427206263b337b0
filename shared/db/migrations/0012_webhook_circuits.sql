-- An endpoint that fails again and again is asked rarely, one delivery at a time, and the rest waits without losing tries.
-- A circuit is the group `endpoint:<id>` of webhook:delivery: open, it is paused for `circuit_open`; after that it has a cap of 1 until a
-- try succeeds. Groups are locked before circuits, as a finish does.

-- Fewer than a worker's three slots: a receiver that hangs leaves one to the others.
UPDATE queues SET group_cap = 2 WHERE id = 6;

CREATE TABLE webhook_circuits (
  endpoint_id uuid CONSTRAINT webhook_circuits_pk PRIMARY KEY CONSTRAINT webhook_circuits_endpoint REFERENCES webhook_endpoints ON DELETE CASCADE,
  failures int NOT NULL,              -- tries in a row that failed; a success deletes the row
  failing_since timestamptz NOT NULL, -- the first of them
  strain int NOT NULL,                -- what they weigh: a try that got no answer in time holds a worker longer than a refusal
  openings int NOT NULL,
  probe_at timestamptz                -- it is open until then
);
CREATE INDEX webhook_circuits_to_probe ON webhook_circuits (probe_at) WHERE probe_at IS NOT NULL;

CREATE FUNCTION webhook_group(p_endpoint uuid) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'endpoint:' || p_endpoint $$;

-- Count tries that failed and open the circuit once they weigh 10: for 10 s, then 20, 40, 80, 160, then every 300 s.
-- Those that were on their way when it opened open it no second time: the first wait is 10 s however many they were.
-- Returns whether nothing succeeded for p_days, over at least 12 tries: then the caller disables the endpoint.
CREATE FUNCTION webhook_circuit_strain_v1(p_endpoint uuid, p_failures int, p_strain int, p_days float8) RETURNS boolean LANGUAGE plpgsql AS $$
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

-- Close the circuit: a try succeeded, or a person says that it may be tried. Harmless when there is none.
CREATE FUNCTION webhook_circuit_close_v1(p_endpoint uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE job_groups g SET cap = NULL, reasons = array_remove(g.reasons, 'circuit_open') WHERE g.queue = 6 AND g.grp = webhook_group(p_endpoint);
  DELETE FROM webhook_circuits WHERE endpoint_id = p_endpoint;
END $$;

-- Let the next delivery of these endpoints be tried, one at a time. What another transaction holds is left for the next call.
CREATE FUNCTION webhook_circuit_probe_v1(p_endpoints uuid[]) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  mine text[];
BEGIN
  mine := ARRAY(SELECT l.grp FROM (SELECT DISTINCT webhook_group(e) AS grp FROM unnest(p_endpoints) e ORDER BY 1) k
                CROSS JOIN LATERAL (SELECT g.grp FROM job_groups g WHERE g.queue = 6 AND g.grp = k.grp FOR UPDATE SKIP LOCKED) l);
  UPDATE webhook_circuits SET probe_at = NULL WHERE endpoint_id = ANY(p_endpoints) AND webhook_group(endpoint_id) = ANY(mine);
  UPDATE job_groups g SET reasons = array_remove(g.reasons, 'circuit_open')
   WHERE g.queue = 6 AND g.grp = ANY(mine) AND 'circuit_open' = ANY(g.reasons);
  RETURN FOUND;
END $$;

-- Disable an endpoint and tell the others. p_url, when given, must still be its URL: the answer of an old one does not disable a new one.
-- NULL: it is disabled already, or its URL is another now. True: webhooks are to be made of the event webhook.disabled.
CREATE FUNCTION webhook_disable_v1(p_endpoint uuid, p_url text, p_reason text, p_connection uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  e webhook_endpoints;
  about jsonb;
  wanted boolean;
BEGIN
  UPDATE webhook_endpoints SET enabled = false, disabled_reason = p_reason, updated_at = now()
   WHERE id = p_endpoint AND (p_url IS NULL OR url = p_url) AND enabled
  RETURNING * INTO e;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  PERFORM webhook_circuit_close_v1(p_endpoint);
  about := jsonb_build_object('endpoint_id', e.id, 'url', e.url, 'reason', e.disabled_reason);
  IF p_connection IS NOT NULL THEN
    RETURN event_record_v1(p_connection, NULL, 'webhook.disabled', 'warn', about);
  END IF;
  wanted := event_is_wanted(e.tenant_id, NULL, 'webhook.disabled');
  INSERT INTO events (tenant_id, type, category, severity, payload, fan_out)
  VALUES (e.tenant_id, 'webhook.disabled', 'webhook', 'warn', about, wanted);
  RETURN wanted;
END $$;
