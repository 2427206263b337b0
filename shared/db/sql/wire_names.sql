-- name: of_wire_ids
-- $1 connection, $2 wire ids. What goes by each of them here; of several messages the newest.
SELECT DISTINCT ON (wa_message_id) wa_message_id, id, message_id, from_me
  FROM messages
 WHERE connection_id = $1 AND wa_message_id = ANY($2::text[])
 ORDER BY wa_message_id, created_at DESC;
