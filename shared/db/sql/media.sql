-- Media and the objects that hold their bytes. Locks: a media row before its object.

-- name: lock_content
-- $1 SHA-256. Until the transaction ends nobody else decides which object holds this content.
SELECT pg_advisory_xact_lock(x'5A4D'::int, ('x' || encode(substr($1::bytea, 1, 4), 'hex'))::bit(32)::int);

-- name: share_kept
-- $1 SHA-256. The object that holds it, which nobody can doom before the transaction ends; no row: there is none.
SELECT key FROM media_objects WHERE sha256 = $1 AND state = 'kept' FOR SHARE;

-- name: announce_object
-- $1 key, $2 SHA-256, $3 size. Before the bytes are put.
INSERT INTO media_objects (key, sha256, size, state) VALUES ($1, $2, $3, 'incoming');

-- name: keep_object
-- $1 key. After the bytes were put. No row: it took so long that the sweep had it.
UPDATE media_objects SET state = 'kept', changed_at = now() WHERE key = $1 AND state = 'incoming' RETURNING key;

-- name: doom_object
-- $1 key of an incoming object that is not needed, as another one was kept meanwhile.
UPDATE media_objects SET state = 'doomed', changed_at = now() WHERE key = $1 AND state = 'incoming';

-- name: lock_objects
-- $1 keys. Nobody can begin to refer to one of them before the transaction ends.
SELECT key FROM media_objects WHERE key = ANY($1::text[]) ORDER BY key FOR UPDATE;

-- name: doom_unreferenced
-- $1 keys, locked by the statement before, so that this one sees every reference.
UPDATE media_objects o SET state = 'doomed', changed_at = now()
 WHERE o.key = ANY($1::text[]) AND o.state = 'kept' AND NOT EXISTS (SELECT 1 FROM media m WHERE m.object_key = o.key);

-- name: doom_abandoned
-- $1 seconds, $2 limit. Incoming objects whose uploader must be dead by now: it gives up long before.
UPDATE media_objects SET state = 'doomed', changed_at = now()
 WHERE key = ANY(ARRAY(
   SELECT o.key FROM media_objects o
    WHERE o.state = 'incoming' AND o.changed_at < now() - make_interval(secs => $1)
    ORDER BY o.changed_at LIMIT $2 FOR UPDATE SKIP LOCKED));

-- name: doomed
-- $1 limit, oldest first.
SELECT key FROM media_objects WHERE state = 'doomed' ORDER BY changed_at LIMIT $1;

-- name: postpone_doomed
-- $1 key of an object that the store would not delete now: the others have their turn first.
UPDATE media_objects SET changed_at = now() WHERE key = $1 AND state = 'doomed';

-- name: forget_objects
-- $1 keys of doomed objects whose bytes are gone.
DELETE FROM media_objects WHERE key = ANY($1::text[]) AND state = 'doomed';

-- name: insert
-- $1 id, $2 tenant or NULL for the connection's, $3 connection or NULL, $4 origin, $5 object key, $6 SHA-256, $7 size, $8 mimetype, $9 filename,
-- $10 days that it stays. The same id again (the same content given again) stays longer. No row: the tenant has no such connection.
INSERT INTO media (id, tenant_id, connection_id, origin, state, object_key, sha256, size, mimetype, filename, expires_at)
SELECT $1, coalesce($2::uuid, c.tenant_id), $3, $4, 'stored', $5, $6, $7, $8, $9, now() + make_interval(days => $10)
  FROM (SELECT 1) one LEFT JOIN connections c ON c.id = $3::uuid AND c.deleted_at IS NULL
 WHERE CASE WHEN $3::uuid IS NULL THEN $2 IS NOT NULL ELSE c.tenant_id = coalesce($2, c.tenant_id) END
ON CONFLICT (id) DO UPDATE SET expires_at = greatest(media.expires_at, excluded.expires_at)
RETURNING id, tenant_id, connection_id, origin, state, object_key, sha256, size, mimetype, filename, source_sealed, message_id, error, created_at, expires_at;

-- name: get
-- $1 id, $2 tenant, $3 allowed connections or NULL for all.
SELECT id, tenant_id, connection_id, origin, state, object_key, sha256, size, mimetype, filename, source_sealed, message_id, error, created_at, expires_at
  FROM media
 WHERE id = $1 AND tenant_id = $2 AND ($3::uuid[] IS NULL OR connection_id = ANY($3));

-- name: find
-- $1 id, whoever's it is: for a worker or a host, whose job names it.
SELECT id, tenant_id, connection_id, origin, state, object_key, sha256, size, mimetype, filename, source_sealed, message_id, error, created_at, expires_at
  FROM media
 WHERE id = $1;

