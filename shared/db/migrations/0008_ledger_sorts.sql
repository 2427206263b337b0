-- The ledger's functions no longer forbid sorts: their plans are the same without, as docs/decisions/0002-planner-switches.md measured.
-- They still forbid reading a whole table, which would be the best plan for as long as the ledger is small.
DO $$
DECLARE called text;
BEGIN
  FOR called IN SELECT p.oid::regprocedure FROM pg_proc p
                 WHERE p.pronamespace = 'public'::regnamespace AND starts_with(p.proname, 'ledger_') AND 'enable_sort=off' = ANY(p.proconfig)
  LOOP
    EXECUTE format('ALTER FUNCTION %s RESET enable_sort', called);
  END LOOP;
END $$;
