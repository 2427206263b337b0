-- As in 0026, but a mark of ours that was accepted before the connection was ever linked is ours too, not the chat's.
CREATE OR REPLACE FUNCTION message_marks_v1(m messages) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
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
