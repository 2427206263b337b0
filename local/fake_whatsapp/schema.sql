-- What the server must still know after a restart. One writer; see store.py.

-- The server's own keys and ports, by name.
CREATE TABLE IF NOT EXISTS fact (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS contact (
    phone            TEXT PRIMARY KEY,
    name             TEXT NOT NULL,
    on_whatsapp      INTEGER NOT NULL,
    auto_receipts    TEXT NOT NULL,
    receipt_delay_ms INTEGER NOT NULL,
    addressing       TEXT NOT NULL DEFAULT 'pn',
    spellings        TEXT NOT NULL DEFAULT '[]'
) STRICT;

-- One row per phone that ever linked a device; is_linked is 0 after a logout.
CREATE TABLE IF NOT EXISTS device (
    phone           TEXT PRIMARY KEY,
    number          INTEGER NOT NULL,
    identity        BLOB NOT NULL,
    signed_id       INTEGER NOT NULL,
    signed_key      BLOB NOT NULL,
    is_linked       INTEGER NOT NULL,
    connects        INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS one_time_key (
    phone  TEXT NOT NULL,
    id     INTEGER NOT NULL,
    public BLOB NOT NULL,
    PRIMARY KEY (phone, id)
) STRICT, WITHOUT ROWID;

-- The Signal sessions of a contact with the device that a phone has linked.
CREATE TABLE IF NOT EXISTS conversation (
    contact TEXT NOT NULL,
    phone   TEXT NOT NULL,
    state   TEXT NOT NULL,
    PRIMARY KEY (contact, phone)
) STRICT, WITHOUT ROWID;

-- Every message stanza that the server accepted, in order of arrival. Rows are never changed.
CREATE TABLE IF NOT EXISTS wire (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    wire_id       TEXT NOT NULL,
    session_phone TEXT NOT NULL,
    recipient     TEXT NOT NULL,
    type          TEXT NOT NULL,
    text          TEXT,
    payload       TEXT NOT NULL,
    received_at   TEXT NOT NULL,
    resend        INTEGER NOT NULL,
    bot_tag       INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS wire_by_id ON wire (session_phone, wire_id);

-- What waits for a linked device until it acknowledges: messages, and receipts for what it sent.
-- `enc` is empty until the letter was sealed for the device with that number; `chat` is a group's JID, a person's
-- where the phone itself wrote (then `contact` is that phone), or empty. `garbled`: nobody can decrypt it.
CREATE TABLE IF NOT EXISTS letter (
    seq       INTEGER PRIMARY KEY,
    phone     TEXT NOT NULL,
    contact   TEXT NOT NULL,
    kind      TEXT NOT NULL,
    wire_id   TEXT NOT NULL,
    body      BLOB NOT NULL,
    due_at_ms INTEGER NOT NULL,
    device    INTEGER NOT NULL,
    enc_type  TEXT NOT NULL,
    enc       BLOB NOT NULL,
    chat      TEXT NOT NULL DEFAULT '',
    garbled   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Groups that were told of; any other id is a group too, of members that are always the same.
CREATE TABLE IF NOT EXISTS chat_group (
    jid     TEXT PRIMARY KEY,
    subject TEXT NOT NULL,
    members TEXT NOT NULL,
    without TEXT NOT NULL DEFAULT '[]'
) STRICT;

-- What sessions let contacts see beside messages: that they type, that they have read. Rows are never changed.
CREATE TABLE IF NOT EXISTS signal (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    session_phone TEXT NOT NULL,
    kind          TEXT NOT NULL,
    chat          TEXT NOT NULL,
    detail        TEXT NOT NULL,
    received_at   TEXT NOT NULL
) STRICT;

-- The secret of each poll that a session sent: votes are encrypted under it.
CREATE TABLE IF NOT EXISTS poll (
    session_phone TEXT NOT NULL,
    wire_id       TEXT NOT NULL,
    secret        BLOB NOT NULL,
    PRIMARY KEY (session_phone, wire_id)
) STRICT, WITHOUT ROWID;
