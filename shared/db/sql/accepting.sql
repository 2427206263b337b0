-- Accepting sends: what one transaction asks for many requests. The functions are in migrations/0015_accepting.sql, with their promises.

-- name: lock
-- $1 queue id, $2 connections, each once, sorted; $3 whether to wait for what another holds.
SELECT id, tenant_id, status, deleted, is_busy
  FROM sends_lock_v1($1, $2, $3);

-- name: taken
-- Parallel arrays: $1 connections, $2 client ids. The messages that took them first, and the jobs that send them, while these are kept.
SELECT m.id, m.connection_id, m.message_id, m.body_hash, message_object(m)::text AS object, j.pk AS job_pk, j.job_key, j.state AS job_state
  FROM unnest($1::uuid[], $2::text[]) n(connection_id, message_id)
  JOIN messages m ON m.connection_id = n.connection_id AND m.message_id = n.message_id AND m.source = 'api'
  LEFT JOIN jobs j ON j.pk = m.job_pk;

-- name: chats
-- Parallel arrays: $1 connections, $2 aliases. The phone-number chat of each that is known.
SELECT a.connection_id, a.alias_jid, a.chat_jid
  FROM unnest($1::uuid[], $2::text[]) n(connection_id, alias)
  JOIN chat_aliases a ON a.connection_id = n.connection_id AND a.alias_jid = n.alias;

-- name: accept
-- $1 queue id, then parallel arrays: $2 ids, $3 connections, $4 client ids, $5 jids, $6 phones, $7 types, $8 payloads, $9 body hashes,
-- $10 reply_to, $11 mentions (a JSON array of strings each), $12 metadata, $13 order keys, $14 on_unknown, $15 send_at, $16 expires_at, $17 jobs.
SELECT id, object::text AS object, wanted
  FROM messages_accept_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);
