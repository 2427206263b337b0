-- What is told of a message that WhatsApp did not take now, and why one waits whose time to be sent has come.

-- As before, also for a scheduled message that is due.
CREATE OR REPLACE FUNCTION message_parked_reason(m messages) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  job record;
BEGIN
  IF m.job_pk IS NULL OR m.status NOT IN ('queued', 'failed', 'scheduled') THEN
    RETURN NULL;
  END IF;
  SELECT j.state, q.paused, coalesce(g.reasons, '{}') AS reasons,
         coalesce(ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) <= 0, false) AS limited INTO job
    FROM jobs j JOIN queues q ON q.id = j.queue
    LEFT JOIN job_groups g ON g.queue = j.queue AND g.grp = j.grp
   WHERE j.pk = m.job_pk AND j.state IN ('waiting', 'blocked', 'delayed');
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  RETURN coalesce(
    parked_reason_v1(job.reasons, job.paused, job.state, job.limited),
    CASE WHEN m.status = 'queued' OR m.status = 'scheduled' AND m.send_at <= now() THEN
      (SELECT h.reason FROM chat_holds h WHERE h.connection_id = m.connection_id AND h.jid = m.jid AND h.until > now()) END);
END $$;

-- As message_hold_v1, told by the event of a try that failed: `message.queued` is told once, when a message is accepted.
CREATE FUNCTION message_hold_v2(p_id uuid, p_send_no int, p_reason text, p_error jsonb, p_retry_in_s float8) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  m messages;
BEGIN
  UPDATE messages SET status = 'queued', attempts = greatest(attempts - 1, 0), error = p_error || jsonb_build_object('at', rfc3339(now())),
                      next_attempt_at = now() + make_interval(secs => p_retry_in_s)
   WHERE id = p_id AND send_no = p_send_no AND status = 'processing' RETURNING * INTO m;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  UPDATE message_attempts SET finished_at = now(), outcome = 'requeued', error = p_error WHERE message_id = p_id AND send_no = p_send_no;
  INSERT INTO message_transitions (message_id, from_status, to_status, detail)
  VALUES (p_id, 'processing', 'queued', jsonb_build_object('send_no', p_send_no, 'error', p_error, 'parked_reason', p_reason));
  RETURN event_record_v1(m.connection_id, p_id, 'message.failed', 'warn',
                         message_object_v2(m, (SELECT c.jid FROM connections c WHERE c.id = m.connection_id), p_reason));
END $$;
DROP FUNCTION message_hold_v1(uuid, int, text, jsonb, float8);
