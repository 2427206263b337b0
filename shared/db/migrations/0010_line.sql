-- Where a message stands in its connection's line. It asks the jobs alone, and no counter.

-- How many jobs of its group run before this one, at most p_most; NULL when it does not wait. Heads are the jobs that are free to run, in
-- their order, with what is active and the head of its own chat that waits for its next try; behind each follow the blocked jobs of the same
-- chat, which get their turn by their place in the line. As in 0002_ledger.sql the planner is left no choice: ORDER BY with sorts switched
-- off takes the index that has that order, and a state inside CASE hides an index of that state alone.
CREATE FUNCTION job_place_v1(p_pk bigint, p_most int) RETURNS int
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
  j record;
  has_blocked boolean;
  ahead bigint;
BEGIN
  SELECT q.queue, q.grp, q.ord, q.rank, q.position, q.state INTO j FROM jobs q WHERE q.pk = p_pk;
  IF NOT FOUND OR j.state NOT IN ('waiting', 'blocked') THEN
    RETURN NULL;
  END IF;
  has_blocked := (SELECT true FROM jobs b WHERE b.queue = j.queue AND b.state = 'blocked' ORDER BY b.queue, b.ord LIMIT 1);
  SELECT sum(h.goes_first::int + CASE WHEN has_blocked AND h.ord IS NOT NULL THEN
           (SELECT count(*) FROM (SELECT 1 FROM jobs b
                                   WHERE b.queue = j.queue AND b.ord = h.ord AND coalesce(b.grp, '') = coalesce(j.grp, '')
                                     AND b.state = 'blocked' AND b.position < j.position AND b.rank >= j.rank
                                   ORDER BY b.position LIMIT p_most) f) ELSE 0 END) INTO ahead
    FROM ((SELECT w.ord, w.rank > j.rank OR w.rank = j.rank AND w.position < j.position AS goes_first
             FROM jobs w
            WHERE w.queue = j.queue AND w.grp = j.grp AND w.state = 'waiting'
            ORDER BY w.rank DESC, w.position
            LIMIT p_most)
          UNION ALL
          SELECT a.ord, false FROM jobs a WHERE a.state = 'active' AND a.queue = j.queue AND a.grp = j.grp
          UNION ALL
          (SELECT d.ord, true
             FROM jobs d
            WHERE j.state = 'blocked' AND d.queue = j.queue AND d.ord = j.ord AND coalesce(d.grp, '') = coalesce(j.grp, '')
              AND d.ord IS NOT NULL AND d.position IS NOT NULL AND d.state IN ('waiting', 'delayed', 'active')
              AND CASE d.state WHEN 'delayed' THEN true END
            LIMIT 1)) h;
  RETURN least(p_most, coalesce(ahead, 0));
END $$;
