-- What WhatsApp has told of numbers, and both names of a person in every message object.

-- Per connection: the person that has a number, by each spelling that somebody wrote. It is asked before the first
-- send, by checks, and told by messages that come in with number and alias.
CREATE TABLE known_numbers (
  connection_id uuid NOT NULL CONSTRAINT known_numbers_connection REFERENCES connections ON DELETE CASCADE,
  phone text NOT NULL CONSTRAINT known_numbers_phone CHECK (phone ~ '^[1-9][0-9]{4,19}$'),  -- one spelling
  jid text,                          -- the number as it is registered, or the alias where that is all; NULL: not there
  lid text,
  on_whatsapp boolean NOT NULL GENERATED ALWAYS AS (jid IS NOT NULL) STORED,
  asked_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT known_numbers_pk PRIMARY KEY (connection_id, phone),
  CONSTRAINT known_numbers_nobody_has_no_alias CHECK (jid IS NOT NULL OR lid IS NULL)
);
CREATE INDEX known_numbers_by_age ON known_numbers (asked_at);

CREATE INDEX chat_aliases_of_chat ON chat_aliases (connection_id, chat_jid, created_at DESC);

-- The newest alias of a person's JID, as far as the connection knows it. In plpgsql, which keeps its plan: message objects ask.
CREATE FUNCTION lid_of_v1(p_connection uuid, p_jid text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  lid text;
BEGIN
  SELECT a.alias_jid INTO lid FROM chat_aliases a WHERE a.connection_id = p_connection AND a.chat_jid = p_jid
   ORDER BY a.created_at DESC LIMIT 1;
  RETURN lid;
END $$;

-- As before, with `lid` and `participant_lid`. A message that is not on WhatsApp yet goes to nobody's alias: whom its number means is only
-- asked before it is sent, and accepting a message pays for no look-up.
CREATE OR REPLACE FUNCTION message_object_plain_v1(m messages, own_jid text, parked_reason text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object(
    'id', m.id, 'connection_id', m.connection_id, 'message_id', m.message_id, 'direction', m.direction,
    'jid', m.jid, 'phone', m.phone,
    'lid', CASE WHEN m.jid LIKE '%@lid' THEN m.jid WHEN m.wa_message_id IS NOT NULL AND m.phone IS NOT NULL THEN lid_of_v1(m.connection_id, m.jid) END,
    'to', CASE WHEN m.from_me THEN m.jid ELSE own_jid END,
    'from', CASE WHEN m.from_me THEN own_jid ELSE coalesce(m.sender_jid, m.jid) END,
    'participant', m.participant,
    'participant_lid', CASE WHEN m.participant LIKE '%@lid' THEN m.participant WHEN m.participant IS NOT NULL THEN lid_of_v1(m.connection_id, m.participant) END,
    'push_name', m.push_name, 'from_me', m.from_me, 'source', m.source, 'backfilled', m.backfilled,
    'type', m.type, 'payload', m.payload, 'reply_to', m.reply_to, 'mentions', m.mentions,
    'status', CASE WHEN m.status = 'scheduled' AND m.send_at <= now() THEN 'queued' ELSE m.status END, 'attempts', m.attempts,
    'error', m.error, 'parked_reason', parked_reason, 'next_attempt_at', rfc3339(m.next_attempt_at),
    'send_at', rfc3339(m.send_at), 'wa_message_id', m.wa_message_id, 'wa_timestamp', rfc3339(m.wa_timestamp), 'metadata', m.metadata,
    'created_at', rfc3339(m.created_at), 'sent_at', rfc3339(m.sent_at), 'delivered_at', rfc3339(m.delivered_at),
    'read_at', rfc3339(m.read_at), 'played_at', rfc3339(m.played_at), 'expires_at', rfc3339(m.expires_at),
    'target_id', NULL, 'edited', NULL, 'revoked_at', NULL, 'reactions', '[]'::jsonb, 'votes', '[]'::jsonb)
$$;
