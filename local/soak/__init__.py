"""`python -m local.soak`: many sessions for a long time, and hosts that are killed while they send.

It starts a ZapHub with a fake WhatsApp server in a folder of its own, works on it as customers would, and counts from
outside: what clients were promised, what was on the wire, what the webhooks said. Its numbers: `docs/reliability.md`.
"""
