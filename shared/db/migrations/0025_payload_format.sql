-- In whose words an endpoint's webhooks tell of an event. What is frozen already keeps the form that it has.

ALTER TABLE webhook_endpoints
  ADD COLUMN payload_format text NOT NULL DEFAULT 'zaphub'
    CONSTRAINT webhook_endpoints_payload_format CHECK (payload_format IN ('zaphub', 'evolution', 'cloud_api'));
