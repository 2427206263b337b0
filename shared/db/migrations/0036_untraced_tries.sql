-- A try whose trace the device store refused: that the store has no trace of it proves nothing (DESIGN D6).
ALTER TABLE message_attempts ADD untraced boolean NOT NULL DEFAULT false;
