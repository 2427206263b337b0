-- A connection's proxy with its password, sealed with SECRET_KEY; `config` shows it without. NULL: it has none.
ALTER TABLE connections ADD COLUMN proxy_sealed bytea;
