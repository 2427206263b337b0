-- What WhatsApp has told of numbers: which person has one, by its number as it is registered and by alias.

-- name: recall
-- $1 connection, $2 spellings, $3 how many seconds a person is remembered, $4 how many it is that nobody has the number.
SELECT phone, jid, lid FROM known_numbers
 WHERE connection_id = $1 AND phone = ANY($2::text[])
   AND asked_at > now() - make_interval(secs => CASE WHEN on_whatsapp THEN $3::float8 ELSE $4::float8 END);

-- name: learn
-- Parallel arrays: $1 connections, $2 spellings, $3 JIDs (NULL: nobody has it), $4 aliases; $5 an answer younger than so many seconds,
-- and no other, is left alone.
INSERT INTO known_numbers AS k (connection_id, phone, jid, lid)
SELECT DISTINCT ON (n.connection_id, n.phone) n.connection_id, n.phone, n.jid, n.lid
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS n(connection_id, phone, jid, lid, place)
 WHERE NOT EXISTS (
         SELECT 1 FROM known_numbers o
          WHERE o.connection_id = n.connection_id AND o.phone = n.phone AND o.jid IS NOT DISTINCT FROM n.jid
            AND (n.lid IS NULL OR o.lid = n.lid) AND o.asked_at > now() - make_interval(secs => $5::float8))
 ORDER BY n.connection_id, n.phone, n.place DESC
ON CONFLICT (connection_id, phone) DO UPDATE
   SET jid = excluded.jid, asked_at = excluded.asked_at,
       lid = CASE WHEN excluded.jid = k.jid THEN coalesce(excluded.lid, k.lid) ELSE excluded.lid END;

-- name: forget
-- $1 connection, $2 spellings: WhatsApp says otherwise now.
DELETE FROM known_numbers WHERE connection_id = $1 AND phone = ANY($2::text[]);

-- name: learn_aliases
-- Parallel arrays: $1 connections, $2 aliases, $3 chats. The rows that are new or say something else now.
INSERT INTO chat_aliases (connection_id, alias_jid, chat_jid)
SELECT DISTINCT ON (n.connection_id, n.alias_jid) n.connection_id, n.alias_jid, n.chat_jid
  FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS n(connection_id, alias_jid, chat_jid, place)
 WHERE NOT EXISTS (
         SELECT 1 FROM chat_aliases o
          WHERE o.connection_id = n.connection_id AND o.alias_jid = n.alias_jid AND o.chat_jid = n.chat_jid)
 ORDER BY n.connection_id, n.alias_jid, n.place DESC
ON CONFLICT (connection_id, alias_jid) DO UPDATE SET chat_jid = excluded.chat_jid
RETURNING connection_id, alias_jid, chat_jid;

-- name: fold_chats
-- Parallel arrays: $1 connections, $2 aliases, $3 chats. What came in under the alias alone is in the number's chat from now on. A copy
-- that is there under both names stays as it is.
UPDATE messages m
   SET jid = n.chat, phone = split_part(n.chat, '@', 1), sender_jid = CASE WHEN m.sender_jid = n.alias THEN n.chat ELSE m.sender_jid END
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS n(connection_id, alias, chat)
 WHERE m.connection_id = n.connection_id AND m.source = 'phone' AND m.jid = n.alias
   AND NOT EXISTS (
         SELECT 1 FROM messages o
          WHERE o.connection_id = m.connection_id AND o.source = 'phone' AND o.jid = n.chat AND o.message_id = m.message_id);

-- name: fold_holds
-- Parallel arrays: $1 connections, $2 aliases. What is held back under the alias alone is held under the number's chat.
SELECT chat_holds_fold_v1($1, $2);

-- name: fold_writers
-- Parallel arrays: $1 connections, $2 aliases, $3 JIDs with their numbers, $4 groups. What they wrote there under the alias alone is theirs by
-- number from now on: an edit or a reaction of theirs means it.
UPDATE messages m
   SET sender_jid = n.jid, participant = n.jid
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS n(connection_id, alias, jid, grp)
 WHERE m.connection_id = n.connection_id AND m.source = 'phone' AND m.jid = n.grp AND coalesce(m.sender_jid, '') = n.alias
   AND NOT EXISTS (
         SELECT 1 FROM messages o
          WHERE o.connection_id = m.connection_id AND o.source = 'phone' AND o.jid = m.jid AND o.message_id = m.message_id
            AND coalesce(o.sender_jid, '') = n.jid);

-- name: numbers_of
-- Parallel arrays: $1 connections, $2 aliases. The JID with the number of each that is known.
SELECT a.connection_id, a.alias_jid, a.chat_jid
  FROM unnest($1::uuid[], $2::text[]) AS n(connection_id, alias) JOIN chat_aliases a ON a.connection_id = n.connection_id AND a.alias_jid = n.alias;

-- name: names_of
-- $1 connection, $2 JIDs, $3 their numbers' spellings: every JID by which messages of these persons may be kept.
SELECT unnest($2::text[]) AS jid
 UNION SELECT k.jid FROM known_numbers k WHERE k.connection_id = $1 AND k.phone = ANY($3::text[]) AND k.on_whatsapp
 UNION SELECT a.alias_jid FROM chat_aliases a WHERE a.connection_id = $1 AND a.chat_jid = ANY($2::text[])
 UNION SELECT a.chat_jid FROM chat_aliases a WHERE a.connection_id = $1 AND a.alias_jid = ANY($2::text[]);

-- name: readdress
-- $1 message, $2 the JID that it goes to, $3 its number. Before it is sent: its chat is the one that WhatsApp named.
UPDATE messages SET jid = $2, phone = $3 WHERE id = $1 AND jid <> $2 AND source = 'api';
