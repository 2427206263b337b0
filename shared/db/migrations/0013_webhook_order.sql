-- An endpoint may ask for the messages of one chat in order: each delivery waits until the one before it has ended.

ALTER TABLE webhook_endpoints ADD COLUMN keeps_order boolean NOT NULL DEFAULT false;