-- name: usable
-- $1 ids, $2 tenant, $3 allowed connections or NULL for all. Those that are stored and the caller's. One whose time is nearly
-- over stays for a day more, until the message that wants it waits for it.
WITH found AS (
  SELECT id, mimetype, expires_at < now() + interval '1 hour' AS is_short FROM media
   WHERE id = ANY($1::uuid[]) AND tenant_id = $2 AND state = 'stored' AND ($3::uuid[] IS NULL OR connection_id = ANY($3))
), prolonged AS (
  UPDATE media SET expires_at = now() + interval '1 day' WHERE id IN (SELECT id FROM found WHERE is_short) RETURNING id
)
SELECT f.id, f.mimetype FROM found f WHERE NOT f.is_short OR f.id IN (SELECT id FROM prolonged);

-- name: give_to_message
-- $1 message, $2 what its payload has now: the file's id, and what is known of it. The source that it came from stays.
UPDATE messages SET payload = (payload - 'base64') || $2::jsonb WHERE id = $1;

-- name: lock
-- $1 ids, $2 tenant, $3 allowed connections or NULL for all.
SELECT id FROM media WHERE id = ANY($1::uuid[]) AND tenant_id = $2 AND ($3::uuid[] IS NULL OR connection_id = ANY($3)) FOR UPDATE;

-- name: lock_expired
-- $1 limit. A batch of those whose time is over and that no waiting message needs.
SELECT m.id
  FROM media m
 WHERE m.expires_at < now()
   AND NOT EXISTS (SELECT 1 FROM messages w WHERE w.payload ? 'media_id' AND w.payload->>'media_id' = m.id::text
                      AND w.status IN ('scheduled', 'queued', 'processing', 'failed', 'unknown'))
 ORDER BY m.expires_at
 LIMIT $1
   FOR UPDATE SKIP LOCKED;

-- name: delete_unneeded
-- $1 ids, locked by the statement before, so that this one sees every message that needs them. Returns what was deleted.
DELETE FROM media m
 WHERE m.id = ANY($1::uuid[])
   AND NOT EXISTS (SELECT 1 FROM messages w WHERE w.payload ? 'media_id' AND w.payload->>'media_id' = m.id::text
                      AND w.status IN ('scheduled', 'queued', 'processing', 'failed', 'unknown'))
RETURNING m.id, m.object_key;

-- name: expect
-- Parallel arrays: $1 ids, $2 connections, $3 wire ids, $4 chats, $5 senders, $6 mimetypes, $7 filenames, $8 SHA-256s, $9 sizes, $10 sealed sources,
-- $11 days that they stay. For messages that were just stored and have these files, whatever their chats are called by now; again is nothing.
INSERT INTO media (id, tenant_id, connection_id, origin, state, sha256, size, mimetype, filename, source_sealed, message_id, expires_at)
SELECT n.id, c.tenant_id, c.id, 'inbound', 'pending', n.sha256, n.size, n.mimetype, n.filename, n.source_sealed, m.id, now() + make_interval(days => n.days)
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::bigint[], $10::bytea[], $11::int[])
       AS n(id, connection_id, wire_id, jid, sender_jid, mimetype, filename, sha256, size, source_sealed, days)
  JOIN connections c ON c.id = n.connection_id
  JOIN messages m ON m.connection_id = n.connection_id AND m.wa_message_id = n.wire_id
                 AND m.source = 'phone' AND m.payload->>'media_id' = n.id::text
ON CONFLICT (id) DO NOTHING;

-- name: is_of_deleted
-- $1 id. Whether its connection is deleted, so that nothing will ever be fetched through it again.
SELECT EXISTS (SELECT 1 FROM media m JOIN connections c ON c.id = m.connection_id WHERE m.id = $1 AND c.deleted_at IS NOT NULL);

-- name: store_expected
-- $1 id, $2 object key, $3 SHA-256, $4 size, $5 mimetype. No row: it was deleted meanwhile, or is stored already.
UPDATE media SET state = 'stored', object_key = $2, sha256 = $3, size = $4, mimetype = $5, source_sealed = NULL, error = NULL
 WHERE id = $1 AND state = 'pending'
RETURNING id;

-- name: fail_expected
-- Parallel arrays: $1 ids, $2 why they cannot be had.
UPDATE media f SET state = 'failed', error = n.error, source_sealed = NULL
  FROM unnest($1::uuid[], $2::jsonb[]) AS n(id, error)
 WHERE f.id = n.id AND f.state = 'pending';

-- name: tell_messages
-- $1 ids of files that are stored or failed. Each message is told once, with one event; `wanted` when a webhook is to be made.
UPDATE messages m
   SET payload = m.payload || jsonb_strip_nulls(jsonb_build_object('media_state', f.state, 'media_error', f.error,
                                                                   'bytes', CASE WHEN f.state = 'stored' THEN f.size END))
  FROM media f
 WHERE f.id = ANY($1::uuid[]) AND m.id = f.message_id AND f.state <> 'pending' AND m.payload->>'media_state' = 'pending'
RETURNING m.connection_id,
          event_record_v1(m.connection_id, m.id, 'message.media', CASE WHEN f.state = 'failed' THEN 'warn' ELSE 'info' END, message_object(m)) AS wanted;
