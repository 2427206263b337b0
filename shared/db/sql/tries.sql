-- A message's tries: begun before the host is asked, recorded with what it answered (DESIGN D6).

-- name: begin
-- Parallel arrays: $1 message ids, $2 job ids, $3 the try that may be begun over, or NULL. Commits before the host is asked.
SELECT id, begun, connection_id, status, jid, type, payload, on_unknown, unknown_for_s, wa_message_id, reply_to, mentions, send_no, send_epoch,
       send_host, send_device, session_status, device_jid, lease_epoch, host_id, address, wait_s, wait_reason, types, jitter_s, refusals
  FROM message_tries_begin_v3($1, $2, $3);

-- name: record_sent
-- Parallel arrays: $1 message ids, each once, $2 send numbers, $3 wire ids, $4 when. One row for each that moved.
SELECT connection_id, wanted
  FROM messages_sent_v1($1, $2, $3, $4);

-- name: give_back
-- Parallel arrays: $1 message ids, $2 send numbers.
SELECT message_give_back_try_v1(id, try) FROM unnest($1::uuid[], $2::int[]) t(id, try);

-- name: mark_untraced
-- Parallel arrays: $1 message ids, $2 send numbers.
UPDATE message_attempts t
   SET untraced = true
  FROM unnest($1::uuid[], $2::int[]) n(id, send_no)
 WHERE t.message_id = n.id
   AND t.send_no = n.send_no;

-- name: is_untraced
-- $1 message id, $2 send number.
SELECT t.untraced
  FROM message_attempts t
 WHERE t.message_id = $1
   AND t.send_no = $2;
