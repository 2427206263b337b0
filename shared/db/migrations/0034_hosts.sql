-- When a host opens a session by itself that has ended: a ban that is over, a library that may have been renewed since.
ALTER TABLE connections ADD COLUMN retry_at timestamptz;

-- Every host renews its own leases every few seconds.
CREATE INDEX connections_of_host ON connections (host_id) WHERE host_id IS NOT NULL;
