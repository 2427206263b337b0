-- A job's data are the last of its row, and a page keeps half of its room for the versions of its rows. Then most versions lie on one page, and
-- the log of a change leaves out what two versions begin and end with alike: docs/decisions/0006-job-rows.md.
--
-- Every job is written once more here, about 20 s for a million; nobody else reaches the table meanwhile.
ALTER TABLE jobs ADD body jsonb;
ALTER TABLE jobs SET (fillfactor = 50);
ALTER TABLE jobs DISABLE TRIGGER jobs_counted_changed;
UPDATE jobs SET body = data;
ALTER TABLE jobs ENABLE TRIGGER jobs_counted_changed;
ALTER TABLE jobs DROP COLUMN data;
ALTER TABLE jobs RENAME COLUMN body TO data;
ALTER TABLE jobs ALTER COLUMN data SET NOT NULL;
