"""The Signal protocol as a phone speaks it: key agreement, double ratchet, conversations."""
