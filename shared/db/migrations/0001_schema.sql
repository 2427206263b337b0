-- The domain's tables: tenants, keys, hosts, connections, messages and their history, events, webhooks.
-- Times are timestamptz; text states are held by named CHECKs; every cross-table rule is a named constraint.

CREATE TABLE tenants (
  id uuid CONSTRAINT tenants_pk PRIMARY KEY,
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tenants (id, name) VALUES ('00000000-0000-0000-0000-000000000000', 'default');

CREATE TABLE api_keys (
  id uuid CONSTRAINT api_keys_pk PRIMARY KEY,
  tenant_id uuid NOT NULL CONSTRAINT api_keys_tenant REFERENCES tenants,
  name text NOT NULL,
  key_hash bytea NOT NULL CONSTRAINT api_keys_hash_once UNIQUE, -- SHA-256 of the key; the key has 256 random bits
  key_hint text NOT NULL,                                       -- its first characters, to tell keys apart
  scopes text[] NOT NULL,
  connection_ids uuid[],                                        -- NULL: every connection of the tenant
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz
);

-- A host child process: it registers its address and says that it lives; sessions are leased to it.
CREATE TABLE hosts (
  id text CONSTRAINT hosts_pk PRIMARY KEY,
  address text NOT NULL,            -- base URL of its command API
  capacity int NOT NULL CONSTRAINT hosts_capacity CHECK (capacity > 0),
  started_at timestamptz NOT NULL DEFAULT now(),
  seen_at timestamptz NOT NULL DEFAULT now(),
  stopped_at timestamptz            -- a clean goodbye; a host that died only stops being seen
);

CREATE TABLE connections (
  id uuid CONSTRAINT connections_pk PRIMARY KEY,
  tenant_id uuid NOT NULL CONSTRAINT connections_tenant REFERENCES tenants,
  external_id text,
  label text NOT NULL CONSTRAINT connections_label CHECK (char_length(label) BETWEEN 1 AND 100),
  status text NOT NULL DEFAULT 'initializing' CONSTRAINT connections_status CHECK (status IN ('initializing', 'qr_pending',
    'passkey_required', 'connecting', 'connected', 'disconnected', 'logged_out', 'replaced', 'banned', 'failed', 'closed')),
  status_reason text,
  desired text NOT NULL DEFAULT 'online' CONSTRAINT connections_desired CHECK (desired IN ('online', 'offline')),
  paused boolean NOT NULL DEFAULT false,
  pairing_method text NOT NULL DEFAULT 'qr' CONSTRAINT connections_pairing_method CHECK (pairing_method IN ('qr', 'code')),
  pairing_phone text,
  qr_code text, qr_attempt int NOT NULL DEFAULT 0, qr_expires_at timestamptz,
  pair_code text, pair_code_expires_at timestamptz,
  phone text,                       -- digits with country code
  jid text,                         -- 5511…@s.whatsapp.net, without a device
  device_jid text,                  -- 5511…:7@s.whatsapp.net; NULL: not linked
  lid text,
  push_name text,
  config jsonb NOT NULL DEFAULT '{}',
  metadata jsonb NOT NULL DEFAULT '{}',
  host_id text,                     -- who holds the lease; no foreign key: a host row may be cleaned up first
  lease_epoch bigint NOT NULL DEFAULT 0,
  lease_until timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  connected_at timestamptz,
  deleted_at timestamptz,
  CONSTRAINT connections_external_id_once UNIQUE (tenant_id, external_id),
  CONSTRAINT connections_lease_whole CHECK ((host_id IS NULL) = (lease_until IS NULL))
);
CREATE INDEX connections_newest ON connections (tenant_id, created_at DESC, id);
CREATE INDEX connections_to_host ON connections (lease_until NULLS FIRST) WHERE desired = 'online';

-- Which phone-number chat an alias (@lid) belongs to, per connection.
CREATE TABLE chat_aliases (
  connection_id uuid NOT NULL CONSTRAINT chat_aliases_connection REFERENCES connections ON DELETE CASCADE,
  alias_jid text NOT NULL,
  chat_jid text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT chat_aliases_pk PRIMARY KEY (connection_id, alias_jid)
);

CREATE TABLE message_moves (
  from_status text NOT NULL, to_status text NOT NULL,
  CONSTRAINT message_moves_pk PRIMARY KEY (from_status, to_status)
);

CREATE TABLE messages (
  id uuid CONSTRAINT messages_pk PRIMARY KEY,
  connection_id uuid NOT NULL CONSTRAINT messages_connection REFERENCES connections,
  message_id text NOT NULL,          -- the client's id, or the wire id of a message that did not come through the API
  direction text NOT NULL CONSTRAINT messages_direction CHECK (direction IN ('inbound', 'outbound')),
  source text NOT NULL CONSTRAINT messages_source CHECK (source IN ('api', 'phone')),
  from_me boolean NOT NULL,
  backfilled boolean NOT NULL DEFAULT false,
  jid text NOT NULL,                 -- the chat, a phone-number JID where one is known
  phone text,                        -- its digits, NULL for groups
  sender_jid text,                   -- who wrote it: own JID when from_me
  participant text,                  -- the writer in a group
  push_name text,
  type text NOT NULL,
  payload jsonb NOT NULL,
  body_hash bytea,                   -- of the request, to tell a repeat from a conflict; NULL when not from the API
  reply_to text,
  mentions text[] NOT NULL DEFAULT '{}',
  metadata jsonb NOT NULL DEFAULT '{}',
  status text NOT NULL CONSTRAINT messages_status CHECK (status IN ('scheduled', 'queued', 'processing', 'failed', 'sent',
    'delivered', 'read', 'played', 'dlq', 'expired', 'canceled', 'unknown')),
  attempts int NOT NULL DEFAULT 0 CONSTRAINT messages_attempts CHECK (attempts >= 0),
  retries int NOT NULL DEFAULT 0,    -- manual retries; numbers the job ids msg-retry-<id>-<n>
  error jsonb,
  next_attempt_at timestamptz,
  order_key text,                    -- NULL: order none
  on_unknown text NOT NULL DEFAULT 'hold' CONSTRAINT messages_on_unknown CHECK (on_unknown IN ('hold', 'resend')),
  send_at timestamptz,
  expires_at timestamptz,
  job_pk bigint,                     -- its newest job; no foreign key: jobs are cleaned up first
  -- The try that may have left: committed before the host is asked to send (DESIGN D6).
  send_no int NOT NULL DEFAULT 0,
  send_epoch bigint,
  send_host text,
  send_device text,
  send_started_at timestamptz,
  unknown_at timestamptz,
  wa_message_id text,
  wa_timestamp timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  sent_at timestamptz,
  delivered_at timestamptz,
  read_at timestamptz,
  played_at timestamptz,
  CONSTRAINT messages_try_whole CHECK (send_no = 0 OR send_started_at IS NOT NULL)
);
CREATE UNIQUE INDEX messages_client_id_once ON messages (connection_id, message_id) WHERE source = 'api';
CREATE UNIQUE INDEX messages_wire_once ON messages (connection_id, jid, coalesce(sender_jid, ''), message_id) WHERE source = 'phone';
CREATE INDEX messages_newest ON messages (connection_id, created_at DESC, id);
CREATE INDEX messages_by_status ON messages (status, connection_id, created_at) WHERE status NOT IN ('delivered', 'read', 'played', 'sent');
CREATE INDEX messages_by_wire_id ON messages (connection_id, wa_message_id) WHERE wa_message_id IS NOT NULL;
CREATE INDEX messages_by_age ON messages (created_at);

-- Every change of status, for ever shorter than the message and longer than its jobs.
CREATE TABLE message_transitions (
  id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT message_transitions_pk PRIMARY KEY,
  message_id uuid NOT NULL CONSTRAINT message_transitions_message REFERENCES messages ON DELETE CASCADE,
  from_status text, to_status text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  detail jsonb
);
CREATE INDEX message_transitions_of ON message_transitions (message_id, id);

CREATE TABLE message_attempts (
  message_id uuid NOT NULL CONSTRAINT message_attempts_message REFERENCES messages ON DELETE CASCADE,
  send_no int NOT NULL,
  job_id text NOT NULL,
  host_id text, epoch bigint, device_jid text,
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  outcome text,                      -- sent, failed, unknown, dlq, requeued; NULL while it runs or after a crash
  error jsonb,
  wa_message_id text,
  CONSTRAINT message_attempts_pk PRIMARY KEY (message_id, send_no)
);

-- One row per wire id: a send's record and a receipt both upsert it, which serializes them.
CREATE TABLE wire_ids (
  connection_id uuid NOT NULL CONSTRAINT wire_ids_connection REFERENCES connections ON DELETE CASCADE,
  wire_id text NOT NULL,
  message_id uuid CONSTRAINT wire_ids_message REFERENCES messages ON DELETE CASCADE,
  status text CONSTRAINT wire_ids_status CHECK (status IN ('sent', 'delivered', 'read', 'played')),
  delivered_at timestamptz, read_at timestamptz, played_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT wire_ids_pk PRIMARY KEY (connection_id, wire_id)
);
CREATE INDEX wire_ids_of_message ON wire_ids (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX wire_ids_unclaimed ON wire_ids (created_at) WHERE message_id IS NULL;

CREATE TABLE events (
  id uuid CONSTRAINT events_pk PRIMARY KEY DEFAULT gen_random_uuid(),
  position bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT events_position_once UNIQUE,
  tenant_id uuid NOT NULL CONSTRAINT events_tenant REFERENCES tenants,
  connection_id uuid CONSTRAINT events_connection REFERENCES connections ON DELETE CASCADE,
  message_id uuid,
  type text NOT NULL,
  category text NOT NULL,
  severity text NOT NULL CONSTRAINT events_severity CHECK (severity IN ('debug', 'info', 'warn', 'error')),
  payload jsonb NOT NULL,
  fan_out boolean NOT NULL,          -- true until its webhook deliveries exist; false at once when nobody subscribes
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_to_fan_out ON events (connection_id, position) WHERE fan_out;
CREATE INDEX events_of_connection ON events (connection_id, position);
CREATE INDEX events_of_message ON events (message_id, position) WHERE message_id IS NOT NULL;
CREATE INDEX events_by_age ON events (created_at);

CREATE TABLE webhook_endpoints (
  id uuid CONSTRAINT webhook_endpoints_pk PRIMARY KEY,
  tenant_id uuid NOT NULL CONSTRAINT webhook_endpoints_tenant REFERENCES tenants,
  owner_id uuid CONSTRAINT webhook_endpoints_owner REFERENCES connections ON DELETE CASCADE, -- a connection's own webhook_url
  url text NOT NULL,
  secrets_encrypted bytea NOT NULL,  -- the signing secrets, newest first, sealed with SECRET_KEY
  events text[] NOT NULL,            -- '*', 'message.*' or exact types
  connection_ids uuid[],             -- NULL: every connection of the tenant
  headers jsonb NOT NULL DEFAULT '{}',
  enabled boolean NOT NULL DEFAULT true,
  disabled_reason text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT webhook_endpoints_one_of_connection UNIQUE (owner_id)
);
CREATE INDEX webhook_endpoints_of_tenant ON webhook_endpoints (tenant_id, created_at DESC);

-- The last sequence number given per endpoint and session: no gaps.
CREATE TABLE webhook_sequences (
  endpoint_id uuid NOT NULL CONSTRAINT webhook_sequences_endpoint REFERENCES webhook_endpoints ON DELETE CASCADE,
  connection_id uuid NOT NULL CONSTRAINT webhook_sequences_connection REFERENCES connections ON DELETE CASCADE,
  last bigint NOT NULL,
  CONSTRAINT webhook_sequences_pk PRIMARY KEY (endpoint_id, connection_id)
);

CREATE TABLE webhook_deliveries (
  id uuid CONSTRAINT webhook_deliveries_pk PRIMARY KEY,
  endpoint_id uuid NOT NULL CONSTRAINT webhook_deliveries_endpoint REFERENCES webhook_endpoints ON DELETE CASCADE,
  event_id uuid NOT NULL,            -- no foreign key: events and deliveries have their own retention
  connection_id uuid,
  event_type text NOT NULL,
  sequence bigint NOT NULL,
  body bytea NOT NULL,               -- frozen: the same bytes on every attempt
  status text NOT NULL DEFAULT 'pending' CONSTRAINT webhook_deliveries_status CHECK (status IN ('pending', 'delivered', 'dead', 'canceled')),
  attempts int NOT NULL DEFAULT 0,
  last_status int, last_error text,
  next_attempt_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  CONSTRAINT webhook_deliveries_event_once UNIQUE (endpoint_id, event_id),
  CONSTRAINT webhook_deliveries_sequence_once UNIQUE (endpoint_id, connection_id, sequence)
);
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (endpoint_id, created_at DESC, id);
CREATE INDEX webhook_deliveries_by_age ON webhook_deliveries (created_at);

CREATE TABLE webhook_attempts (
  delivery_id uuid NOT NULL CONSTRAINT webhook_attempts_delivery REFERENCES webhook_deliveries ON DELETE CASCADE,
  attempt int NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  duration_ms int NOT NULL,
  status int,                        -- NULL: no HTTP answer
  error text,
  response bytea,                    -- its first 2 kB, as they came
  CONSTRAINT webhook_attempts_pk PRIMARY KEY (delivery_id, attempt)
);

CREATE TABLE idempotency_keys (
  tenant_id uuid NOT NULL CONSTRAINT idempotency_keys_tenant REFERENCES tenants,
  scope text NOT NULL,               -- the route it was used on
  key text NOT NULL,
  body_hash bytea NOT NULL,
  response jsonb NOT NULL,           -- what the first call answered, or where to find it
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT idempotency_keys_pk PRIMARY KEY (tenant_id, scope, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
