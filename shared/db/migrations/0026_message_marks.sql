-- A message may mean another one: a reaction, an edit, a revocation, a vote in a poll. Each is a row of its own, stored once like any other, and
-- names the one it means by wire id. What became of a message is read from the rows that mean it, so that neither their order of arrival nor
-- the moment at which a wire id is recorded matters, and nothing that was said is ever overwritten.

ALTER TABLE messages
  ADD COLUMN target_wire_id text,    -- the wire id of the message that this one means; of an outbound one known when it is first tried
  ADD COLUMN wire_sender text;       -- its writer as the stanza named him, which may be a @lid where sender_jid is a number

UPDATE messages SET target_wire_id = payload->>'message_id' WHERE source = 'phone' AND type IN ('reaction', 'edit', 'revoke', 'poll_vote');

CREATE INDEX messages_by_target ON messages (connection_id, target_wire_id) WHERE target_wire_id IS NOT NULL;

-- What others made of a message, and which one it means: target_id, edited {text, at}, revoked_at, reactions [{from, emoji, at}],
-- votes [{from, options, at}]. Only its writer edits or revokes a message, an admin too in a group; of reactions and votes the newest of each
-- person counts. A mark of ours that was accepted before the connection was ever linked is ours too.
CREATE FUNCTION message_marks_v1(m messages) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  target uuid;
  edited jsonb;
  revoked timestamptz;
  reactions jsonb := '[]';
  votes jsonb := '[]';
BEGIN
  IF m.target_wire_id IS NOT NULL THEN
    SELECT t.id INTO target FROM messages t
     WHERE t.connection_id = m.connection_id AND t.wa_message_id = m.target_wire_id
     ORDER BY t.jid = m.jid DESC, t.created_at LIMIT 1;
  END IF;
  IF m.wa_message_id IS NOT NULL AND EXISTS (SELECT 1 FROM messages k WHERE k.connection_id = m.connection_id AND k.target_wire_id = m.wa_message_id) THEN
    WITH marks AS (
      SELECT k.type, k.payload, who.jid AS who, happened.at,
             row_number() OVER (PARTITION BY k.type, who.jid ORDER BY happened.at DESC, k.created_at DESC, k.id) AS place
        FROM messages k
        JOIN connections c ON c.id = k.connection_id
       CROSS JOIN LATERAL (SELECT CASE WHEN k.from_me THEN coalesce(k.sender_jid, c.jid) ELSE coalesce(k.sender_jid, k.jid) END AS jid) who
       CROSS JOIN LATERAL (SELECT coalesce(k.wa_timestamp, k.sent_at, k.created_at) AS at) happened
       WHERE k.connection_id = m.connection_id AND k.target_wire_id = m.wa_message_id AND k.wa_message_id IS NOT NULL
         AND (m.source = 'api' OR k.jid = m.jid)
         AND (k.type NOT IN ('edit', 'revoke') OR k.from_me = m.from_me AND (m.from_me OR k.sender_jid IS NOT DISTINCT FROM m.sender_jid)
              OR k.type = 'revoke' AND right(m.jid, 5) = '@g.us')
    )
    SELECT (SELECT jsonb_build_object('text', payload->>'text', 'at', rfc3339(at)) FROM marks WHERE type = 'edit' ORDER BY at DESC, place LIMIT 1),
           (SELECT min(at) FROM marks WHERE type = 'revoke'),
           coalesce((SELECT jsonb_agg(jsonb_build_object('from', who, 'emoji', payload->>'emoji', 'at', rfc3339(at)) ORDER BY at, who)
                       FROM marks WHERE type = 'reaction' AND place = 1 AND payload->>'emoji' <> ''), '[]'),
           coalesce((SELECT jsonb_agg(jsonb_build_object('from', who, 'options', payload->'options', 'at', rfc3339(at)) ORDER BY at, who)
                       FROM marks WHERE type = 'poll_vote' AND place = 1), '[]')
      INTO edited, revoked, reactions, votes;
  END IF;
  RETURN jsonb_build_object('target_id', target, 'edited', edited, 'revoked_at', rfc3339(revoked), 'reactions', reactions, 'votes', votes);
END $$;

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
