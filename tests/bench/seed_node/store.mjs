// The seed document's repositories: one statement, and so one commit, per step.

import pg from 'pg';

export function openStore(url) {
  const pool = new pg.Pool({ connectionString: url, max: 20 });
  return {
    async createMessage({ sessionId, messageId, jid, type, payload }) {
      const { rows } = await pool.query(
        `INSERT INTO messages (session_id, message_id, direction, jid, type, payload, status)
         VALUES ($1, $2, 'outbound', $3, $4, $5, 'queued') RETURNING *`,
        [sessionId, messageId, jid, type, payload],
      );
      return rows[0];
    },
    async updateMessageStatus(id, status, { waMessageId = null, waTimestamp = null } = {}) {
      await pool.query(
        `UPDATE messages SET status = $2, wa_message_id = coalesce($3, wa_message_id),
                wa_timestamp = coalesce($4, wa_timestamp), updated_at = now(),
                sent_at = CASE WHEN $2 = 'sent' THEN now() ELSE sent_at END
          WHERE id = $1`,
        [id, status, waMessageId, waTimestamp],
      );
    },
    async createEvent({ sessionId, eventType, payload }) {
      await pool.query(
        `INSERT INTO events (session_id, event_type, event_category, payload, severity)
         VALUES ($1, $2, 'message', $3, 'info')`,
        [sessionId, eventType, payload],
      );
    },
  };
}
