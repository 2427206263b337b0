-- What retention deletes beside jobs, oldest first, a bounded batch at a time.

-- name: idempotency_keys
-- $1 age, $2 limit.
DELETE FROM idempotency_keys
 WHERE ctid = ANY(ARRAY(
   SELECT k.ctid FROM idempotency_keys k WHERE k.created_at < now() - make_interval(secs => $1) ORDER BY k.created_at LIMIT $2));

-- name: messages
-- $1 age, $2 limit. A message that may still move stays: its job would find nothing. Its history goes with it.
DELETE FROM messages
 WHERE id = ANY(ARRAY(
   SELECT m.id FROM messages m
    WHERE m.created_at < now() - make_interval(secs => $1) AND m.status NOT IN ('scheduled', 'queued', 'processing', 'failed')
    ORDER BY m.created_at LIMIT $2));

-- name: wire_ids
-- $1 age, $2 limit. Receipts for messages that nobody ever claimed.
DELETE FROM wire_ids
 WHERE (connection_id, wire_id) IN (
   SELECT w.connection_id, w.wire_id FROM wire_ids w
    WHERE w.message_id IS NULL AND w.created_at < now() - make_interval(secs => $1)
    ORDER BY w.created_at LIMIT $2);

-- name: events
-- $1 age, $2 limit. One whose webhooks are not made yet stays.
DELETE FROM events
 WHERE id = ANY(ARRAY(
   SELECT e.id FROM events e
    WHERE e.created_at < now() - make_interval(secs => $1) AND NOT e.fan_out
    ORDER BY e.created_at LIMIT $2));

-- name: webhook_deliveries
-- $1 age, $2 limit. Their attempts go with them; a pending one stays.
DELETE FROM webhook_deliveries
 WHERE id = ANY(ARRAY(
   SELECT d.id FROM webhook_deliveries d
    WHERE d.created_at < now() - make_interval(secs => $1) AND d.status <> 'pending'
    ORDER BY d.created_at LIMIT $2));

-- name: known_numbers
-- $1 age, $2 limit. Who had a number so long ago is asked anew before the next send; that nobody had it holds for minutes, and goes after a day.
DELETE FROM known_numbers
 WHERE (connection_id, phone) IN (
   SELECT k.connection_id, k.phone FROM known_numbers k
    WHERE k.asked_at < now() - make_interval(secs => $1) OR (k.asked_at < now() - interval '1 day' AND NOT k.on_whatsapp)
    ORDER BY k.asked_at LIMIT $2);

-- name: chat_holds
-- $1 age, $2 limit. Chats that have been written to, or might have been, for so long: what was counted of them is over.
DELETE FROM chat_holds
 WHERE (connection_id, jid) IN (
   SELECT k.connection_id, k.jid FROM chat_holds k
    WHERE k.until < now() - make_interval(secs => $1) ORDER BY k.until LIMIT $2 FOR UPDATE SKIP LOCKED);
