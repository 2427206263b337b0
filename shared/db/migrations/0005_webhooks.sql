-- Webhooks of events without a session (queue.backlog, a test) have a sequence too; endpoints go without their history.

-- Deleting an endpoint would delete every delivery of it in one statement; it is only marked, retention does the rest.
ALTER TABLE webhook_endpoints ADD COLUMN deleted_at timestamptz;
ALTER TABLE webhook_endpoints ADD CONSTRAINT webhook_endpoints_deleted_sends_nothing
  CHECK (deleted_at IS NULL OR NOT enabled AND owner_id IS NULL);

ALTER TABLE webhook_sequences DROP CONSTRAINT webhook_sequences_pk;
ALTER TABLE webhook_sequences ALTER COLUMN connection_id DROP NOT NULL;
ALTER TABLE webhook_sequences ADD CONSTRAINT webhook_sequences_once UNIQUE NULLS NOT DISTINCT (endpoint_id, connection_id);

ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_sequence_once;
ALTER TABLE webhook_deliveries ADD CONSTRAINT webhook_deliveries_sequence_once
  UNIQUE NULLS NOT DISTINCT (endpoint_id, connection_id, sequence);
