-- The event log as readers see it: up to where it is complete, and the tickets that let a browser follow it.

-- Positions are given before their transactions commit, so a reader that went by the highest one it saw would miss what commits later
-- with a lower one. An INSERT holds RowExclusiveLock on its table from before it takes a position until its transaction is over, and
-- whoever sees the lock gone sees the rows. So: once every one of `writers` is gone, each position up to `last_given` is committed or will
-- never be. `last_given` must be read first, and the sequence's cache must stay 1. Asks nothing of those who write, and a long
-- transaction that writes no events holds nothing up.
CREATE FUNCTION event_log_mark_v1(OUT last_given bigint, OUT writers text[]) LANGUAGE plpgsql AS $$
BEGIN
  SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END INTO last_given FROM events_position_seq s;
  SELECT coalesce(array_agg(DISTINCT l.virtualtransaction), '{}') INTO writers
    FROM pg_locks l
   WHERE l.locktype = 'relation' AND l.relation = 'events'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
     AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
END $$;

-- Where some reader found the log complete, a few seconds ago: what a process that starts while a writer hangs may show.
CREATE TABLE event_log (
  single boolean NOT NULL DEFAULT true CONSTRAINT event_log_pk PRIMARY KEY CONSTRAINT event_log_one_row CHECK (single),
  settled bigint NOT NULL,
  kept_at timestamptz NOT NULL
);
INSERT INTO event_log (settled, kept_at) VALUES (0, 'epoch');

-- One opening of the stream each, for clients that cannot set a header. Used up by being deleted.
CREATE TABLE event_tickets (
  ticket_hash bytea CONSTRAINT event_tickets_pk PRIMARY KEY, -- SHA-256 of the ticket; the ticket has 256 random bits
  tenant_id uuid NOT NULL CONSTRAINT event_tickets_tenant REFERENCES tenants,
  key_id uuid CONSTRAINT event_tickets_key REFERENCES api_keys ON DELETE CASCADE, -- NULL: the admin key
  scopes text[] NOT NULL,
  connection_ids uuid[],                                     -- NULL: every connection of the tenant
  expires_at timestamptz NOT NULL
);
CREATE INDEX event_tickets_by_expiry ON event_tickets (expires_at);
