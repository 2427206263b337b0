-- Media: files that users give and that come in, content-addressed. Rows say whose they are, objects where the bytes lie.

-- Bytes in the store, under `key`. The row is there before the bytes and goes after them, so a crash leaves no bytes that
-- nobody knows of. One content has one kept object; what is being deleted is never taken into use again, its next upload
-- gets another key.
CREATE TABLE media_objects (
  key text CONSTRAINT media_objects_pk PRIMARY KEY,
  sha256 bytea NOT NULL CONSTRAINT media_objects_sha256 CHECK (octet_length(sha256) = 32),
  size bigint NOT NULL CONSTRAINT media_objects_size CHECK (size >= 0),
  state text NOT NULL CONSTRAINT media_objects_state CHECK (state IN ('incoming', 'kept', 'doomed')),
  changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX media_objects_kept_once ON media_objects (sha256) WHERE state = 'kept';
CREATE INDEX media_objects_to_sweep ON media_objects (changed_at) WHERE state <> 'kept';

CREATE TABLE media (
  id uuid CONSTRAINT media_pk PRIMARY KEY,
  tenant_id uuid NOT NULL CONSTRAINT media_tenant REFERENCES tenants,
  connection_id uuid CONSTRAINT media_connection REFERENCES connections, -- NULL: for all of the tenant's
  origin text NOT NULL CONSTRAINT media_origin CHECK (origin IN ('upload', 'base64', 'url', 'inbound')),
  state text NOT NULL CONSTRAINT media_state CHECK (state IN ('pending', 'stored', 'failed')),
  object_key text CONSTRAINT media_object REFERENCES media_objects,
  sha256 bytea,                      -- of the bytes; of a pending one what its sender says
  size bigint,
  mimetype text NOT NULL,
  filename text,
  source_sealed bytea,               -- of a pending one: where WhatsApp keeps it and the key that opens it
  message_id uuid,                   -- the message that brought it; no foreign key: each has its own retention
  error jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  CONSTRAINT media_stored_whole CHECK (state <> 'stored' OR (object_key IS NOT NULL AND sha256 IS NOT NULL AND size IS NOT NULL)),
  CONSTRAINT media_object_when_stored CHECK (state = 'stored' OR object_key IS NULL)
);
CREATE INDEX media_by_expiry ON media (expires_at);
CREATE INDEX media_of_object ON media (object_key) WHERE object_key IS NOT NULL;

-- Which waiting messages need which file: retention and DELETE ask before they take it.
CREATE INDEX messages_waiting_media ON messages ((payload->>'media_id'))
 WHERE payload ? 'media_id' AND status IN ('scheduled', 'queued', 'processing', 'failed', 'unknown');
