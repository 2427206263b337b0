-- Most messages are meant by none, so what such a message shows costs one look at an index, and no second pass over its object.

-- Whether any message means the one of this wire id.
CREATE FUNCTION message_is_meant_v1(p_connection uuid, p_wire_id text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN EXISTS (SELECT 1 FROM messages k WHERE k.connection_id = p_connection AND k.target_wire_id = p_wire_id);
END $$;

-- The object of a message that means none and is meant by none.
CREATE FUNCTION message_object_plain_v1(m messages, own_jid text, parked_reason text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object(
    'id', m.id, 'connection_id', m.connection_id, 'message_id', m.message_id, 'direction', m.direction,
    'jid', m.jid, 'phone', m.phone,
    'to', CASE WHEN m.from_me THEN m.jid ELSE own_jid END,
    'from', CASE WHEN m.from_me THEN own_jid ELSE coalesce(m.sender_jid, m.jid) END,
    'participant', m.participant, 'push_name', m.push_name, 'from_me', m.from_me, 'source', m.source, 'backfilled', m.backfilled,
    'type', m.type, 'payload', m.payload, 'reply_to', m.reply_to, 'mentions', m.mentions,
    'status', CASE WHEN m.status = 'scheduled' AND m.send_at <= now() THEN 'queued' ELSE m.status END, 'attempts', m.attempts,
    'error', m.error, 'parked_reason', parked_reason, 'next_attempt_at', rfc3339(m.next_attempt_at),
    'send_at', rfc3339(m.send_at), 'wa_message_id', m.wa_message_id, 'wa_timestamp', rfc3339(m.wa_timestamp), 'metadata', m.metadata,
    'created_at', rfc3339(m.created_at), 'sent_at', rfc3339(m.sent_at), 'delivered_at', rfc3339(m.delivered_at),
    'read_at', rfc3339(m.read_at), 'played_at', rfc3339(m.played_at), 'expires_at', rfc3339(m.expires_at),
    'target_id', NULL, 'edited', NULL, 'revoked_at', NULL, 'reactions', '[]'::jsonb, 'votes', '[]'::jsonb)
$$;

CREATE OR REPLACE FUNCTION message_object_v2(m messages, own_jid text, parked_reason text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN m.target_wire_id IS NULL AND (m.wa_message_id IS NULL OR NOT message_is_meant_v1(m.connection_id, m.wa_message_id))
    THEN message_object_plain_v1(m, own_jid, parked_reason)
    ELSE message_object_plain_v1(m, own_jid, parked_reason) || message_marks_v1(m) END
$$;
