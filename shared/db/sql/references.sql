-- name: find_message
-- $1 connection, $2 the client id or wire id that a message was named by, $3 the same as an id or NULL, $4 the chat that is asked from: of two
-- messages with one wire id its own comes first.
WITH found AS (
  SELECT id FROM messages WHERE id = $3::uuid AND connection_id = $1
  UNION
  SELECT id FROM messages WHERE connection_id = $1 AND message_id = $2 AND source = 'api'
  UNION
  SELECT id FROM messages WHERE connection_id = $1 AND wa_message_id = $2
)
SELECT m.id, m.wa_message_id, m.from_me, m.jid, m.type, m.status, coalesce(m.wire_sender, m.sender_jid) AS sender_jid,
       coalesce(m.payload->>'text', m.payload->>'caption', '') AS text
  FROM messages m JOIN found USING (id)
 ORDER BY m.jid = $4 DESC, m.created_at DESC
 LIMIT 1;

-- name: set_target
-- $1 message, $2 the wire id of the message that it means.
UPDATE messages SET target_wire_id = $2 WHERE id = $1 AND target_wire_id IS DISTINCT FROM $2;

-- name: options_of_polls
-- Parallel arrays: $1 connections, $2 wire ids. The options of each poll that is known.
SELECT DISTINCT ON (n.place) n.place, m.payload->'options' AS options
  FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS n(connection_id, wire_id, place)
  JOIN messages m ON m.connection_id = n.connection_id AND m.wa_message_id = n.wire_id
 WHERE m.type = 'poll'
 ORDER BY n.place, m.created_at;
